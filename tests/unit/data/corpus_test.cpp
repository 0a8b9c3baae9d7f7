// Text from files of every kind, and what is wrong with some of them.

#include "llmtool/data/corpus.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "llmtool/core/error.h"
#include "llmtool/core/rng.h"
#include "support.h"

namespace llmtool {
namespace {

namespace fs = std::filesystem;

class Corpus : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return (place / name).string(); }
  CorpusOptions of(std::vector<std::string> names) const {
    CorpusOptions options;
    for (const auto& name : names) options.inputs.push_back(path(name));
    return options;
  }
  /// The documents, their pieces joined.
  std::vector<std::string> documents(const CorpusOptions& options) {
    std::vector<std::string> found;
    bool open = false;
    pieces = 0;
    counts = read_corpus(options, [&](CorpusPiece&& piece) {
      EXPECT_EQ(piece.first, !open);
      if (piece.first) found.emplace_back();
      found.back() += piece.text;
      open = !piece.last;
      ++pieces;
    });
    EXPECT_FALSE(open);
    EXPECT_EQ(counts.documents, static_cast<int64_t>(found.size()));
    return found;
  }
  std::string refusal(const CorpusOptions& options) {
    try {
      documents(options);
    } catch (const Error& e) {
      return e.what();
    }
    return "nothing";
  }
  void run(const std::string& command) const {
    ASSERT_EQ(std::system(("cd " + place.path().string() + " && " + command).c_str()), 0);
  }

  test::TempFolder place;
  CorpusCounts counts;
  int64_t pieces = 0;
};

using Documents = std::vector<std::string>;

TEST_F(Corpus, FilesFoldersAndGlobsInOrder) {
  fs::create_directories(place / "d" / "inner");
  test::write_text(place / "d" / "b.txt", "bee\r\n");
  test::write_text(place / "d" / "a.txt", "ay");
  test::write_text(place / "d" / "inner" / "c.jsonl",
                   "{\"text\": \"sea\"}\n\n{\"text\": \"\", \"x\": [1]}\r\n");
  test::write_text(place / "d" / "picture.png", "\x89PNG");
  EXPECT_EQ(documents(of({"d"})), (Documents{"ay", "bee\r\n", "sea", ""}));
  EXPECT_EQ(counts.files, 3);
  EXPECT_EQ(counts.skipped_files, 1);
  EXPECT_EQ(counts.bytes, 10);
  EXPECT_EQ(documents(of({"d/*.txt"})), (Documents{"ay", "bee\r\n"}));
  EXPECT_EQ(documents(of({"d/b.txt", "d/a.txt"})), (Documents{"bee\r\n", "ay"}));
  EXPECT_NE(refusal(of({"e*"})).find("e*"), std::string::npos);
  fs::create_directory(place / "hollow");
  EXPECT_NE(refusal(of({"hollow"})).find("hollow"), std::string::npos);
}

TEST_F(Corpus, PackedFilesGiveWhatIsInThem) {
  test::write_text(place / "a.txt", std::string(300000, 'x') + "\nend");
  run("gzip -k a.txt");
  const Documents expected = documents(of({"a.txt"}));
  EXPECT_EQ(documents(of({"a.txt.gz"})), expected);
  run("cat a.txt.gz a.txt.gz > twice.txt.gz");
  EXPECT_EQ(documents(of({"twice.txt.gz"}))[0], expected[0] + expected[0]);
  if (std::system("zstd --version > /dev/null 2>&1") == 0) {
    run("zstd -q -k a.txt");
    EXPECT_EQ(documents(of({"a.txt.zst"})), expected);
    const std::string frame = test::read_text(place / "a.txt.zst");
    test::write_text(place / "cut.txt.zst", frame.substr(0, frame.size() / 2));
    EXPECT_NE(refusal(of({"cut.txt.zst"})).find("cut.txt.zst"), std::string::npos);
  }
  const std::string packed = test::read_text(place / "a.txt.gz");
  test::write_text(place / "cut.txt.gz", packed.substr(0, packed.size() / 2));
  EXPECT_NE(refusal(of({"cut.txt.gz"})).find("cut.txt.gz"), std::string::npos);
}

TEST_F(Corpus, LongTextsComeInPiecesThatBreakNoCharacter) {
  Rng rng(1);
  for (const char* kind : {"lines", "words", "one", "wide"}) {
    std::string text;
    while (text.size() < 2500000) {
      const std::string what = kind;
      text += what == "wide" ? "日本" : "abcdefgh";
      if (what == "lines") text += rng.below(10) ? "x y" : "\n";
      if (what == "words") text += rng.below(10) ? "" : "  ";
    }
    test::write_text(place / "long.txt", text);
    EXPECT_EQ(documents(of({"long.txt"})), Documents{text}) << kind;
    EXPECT_GT(pieces, 1);
    read_corpus(of({"long.txt"}), [&](CorpusPiece&& piece) {
      EXPECT_LT(piece.text.size(), size_t{1200000});
      EXPECT_EQ(piece.text.find("\xEF\xBF\xBD"), std::string::npos);
    });
  }
}

TEST_F(Corpus, WhatIsRepairedIsCounted) {
  test::write_text(place / "a.txt", std::string("a\0b\xff\xe6\x97 \xe6\x97\xa5", 10));
  EXPECT_EQ(documents(of({"a.txt"})), Documents{"ab\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD \xe6\x97\xa5"});
  EXPECT_EQ(counts.nul_bytes, 1);
  EXPECT_EQ(counts.invalid_bytes, 3);
  EXPECT_EQ(counts.characters, 7);
  EXPECT_EQ(counts.repairs(), "3 bytes that are not UTF-8 replaced by U+FFFD, 1 NUL bytes left out");
  CorpusOptions strict = of({"a.txt"});
  strict.strict = true;
  EXPECT_NE(refusal(strict).find("a.txt"), std::string::npos);
  // A character cut by the end of a read is no error.
  std::string text(65535, 'x');
  text += "日日日\n";
  test::write_text(place / "b.txt", text);
  EXPECT_EQ(documents(of({"b.txt"})), Documents{text});
  EXPECT_EQ(counts.invalid_bytes, 0);
}

TEST_F(Corpus, RowsThatAreWrongAreNamed) {
  const auto said = [&](const std::string& rows) {
    test::write_text(place / "r.jsonl", rows);
    return refusal(of({"r.jsonl"}));
  };
  const std::string good = "{\"text\": \"x\"}\n";
  for (const std::string bad :
       {"{\"text\": 3}\n", "{\"txt\": \"x\"}\n", "{\n", "[]\n", "{\"text\": \"x\"} y\n"}) {
    EXPECT_NE(said(good + bad).find("r.jsonl: row 2"), std::string::npos) << said(good + bad);
  }
  CorpusOptions other = of({"r.jsonl"});
  test::write_text(place / "r.jsonl", "{\"body\": \"z\\u0000\\n\"}");
  other.field = "body";
  EXPECT_EQ(documents(other), Documents{"z\n"});
  EXPECT_EQ(counts.nul_bytes, 1);
  other.format = "text";
  EXPECT_EQ(documents(other), Documents{"{\"body\": \"z\\u0000\\n\"}"});
}

TEST_F(Corpus, EncodingHasOneOrderAndLosesNothing) {
  std::string text;
  Rng rng(2);
  for (int i = 0; i < 60000; ++i) text += rng.below(12) ? "the river runs " : "\n";
  test::write_text(place / "a.txt", text);
  TokenizerTraining settings;
  settings.model_type = "bpe";
  settings.vocab_size = 300;
  CorpusCounts trained;
  test::write_text(place / "tokenizer.model", train_tokenizer_on(settings, of({"a.txt"}), trained).model);
  EXPECT_EQ(trained.bytes, static_cast<int64_t>(text.size()));
  const auto tokenizer = load_tokenizer(place / "tokenizer.model");
  const auto encode = [&](int threads) {
    ThreadPool pool(threads);
    std::vector<TokenId> all;
    int ends = 0;
    encode_corpus(pool, *tokenizer, of({"a.txt", "a.txt"}),
                  [&](std::vector<TokenId>&& ids, bool document_ends) {
                    all.insert(all.end(), ids.begin(), ids.end());
                    ends += document_ends;
                  });
    EXPECT_EQ(ends, 2);
    return all;
  };
  const auto expected = encode(1);
  EXPECT_EQ(tokenizer->decode(expected), text + text);
  EXPECT_EQ(encode(2), expected);
  EXPECT_EQ(encode(5), expected);
}

TEST_F(Corpus, TrainingEndsWhereReadingFails) {
  test::write_text(place / "good.txt", std::string(3000000, 'a') + "\n");
  CorpusCounts unused;
  TokenizerTraining settings;
  settings.model_type = "char";
  settings.vocab_size = 0;
  EXPECT_THROW(train_tokenizer_on(settings, of({"good.txt", "none.txt"}), unused), Error);
  test::write_text(place / "bad.jsonl", "{");
  EXPECT_THROW(train_tokenizer_on(settings, of({"good.txt", "bad.jsonl"}), unused), Error);
  settings.vocab_size = -1;  // refused while the reader still reads
  EXPECT_THROW(train_tokenizer_on(settings, of({"good.txt"}), unused), UsageError);
}

}  // namespace
}  // namespace llmtool
