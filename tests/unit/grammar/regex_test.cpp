// Regular expressions as forms and as tables: against PCRE2, and what is refused.

#include "llmtool/text/regex.h"

#include "grammar/byte_dfa.h"
#include "llmtool/core/error.h"
#include "llmtool/grammar/regex_grammar.h"
#include "walks.h"

namespace llmtool {
namespace {

/// Expressions of what both sides read alike.
std::string random_regex(Rng& rng, int depth) {
  const char* const atoms[] = {"a",    "b",      "é",   "日",  ".", "[ab]",
                               "[^a]", "[a-cé]", "\\d", "x|y", "",  "[^\\d日]"};
  if (depth == 0 || rng.below(5) == 0) return atoms[rng.below(std::size(atoms) - 2)];
  switch (rng.below(6)) {
    case 0:
      return random_regex(rng, depth - 1) + random_regex(rng, depth - 1);
    case 1:
      return "(" + random_regex(rng, depth - 1) + "|" + random_regex(rng, depth - 1) + ")";
    case 2:
      return "(?:" + random_regex(rng, depth - 1) + (rng.below(2) == 0 ? ")*" : ")+?");
    case 3:
      return "(" + random_regex(rng, depth - 1) + "|)" + random_regex(rng, depth - 1);
    case 4: {
      const uint64_t least = rng.below(3);
      std::string bounds = "{";
      bounds += std::to_string(least);
      if (rng.below(2) == 0) bounds += "," + (rng.below(2) == 0 ? "" : std::to_string(least + rng.below(3)));
      return "(" + random_regex(rng, depth - 1) + ")" + bounds + "}";
    }
    default:
      return "(?:" + random_regex(rng, depth - 1) + ")?" + random_regex(rng, depth - 1);
  }
}

std::string random_word(Rng& rng) {
  const char* const letters[] = {"a", "b", "c", "é", "日", "7", "x"};
  std::string word;
  for (uint64_t n = rng.below(7); n > 0; --n) word += letters[rng.below(std::size(letters))];
  return word;
}

bool found(const Regex& regex, const std::string& text) {
  bool any = false;
  regex.for_each(text, [&](size_t, size_t) { any = true; });
  return any;
}

TEST(RegexGrammar, AcceptsWhatPcreMatches) {
  Rng rng(1);
  int matched = 0;
  for (int round = 0; round < 400; ++round) {
    const std::string pattern = random_regex(rng, 4);
    const Regex whole("\\A(?:" + pattern + ")\\z", "pcre", Regex::Syntax::pcre);
    const Regex anywhere("(?:" + pattern + ")", "pcre", Regex::Syntax::pcre);
    const auto grammar = parse_regex_grammar(pattern, "r");
    const ByteDfa search = ByteDfa::search(pattern, "r"),
                  table = ByteDfa::search("^(?:" + pattern + ")$", "r");
    for (int i = 0; i < 25; ++i) {
      const std::string word = random_word(rng);
      const bool expected = found(whole, word);
      matched += expected;
      ASSERT_EQ(accepts(*grammar, word), expected) << pattern << " on " << word;
      ASSERT_EQ(table.matches(word), expected) << pattern << " on " << word;
      ASSERT_EQ(search.matches(word), found(anywhere, word)) << pattern << " in " << word;
    }
    test::random_text(*grammar, rng, rng.below(12));
  }
  EXPECT_GT(matched, 500);
}

struct Case {
  const char* regex;
  std::vector<std::string> accepted, rejected;
};

TEST(RegexGrammar, ReadsEcmaSyntax) {
  const Case cases[] = {
      {"[0-9]{3}-[a-z]+", {"123-x", "000-abc"}, {"12-x", "123-", "123-X"}},
      {"^(yes|no)$", {"yes", "no"}, {"", "yesno", " yes"}},
      {"^a|b$", {"a", "b"}, {"ab"}},
      {"\\w+\\s\\W\\D\\S", {"a_1 -xy"}, {"é -xy", "a-xy"}},
      {"\\s{2}", {"\u00A0\u3000", " \t", "\uFEFF\v"}, {"  x", "\u200B "}},
      {"\\p{Lu}\\p{Script=Greek}\\P{L}\\pN", {"Éλ-5"}, {"éλ-5", "ÉL-5"}},
      {"\\x41\\u00e9\\u{1F9A2}\\uD83E\\uDDA2\\t\\cJ\\0", {"Aé🦢🦢\t\n" + std::string(1, '\0')}, {"A"}},
      {"[\\]\\-a\\b^]+[-x]", {"]-a^\b-"}, {"b-"}},
      {"a{,b", {}, {}},
      {"{\"n\": \\d+}", {"{\"n\": 42}"}, {"{}"}},
      {"a{1}b{2,}c{1,2}", {"abbc", "abbbcc"}, {"abc", "abbccc"}},
      {"(?<year>\\d{4})(?P<rest>x)?", {"2024", "2024x"}, {"24"}},
      {".", {"a", "🦢"}, {"\n", "\r", "\u2028", ""}},
      {"[^]", {"\n", "x"}, {""}},
      {"$^", {""}, {"a"}},
      {"(^|x)a", {"a", "xa"}, {"xxa"}},
      {"a.*?b", {"ab", "abab"}, {"a"}},
  };
  for (const Case& c : cases) {
    if (c.accepted.empty()) continue;
    const auto grammar = parse_regex_grammar(c.regex, "r");
    for (const std::string& text : c.accepted)
      EXPECT_TRUE(accepts(*grammar, text)) << c.regex << " on " << text;
    for (const std::string& text : c.rejected)
      EXPECT_FALSE(accepts(*grammar, text)) << c.regex << " on " << text;
  }
}

TEST(RegexGrammar, WhatCannotBeEnforcedIsRefusedWithItsPlace) {
  const std::pair<const char*, const char*> cases[] = {
      {"ab\\b", "r: character 3: word boundaries"},
      {"(?=a)b", "r: character 1: looking ahead"},
      {"a(?<!b)", "character 2: looking ahead or behind"},
      {"(a)\\1", "character 4: backreferences"},
      {"(?i)a", "character 1: expected (?: or (?<name>"},
      {"(?>a)", "character 1: expected (?: or"},
      {"a++", "character 3: possessive"},
      {"a**", "character 3: nothing that could be repeated"},
      {"*a", "character 1: nothing that could be repeated"},
      {"{2}a", "character 1: nothing that could be repeated"},
      {"^*a", "character 1: nothing that could be repeated"},
      {"a{3,2}", "character 2: expected at least 3"},
      {"a{,2}", "character 2: expected the least number"},
      {"a{20001}", "expected at most 20000"},
      {"(a", "character 1: expected )"},
      {"a)", "character 2: expected a group"},
      {"[a", "character 1: expected ]"},
      {"[b-a]", "character 2: expected a range"},
      {"[[:alpha:]]", "character 2: POSIX classes"},
      {"[\\d-z]", "character 2: expected a character at both ends"},
      {"\\q", "character 1: \\q has no meaning"},
      {"\\p{Klingon}", "Unicode has no property \"Klingon\""},
      {"\\uD800", "half of a surrogate pair"},
      {"a\\", "expected a character behind"},
      {"a[]", "expected a form that some text has"},
      {"a^b", "expected a form that some text has"},
      {"\xff", "expected UTF-8"},
  };
  for (const auto& [regex, message] : cases) {
    try {
      parse_regex_grammar(regex, "r");
      ADD_FAILURE() << regex;
    } catch (const UsageError& e) {
      EXPECT_NE(std::string(e.what()).find(message), std::string::npos) << regex << "\n" << e.what();
    }
  }
}

TEST(ByteDfa, SetsAreCombined) {
  Rng rng(2);
  size_t budget = 1 << 24;
  using Combine = ByteDfa::Combine;
  const auto combined = [&](const ByteDfa& a, const ByteDfa& b, Combine how) {
    return ByteDfa::combined(a, b, how, "c", budget);
  };
  for (int round = 0; round < 60; ++round) {
    const std::string x = random_regex(rng, 3), y = random_regex(rng, 3);
    const ByteDfa a = ByteDfa::search(x, "a"), b = ByteDfa::search("^(?:" + y + ")$", "b");
    const ByteDfa both = combined(a, b, Combine::both), either = combined(a, b, Combine::either),
                  neither = combined(ByteDfa::any(), either, Combine::first_only);
    EXPECT_TRUE(combined(both, neither, Combine::both).empty());
    for (int i = 0; i < 30; ++i) {
      const std::string word = random_word(rng);
      EXPECT_EQ(both.matches(word), a.matches(word) && b.matches(word));
      EXPECT_EQ(either.matches(word), a.matches(word) || b.matches(word));
      EXPECT_EQ(neither.matches(word), !either.matches(word));
    }
  }
}

TEST(ByteDfa, ABudgetIsKept) {
  const ByteDfa a = ByteDfa::search("a.{8}b", "a"), b = ByteDfa::search("c.{8}d", "b");
  size_t budget = 2000;
  EXPECT_THROW(ByteDfa::combined(a, b, ByteDfa::Combine::both, "c", budget), UsageError);
}

TEST(ByteDfa, IsMinimalAndKnowsHowFarTheEndIs) {
  EXPECT_EQ(ByteDfa::search("", "r").size(), ByteDfa::any().size());
  EXPECT_EQ(ByteDfa::search("^(a|b|c)(x|yx|zx)$", "r").size(), ByteDfa::search("^[abc][yz]?x$", "r").size());
  const ByteDfa d = ByteDfa::search("^[ab]{3}(日|x)$", "r");
  EXPECT_EQ(d.size(), 8u);  // dead, four places, two bytes of 日, the end
  EXPECT_EQ(d.shortest(d.start()), 4u);
  EXPECT_EQ(d.shortest(ByteDfa::kDead), ByteDfa::kNever);
  EXPECT_EQ(d.next(d.start(), 'x'), ByteDfa::kDead);
  EXPECT_TRUE(ByteDfa::search("a^", "r").empty());
  size_t budget = 100000;
  const ByteDfa three = ByteDfa::of_length(3, -1, "l"), two = ByteDfa::of_text("éé");
  EXPECT_TRUE(ByteDfa::combined(three, two, ByteDfa::Combine::both, "i", budget).empty());
  EXPECT_FALSE(ByteDfa::any().matches("\xC3"));
  const ByteDfa five = ByteDfa::of_length(2, 5, "l");
  EXPECT_TRUE(five.matches("日本") && five.matches("ababa"));
  EXPECT_FALSE(five.matches("é") || five.matches("ababab"));
  EXPECT_LT(ByteDfa::of_length(0, 1000, "l").size(), 10000u);
  EXPECT_THROW(ByteDfa::search("^(a|b)*a(a|b){20}$", "r"), UsageError);
  EXPECT_TRUE(accepts(*parse_regex_grammar("^(a|b)*a(a|b){20}$", "r"), "ba" + std::string(20, 'b')));
}

TEST(ByteDfa, ClassesDifferOnlyByWhatIsWithinReach) {
  const ByteDfa d = ByteDfa::search("^a{0,100}$", "r");
  const auto near = d.classes(3), far = d.classes(1000);
  ByteDfa::State s = d.start();
  const auto first = s;
  for (int i = 0; i < 50; ++i) s = d.next(s, 'a');
  EXPECT_EQ(near[s], near[first]);
  EXPECT_NE(far[s], far[first]);
  for (int i = 0; i < 48; ++i) s = d.next(s, 'a');
  EXPECT_NE(near[s], near[first]);
}

}  // namespace
}  // namespace llmtool
