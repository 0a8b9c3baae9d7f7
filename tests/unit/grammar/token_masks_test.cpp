// Token masks: equal to what reading every token byte by byte says, for tokenizers of every kind.

#include "llmtool/grammar/token_masks.h"

#include "llmtool/core/error.h"
#include "llmtool/grammar/gbnf.h"
#include "llmtool/grammar/regex_grammar.h"
#include "support.h"
#include "walks.h"

namespace llmtool {
namespace {

const char* const kForms[] = {
    "root ::= v\nv ::= \"{\" (s \":\" v (\", \" s \":\" v)*)? \"}\" | \"[\" (v (\",\" v)*)? \"]\" | s | "
    "[0-9]+\n"
    "s ::= \"\\\"\" [^\"\\\\\\n]* \"\\\"\"",
    "root ::= ([a-z]+ \" \"){1,30}", "root ::= [^a]{0,200} | \" \"? \"日本\"* \"\\n\"",
    "root ::= (\"I \" | \"You \" | \" He \") (\"am\" | \"are\") [ .!]*"};

void compare(const Tokenizer& tokenizer, int64_t vocab_size) {
  Rng rng(3);
  const std::vector<TokenId> ends = {2, 5, static_cast<TokenId>(vocab_size + 3)};
  for (const char* form : kForms) {
    const auto grammar = parse_gbnf(form, "g");
    TokenMasks masks(tokenizer, vocab_size, ends);
    for (int round = 0; round < 5; ++round) {
      const auto matcher = grammar->matcher();
      for (uint64_t n = round == 0 ? 0 : rng.below(40); n > 0; --n) {
        const std::string allowed = test::bytes_after(*matcher);
        if (allowed.empty()) break;
        ASSERT_TRUE(matcher->push(static_cast<uint8_t>(allowed[rng.below(allowed.size())])));
      }
      const bool at_start = round == 0;
      const auto mask = masks.allowed(*matcher, at_start);
      int64_t count = 0;
      for (TokenId id = 0; id < vocab_size; ++id) {
        bool expected = false;
        if (id == 2 || id == 5) {
          expected = matcher->complete();
        } else if (id < tokenizer.vocab_size() && !tokenizer.is_special(id)) {
          const std::string text = tokenizer.surface(id, at_start);
          const auto next = matcher->clone();
          expected = !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
            return next->push(static_cast<uint8_t>(c));
          });
        }
        count += expected;
        ASSERT_EQ(mask->allows(id), expected) << tokenizer.kind() << " " << id;
      }
      EXPECT_EQ(mask->count, count);
      EXPECT_EQ(mask->only >= 0, count == 1);
      EXPECT_EQ(masks.allowed(*matcher, at_start), mask);
    }
    EXPECT_GT(masks.hits(), 0);
  }
}

TEST(TokenMasks, AreWhatReadingEveryTokenSays) {
  int found = 0;
  for (const char* name :
       {"weights/stories260K/hf", "weights/stories260K/stories260K.gguf", "tokenizers/llama2/tokenizer.model",
        "tokenizers/llama.cpp/ggml-vocab-bert-bge.gguf", "tokenizers/llama.cpp/ggml-vocab-gpt-2.gguf",
        "tokenizers/hf/gpt-neox-20b.tokenizer.json"}) {
    const auto path = test::reference_data(name);
    if (path.empty() || !has_tokenizer(path)) continue;
    ++found;
    const auto tokenizer = load_tokenizer(path);
    compare(*tokenizer, tokenizer->vocab_size() + 60);
  }
  if (found == 0) GTEST_SKIP();
  EXPECT_EQ(found, 6);
}

TEST(TokenMasks, ForgetTheOldestWhenMemoryIsShort) {
  const auto path = test::reference_data("tokenizers/llama2/tokenizer.model");
  if (path.empty()) GTEST_SKIP();
  const auto tokenizer = load_tokenizer(path);
  TokenMasks masks(*tokenizer, tokenizer->vocab_size(), {2}, 3 * 4300);
  const auto grammar = parse_regex_grammar("abcdefgh", "r");
  const auto matcher = grammar->matcher();
  for (const char c : std::string("abcdef")) {
    masks.allowed(*matcher);
    ASSERT_TRUE(matcher->push(static_cast<uint8_t>(c)));
  }
  EXPECT_EQ(masks.misses(), 6);
  masks.allowed(*grammar->matcher());
  EXPECT_EQ(masks.misses(), 7);
}

TEST(TokenMasks, AFormThatTheVocabularyCannotSpellIsAnError) {
  const auto path = test::reference_data("tokenizers/llama.cpp/ggml-vocab-bert-bge.gguf");
  if (path.empty()) GTEST_SKIP();
  const auto tokenizer = load_tokenizer(path);  // has no control characters
  TokenMasks masks(*tokenizer, tokenizer->vocab_size(), {});
  const auto grammar = parse_regex_grammar("\\x01", "r");
  EXPECT_THROW(HeldText(*grammar, masks, true), Error);
}

}  // namespace
}  // namespace llmtool
