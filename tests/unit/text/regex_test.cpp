#include "llmtool/text/regex.h"

#include <gtest/gtest.h>

#include "llmtool/core/error.h"
#include "text/regex_syntax.h"

namespace llmtool {
namespace {

std::vector<std::string> matches(const std::string& pattern, const std::string& text) {
  std::vector<std::string> found;
  Regex(pattern, "test").for_each(text, [&](size_t begin, size_t end) {
    found.push_back(text.substr(begin, end - begin));
  });
  return found;
}
using Texts = std::vector<std::string>;

TEST(Regex, CutsWordsAsGpt2Does) {
  EXPECT_EQ(matches(R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
                    "It's  12 größer\n\n !"),
            (Texts{"It", "'s", " ", " 12", " größer", "\n\n", " !"}));
}

TEST(Regex, WhiteSpaceIsUnicodes) {
  // U+180E, which PCRE2's own \s takes, is none since Unicode 6.3; U+0085 and U+3000 are.
  EXPECT_EQ(matches(R"(\S+)", "a\u180Eb\u0085c\u3000d"), (Texts{"a\u180Eb", "c", "d"}));
  EXPECT_EQ(matches(R"([\S]+)", "a\u180Eb\u2003c"), (Texts{"a\u180Eb", "c"}));
  EXPECT_EQ(matches(R"([^\s]+)", "a b"), (Texts{"a", "b"}));
}

TEST(Regex, KnowsTheLettersOfIcu) {
  EXPECT_EQ(matches(R"(\p{L}+)", "a\U00031350b"), Texts{"a\U00031350b"});  // since Unicode 15
  EXPECT_EQ(matches(R"([^\p{L}]+)", "a\U00031350b-"), Texts{"-"});
  EXPECT_EQ(matches(R"(\P{L}+)", "a\U00031350b-"), Texts{"-"});
}

TEST(Regex, ReadsWhatRubysSyntaxReadsInAnotherWay) {
  EXPECT_EQ(matches("a{1,2}+", "aaaaa"), Texts{"aaaaa"});  // repeated, where PCRE2 would not give back
  EXPECT_EQ(matches("(ab){1,2}+c", "ababababc"), Texts{"ababababc"});
  EXPECT_EQ(matches(R"([^(\s|[.,]x)]+)", "ab, cd"), (Texts{"ab", "cd"}));  // a class inside a class joins it
  EXPECT_EQ(matches("^a$", "a\nb\na"), (Texts{"a", "a"}));
  EXPECT_EQ(matches("{", "a{b"), Texts{"{"});
  EXPECT_EQ(matches(R"(\d{1,3}(?=(?:\d{3})*\b))", "1234567"), (Texts{"1", "234", "567"}));
  EXPECT_EQ(matches(R"((?i:'LL))", "I'll"), Texts{"'ll"});
  EXPECT_EQ(matches(R"(\x{1F9A2}|A)", "🦢A"), (Texts{"🦢", "A"}));
}

TEST(Regex, EmptyMatchesGoOn) {
  std::vector<std::pair<size_t, size_t>> found;
  Regex("(?=ü)|x*", "test").for_each("aüx", [&](size_t b, size_t e) { found.emplace_back(b, e); });
  EXPECT_EQ(found, (std::vector<std::pair<size_t, size_t>>{{0, 0}, {1, 1}, {3, 4}}));
}

TEST(Regex, RefusesWhatItWouldReadInAnotherWay) {
  for (const char* pattern :
       {R"(\1)", R"(\h)", "(?<name>a)", "(?m:a)", "[[:alpha:]]", "[a&&b]", "[a[^b]]", "a{2}?", R"(\xFF)",
        "[a", "(a", "a)", R"(\p{Nonsense})", R"(\p)", "*", R"([\W])", R"(\)"}) {
    EXPECT_THROW(Regex(pattern, "file: pattern"), Error) << pattern;
  }
  try {
    Regex("[a", "file: pattern");
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "file: pattern: regular expression \"[a\": a class without its \"]\" at byte 2");
  }
  EXPECT_THROW(Regex(std::string(1 << 17, 'a'), "x"), Error);
  EXPECT_THROW(Regex(std::string(1000, '('), "x"), Error);
}

TEST(Regex, GivesUpWhereBacktrackingHasNoEnd) {
  EXPECT_THROW(matches("(a+)+$", std::string(64, 'a') + "b"), Error);
  EXPECT_THROW(matches("(?:a|aa)+$", std::string(200, 'a') + "b"), Error);
}

TEST(Regex, ALineOfAMegabyteIsNothing) {
  const std::string spaces(1 << 20, ' ');
  EXPECT_EQ(matches(R"(\s*[\r\n]+|\s+(?!\S)|\s+)", spaces + "x"), (Texts{spaces.substr(1), " "}));
}

TEST(Regex, LiteralsMatchThemselves) {
  for (const char* text : {"a.b", "(x)", "[x]", "\\s", "a{2}", "|", "^$", "#", "-", "+*?", "▁"}) {
    Regex pattern(regex_of_literal(text), "test", Regex::Syntax::pcre);
    int count = 0;
    pattern.for_each(std::string("z") + text + "z", [&](size_t begin, size_t) { count += begin == 1; });
    EXPECT_EQ(count, 1) << text;
  }
}

}  // namespace
}  // namespace llmtool
