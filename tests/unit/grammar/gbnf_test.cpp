// GBNF: what is read, what is refused, and what texts grammars have.

#include "llmtool/grammar/gbnf.h"

#include <nlohmann/json.hpp>
#include <thread>

#include "llmtool/core/error.h"
#include "walks.h"

namespace llmtool {
namespace {

struct Case {
  const char* grammar;
  std::vector<std::string> accepted, rejected;
};

const char* const kJson = R"GBNF(
# Any JSON value, with little blank space.
root   ::= value
value  ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" ws ( member ("," ws member)* )? "}" ws
member ::= string ":" ws value
array  ::= "[" ws (
             value # the first
             ("," ws value)*
           )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= "-"? ("0" | [1-9] [0-9]{0,15}) ("." [0-9]+)? ([eE] [-+]? [0-9]{1,2})? ws
ws     ::= | " " | "\n" [ \t]{0,20}
)GBNF";

const std::vector<Case> kCases = {
    {"root ::= \"a\" \"b\" | \"c\"", {"ab", "c"}, {"", "a", "abc", "cc"}},
    {"root ::= \"ab\"*", {"", "ab", "abab"}, {"a", "aba", "abb"}},
    {"root ::= \"a\"+ \"b\"?", {"a", "aab"}, {"", "b", "abb"}},
    {"root ::= [ab]{2}", {"ab", "bb"}, {"a", "aba"}},
    {"root ::= [ab]{2,}", {"ab", "bbab"}, {"a", ""}},
    {"root ::= [ab]{1,3}", {"a", "aba"}, {"", "abab"}},
    {"root ::= [ab]{0,2} [ab]{ 1 , 2 }", {"a", "abab"}, {"", "ababa"}},
    {"root ::= (\"a\" | \"bc\"){2,3}", {"abc", "bcbcbc", "aa"}, {"a", "aaaa", "bca b"}},
    {"root ::= (\"a\"?){3}", {"", "a", "aaa"}, {"aaaa"}},
    {"root ::= (\"a\"?)* \"b\"", {"b", "aab"}, {"", "a"}},
    {"root ::= (x y?){2,4}\nx ::= \"x\" | \"\"\ny ::= \"y\"+", {"", "x", "xyyx", "yy"}, {"n", "xn"}},
    {"root ::= [^a-c\\]\\n]", {"d", "é", "日", "🦢", "\\"}, {"a", "]", "\n", "", "dd"}},
    {"root ::= [-a] [a-]", {"-a", "a-"}, {"b-"}},
    {"root ::= .",
     {"a", "\n", "é", "🦢", std::string(1, '\0')},
     {"", "\x80", "\xC3", "\xED\xA0\x80", "ab"}},
    {"root ::= \"\\x41\\u00e9\\U0001F9A2\\t\\\"\\\\\"", {"Aé🦢\t\"\\"}, {"A"}},
    {"root ::= [\\u0400-\\u04FF]+", {"привет"}, {"hello", "при e"}},
    {"root ::= (\n  \"a\" # one\n  | \"b\"\n)\n\n\n# end", {"a", "b"}, {"ab"}},
    {"root ::= \"a\" |\n  \"b\"\n  | \"c\"\nx ::= \"x\"", {"a", "b", "c"}, {"x"}},
    {"root ::=\n\"a\"\r\n# c\r\nx ::= \"x\"\r\n", {"a"}, {"x"}},
    {"root ::= x-1 X_2\nx-1 ::= \"\"\nX_2 ::= \"b\"", {"b"}, {""}},
    {"root ::= \"(\" root \")\" | \"\"", {"", "()", "((()))"}, {"(", "())", "(()"}},
    {"root ::= \"a\" root \"b\" root | \"\"", {"", "ab", "aabbab"}, {"a", "abb", "ba"}},
    // Ways that no text ends are as if they were not there.
    {"root ::= \"a\" | \"b\" endless\nendless ::= \"x\" endless", {"a"}, {"b", "bx"}},
    {"root ::= \"a\" | t endless\nt ::= \"bc\"\nendless ::= \"x\" endless | [x] t endless",
     {"a"},
     {"b", "bc"}},
    // Rules that begin with themselves, at once, behind nothing, or by way of others.
    {"root ::= root \"+\" t | t\nt ::= [0-9]", {"1", "1+2", "1+2+3"}, {"", "+1", "1+"}},
    {"root ::= ws root \"x\" | \"y\"\nws ::= \" \"*", {"y", "yx", " yxx", "  yxx"}, {" y", "x"}},
    {"root ::= a\na ::= b \"1\" | \"a\"\nb ::= c \"2\" | \"b\"\nc ::= a \"3\" | \"c\"",
     {"a", "b1", "c21", "a321", "b1321", "c21321"},
     {"b", "c2", "a32", "a21"}},
    {"root ::= root root | \"a\" | root", {"a", "aaaaaaa"}, {"", "ab"}},
    {"root ::= root? root? \"a\"?", {"", "a", "aaaa"}, {"b"}},
    {kJson,
     {"{}", "[]", "\"\"", "0", "-1.5e-3", "true", "[1,\n  2, {\"a\": null}]",
      "{\"a\":[{},[],\"\\u00e9\\n\"]}", "\"日本 🦢\""},
     {"", "{", "[1,]", "{\"a\"}", "01", "1.", "\"\n\"", "\"\\x\"", "nul", "[1 2]", "\"\\u00g0\"", "\x80"}}};

TEST(Gbnf, GrammarsHaveTheirTextsAndNoOthers) {
  for (const Case& c : kCases) {
    const auto grammar = parse_gbnf(c.grammar, "g");
    for (const std::string& text : c.accepted) {
      EXPECT_TRUE(accepts(*grammar, text)) << c.grammar << "\n" << text;
      EXPECT_TRUE(test::goes_on(*grammar, text)) << c.grammar << "\n" << text;
    }
    for (const std::string& text : c.rejected)
      EXPECT_FALSE(accepts(*grammar, text)) << c.grammar << "\n" << text;
  }
}

TEST(Gbnf, RandomWalksNeverMeetADeadEnd) {
  Rng rng(1);
  for (const Case& c : kCases) {
    const auto grammar = parse_gbnf(c.grammar, "g");
    for (int walk = 0; walk < 10; ++walk) test::random_text(*grammar, rng, 1 + rng.below(40));
  }
  const auto json = parse_gbnf(kJson, "g");
  for (int walk = 0; walk < 30; ++walk) {
    const std::string text = test::random_text(*json, rng, 80);
    EXPECT_TRUE(nlohmann::json::accept(text)) << text;
  }
}

TEST(Gbnf, ErrorsNameThePlace) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "g: expected a rule \"root\", found none"},
      {"rot ::= \"a\"", "g: expected a rule \"root\", found none"},
      {"root = \"a\"", "g: line 1, column 6: expected ::=, found ="},
      {"root ::= \"a\n", "line 1, column 10: expected \" at the end of the literal"},
      {"root ::= x\n  y", "line 2, column 4: expected ::=, found the end"},
      {"root ::= x y\nx ::= \"a\"", "line 1, column 13: expected a rule \"y\", found none"},
      {"root ::= (\"a\"\n\"b\"",
       "line 2, column 4: expected ) for the ( at line 1, column 10, found the end"},
      {"root ::= \"a\")", "line 1, column 13: expected the end of the rule, found )"},
      {"root ::= [z-a]", "line 1, column 11: expected a range"},
      {"root ::= [a", "line 1, column 10: expected ] at the end of the class"},
      {"root ::= []", "line 1, column 10: expected a character in the class"},
      {"root ::= \"\\q\"", "line 1, column 11: expected one of \\x"},
      {"root ::= \"\\x4\"", "line 1, column 11: expected 2 hexadecimal digits, found \""},
      {"root ::= \"\\uD800\"", "expected a code point"},
      {"root ::= \"a\"{3,2}", "line 1, column 13: expected at least 3 as the most, found 2"},
      {"root ::= \"a\"{,2}", "line 1, column 14: expected a number, found ,"},
      {"root ::= \"a\"{2", "expected }, found the end"},
      {"root ::= \"a\"{20001}", "expected at most 20000 times"},
      {"root ::= *", "line 1, column 10: expected the end of the rule, found *"},
      {"root ::= <think>", "references to tokens"},
      {"root ::= \"é\" \"\xff\"", "expected UTF-8"},
      {"root ::= \"a\"\nroot ::= \"b\"", "line 2, column 1: expected one rule \"root\", found another"},
      {"\nroot ::= \"x\" root", "g: line 2, column 1: root: expected a form that some text has"},
      {"root ::= a\na ::= root", "expected a form that some text has"},
  };
  for (const auto& [source, message] : cases) {
    try {
      parse_gbnf(source, "g");
      ADD_FAILURE() << source;
    } catch (const UsageError& e) {
      EXPECT_NE(std::string(e.what()).find(message), std::string::npos) << source << "\n" << e.what();
    }
  }
}

TEST(Gbnf, RepetitionsAndAmbiguityStaySmall) {
  const auto long_one = parse_gbnf("root ::= ([^x]{0,1000} \"x\"){0,1000}", "g");
  const auto matcher = long_one->matcher();
  for (int i = 0; i < 3000; ++i) ASSERT_TRUE(matcher->push(i % 7 == 6 ? 'x' : 'a'));
  // Far from the bound a place is like the next one.
  std::string here, next;
  matcher->append_key(here, 20);
  ASSERT_TRUE(matcher->push('a'));
  matcher->append_key(next, 20);
  EXPECT_EQ(here, next);

  for (const char* source : {"root ::= root root | \"a\"", "root ::= \"a\" root | root \"a\" | \"a\"",
                             "root ::= (\"a\"* \"a\"?){0,300}", "root ::= x x x x\nx ::= (x | \"a\")*",
                             "root ::= \"a\" root \"a\" | \"a\" root | \"\""}) {
    const auto ambiguous = parse_gbnf(source, "g");
    EXPECT_TRUE(accepts(*ambiguous, std::string(300, 'a'))) << source;
  }
  std::string large = "root ::= ";
  for (int i = 0; i < 12; ++i) large += "([a-z]{20000} \"x\"){20000} ";
  EXPECT_THROW(parse_gbnf(large, "g"), UsageError);
}

TEST(Gbnf, KeysDifferWhereWhatIsWithinReachDoes) {
  const auto grammar = parse_gbnf("root ::= \"[\" v \"]\"\nv ::= root | [0-9]+ | \"{\" v \"}\"", "g");
  const auto key = [&](const std::string& text, int64_t reach) {
    const auto matcher = grammar->matcher();
    for (const char c : text) EXPECT_TRUE(matcher->push(static_cast<uint8_t>(c)));
    std::string bytes;
    matcher->append_key(bytes, reach);
    return bytes;
  };
  EXPECT_NE(key("[1", 2), key("[[1", 2));  // ]]
  EXPECT_NE(key("[1", 1), key("[[1", 1));  // ] is the end of one
  EXPECT_EQ(key("[1", 0), key("[[1", 0));
  EXPECT_EQ(key("[[[1", 1), key("[[1", 1));
  EXPECT_NE(key("[{1", 1), key("[1", 1));
  EXPECT_NE(key("[{[1", 2), key("[[1", 2));  // ]}
  EXPECT_EQ(key("[{[[[1", 2), key("[[[[[1", 2));
  EXPECT_NE(key("[{[[[1", 4), key("[[[[[1", 4));
  EXPECT_EQ(key("[1", 9), key("[27", 9));
}

TEST(Gbnf, DeepNestingIsRead) {
  const auto grammar = parse_gbnf("root ::= \"(\" root \")\" | \"x\"", "g");
  const auto matcher = grammar->matcher();
  for (int i = 0; i < 50000; ++i) ASSERT_TRUE(matcher->push('('));
  std::string key;
  matcher->append_key(key, 16);
  ASSERT_TRUE(matcher->push('x'));
  for (int i = 0; i < 50000; ++i) ASSERT_TRUE(matcher->push(')'));
  EXPECT_TRUE(matcher->complete());
  EXPECT_FALSE(matcher->push(')'));
}

TEST(Gbnf, WhatAMachineRemembersIsBounded) {
  // Every letter is of a class of its own, so that every place takes half a kilobyte.
  std::string source = "root ::= (";
  for (char c = 'a'; c <= 'z'; ++c) source += cat("\"", c, c, "\" | ");
  source += "\"(\" root){0,1} \")\"";
  const auto grammar = parse_gbnf(source, "g");
  const auto matcher = grammar->matcher(), before = matcher->clone();
  const int depth = 160000;
  for (int i = 0; i < depth; ++i) ASSERT_TRUE(matcher->push('('));
  for (int i = 0; i <= depth; ++i) ASSERT_TRUE(matcher->push(')'));
  EXPECT_TRUE(matcher->complete());
  ASSERT_TRUE(before->push('b') && before->push('b') && before->push(')'));  // of the memory that was left
  EXPECT_TRUE(before->complete());
}

TEST(Gbnf, ThreadsMayReadAtOnce) {
  const auto shared = parse_gbnf(kJson, "g");
  std::vector<std::string> texts(4);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < texts.size(); ++i) {
    threads.emplace_back([&, i] {
      Rng rng(i);
      for (int walk = 0; walk < 20; ++walk) texts[i] += test::random_text(*shared, rng, 60);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto own = parse_gbnf(kJson, "g");
    Rng rng(i);
    std::string expected;
    for (int walk = 0; walk < 20; ++walk) expected += test::random_text(*own, rng, 60);
    EXPECT_EQ(texts[i], expected);
  }
}

TEST(Gbnf, MatchersAreIndependent) {
  const auto grammar = parse_gbnf("root ::= \"ab\" | \"ac\"", "g");
  const auto a = grammar->matcher();
  ASSERT_TRUE(a->push('a'));
  const auto b = a->clone();
  ASSERT_TRUE(a->push('b'));
  ASSERT_TRUE(b->push('c'));
  EXPECT_TRUE(a->complete() && b->complete());
  b->assign(*a);
  EXPECT_FALSE(b->push('c'));
}

}  // namespace
}  // namespace llmtool
