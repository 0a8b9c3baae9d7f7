// Tokenizers in the files that folders have, and files that are not as they should be.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "llmtool/core/error.h"
#include "llmtool/text/tokenizer.h"
#include "support.h"

namespace llmtool {
namespace {

using nlohmann::json;
using Ids = std::vector<TokenId>;

/// A small byte-level tokenizer.json of GPT-2's kind.
json byte_level() {
  json vocab = json::object();
  for (const char* token : {"h", "e", "l", "o", "Ġ", "w", "ll", "he", "hell", "hello", "Ġw"})
    vocab[token] = vocab.size();
  json step = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  return {
      {"added_tokens",
       {{{"id", 11},
         {"content", "<|end|>"},
         {"single_word", false},
         {"lstrip", false},
         {"rstrip", false},
         {"normalized", false},
         {"special", true}}}},
      {"normalizer", nullptr},
      {"pre_tokenizer", step},
      {"post_processor", nullptr},
      {"decoder", step},
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"l l", "h e", "he ll", "hell o", "Ġ w"}}}}};
}

class TokenizerFiles : public testing::Test {
 protected:
  std::shared_ptr<const Tokenizer> load(const json& document) {
    test::write_text(place / "tokenizer.json", document.dump());
    return load_tokenizer(place.path());
  }
  /// The message with which a document is refused.
  std::string refusal(const json& document) {
    try {
      load(document);
    } catch (const Error& e) {
      return e.what();
    }
    return "none";
  }
  void expect_refusal(const json& document, const std::string& part) {
    EXPECT_NE(refusal(document).find("tokenizer.json: " + part), std::string::npos) << refusal(document);
  }
  test::TempFolder place;
};

TEST_F(TokenizerFiles, SpecialTokensInATextAreReadOrNot) {
  const auto tokenizer = load(byte_level());
  EXPECT_EQ(tokenizer->encode("hello<|end|> w"), (Ids{9, 11, 10}));
  EXPECT_EQ(tokenizer->encode("<|end|>", {.parse_special = false}),
            (Ids{1}));  // of its bytes only "e" is known
  EXPECT_EQ(tokenizer->decode(Ids{9, 11, 10}), "hello w");
  EXPECT_TRUE(tokenizer->is_special(11));
  EXPECT_EQ(tokenizer->vocab_size(), 12);
  EXPECT_THROW(tokenizer->decode(Ids{12}), Error);
}

TEST_F(TokenizerFiles, TheFoldersSettingsSayWhatStandsAroundAText) {
  test::write_text(place / "tokenizer_config.json",
                   R"({"bos_token": {"content": "<|end|>"}, "eos_token": "<|end|>", "add_bos_token": true,
                       "chat_template": [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]})");
  const auto tokenizer = load(byte_level());
  // What a tokenizer.json has itself counts, as in transformers.
  EXPECT_EQ(tokenizer->encode("hello", {.add_special_tokens = true}), Ids{9});
  EXPECT_EQ(tokenizer->chat_template(false), "D");
  EXPECT_EQ(tokenizer->chat_template(true), "T");
  // The file by itself is what its own library makes of it.
  const auto alone = load_tokenizer(place / "tokenizer.json");
  EXPECT_EQ(alone->encode("hello", {.add_special_tokens = true}), Ids{9});
  EXPECT_EQ(alone->eos_id(), 11);
}

TEST_F(TokenizerFiles, SavingCopiesWhatTheFolderHas) {
  test::write_text(place / "tokenizer_config.json", R"({"eos_token": "<|end|>"})");
  const auto tokenizer = load(byte_level());
  std::filesystem::create_directories(place / "copy");
  tokenizer->save(place / "copy");
  const auto again = load_tokenizer(place / "copy");
  EXPECT_EQ(again->hash(), tokenizer->hash());
  EXPECT_EQ(again->eos_id(), 11);
}

TEST_F(TokenizerFiles, Gpt2sAndBertsOlderFilesAreRead) {
  const json document = byte_level();
  std::filesystem::create_directories(place / "gpt2");
  test::write_text(place / "gpt2" / "vocab.json", document.at("model").at("vocab").dump());
  test::write_text(place / "gpt2" / "merges.txt", "#version: 0.2\nl l\nh e\nhe ll\nhell o\n\xC4\xA0 w\n");
  test::write_text(place / "gpt2" / "added_tokens.json", R"({"<|end|>": 11})");
  const auto gpt2 = load_tokenizer(place / "gpt2");
  EXPECT_EQ(gpt2->encode("hello w<|end|>"), (Ids{9, 10, 11}));
  test::write_text(place / "gpt2" / "tokenizer_config.json",
                   R"({"bos_token": "<|end|>", "add_bos_token": true})");
  const auto begins = load_tokenizer(place / "gpt2");
  EXPECT_EQ(begins->encode("hello", {.add_special_tokens = true}), (Ids{11, 9}));
  EXPECT_EQ(begins->encode("hello"), Ids{9});
  EXPECT_TRUE(begins->adds_bos());

  std::filesystem::create_directories(place / "bert");
  test::write_text(place / "bert" / "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello\nwor\n##ld\n,\n");
  const auto bert = load_tokenizer(place / "bert");
  EXPECT_EQ(bert->encode("Héllo, WORLD [MASK]x", {.add_special_tokens = true}),
            (Ids{2, 5, 8, 6, 7, 4, 1, 3}));
  EXPECT_EQ(bert->decode(Ids{2, 5, 8, 6, 7, 3}), "hello, world");
  test::write_text(place / "bert" / "tokenizer_config.json", R"({"do_lower_case": false})");
  EXPECT_EQ(load_tokenizer(place / "bert")->encode("Hello hello"), (Ids{1, 5}));
}

TEST_F(TokenizerFiles, AddedTokensTakeTheBlanksBesideThem) {
  json document = byte_level();
  json& list = document["added_tokens"];
  const auto add = [&](int id, const char* content, const char* key) {
    json token = list[0];
    token["id"] = id;
    token["content"] = content;
    token["special"] = false;
    token[key] = true;
    list.push_back(token);
  };
  add(12, "<l>", "lstrip");
  add(13, "<r>", "rstrip");
  add(14, "lo", "single_word");
  const auto tokenizer = load(document);
  EXPECT_EQ(tokenizer->encode("h  <l> w"), (Ids{0, 12, 10}));
  EXPECT_EQ(tokenizer->encode("h<r>  w"), (Ids{0, 13, 5}));
  EXPECT_EQ(tokenizer->encode("lo"), Ids{14});
  EXPECT_EQ(tokenizer->encode("hello"), Ids{9});
}

/// As transformers 5.23: ids that the files say count for the order alone.
TEST_F(TokenizerFiles, TokensThatTheVocabularyLacksGoBehindIt) {
  const std::string letters =
      R"({"<s>": 0, "</s>": 1, "<unk>": 2, "<pad>": 3, "a": 4, "b": 5, "<": 6, "x": 7, ">": 8})";
  const auto load_with = [&](const json& config, const std::string& added) {
    test::write_text(place / "words/vocab.json", letters);
    test::write_text(place / "words/merges.txt", "");
    test::write_text(place / "words/tokenizer_config.json", config.dump());
    test::write_text(place / "words/added_tokens.json", added);
    return load_tokenizer(place / "words");
  };
  std::filesystem::create_directories(place / "words");
  const auto roberta = load_with({{"tokenizer_class", "RobertaTokenizer"}}, "{}");
  EXPECT_EQ(roberta->encode("a<mask>b"), (Ids{4, 9, 5}));
  EXPECT_TRUE(roberta->is_special(9));
  const json two = {{"30", {{"content", "<y>"}}},
                    {"9", {{"content", "<x>"}, {"special", true}}},
                    {"4", {{"content", "b"}}}};
  const auto decoder = load_with({{"tokenizer_class", "GPT2Tokenizer"},
                                  {"eos_token", "</s>"},
                                  {"bos_token", "</s>"},
                                  {"unk_token", "</s>"},
                                  {"pad_token", "<p>"},
                                  {"sep_token", "<q>"},
                                  {"added_tokens_decoder", two},
                                  {"additional_special_tokens", {"<z>"}}},
                                 "{}");
  EXPECT_EQ(decoder->encode("<x><y><z><p><q>b"), (Ids{9, 10, 13, 12, 11, 5}));
  EXPECT_EQ(decoder->vocab_size(), 14);
  EXPECT_EQ(decoder->encode("</s>"), (Ids{1}));
  const auto added = load_with({{"tokenizer_class", "RobertaTokenizer"}}, R"({"<x>": 40, "<mask>": 20})");
  EXPECT_EQ(added->encode("<x><mask>"), (Ids{10, 9}));
  EXPECT_TRUE(added->is_special(9));
  EXPECT_FALSE(added->is_special(10));
  test::write_text(place / "words/special_tokens_map.json",
                   R"({"pad_token": "<p>", "additional_special_tokens": ["<x>", "<y>"]})");
  EXPECT_EQ(
      load_with({{"tokenizer_class", "Qwen2Tokenizer"}, {"eos_token", "</s>"}}, "{}")->encode("<p><x><y>"),
      (Ids{9, 10, 11}));
}

TEST_F(TokenizerFiles, IdsWithoutATokenAreNotSpecial) {
  json document = byte_level();
  document["added_tokens"][0]["id"] = 20;
  const auto tokenizer = load(document);
  EXPECT_TRUE(tokenizer->is_special(20));
  EXPECT_FALSE(tokenizer->is_special(15));
  EXPECT_THROW(tokenizer->is_special(21), Error);
  EXPECT_THROW(tokenizer->piece(15), Error);
}

/// As the tokenizers library, which goes by where a word's first character came from.
TEST_F(TokenizerFiles, ABeginningThatIsTakenAwayGetsNoSignOfAFirstWord) {
  json document = byte_level();
  json vocab = json::object();
  for (const char* token : {"▁", "a", "b", "d", " "}) vocab[token] = vocab.size();
  document["model"] = {{"type", "BPE"}, {"vocab", vocab}, {"merges", json::array()}};
  document["added_tokens"] = json::array();
  document["decoder"] = nullptr;
  document["pre_tokenizer"] = {
      {"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "first"}, {"split", true}};
  const json strip = {{"type", "Strip"}, {"strip_left", true}, {"strip_right", false}},
             erase = {{"type", "Replace"}, {"pattern", {{"String", "d"}}}, {"content", ""}},
             change = {{"type", "Replace"}, {"pattern", {{"String", "d"}}}, {"content", "b"}},
             prepend = {{"type", "Prepend"}, {"prepend", "d"}};
  const auto with = [&](const json& normalizer) {
    document["normalizer"] = normalizer;
    return load(document);
  };
  EXPECT_EQ(with(strip)->encode("ab"), (Ids{0, 1, 2}));
  EXPECT_EQ(with(strip)->encode(" a b"), (Ids{1, 0, 2}));
  EXPECT_EQ(with(erase)->encode("ab"), (Ids{0, 1, 2}));
  EXPECT_EQ(with(erase)->encode("dab"), (Ids{1, 2}));
  EXPECT_EQ(with(change)->encode("dab"), (Ids{0, 2, 1, 2}));
  EXPECT_EQ(with({{"type", "StripAccents"}})->encode("\u0301ab"), (Ids{1, 2}));
  EXPECT_EQ(with({{"type", "Nmt"}})->encode("\u0001ab"), (Ids{1, 2}));
  EXPECT_EQ(with({{"type", "BertNormalizer"}})->encode("\u0001ab"), (Ids{1, 2}));
  EXPECT_EQ(with({{"type", "Sequence"}, {"normalizers", {strip, prepend}}})->encode(" ab"), (Ids{3, 1, 2}));
}

TEST_F(TokenizerFiles, ALongestTokenWinsAndFilesWithManyAreFast) {
  json document = byte_level();
  json& list = document["added_tokens"];
  for (int i = 1; i <= 50; ++i) {
    json token = list[0];
    token["id"] = 100 + i;
    token["content"] = std::string(static_cast<size_t>(i), 'x');
    list.push_back(token);
  }
  EXPECT_EQ(load(document)->encode(std::string(120, 'x')), (Ids{150, 150, 120}));
}

TEST_F(TokenizerFiles, WhatIsWrongIsNamed) {
  json d = byte_level();
  d["model"]["merges"].push_back("h zz");
  expect_refusal(d, "model: merges[5]: expected tokens of the vocabulary, found \"zz\"");
  d = byte_level();
  d["model"]["merges"].push_back("h e l");
  expect_refusal(d, "model: merges[5]: expected two tokens, found \"h e l\"");
  d = byte_level();
  d["model"]["vocab"]["again"] = 3;
  expect_refusal(d, "model: vocab: the id 3 has two tokens");
  d = byte_level();
  d["model"]["vocab"]["h"] = -1;
  expect_refusal(d, "model: vocab: \"h\": expected an id, found -1");
  d = byte_level();
  d["model"]["vocab"]["h"] = 1e300;
  expect_refusal(d, "model: vocab: \"h\": expected an id");
  d = byte_level();
  d["added_tokens"][0]["id"] = 3;
  expect_refusal(d, "added_tokens[0]: the id 3 has two tokens, \"o\" and \"<|end|>\"");
  d = byte_level();
  d["model"]["dropout"] = 0.1;
  expect_refusal(d, "model: dropout");
  d = byte_level();
  d["pre_tokenizer"] = {{"type", "UnicodeScripts"}};
  expect_refusal(d, "pre_tokenizer: a pre-tokenizer of type \"UnicodeScripts\" is not supported");
  d = byte_level();
  d["normalizer"] = {{"type", "Sequence"},
                     {"normalizers", {{{"type", "Precompiled"}, {"precompiled_charsmap", "AAAA"}}}}};
  expect_refusal(d, "normalizer.normalizers[0]: precompiled_charsmap: expected at least 4 bytes");
  d["normalizer"]["normalizers"][0]["precompiled_charsmap"] = "A?==";
  expect_refusal(d, "normalizer.normalizers[0]: precompiled_charsmap: expected base64, found a byte 63 at 1");
  d = byte_level();
  d["decoder"] = {{"type", "CTC"}};
  expect_refusal(d, "decoder: a decoder of type \"CTC\" is not supported");
  d = byte_level();
  d["post_processor"] = {{"type", "BertProcessing"}, {"sep", {"[SEP]", 99}}, {"cls", {"[CLS]", 0}}};
  expect_refusal(d, "post_processor: the id 99 has no token");
  d = byte_level();
  d["added_tokens"][0]["content"] = std::string(200 << 10, 'x');
  expect_refusal(d, "added_tokens[0]: content: expected at most 4096 bytes, found 204800");
}

TEST_F(TokenizerFiles, OddPiecesDoNoHarm) {
  json d = byte_level();
  json& vocab = d["model"]["vocab"];
  vocab[std::string("\0", 1)] = 20;
  vocab["<0x-1>"] = 21;
  vocab["<0xZZ>"] = 22;
  vocab[""] = 23;
  vocab[std::string(200 << 10, 'h')] = 24;
  d["decoder"] = {{"type", "ByteFallback"}};
  const auto tokenizer = load(d);
  EXPECT_EQ(tokenizer->decode(Ids{21, 22}), "<0x-1><0xZZ>");
  EXPECT_EQ(tokenizer->decode(Ids{20}), std::string("\0", 1));
  EXPECT_EQ(tokenizer->encode(std::string(300 << 10, 'h')).size(), size_t{300} << 10);
}

TEST_F(TokenizerFiles, ARegularExpressionThatNeverEndsIsAnError) {
  json d = byte_level();
  d["pre_tokenizer"] = {
      {"type", "Split"}, {"pattern", {{"Regex", "(h+)+$"}}}, {"behavior", "Isolated"}, {"invert", false}};
  d["model"]["unk_token"] = "h";
  const auto tokenizer = load(d);
  EXPECT_THROW(tokenizer->encode(std::string(100, 'h') + "e"), Error);
}

TEST_F(TokenizerFiles, TiktokensLinesAreChecked) {
  const auto refusal_of = [&](const std::string& text) -> std::string {
    test::write_text(place / "r50k_base.tiktoken", text);
    try {
      load_tokenizer(place / "r50k_base.tiktoken");
    } catch (const Error& e) {
      return e.what();
    }
    return "none";
  };
  EXPECT_EQ(refusal_of("aA== 0\nZQ== 1\n"), "none");
  EXPECT_NE(refusal_of("aA== 0\nZQ==\n").find("line 2: expected base64 and a rank"), std::string::npos);
  EXPECT_NE(refusal_of("aA== 0\nZQ=? 1\n").find("line 2: expected base64, found"), std::string::npos);
  EXPECT_NE(refusal_of("aA== 0\naA== 1\n").find("line 2: the token \"h\" stands twice"), std::string::npos);
  EXPECT_NE(refusal_of("aA== 0\nZQ== 0\n").find("line 2: the id 0 has two tokens"), std::string::npos);
  EXPECT_NE(refusal_of("aA== 0\nZQ== 999999999\n").find("line 2: expected an id below"), std::string::npos);
}

TEST_F(TokenizerFiles, AFolderWithoutOneSaysWhatItShouldHold) {
  EXPECT_FALSE(has_tokenizer(place.path()));
  EXPECT_THROW(load_tokenizer(place.path()), UsageError);
  EXPECT_THROW(load_tokenizer(place / "nothing"), UsageError);
}

}  // namespace
}  // namespace llmtool
