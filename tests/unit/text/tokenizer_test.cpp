// Tokenizers trained here: text comes back, pieces add up, hostile files are refused.

#include "llmtool/text/tokenizer.h"

#include <gtest/gtest.h>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <unordered_map>

#include "llmtool/core/error.h"
#include "llmtool/core/rng.h"
#include "llmtool/io/json.h"
#include "llmtool/text/train_tokenizer.h"
#include "support.h"
#include "text/sentencepiece_model.h"
#include "text/sentencepiece_tokenizer.h"
#include "text/utf8.h"

namespace llmtool {
namespace {

namespace fs = std::filesystem;

/// Sentences with more than ASCII in them.
std::string corpus() {
  const char* const words[] = {"the ", "grüne ", "river ", "runs ", "日本 ", "under ", "naïve ", "bridge,\n"};
  std::string text;
  Rng rng(3);
  for (int i = 0; i < 3000; ++i) text += words[rng.below(8)];
  return text;
}

std::string train_model(TokenizerTraining settings, const std::string& text = corpus()) {
  bool given = false;
  return train_tokenizer(settings,
                         [&](std::string_view& piece) {
                           piece = text;
                           return !std::exchange(given, true);
                         })
      .model;
}

TokenizerTraining settings_of(const std::string& type) {
  TokenizerTraining s;
  s.model_type = type;
  s.vocab_size = type == "char" ? 0 : type == "word" ? 12 : 330;
  return s;
}

std::shared_ptr<const Tokenizer> open(const test::TempFolder& place, const std::string& model) {
  test::write_text(place / "tokenizer.model", model);
  return load_tokenizer(place / "tokenizer.model");
}

/// Any text: letters, blanks in a row, line breaks, characters of all lengths.
std::string random_text(Rng& rng, bool known_only) {
  const std::vector<std::string> parts = {"the", " ", "  ", "\n", "river", "日", "ü", "r", "un", ",", "ï"};
  const std::vector<std::string> strange = {"🦢", "\t", "<s>", "</s>", "<0x41>", "\r\n", "é", "\x7f", "Ω"};
  std::string text;
  for (uint64_t n = rng.below(30); n > 0; --n) {
    const bool odd = !known_only && rng.below(3) == 0;
    text += odd ? strange[rng.below(strange.size())] : parts[rng.below(parts.size())];
  }
  return text;
}

TEST(Tokenizer, TextComesBackExactly) {
  for (const char* type : {"unigram", "bpe", "char"}) {
    test::TempFolder place;
    const auto tokenizer = open(place, train_model(settings_of(type)));
    Rng rng(1);
    for (int i = 0; i < 300; ++i) {
      const std::string text = random_text(rng, std::string(type) == "char");
      EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text) << type;
    }
  }
}

TEST(Tokenizer, IdsAndPiecesSpellTheText) {
  test::TempFolder place;
  const auto tokenizer = open(place, train_model(settings_of("unigram")));
  Rng rng(2);
  for (int i = 0; i < 100; ++i) {
    const std::string text = random_text(rng, true);
    std::string spelled, marked;
    for (const TokenId id : tokenizer->encode(text)) spelled += tokenizer->piece(id);
    for (const char c : text) marked += c == ' ' ? std::string("▁") : std::string(1, c);
    EXPECT_EQ(spelled, marked);
  }
  EXPECT_THROW(tokenizer->piece(-1), Error);
  EXPECT_THROW(tokenizer->piece(static_cast<TokenId>(tokenizer->vocab_size())), Error);
  const TokenId beyond[] = {static_cast<TokenId>(tokenizer->vocab_size())};
  EXPECT_THROW(tokenizer->decode(beyond), Error);
}

TEST(Tokenizer, InvalidBytesBecomeTheReplacementCharacter) {
  test::TempFolder place;
  const auto tokenizer = open(place, train_model(settings_of("bpe")));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("a\xff\xc3")), "a\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(Tokenizer, TheSpecialIdsStandWhereTheDescriptionSays) {
  for (const char* type : {"unigram", "bpe", "word", "char"}) {
    test::TempFolder place;
    const auto tokenizer = open(place, train_model(settings_of(type)));
    EXPECT_EQ(tokenizer->unk_id(), 0);
    EXPECT_EQ(tokenizer->eos_id(), 1);
    EXPECT_EQ(tokenizer->bos_id(), -1);
    EXPECT_FALSE(tokenizer->adds_bos());
    EXPECT_TRUE(tokenizer->is_special(1));
    EXPECT_FALSE(tokenizer->is_special(2));
    const TokenId ids[] = {1};
    EXPECT_EQ(tokenizer->decode(ids), "");
    const std::string written = tokenizer->piece(0) + tokenizer->piece(1);
    EXPECT_EQ(tokenizer->encode(written, {.parse_special = true}), (std::vector<TokenId>{0, 1}));
  }
}

TEST(StreamDecoder, GivesInPiecesWhatDecodeGivesAtOnce) {
  test::TempFolder place;
  const auto tokenizer = open(place, train_model(settings_of("bpe")));
  Rng rng(4);
  const auto vocabulary = static_cast<uint64_t>(tokenizer->vocab_size());
  for (int i = 0; i < 300; ++i) {
    std::vector<TokenId> ids;
    // Bytes stand near the front: half of the ids are bytes, so that characters are torn and broken.
    for (uint64_t n = rng.below(20); n > 0; --n)
      ids.push_back(static_cast<TokenId>(rng.below(2) ? 3 + rng.below(256) : rng.below(vocabulary)));
    StreamDecoder decoder(*tokenizer);
    std::string text;
    for (const TokenId id : ids) {
      const std::string part = decoder.push(id);
      size_t at = 0;
      while (at < part.size()) {
        const int n = utf8_length(std::string_view(part).substr(at));
        ASSERT_GT(n, 0) << "half a character was handed out";
        at += static_cast<size_t>(n);
      }
      text += part;
    }
    EXPECT_EQ(text + decoder.finish(), tokenizer->decode(ids));
  }
}

TEST(TokenizerJson, IsWrittenBesideTheModelWithItsPieces) {
  test::TempFolder place;
  const auto tokenizer = open(place, train_model(settings_of("bpe")));
  std::filesystem::create_directory(place / "out");
  tokenizer->save(place / "out");
  EXPECT_EQ(test::read_text(place / "out" / "tokenizer.model"), test::read_text(place / "tokenizer.model"));
  const nlohmann::json json = read_json(place / "out" / "tokenizer.json");
  EXPECT_EQ(json["model"]["type"], "BPE");
  EXPECT_EQ(json["model"]["vocab"].size(), static_cast<size_t>(tokenizer->vocab_size()));
  for (TokenId id = 0; id < tokenizer->vocab_size(); ++id)
    EXPECT_EQ(json["model"]["vocab"][tokenizer->piece(id)], id);
  const auto again = load_tokenizer(place / "out");
  EXPECT_EQ(again->hash(), tokenizer->hash());
}

TEST(TrainTokenizer, TheSameTextAndSeedGiveTheSameModel) {
  for (const char* type : {"unigram", "bpe", "word", "char"}) {
    EXPECT_TRUE(train_model(settings_of(type)) == train_model(settings_of(type))) << type;
  }
  TokenizerTraining few = settings_of("unigram");
  few.max_lines = 200;
  const std::string one = train_model(few);
  EXPECT_TRUE(train_model(few) == one);
  few.seed = 2;
  EXPECT_TRUE(train_model(few) != one) << "another sample has other scores";
}

TEST(TrainTokenizer, RefusesWhatCannotBe) {
  const auto refused = [](auto change) {
    TokenizerTraining s = settings_of("bpe");
    change(s);
    EXPECT_THROW(train_model(s), UsageError);
  };
  refused([](TokenizerTraining& s) { s.vocab_size = 7; });
  refused([](TokenizerTraining& s) { s.vocab_size = 200; });  // no room for 256 bytes
  refused([](TokenizerTraining& s) { s.vocab_size = 1 << 30; });
  refused([](TokenizerTraining& s) { s.character_coverage = 0; });
  refused([](TokenizerTraining& s) { s.character_coverage = NAN; });
  refused([](TokenizerTraining& s) { s.max_lines = -1; });
  refused([](TokenizerTraining& s) { s.user_symbols = {""}; });
  EXPECT_THROW(train_model(settings_of("bpe"), ""), Error);
}

std::string varint(uint64_t n) {
  std::string bytes;
  for (; n >= 128; n >>= 7) bytes.push_back(static_cast<char>(n | 128));
  bytes.push_back(static_cast<char>(n));
  return bytes;
}
std::string field(int number, const std::string& bytes) {
  return varint(static_cast<uint64_t>(number) << 3 | 2) + varint(bytes.size()) + bytes;
}
std::string piece(const std::string& text, int type = 1) {
  return field(
      1, field(1, text) + std::string("\x15\0\0\0\0", 5) + "\x18" + varint(static_cast<uint64_t>(type)));
}

TEST(SentencePieceModel, RefusesWhatTheLibraryDoesNotSurvive) {
  const std::string start = piece("<unk>", 2) + piece("</s>", 3);
  EXPECT_NO_THROW(read_sentencepiece_model(start + piece("a"), "here"));
  const std::string bad[] = {"",
                             "garbage",
                             start,  // nothing to write text with
                             start + piece(std::string(200000, 'x')),
                             start + piece(std::string("a\0b", 3)),
                             start + piece("\xff"),
                             start + piece(""),
                             start + piece("a") + piece("a"),
                             start + piece("<0x4>", 6),
                             start + piece("a") + field(3, field(2, std::string(3, '\xff'))),
                             start + piece("a") + field(3, field(2, std::string(4096, '\xff'))),
                             start + piece("a") + varint(1 << 3 | 2) + varint(uint64_t{1} << 62)};
  for (size_t i = 0; i < std::size(bad); ++i) {
    try {
      read_sentencepiece_model(bad[i], "here");
      if (i != 2) ADD_FAILURE() << "accepted: " << i;
    } catch (const Error& e) {
      EXPECT_EQ(std::string(e.what()).find("here"), 0u) << e.what();
    }
  }
}

TEST(SentencePieceModel, DamagedFilesAreRefusedOrRead) {
  test::TempFolder place;
  const std::string whole = train_model(settings_of("unigram"));
  Rng rng(5);
  for (int i = 0; i < 400; ++i) {
    std::string bytes = whole;
    if (i % 4 == 0) {
      bytes.resize(rng.below(bytes.size()));
    } else {
      for (uint64_t n = 1 + rng.below(3); n > 0; --n)
        bytes[rng.below(bytes.size())] = static_cast<char>(rng.next());
    }
    try {
      const auto tokenizer = open(place, bytes);
      tokenizer->decode(tokenizer->encode("the grüne river\n runs 🦢"));
    } catch (const Error&) {
    }
  }
}

TEST(TokenizerJsonOfSentencePiece, AnUnknownIdBeyondThePiecesGivesNone) {
  SentencePieceModel model;
  model.pieces = {{"<unk>", 0, SentencePieceModel::Type::unknown},
                  {"a", -1, SentencePieceModel::Type::normal}};
  model.algorithm = SentencePieceModel::Algorithm::bpe;
  model.add_dummy_prefix = model.remove_extra_whitespaces = false;
  EXPECT_NE(tokenizer_json(model), "");
  model.unk_id = 45;
  EXPECT_EQ(tokenizer_json(model), "");
}

/// Llama 2's kind: a space in front of every text, BOS, bytes; trained by SentencePiece itself.
std::string train_llama_kind(const std::string& type) {
  const test::TempFolder place;
  test::write_text(place / "text.txt", corpus());
  const std::unordered_map<std::string, std::string> settings = {{"input", (place / "text.txt").string()},
                                                                 {"model_type", type},
                                                                 {"vocab_size", "280"},
                                                                 {"normalization_rule_name", "identity"},
                                                                 {"remove_extra_whitespaces", "false"},
                                                                 {"byte_fallback", "true"},
                                                                 {"minloglevel", "2"}};
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(settings, nullptr, &model);
  if (!status.ok()) throw Error(status.ToString());
  return model;
}

TEST(TokenizerJsonOfSentencePiece, SaysASpaceInFrontAndWhatStandsAround) {
  for (const char* type : {"bpe", "unigram"}) {
    const test::TempFolder model, saved, alone;
    test::write_text(model / "tokenizer.model", train_llama_kind(type));
    const auto pieces = load_tokenizer(model.path());
    pieces->save(saved.path());
    ASSERT_TRUE(fs::exists(saved / "tokenizer.json")) << type;
    EXPECT_EQ(load_tokenizer(saved.path())->kind(), pieces->kind());
    fs::copy(saved / "tokenizer.json", alone / "tokenizer.json");
    fs::copy(saved / "tokenizer_config.json", alone / "tokenizer_config.json");
    const auto pipeline = load_tokenizer(alone.path());
    EXPECT_NE(pipeline->kind(), pieces->kind());
    Rng rng(11);
    for (int i = 0; i < 2000; ++i) {
      const std::string text =
          random_text(rng, false);  // with special tokens, which the library always reads
      if (text.find("<0x") != std::string::npos) continue;  // a piece like any other to the library's Unigram
      const EncodeOptions options = {.add_special_tokens = i % 2 == 0, .parse_special = true};
      const auto ids = pieces->encode(text, options);
      ASSERT_EQ(pipeline->encode(text, options), ids) << type << ": " << text;
      ASSERT_EQ(pipeline->decode(ids), pieces->decode(ids)) << type << ": " << text;
    }
  }
}

TEST(TokenizerJsonOfSentencePiece, StandsBesideTheModelWhateverTheSettingsSay) {
  const test::TempFolder model, saved;
  test::write_text(model / "tokenizer.model", train_llama_kind("bpe"));
  test::write_text(model / "tokenizer_config.json", R"({"tokenizer_class": "LlamaTokenizer"})");
  const auto pieces = load_tokenizer(model.path());
  pieces->save(saved.path());
  nlohmann::json config = read_json(saved / "tokenizer_config.json");
  EXPECT_EQ(config["tokenizer_class"], "PreTrainedTokenizerFast") << "LlamaTokenizer builds another";
  config["add_bos_token"] = false;
  test::write_text(saved / "tokenizer_config.json", config.dump());
  const auto edited = load_tokenizer(saved.path());
  EXPECT_EQ(edited->kind(), pieces->kind());
  EXPECT_EQ(edited->encode("the", {.add_special_tokens = true}), pieces->encode("the"));
  std::string json = test::read_text(saved / "tokenizer.json");
  EXPECT_TRUE(is_tokenizer_json_of(json, dynamic_cast<const SentencePieceTokenizer&>(*pieces).model()));
  json.replace(json.find("Prepend"), 7, "Prefix_");
  EXPECT_FALSE(is_tokenizer_json_of(json, dynamic_cast<const SentencePieceTokenizer&>(*pieces).model()));
}

TEST(TokenizerJsonOfSentencePiece, IsNotThereForUnusedPiecesThatTextsMeet) {
  using Type = SentencePieceModel::Type;
  SentencePieceModel model;
  model.pieces = {{"<unk>", 0, Type::unknown}, {"a", -1, Type::normal}, {"b", -1, Type::normal}};
  model.algorithm = SentencePieceModel::Algorithm::bpe;
  model.remove_extra_whitespaces = false;
  model.pieces.push_back({"[PAD3]", 0, Type::unused});
  EXPECT_NE(tokenizer_json(model), "") << "which fills the vocabulary up";
  model.pieces.push_back({"ab", -2, Type::unused});
  EXPECT_EQ(tokenizer_json(model), "");
  model.pieces.back().type = Type::normal;
  model.escape_whitespaces = false;
  EXPECT_EQ(tokenizer_json(model), "");
}

TEST(TokenizerJsonOfSentencePiece, TakesTokensBesideAModelsOwn) {
  const test::TempFolder model;
  test::write_text(model / "tokenizer.model", train_llama_kind("bpe"));
  const auto pieces = load_tokenizer(model.path());
  const auto more = with_tokens(pieces, {"<call>"});
  EXPECT_EQ(more->vocab_size(), pieces->vocab_size() + 1);
  std::vector<TokenId> expected = pieces->encode("the river", {.add_special_tokens = true});
  ASSERT_EQ(expected.front(), pieces->bos_id());
  expected.push_back(static_cast<TokenId>(pieces->vocab_size()));
  EXPECT_EQ(more->encode("the river<call>", {.add_special_tokens = true}), expected);
}

}  // namespace
}  // namespace llmtool
