// Token masks: equal to what reading every token byte by byte says, for tokenizers of every kind.

#include "llmtool/grammar/token_masks.h"

#include "llmtool/core/error.h"
#include "llmtool/grammar/gbnf.h"
#include "llmtool/grammar/json_schema.h"
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
  const bool spells_all = tokenizer.kind() != "WordPiece";
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
        // WordPiece cannot spell all that goes on.
        expected = expected && (spells_all || mask->allows(id));
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

/// A vocabulary of just these tokens.
class Vocabulary {
 public:
  explicit Vocabulary(std::vector<std::string> given) : tokens(std::move(given)) {
    using nlohmann::json;
    json list = json::array({json::array({"<unk>", 0.0})});
    for (const std::string& token : tokens) list.push_back(json::array({token, -1.0}));
    const json unknown = {{"id", 0}, {"content", "<unk>"}, {"special", true}, {"normalized", false}};
    const json decoders = json::array({{{"type", "ByteFallback"}}, {{"type", "Fuse"}}});
    const json file = {{"added_tokens", json::array({unknown})},
                       {"decoder", {{"type", "Sequence"}, {"decoders", decoders}}},
                       {"model", {{"type", "Unigram"}, {"unk_id", 0}, {"vocab", std::move(list)}}}};
    const test::TempFolder place;
    test::write_text(place / "tokenizer.json", file.dump());
    tokenizer = load_tokenizer(place / "tokenizer.json");
  }
  TokenMasks masks() const { return {*tokenizer, tokenizer->vocab_size(), {}}; }
  /// The tokens that may come behind `text`, and "." where it may end.
  std::string after(const Grammar& grammar, const std::string& text) const {
    const auto matcher = grammar.matcher();
    for (const char c : text) EXPECT_TRUE(matcher->push(static_cast<uint8_t>(c))) << text;
    const auto mask = masks().allowed(*matcher);
    std::string found = matcher->complete() ? "." : "";
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (mask->allows(static_cast<TokenId>(i + 1))) found += cat(found.empty() ? "" : " ", tokens[i]);
    }
    return found;
  }

  std::vector<std::string> tokens;
  std::shared_ptr<const Tokenizer> tokenizer;
};

TEST(TokenMasks, LeaveOutTokensThatLeadToADeadEnd) {
  const auto words = [](const char* schema) {
    return parse_json_schema(nlohmann::json::parse(schema), "schema");
  };
  const Vocabulary letters({"\"", "c", "a", "f", "t", "x", "ca", "caf", "<0xC3>", "\\"});
  EXPECT_EQ(letters.after(*words(R"({"enum": ["caf\u00e9", "cat"]})"), "\"ca"), "t");
  EXPECT_EQ(letters.after(*words(R"({"enum": ["cafxy\u00e9", "cat"]})"), "\""), "c ca");
  EXPECT_EQ(letters.after(*words(R"({"enum": ["caf\u00e9", "\u00e9"]})"), ""), "") << "none at all";
  EXPECT_EQ(letters.after(*words(R"({"type": "string"})"), "\"ca"), "\" c a f t x ca caf \\");
  // No way to a point, and even numbers are out.
  const Vocabulary digits({"1", "2", "12", "-"});
  const auto odd = words(R"({"type": "number", "not": {"multipleOf": 2}, "minimum": -3, "maximum": 12.5})");
  EXPECT_EQ(digits.after(*odd, ""), "1 -");
  EXPECT_EQ(digits.after(*odd, "1"), ". 1");
  const auto regex = [](const char* text) { return parse_regex_grammar(text, "r"); };
  const Vocabulary some({"a", "b", " D", "ab"});
  EXPECT_EQ(some.after(*regex("[ab]{2,5}( D\\.)?"), "ab"), ". a b ab");
  EXPECT_EQ(some.after(*regex("(ac|a)*b|a"), ""), "a b ab");
  EXPECT_EQ(some.after(*regex("(ac|a)*d|ac"), ""), "") << "a loop without an end";
  EXPECT_EQ(some.after(*regex("b{600}c|a"), ""), "a b") << "too far to be proven";
  EXPECT_EQ(some.after(*parse_gbnf("root ::= \"a\" root \"c\" | \"b\"", "g"), ""), "a b")
      << "endlessly many states";
}

/// Whether `text` is a row of tokens.
bool spelled(const std::vector<std::string>& tokens, const std::string& text) {
  return text.empty() || std::any_of(tokens.begin(), tokens.end(), [&](const std::string& token) {
           return text.starts_with(token) && spelled(tokens, text.substr(token.size()));
         });
}

TEST(TokenMasks, KnowWhichListedWordsCanBeSpelled) {
  Rng rng(7);
  const auto word = [&](uint64_t longest) {
    std::string text;
    for (uint64_t n = 1 + rng.below(longest); n > 0; --n) text += static_cast<char>('a' + rng.below(3));
    return text;
  };
  int dead = 0;
  for (int round = 0; round < 60; ++round) {
    std::set<std::string> distinct, listed;
    while (distinct.size() < 4) distinct.insert(word(3));
    while (listed.size() < 8) listed.insert(word(7));
    const Vocabulary vocabulary({distinct.begin(), distinct.end()});
    const std::vector<std::string>& tokens = vocabulary.tokens;
    std::string regex;
    for (const std::string& text : listed) regex += (regex.empty() ? "" : "|") + text;
    const auto grammar = parse_regex_grammar(regex, "r");
    for (const std::string& text : listed) {
      for (size_t length = 0; length < text.size(); ++length) {
        const std::string begun = text.substr(0, length);
        std::string expected = listed.contains(begun) ? "." : "";
        for (const std::string& token : tokens) {
          const auto alive = [&](const std::string& other) {
            return other.starts_with(begun + token) &&
                   spelled(tokens, other.substr(begun.size() + token.size()));
          };
          const bool some = std::any_of(listed.begin(), listed.end(), alive);
          if (some) expected += cat(expected.empty() ? "" : " ", token);
          dead += !some && test::goes_on(*grammar, begun + token);
        }
        EXPECT_EQ(vocabulary.after(*grammar, begun), expected) << regex << " behind " << begun;
      }
    }
  }
  EXPECT_GT(dead, 100);
}

// What was asked before changes nothing, nor does a search that was given up.
TEST(TokenMasks, OfAFormAreTheSameInAnyOrder) {
  const Vocabulary vocabulary({"a", "b", "ab", "aab"});
  const auto grammar = parse_regex_grammar("(a{1,390}|b{395,405})(c|ab{30}c)|[ab]{3}", "r");
  std::vector<std::unique_ptr<Matcher>> states;
  const auto matcher = grammar->matcher();
  for (int i = 0; i < 300; ++i) {
    states.push_back(matcher->clone());
    ASSERT_TRUE(matcher->push(uint8_t{'b'}));
  }
  TokenMasks forwards = vocabulary.masks(), backwards = vocabulary.masks();
  std::vector<std::vector<uint64_t>> found;
  for (const auto& state : states) found.push_back(forwards.allowed(*state)->bits);
  for (size_t i = states.size(); i-- > 0;) EXPECT_EQ(backwards.allowed(*states[i])->bits, found[i]) << i;
}

}  // namespace
}  // namespace llmtool
