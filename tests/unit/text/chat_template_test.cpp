// Chat templates. What is expected came from jinja2 and transformers, the goldens by
// tests/reference/make_chat_goldens.py.

#include "llmtool/text/chat_template.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "llmtool/core/error.h"
#include "support.h"

namespace llmtool {
namespace {

using Json = nlohmann::ordered_json;

std::string render(const std::string& source, const Json& context = Json::object()) {
  return ChatTemplate(source, "t.jinja").render(context);
}

/// What the template is refused with; "" where it is not.
std::string refusal(const std::string& source, const Json& context = Json::object()) {
  try {
    render(source, context);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

struct Case {
  const char *source, *expected;
};
void expect_all(std::initializer_list<Case> cases, const Json& context = Json::object()) {
  for (const auto& [source, expected] : cases) EXPECT_EQ(render(source, context), expected) << source;
}

TEST(ChatTemplate, WhiteSpaceAroundTags) {
  expect_all({{"a\n{% if true %}\nb\n{% endif %}\nc\n", "a\nb\nc"},
              {"a  {%- if true -%}  b  {%- endif -%}  c", "abc"},
              {"  {% if true %}x{% endif %}", "x"},
              {"  {%+ if true +%}\nx{% endif %}", "  \nx"},
              {"\n  {{ 1 }}\n", "\n  1"},
              {"a {{- 1 -}} \n b", "a1b"},
              {" {# note #}\nx", "x"},
              {"a {#- note -#} b", "ab"},
              {"{% raw %}{{ x }} {% if %}{% endraw %}!", "{{ x }} {% if %}!"},
              {"a\r\nb\rc\n\n", "a\nb\nc\n"},
              {"\u00a0{%- if 1 %}x{% endif %}", "x"},
              {"", ""},
              {"{", "{"}});
}

TEST(ChatTemplate, PrintsValuesAsPythonDoes) {
  expect_all({{"{{ none }} {{ true }} {{ 1 }} {{ -0.0 }} {{ 1e16 }} {{ 1e-5 }} {{ 100.0 }} {{ 0.1 + 0.2 }}",
               "None True 1 -0.0 1e+16 1e-05 100.0 0.30000000000000004"},
              {"{{ ['a', \"it's\", '\"', 'q\\'\"', '\\n\\x00\\u00e9\\u200b', (1,), (), {'k': none}] }}",
               "['a', \"it's\", '\"', 'q\\'\"', '\\n\\x00é\\u200b', (1,), (), {'k': None}]"},
              {"{{ range(3) }} {{ range(1, 9, 2) }} {{ {'a': 1}.items() }} {{ {'a': 1}.keys() }}",
               "range(0, 3) range(1, 9, 2) dict_items([('a', 1)]) dict_keys(['a'])"},
              {"{{ namespace(a='x') }} {{ [missing] }}{{ missing }}", "<Namespace {'a': 'x'}> [Undefined]"},
              {"{{ 1, 2 }}", "(1, 2)"}});
}

TEST(ChatTemplate, CalculatesAsPythonDoes) {
  expect_all(
      {{"{{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 2 ** 3 ** 2 }}",
        "3 -4 2 3.5 1024 0.5 64"},
       {"{{ -7.5 // 2 }} {{ -7.5 % 2 }} {{ true + 1 }} {{ -true }} {{ 5.0 // 0.1 }}", "-4.0 0.5 2 -1 49.0"},
       {"{{ 'a' * 3 }} {{ 2 * [1] }} {{ 'a' + 'b' }} {{ 1 ~ none ~ 'x' }} {{ (1,) + (2,) }}",
        "aaa [1, 1] ab 1Nonex (1, 2)"},
       {"{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1.0 == true }} {{ [1, 2] < [1, 3] }} {{ 'a' < 'b' }}",
        "True False True True True"},
       {"{{ 0 or 'x' }} {{ '' and 1 }}| {{ not [] }} {{ 1 if 0 }}| {{ 'a' in 'cat' }} {{ 2 not in [1] }}",
        "x | True | True True"},
       {"{{ 9007199254740993 == 9007199254740992.0 }} {{ 9223372036854775807 }} {{ 7 % -3 }}",
        "False 9223372036854775807 -2"}});
}

TEST(ChatTemplate, StringsAreCodePoints) {
  const Json context = {{"s", "Žluť 🐟 kůň"}};
  expect_all(
      {{"{{ s | length }} {{ s[0] }} {{ s[-1] }} {{ s[5] }} {{ s[::-1] }} {{ s[1:4] }}",
        "10 Ž ň 🐟 ňůk 🐟 ťulŽ luť"},
       {"{{ s.upper() }} {{ s.find('🐟') }} {{ s.title() }} {{ s.split()[1] }}", "ŽLUŤ 🐟 KŮŇ 5 Žluť 🐟 Kůň 🐟"},
       {"{{ 'straße ŉ ﬁ'.upper() }} {{ 'ΟΔΟΣ ΑΣΒ'.lower() }} {{ 'ǆ'.title() }} {{ 'ß'.capitalize() }}",
        "STRASSE ʼN FI οδος ασβ ǅ Ss"},
       {"{{ s.center(14, '*') }} {{ s.zfill(12) }} {{ s.partition(' ') }}",
        "**Žluť 🐟 kůň** 00Žluť 🐟 kůň ('Žluť', ' ', '🐟 kůň')"}},
      context);
}

TEST(ChatTemplate, MethodsOfStrings) {
  expect_all(
      {{"{{ ' a b  c '.split() }} {{ 'a,b,,c'.split(',', 1) }} {{ 'a b c'.rsplit(none, 1) }}",
        "['a', 'b', 'c'] ['a', 'b,,c'] ['a b', 'c']"},
       {"{{ 'a\\n\\nb\\r\\n'.splitlines() }} {{ 'xxaxx'.strip('x') }} {{ 'aaa'.replace('a', 'b', 2) }}",
        "['a', '', 'b'] a bba"},
       {"{{ 'ab'.startswith(('x', 'a')) }} {{ 'ab'.endswith('b', 0, 1) }} {{ '-'.join('abc') }}",
        "True False a-b-c"},
       {"{{ '%s is %05.1f%%' % ('x', 2.25) }} {{ '{0}-{b:>4}'.format(1, b='q') }} {{ 'ab'.count('') }}",
        "x is 002.2% 1-   q 3"},
       {"{{ 'a'.nope is defined }} {{ {'items': 1}['items'] }} {{ {'x': 1}.x }} {{ [].append is defined }}",
        "False 1 1 False"}});
}

TEST(ChatTemplate, Filters) {
  const Json context = {{"l", {3, 1, 2}},
                        {"d", {{"b", 1}, {"A", 2}}},
                        {"m", {{{"r", "u"}, {"n", 2}}, {{"r", "a"}, {"n", 1}}, {{"r", "u"}}}}};
  expect_all(
      {{"{{ l | sort }} {{ l | sort(reverse=true) | first }} {{ l | max }} {{ l | sum }} {{ l | join('-') }}",
        "[1, 2, 3] 3 3 6 3-1-2"},
       {"{{ d | dictsort }} {{ d | items | list }} {{ d | length }} {{ ['b', 'A', 'a'] | unique | list }}",
        "[('A', 2), ('b', 1)] [('b', 1), ('A', 2)] 2 ['b', 'A']"},
       {"{{ m | map(attribute='r') | list }} {{ m | selectattr('n') | map(attribute='n') | list }}",
        "['u', 'a', 'u'] [2, 1]"},
       {"{% for g in m | groupby('r') %}{{ g.grouper }}{{ g.list | length }}{% endfor %}", "a1u2"},
       {"{{ m | rejectattr('r', 'equalto', 'u') | list }} {{ l | select('odd') | list }}",
        "[{'r': 'a', 'n': 1}] [3, 1]"},
       {"{{ l | batch(2, 0) | list }} {{ l | slice(2) | list }} {{ 'abc' | reverse }} {{ l | last }}",
        "[[3, 1], [2, 0]] [[3, 1], [2]] cba 2"},
       {"{{ '42.9' | int }} {{ 'x' | int(-1) }} {{ '0x1F' | int(base=16) }} {{ 2.5 | round }} {{ 2.675 | "
        "round(2) }}",
        "42 -1 31 2.0 2.67"},
       {"{{ x | default('d') }} {{ '' | d('e', true) }} {{ 'a\nb' | indent(2, true) }} {{ '<&>' | e }}",
        "d e   a\n  b &lt;&amp;&gt;"},
       {"{{ ' x ' | trim }} {{ 'foo bar-baz' | title }} {{ 'hello world foo' | truncate(9) }} {{ 'a b' | "
        "wordcount }}",
        "x Foo Bar-Baz hello... 2"},
       {"{% set g = l | map('string') %}{{ g | join }}|{{ g | join }}|{{ 'y' if g }}", "312||y"}},
      context);
}

TEST(ChatTemplate, Json) {
  const Json context = {
      {"v", {{"a", {1, 2.0, nullptr, true}}, {"é", "\"<\\\n\u007f🐟"}, {"e", Json::array()}}}};
  expect_all(
      {{"{{ v | tojson }}", "{\"a\": [1, 2.0, null, true], \"é\": \"\\\"<\\\\\\n\u007f🐟\", \"e\": []}"},
       {"{{ v | tojson(ensure_ascii=true) }}",
        "{\"a\": [1, 2.0, null, true], \"\\u00e9\": \"\\\"<\\\\\\n\\u007f\\ud83d\\udc1f\", \"e\": []}"},
       {"{{ {'b': [1], 'a': {}} | tojson(indent=2, sort_keys=true) }}",
        "{\n  \"a\": {},\n  \"b\": [\n    1\n  ]\n}"},
       {"{{ {'a': (1, 1e400)} | tojson(separators=(',', ':')) }} {{ {1: 2, none: 3} | tojson }}",
        "{\"a\":[1,Infinity]} {\"1\": 2, \"null\": 3}"}},
      context);
  EXPECT_NE(refusal("{{ x | tojson }}").find("Undefined is not JSON serializable"), std::string::npos);
}

TEST(ChatTemplate, Loops) {
  expect_all(
      {{"{% for i in 'abc' %}{{ loop.index }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ "
        "loop.length }} {% endfor %}",
        "12TrueFalse3 21FalseFalse3 30FalseTrue3 "},
       {"{% for i in [1, 2, 3, 4] if i is even %}{{ i }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem "
        "}};{% endfor %}",
        "224;422;"},
       {"{% for k, v in {'a': 1}.items() %}{{ k }}={{ v }}{% endfor %}{% for (a, b), c in [((1, 2), 3)] %}{{ "
        "a + b + c }}{% endfor %}",
        "a=16"},
       {"{% for i in [] %}x{% else %}none{% endfor %}{% for i in [1] %}{% break %}{% else %}!{% endfor %}",
        "none!"},
       {"{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif "
        "%}{{ i }}{% endfor %}",
        "013"},
       {"{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}", "21"},
       {"{% set n = namespace(x=1) %}{% for i in [1] %}{% set n.x = 2 %}{% endfor %}{{ n.x }}", "2"},
       {"{% for i in [1, 1, 2] %}{{ loop.changed(i) }}{{ loop.cycle('a', 'b') }}{% endfor %}",
        "TrueaFalsebTruea"}});
}

TEST(ChatTemplate, MacrosAndBlocks) {
  expect_all(
      {{"{% macro f(a, b='B') %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1) }}{{ f(1, 2, 3, "
        "c=4) }}",
        "1B(){}12(3,){'c': 4}"},
       {"{% macro f() %}<{{ caller('x') }}>{% endmacro %}{% call(v) f() %}[{{ v }}]{% endcall %}", "<[x]>"},
       {"{% macro f(n) %}{{ n }}{{ f(n - 1) if n }}{% endmacro %}{{ f(3) }}", "3210"},
       {"{% macro f(a, b=2) %}{{ varargs }}{% endmacro %}{{ f.name }} {{ f['arguments'] }} {{ f.catch_kwargs "
        "}} "
        "{{ f.catch_varargs }} {{ f.caller }} {{ f.other is defined }}",
        "f ('a', 'b') False True False False"},
       {"{% macro f() %}{{ kwargs }}{{ caller() }}{% endmacro %}{{ f.arguments }} {{ f.catch_kwargs }} {{ "
        "f.caller }}",
        "() True True"},
       {"{% set x %} a{{ 1 }} {% endset %}{{ x | length }}{% set y | upper %}b{% endset %}{{ y }}", "4B"},
       {"{% filter upper | replace('A', 'x') %}banana{% endfilter %}", "BxNxNx"},
       {"{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}", "1"},
       {"{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}", "21"},
       {"{% set a, b = 1, 2 %}{{ b }}{% print a %}{% set j = joiner('|') %}{{ j() }}x{{ j() }}{{ cycler(1, "
        "2).next() }}",
        "21x|1"}});
}

TEST(ChatTemplate, ContextAsTransformersGivesIt) {
  EXPECT_EQ(render("{{ tools }} {{ documents is defined }} {{ add_generation_prompt }}"), "None True False");
  const Json context = {
      {"messages", {{{"role", "a"}, {"reasoning", "r"}}, {{"role", "u"}, {"thinking", nullptr}}}}};
  EXPECT_EQ(render("{{ messages }}", context),
            "[{'thinking': 'r', 'role': 'a', 'reasoning': 'r', 'reasoning_content': 'r'}, {'role': 'u', "
            "'thinking': None}]");
}

TEST(ChatTemplate, RefusalsNameThePlaceAndTheThing) {
  const std::pair<const char*, const char*> cases[] = {
      {"\n\n{{ raise_exception('Roles must alternate') }}", "t.jinja: line 3: Roles must alternate"},
      {"{{ x.y }}", "t.jinja: line 1: 'x' is undefined"},
      {"{{ {}.a.b }}", "'dict object' has no attribute 'a'"},
      {"\n{{ 1 | nosuch }}", "line 2: the filter 'nosuch' is not known"},
      {"{{ 1 is nosuch }}", "the test 'nosuch' is not known"},
      {"{% include 'x' %}", "the tag 'include' is not supported"},
      {"{% frobnicate %}", "the tag 'frobnicate' is not known"},
      {"{% for x in [] recursive %}{% endfor %}", "'recursive'"},
      {"{% if x %}", "'elif' or 'else' or 'endif' is expected"},
      {"{{ (1 }}", "unexpected '}', expected ')'"},
      {"{{ 1 + }}", "expected an expression, found the end of the tag"},
      {"{{ 'abc }}", "a string without an end"},
      {"{# x", "Missing end of comment tag"},
      {"{{ 1 + 'a' }}", "unsupported operand types for +: 'int' and 'str'"},
      {"{{ [].append(1) }}", "access to attribute 'append' of 'list' object is unsafe."},
      {"{{ 9223372036854775807 + 1 }}", "does not fit 64 bits"},
      {"{{ 1 // 0 }}", "division by zero"},
      {"{% set x.y = 1 %}", "cannot assign attribute on non-namespace object"},
      {"{% break %}", "'break' outside of a loop"},
      {"{{ [1] | map('upper') | length }}", "object of type 'generator' has no len()"},
      {"\xff", "not UTF-8"}};
  for (const auto& [source, message] : cases)
    EXPECT_NE(refusal(source).find(message), std::string::npos) << source << ": " << refusal(source);
  EXPECT_NE(refusal("x", Json::array()).find("not an object"), std::string::npos);
  EXPECT_NE(refusal("x", {{"a", "\xff"}}).find("not UTF-8"), std::string::npos);
  EXPECT_NE(refusal("x", {{"a", UINT64_MAX}}).find("64 bits"), std::string::npos);
  // Within an if, an unknown filter is one only where it is called.
  EXPECT_EQ(render("{% if false %}{{ 1 | nosuch }}{% endif %}{{ 2 if true else 1 | nosuch }}"), "2");
}

std::string repeated(const std::string& piece, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += piece;
  return text;
}

TEST(ChatTemplate, HostileTemplatesAreRefused) {
  for (const std::string& source : {
           std::string("{{ range(10 ** 9) }}"),
           std::string("{{ 'a' * 10 ** 9 }}"),
           std::string("{{ [1] * 10 ** 12 }}"),
           std::string("{% set n = namespace(s='aa') %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% "
                       "endfor %}"),
           std::string("{% set n = namespace(s='aa') %}{% for i in range(99) %}{% set n.s = [n.s, n.s] %}{% "
                       "endfor %}{{ n.s }}"),
           std::string("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"),
           std::string("{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}"),
           std::string("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
           std::string("{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{{ f() }}"),
           std::string("{{ 'a\nb' | indent(10 ** 15) }}"),
           std::string("{{ [[1]] | tojson(indent=10 ** 15) }}"),
           std::string("{{ 'a'.center(10 ** 15) }}"),
           std::string("{{ '%*d' % (10 ** 9, 1) }}"),
           std::string("{{ '%.999999999f' % 1.5 }}"),
           std::string("{{ '{:999999999}'.format(1) }}"),
           std::string("{{ [1] | batch(10 ** 15, 0) | list }}"),
           std::string("{{ [1] | slice(10 ** 15, 0) | list }}"),
           std::string("{{ 9 ** 9 ** 9 }}"),
           std::string("{{ 10.0 ** 400 }}"),
           std::string("{{ -9223372036854775807 - 2 }}"),
           std::string("{{ (-9223372036854775807 - 1) // -1 }}"),
           std::string("{{ -(-9223372036854775807 - 1) }}"),
           std::string("{{ (-9223372036854775807 - 1) | abs }}"),
           "{{ " + repeated("(", 5000) + "1" + repeated(")", 5000) + " }}",
           "{{ " + repeated("[", 5000) + repeated("]", 5000) + " }}",
           "{{ " + repeated("not ", 5000) + "1 }}",
           "{{ " + repeated("-", 5000) + "1 }}",
           "{{ " + repeated("{1:", 5000) + "1" + repeated("}", 5000) + " }}",
           "{{ 1" + repeated(" + 1", 5000) + " }}",
           "{{ x" + repeated(".x", 5000) + " }}",
           "{{ 1" + repeated(" | abs", 5000) + " }}",
           "{{ 1" + repeated(" if 1 else 1", 5000) + " }}",
           repeated("{% if 1 %}", 5000) + repeated("{% endif %}", 5000),
           std::string((1 << 20) + 1, 'x'),
       }) {
    EXPECT_NE(refusal(source), "") << source.substr(0, 99);
  }
  EXPECT_EQ(render("{{ (-9223372036854775807 - 1) % -1 }}"), "0");
  EXPECT_EQ(
      render("{{ 'a'.center(-9223372036854775807) }}{{ 'abc'[-9223372036854775807::9223372036854775807] }}"),
      "aa");
}

TEST(ChatTemplate, CirclesAndLongChainsAreLetGo) {
  EXPECT_NE(refusal("{% set n = namespace() %}{% set n.n = n %}{{ n }}"), "");
  EXPECT_EQ(
      render(
          "{% set n = namespace() %}{% set n.f = n %}{% macro m() %}{{ n }}{% endmacro %}{% set n.m = m %}"),
      "");
  EXPECT_EQ(render("{% for x in [1] %}{% if loop.changed([loop]) %}y{% endif %}{% endfor %}"), "y");
  EXPECT_EQ(render("{% set n = namespace() %}{% set n.g = [n] | map(attribute='g') | unique %}{{ n.g | first "
                   "is defined }}"),
            "True");
  // A list of 90,000 namespaces, one in the other.
  EXPECT_EQ(render("{% set n = namespace(h=none) %}{% for i in range(90000) %}{% set n.h = namespace(n=n.h) "
                   "%}{% endfor %}"
                   "{% set n.h = none %}x"),
            "x");
}

TEST(ChatTemplate, SeveralThreadsRenderAtOnce) {
  const ChatTemplate shared("{% for i in range(200) %}{{ ('é' ~ i) | upper }}{% endfor %}", "t.jinja");
  const std::string expected = shared.render(Json::object());
  std::vector<std::thread> threads;
  std::vector<std::string> found(4);
  for (std::string& text : found) threads.emplace_back([&] { text = shared.render(Json::object()); });
  for (std::thread& thread : threads) thread.join();
  for (const std::string& text : found) EXPECT_EQ(text, expected);
}

TEST(ChatTemplate, RendersWhatTransformersRenders) {
  const std::filesystem::path folder = test::source_file("tests/reference/goldens_chat");
  const Json shared = Json::parse(test::read_text(folder / "conversations.json"));
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const Json golden = Json::parse(test::read_text(entry.path()));
    if (!golden.contains("template")) continue;
    ++files;
    const ChatTemplate made(golden["template"].get<std::string>(), entry.path().filename().string());
    for (const Json& each : golden["cases"]) {
      Json context = shared["settings"][each["setting"].get<std::string>()];
      context["messages"] = shared["conversations"][each["conversation"].get<std::string>()];
      SCOPED_TRACE(entry.path().filename().string() + " " + each["conversation"].dump() +
                   each["setting"].dump());
      if (each.contains("text")) {
        EXPECT_EQ(made.render(context), each["text"].get<std::string>());
        continue;
      }
      try {
        ADD_FAILURE() << "not refused: " << made.render(context);
      } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find(each["error"].get<std::string>()), std::string::npos)
            << e.what();
      }
    }
  }
  EXPECT_EQ(files, 11);
}

}  // namespace
}  // namespace llmtool
