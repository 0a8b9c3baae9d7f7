// Training of byte-level BPE against the reference library (tests/reference/make_byte_bpe_goldens.py).

#include "text/byte_bpe_trainer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "llmtool/core/error.h"
#include "llmtool/core/rng.h"
#include "support.h"

namespace llmtool {
namespace {

using nlohmann::json;
using Pieces = std::vector<std::string>;

std::filesystem::path golden(const std::string& name) {
  return test::source_file("tests/reference/goldens_byte_bpe/" + name);
}

TokenizerTrainingResult train(const TokenizerTraining& settings, const Pieces& pieces) {
  size_t next = 0;
  return train_byte_bpe(settings, [&](std::string_view& text) {
    if (next == pieces.size()) return false;
    text = pieces[next++];
    return true;
  });
}

TokenizerTraining settings_of(int64_t vocab_size, int64_t min_frequency = 0) {
  TokenizerTraining s;
  s.model_type = "byte-bpe";
  s.vocab_size = vocab_size;
  s.min_frequency = min_frequency;
  return s;
}

/// The merges, one a line.
std::string merges_of(const TokenizerTrainingResult& result) {
  std::string lines;
  const json file = json::parse(result.model);
  for (const json& merge : file["model"]["merges"])
    lines += merge[0].get<std::string>() + " " + merge[1].get<std::string>() + "\n";
  return lines;
}
std::string merges_of(const Pieces& pieces) { return merges_of(train(settings_of(8000), pieces)); }

std::string refusal(const TokenizerTraining& settings) {
  try {
    train(settings, {"text"});
  } catch (const UsageError& e) {
    return e.what();
  }
  return "nothing";
}

TEST(ByteBpeTrainer, TheMergesAreTheLibrarys) {
  const std::string corpus = test::read_text(golden("corpus.txt"));
  const json cases = json::parse(test::read_text(golden("cases.json")));
  ASSERT_EQ(cases.size(), 4u);
  for (const auto& [name, about] : cases.items()) {
    TokenizerTraining s = settings_of(about["vocab_size"], about["min_frequency"]);
    s.user_symbols = about["user_symbols"].get<Pieces>();
    EXPECT_EQ(merges_of(train(s, {corpus})), test::read_text(golden(name + ".merges"))) << name;
  }
}

TEST(ByteBpeTrainer, TheFileIsTheLibrarysByteForByte) {
  const TokenizerTrainingResult result = train(settings_of(290), {test::read_text(golden("corpus.txt"))});
  EXPECT_EQ(result.model, test::read_text(golden("smallest.json")));
  EXPECT_EQ(result.vocab_size, 290);
  EXPECT_EQ(result.split_lines, 0);
}

TEST(ByteBpeTrainer, ItDoesNotMatterHowTheTextIsCutIntoPieces) {
  const std::string corpus = test::read_text(golden("corpus.txt"));
  const TokenizerTrainingResult whole = train(settings_of(8000), {corpus});
  EXPECT_EQ(whole.lines, std::count(corpus.begin(), corpus.end(), '\n') + 1);
  Rng rng(1);
  for (int round = 0; round < 20; ++round) {
    Pieces pieces;
    for (size_t at = 0; at < corpus.size();) {
      size_t end = std::min(corpus.size(), at + 1 + rng.below(1 + 20 * static_cast<uint64_t>(round)));
      while (end < corpus.size() && (static_cast<uint8_t>(corpus[end]) & 0xC0) == 0x80) ++end;
      pieces.push_back(corpus.substr(at, end - at));
      at = end;
    }
    const TokenizerTrainingResult cut = train(settings_of(8000), pieces);
    EXPECT_EQ(cut.model, whole.model);
    EXPECT_EQ(cut.lines, whole.lines);
  }
}

/// The text in pieces of about 997 bytes, so cut at every place of a short period.
Pieces in_pieces(const std::string& text) {
  Pieces pieces;
  for (size_t at = 0, end; at < text.size(); at = end) {
    end = std::min(text.size(), at + 997);
    while (end < text.size() && (static_cast<uint8_t>(text[end]) & 0xC0) == 0x80) ++end;
    pieces.push_back(text.substr(at, end - at));
  }
  return pieces;
}

/// Lines so long that they are counted before their end has come. Of the last ones a wrong cut breaks a tie.
TEST(ByteBpeTrainer, LongLinesAreCountedAsIfAtOnce) {
  const char* const blanks[] = {" ",          "  ", "   ", "\t ", " \t", "\xE3\x80\x80 ",
                                "\xC2\xA0  ", "",   "é ",  "'s "};
  Rng rng(2);
  std::string line;
  while (line.size() < 300'000)
    line += std::string(1 + rng.below(3), static_cast<char>('a' + rng.below(3))) + blanks[rng.below(10)];
  for (const char* part : {"x\t  ", "\x7f   ", "x\xE3\x80\x80  "}) {
    std::string run;
    while (run.size() < 300'000) run += part;
    run += "\n";
    EXPECT_TRUE(merges_of(in_pieces(run)) == merges_of(Pieces{run})) << part;
  }
  line += "\nend";
  EXPECT_TRUE(merges_of(in_pieces(line)) == merges_of(Pieces{line}));
  EXPECT_EQ(train(settings_of(300), in_pieces(line)).lines, 2);
}

/// U+1E5D0 is a letter, U+16130 a number since Unicode 16.
TEST(ByteBpeTrainer, NewCharactersAreWhatTheyAre) {
  for (const std::string word : {"a\U0001DF25", "1\U00011F50"}) {
    const json file = json::parse(train(settings_of(300), {word}).model);
    EXPECT_EQ(file["model"]["merges"].size(), 4u) << word;  // of five bytes: one word
  }
}

TEST(ByteBpeTrainer, DocumentsAreNotJoined) {
  EXPECT_EQ(merges_of(Pieces{"ab", "cd"}), merges_of(Pieces{"abcd"}));
  EXPECT_EQ(merges_of(Pieces{"ab", "", "cd"}), "a b\nc d\n");
  EXPECT_EQ(train(settings_of(300), {"ab", "", "", "c\n", "", "d\ne"}).lines, 4);
}

TEST(ByteBpeTrainer, ARunOfOneLetterIsCountedAsTheLibraryCounts) {
  EXPECT_EQ(merges_of(Pieces{"aaaa"}), "a a\naa aa\n");
  EXPECT_EQ(merges_of(Pieces{"aaaaaaa"}), "a a\naa aa\naa a\naaaa aaa\n");
}

TEST(ByteBpeTrainer, EqualCountsAreTakenByIds) {
  EXPECT_EQ(merges_of(Pieces{"zy yx xz"}), "x z\ny x\nz y\nĠ xz\nĠ yx\n");
  EXPECT_EQ(merges_of(train(settings_of(8000, 2), {"zy yx xz zy"})), "z y\n");
}

TEST(ByteBpeTrainer, UserSymbolsAreTokensButNotSpecial) {
  TokenizerTraining s = settings_of(300);
  s.user_symbols = {"<|user|>", "日本", "<|endoftext|>", "<|user|>"};
  const json file = json::parse(train(s, {"ab ab"}).model);
  ASSERT_EQ(file["added_tokens"].size(), 3u);
  const char* const contents[] = {"<|endoftext|>", "<|user|>", "日本"};
  for (size_t id = 0; id < 3; ++id) {
    const json& token = file["added_tokens"][id];
    EXPECT_EQ(token["id"], id);
    EXPECT_EQ(token["content"], contents[id]);
    EXPECT_EQ(token["special"], id == 0);
    EXPECT_EQ(file["model"]["vocab"][contents[id]], id);
  }
  EXPECT_EQ(file["model"]["vocab"]["!"], 3);
  EXPECT_EQ(file["model"]["vocab"].size(), 3u + 256 + 2);
}

TEST(ByteBpeTrainer, SettingsThatCannotBeAreRefused) {
  const auto expect_said = [](const TokenizerTraining& settings, const std::string& part) {
    EXPECT_NE(refusal(settings).find(part), std::string::npos) << refusal(settings);
  };
  expect_said(settings_of(256), "vocab_size: expected at least 257");
  EXPECT_EQ(refusal(settings_of(257)), "nothing");
  TokenizerTraining s = settings_of(258);
  s.user_symbols = {"<|a|>", "<|b|>"};
  expect_said(s, "expected at least 259");
  expect_said(settings_of((1 << 22) + 1), "at most 4194304");
  expect_said(settings_of(300, -1), "min_frequency: expected at least 0, found -1");
  for (const std::string& symbol :
       {std::string(), std::string(257, 'x'), std::string("\xff"), std::string("é")}) {
    s = settings_of(300);
    s.user_symbols = {symbol};
    expect_said(s, "user_symbols");
  }
  EXPECT_THROW(train(settings_of(300), {}), Error);
  EXPECT_THROW(train(settings_of(300), {"", ""}), Error);
}

TEST(ByteBpeTrainer, TrainTokenizerTrainsIt) {
  bool given = false;
  const TokenizerTrainingResult result = train_tokenizer(settings_of(300), [&](std::string_view& text) {
    text = "aaaa";
    return !std::exchange(given, true);
  });
  EXPECT_EQ(merges_of(result), "a a\naa aa\n");
}

}  // namespace
}  // namespace llmtool
