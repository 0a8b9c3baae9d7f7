// JSON Schema as a form: what texts are of it, what is refused and where, and that no text ends in a dead
// end.

#include "llmtool/grammar/json_schema.h"

#include "llmtool/core/error.h"
#include "support.h"
#include "walks.h"

namespace llmtool::test {
namespace {

using nlohmann::json;

std::shared_ptr<const Grammar> schema(const char* text) {
  return parse_json_schema(json::parse(text), "schema");
}

struct Case {
  const char* schema;
  std::vector<std::string> accepted, rejected;
};

const std::vector<Case> kCases = {
    // Properties in any order, once each, in whatever spelling.
    {R"({"type": "object", "properties": {"a": {"type": "integer"}, "ab": {"type": "null"}}, "required": ["a"],
         "additionalProperties": false})",
     {R"({"a":1})", R"({"ab": null, "a": -20})", R"({"\u0061": 1})", "{\n  \"a\": 1,\n  \"ab\": null\n}"},
     {R"({})", R"({"ab":null})", R"({"a":1,"a":1})", R"({"a":1,"\u0061":2})", R"({"b":1,"a":1})",
      R"({"a":1.5})", R"({"a":1,})", R"({"a":1} )", R"( {"a":1})"}},
    {R"({"type": "object", "additionalProperties": {"type": "integer"}})",
     {R"({"x":1,"y":2})", R"({"":0})"},
     {R"({"x":1,"x":2})", R"({"x":1,"\u0078":2})", R"({"x":"1"})"}},
    {R"({"type": "object", "properties": {"a": true, "b": true, "c": true}, "required": ["c"],
         "maxProperties": 2})",
     {R"({"a":1,"c":1})", R"({"c":1,"z":1})"},
     {R"({"a":1,"b":1})", R"({"a":1,"b":1,"c":1})"}},
    // Whitespace as JSON writers put it, and no more.
    {R"({"type": "array", "items": {"type": "integer"}})",
     {"[]", "[1,2]", "[1, 2]", "[ 1, 2 ]", "[\n\t1,\n\t2\n]", "[ ]", cat("[\n", std::string(32, ' '), "1]")},
     {"[1 ,2]", "[1,  2]", "[1,\n\n2]", cat("[\n", std::string(33, ' '), "1]"), "[1]\n", "[,]", "[1,]"}},
    // Numbers by their values.
    {R"({"type": "integer"})",
     {"0", "-0", "12", "1.0", "-3.0", "-0.0", "100000000000000000000000"},
     {"1.5", "01", "1e2", "+1", "", "1.00", "-0.00"}},
    {R"({"type": "number"})", {"1.5", "1e2", "-2.5E-10", "0"}, {"1.", ".5", "1e", "-", "00"}},
    {R"({"minimum": -1.5, "exclusiveMaximum": 10, "type": "number"})",
     {"-1.5", "0.25", "9.999999999999999999999"},
     {"-1.51", "10", "10.0", "100"}},
    {R"({"type": "integer", "multipleOf": 3, "minimum": 10, "maximum": 20})",
     {"12", "15", "18"},
     {"9", "10", "21", "1"}},
    {R"({"type": "number", "multipleOf": 0.01})",
     {"0.07", "0.070", "19.99", "3", "3.0"},
     {"0.075", "1.001", "0.0700", "3.00"}},
    {R"({"enum": [0.1, 1e3, "x", null, {"a": [1]}]})",
     {"0.1", "0.10", "1000", "\"x\"", "null", R"({"a":[1]})", R"({"a": [1.0]})"},
     {"0.11", "100", "true", R"({"a":[2]})", R"({"a":[]})", R"({})", "\"\""}},
    // Strings by their code points.
    {R"({"type": "string", "minLength": 2, "maxLength": 3})",
     {R"("ab")", R"("\u00e9\ud83d\ude00")", "\"\xC3\xA9\xF0\x9F\x98\x80z\"", R"("\n\"")"},
     {R"("a")", R"("abcd")", R"("\ud83d\ude00")", R"("\ud83d")", R"("\ude00a")", "\"\xC3\"", "\"a\nb\""}},
    {R"({"type": "string", "pattern": "^a.*z$", "maxLength": 4})",
     {R"("az")", R"("a\u0062cz")"},
     {R"("abcdz")", R"("ab")"}},
    {R"({"type": "string", "pattern": "^(ab)+$", "minLength": 3, "maxLength": 5})",
     {R"("abab")"},
     {R"("ab")", R"("ababab")"}},
    // Combinations.
    {R"({"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 2}]})",
     {"1", "2.5"},
     {"2", "3.0", "1.5"}},
    {R"({"not": {"type": ["string", "array", "object", "number"]}})",
     {"true", "false", "null"},
     {"1", "\"\"", "[]"}},
    {R"({"type": "object", "if": {"properties": {"k": {"const": 1}}, "required": ["k"]},
         "then": {"required": ["x"]}, "else": {"required": ["y"]}})",
     {R"({"x":0,"k":1})", R"({"y":0,"k":2})", R"({"y":0})"},
     {R"({"k":1})", R"({"k":1,"y":0})", R"({"x":0})"}},
    {R"({"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "properties": {"v": {"type": "integer"},
         "c": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}, "required": ["v"],
         "additionalProperties": false}}})",
     {R"({"v":1,"c":[{"v":2},{"c":[],"v":3}]})"},
     {R"({"v":1,"c":[{}]})", R"({"v":1,"c":[1]})"}},
    {R"({"allOf": [{"properties": {"a": true}}, {"properties": {"b": true}}], "unevaluatedProperties": false})",
     {R"({"a":1,"b":2})", R"({})", "1"},
     {R"({"c":1})"}},
    {R"({"type": "array", "contains": {"const": 5}, "minContains": 2, "maxContains": 3, "maxItems": 4})",
     {"[5,5]", "[1,5,2,5]", "[5,5,5]"},
     {"[5]", "[1,2,3]", "[5,5,5,5]", "[1,1,5,1]"}},
    {R"({"type": "array", "uniqueItems": true, "items": {"enum": [1, 2, "a"]}, "minItems": 2})",
     {"[1,2]", R"(["a",2,1])", R"(["\u0061",1.0])"},
     {"[1]", "[1,1]", "[1,1.0]", R"(["a","\u0061"])"}},
    {R"({"uniqueItems": true})",
     {R"([{"a":1,"b":2},{"a":1,"b":3}])", "[[1],[1,1]]", "[1,true]"},
     {R"([{"a":1,"b":2},{"b":2,"a":1.0}])", "[[1],[ 1 ]]", R"(["x","\u0078"])"}},
    // Draft 7 where it is asked for.
    {R"({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "integer"}],
         "additionalItems": false, "dependencies": {"a": ["b"]}})",
     {"[1]", "[]", R"({"b":1})", R"({"a":1,"b":1})"},
     {"[1,2]", "[null]", R"({"a":1})"}},
};

TEST(JsonSchema, AcceptsWhatIsValidAndNothingElse) {
  for (const Case& test : kCases) {
    SCOPED_TRACE(test.schema);
    const auto grammar = schema(test.schema);
    for (const std::string& text : test.accepted) EXPECT_TRUE(accepts(*grammar, text)) << text;
    for (const std::string& text : test.rejected) EXPECT_FALSE(accepts(*grammar, text)) << text;
  }
}

/// Goes on at random, to ends where there are some; false where that leads nowhere.
bool finish(Matcher& matcher, std::string& text, Rng& rng) {
  for (int step = 0; step < 5000 && !matcher.complete(); ++step) {
    bool in_string = false;
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '\\')
        ++i;
      else if (text[i] == '"')
        in_string = !in_string;
    }
    const std::string allowed = bytes_after(matcher);
    if (allowed.empty()) return false;
    char next = allowed[rng.below(allowed.size())];
    const bool begun = in_string && text.back() == '"';
    if (begun && allowed.find_first_of("abckvxy") != allowed.npos &&
        rng.below(2) == 0) {  // names of the cases
      const std::string names = "abckvxy";
      do next = names[rng.below(names.size())];
      while (allowed.find(next) == allowed.npos);
      matcher.push(static_cast<uint8_t>(next));
      text += next;
      continue;
    }
    for (const char end : std::string(in_string ? "\"" : "]}")) {
      if (allowed.find(end) != allowed.npos) next = end;
    }
    matcher.push(static_cast<uint8_t>(next));
    text += next;
  }
  return matcher.complete();
}

TEST(JsonSchema, EveryTextCanBeCompleted) {
  Rng rng(7);
  for (const Case& test : kCases) {
    SCOPED_TRACE(test.schema);
    const auto grammar = schema(test.schema);
    for (const size_t length : {0, 1, 3, 8, 20, 40, 60}) {
      const auto matcher = grammar->matcher();
      std::string text;
      while (text.size() < length) {
        const std::string allowed = bytes_after(*matcher);
        if (allowed.empty()) break;
        text += allowed[rng.below(allowed.size())];
        ASSERT_TRUE(matcher->push(static_cast<uint8_t>(text.back())));
      }
      EXPECT_TRUE(finish(*matcher, text, rng)) << text;
      EXPECT_TRUE(accepts(*grammar, text)) << text;
      const bool plain = text.find_first_of("eE") == text.npos;  // no number beyond what a double holds
      EXPECT_TRUE(!plain || json::accept(text)) << text;
    }
  }
}

// What leads nowhere is not begun: each text of the second column would need what the schema rules out.
TEST(JsonSchema, BeginsNothingThatCannotEnd) {
  const auto begins = [](const char* text, const std::string& beginning) {
    return goes_on(*schema(text), beginning);
  };
  const char* const closed =
      R"({"type": "object", "properties": {"name": {"enum": ["ann", "bob"]}, "next": {"minimum": 3,
      "maximum": 4, "type": "integer"}, "never": false}, "required": ["name"], "additionalProperties": false,
      "maxProperties": 1})";
  EXPECT_TRUE(begins(closed, R"({"na)"));
  for (const char* text : {R"({"ne)", R"({"x)", R"({"name": "c)", R"({"name": 1)", R"({"name": "ann",)",
                           R"({"\u0078)", R"({"\u1)", R"({"name": "ann"} )"}) {
    EXPECT_FALSE(begins(closed, text)) << text;
  }
  const char* const unique = R"({"type": "array", "uniqueItems": true, "minItems": 3, "items": false,
      "prefixItems": [{"enum": [1, 2, 30]}, {"enum": [1, 2]}, {"const": 1}]})";
  EXPECT_TRUE(begins(unique, "[30,2,1"));
  EXPECT_FALSE(begins(unique, "[1"));
  EXPECT_FALSE(begins(unique, "[2"));
  EXPECT_FALSE(begins(unique, "[30,1"));
  EXPECT_FALSE(begins(R"({"type": "integer", "minimum": 25, "maximum": 28})", "3"));
  EXPECT_FALSE(begins(R"({"type": "integer", "minimum": 25, "maximum": 28})", "-"));
  EXPECT_FALSE(begins(R"({"type": "number", "multipleOf": 0.5})", "1.2"));
  EXPECT_FALSE(begins(
      R"({"$ref": "#/$defs/endless", "$defs": {"endless": {"anyOf": [{"type": "null"}, {"type": "array",
      "items": {"$ref": "#/$defs/endless"}, "minItems": 1, "prefixItems": [false]}]}}})",
      "["));
}

// A number that is settled ends soon: at most a zero more than it needs.
TEST(JsonSchema, NumbersThatStandApartEnd) {
  const auto begins = [](const char* text, const char* beginning) {
    return goes_on(*schema(text), beginning);
  };
  EXPECT_TRUE(begins(R"({"const": 5})", "5.0"));
  EXPECT_FALSE(begins(R"({"const": 5})", "5.00"));
  EXPECT_FALSE(begins(R"({"minimum": 5, "maximum": 5, "type": "number"})", "5.00"));
  EXPECT_FALSE(begins(R"({"type": "integer"})", "-0.00"));
  EXPECT_TRUE(begins(R"({"const": 0.25})", "0.250"));
  EXPECT_FALSE(begins(R"({"const": 0.25})", "0.2500"));
  const char* const fine = R"({"enum": [1, 1.005, -2.0004]})";
  EXPECT_TRUE(begins(fine, "1.00"));  // on its way to the second
  EXPECT_FALSE(begins(fine, "1.000"));
  EXPECT_FALSE(accepts(*schema(fine), "1.00"));
  for (const char* text : {"1", "1.0", "1.005", "1.0050", "-2.0004"})
    EXPECT_TRUE(accepts(*schema(fine), text));
}

/// Each of these holds where exactly one of a text pattern and the next does.
std::string nested_one_of(int n) {
  json defs;
  for (int i = 0; i < n; ++i) {
    defs[cat("d", i)]["oneOf"] = {{{"$ref", cat("#/$defs/d", i + 1)}},
                                  {{"type", "string"}, {"pattern", cat("x_", i)}}};
  }
  defs[cat("d", n)]["const"] = 1;
  return json{{"$ref", "#/$defs/d0"}, {"$defs", defs}}.dump();
}

TEST(JsonSchema, WorkWithoutEndIsRefused) {
  EXPECT_TRUE(accepts(*schema(nested_one_of(4).c_str()), R"("x_1 x_2 x_3")"));
  EXPECT_FALSE(accepts(*schema(nested_one_of(4).c_str()), R"("x_1 x_2")"));
  try {
    schema(nested_one_of(12).c_str());
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("#/$defs/d0: cannot be enforced: "), std::string::npos)
        << error.what();
  }
}

TEST(JsonSchema, FilesKeepTheirNumbersOrAreRefused) {
  const TempFolder place;
  const auto read = [&](const std::string& text) {
    write_text(place / "s.json", text);
    return read_json_schema(place / "s.json");
  };
  EXPECT_TRUE(accepts(*read(R"({"enum": [18446744073709551615, 0.10, 1e22]})"), "18446744073709551615"));
  for (const char* text : {R"({"x-a": [1, {"k": 2}], "anyOf": [{}, {"const": 12345678901234567890123}]})",
                           R"({"x-a": {}, "anyOf": [true, {"const": 0.12345678901234567890123}]})"}) {
    try {
      read(text);
      ADD_FAILURE() << text;
    } catch (const UsageError& error) {
      EXPECT_NE(std::string(error.what()).find("s.json at #/anyOf/1/const: expected an integer of 64 bits"),
                std::string::npos)
          << error.what();
    }
  }
}

TEST(JsonSchema, RefusesWithItsPointerWhatCannotBeEnforced) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {R"({"properties": {"a": {"minLenght": 1}}})",
       "#/properties/a/minLenght: not a keyword of draft 2020-12; did you mean \"minLength\""},
      {R"({"items": {"$ref": "https://example.com/x"}})",
       "#/items/$ref: \"https://example.com/x\" is not in this document"},
      {R"({"$ref": "#/$defs/x"})", "#/$ref: \"#/$defs/x\": nothing stands at #/$defs"},
      {R"({"not": {"uniqueItems": true}})", "#/not/uniqueItems: cannot be enforced"},
      {R"({"type": "array", "uniqueItems": true, "items": {"type": "object", "properties": {"a": {"type": "integer"}},
          "additionalProperties": false}})",
       "#/uniqueItems: cannot be enforced"},
      {R"({"pattern": "(a)\\1"})", "#/pattern: "},
      {R"({"multipleOf": 0})", "#/multipleOf: expected more than 0"},
      {R"({"minLength": -1})", "#/minLength: expected an integer"},
      {R"({"type": "int"})", "#/type: expected null"},
      {R"({"properties": {"a": {"type": []}}})", "#/properties/a/type: expected a type"},
      {R"({"anyOf": []})", "#/anyOf: expected a list"},
      {R"({"properties": {"a": 1}})", "#/properties/a: expected a schema"},
      {R"({"allOf": [{"$ref": "#"}]})", "without end"},
      {R"({"$schema": "http://json-schema.org/draft-04/schema#"})", "#/$schema: expected the name"},
      {R"({"type": "string", "enum": [1]})", "#: no instance is valid"},
      {R"({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]})",
       "#: no instance is valid"},
      {R"({"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": true, "minItems": 3})",
       "#: no instance is valid"},
      {R"({"a/b": 1})", "#/a~1b: not a keyword"},
      {R"({"patternProperties": {"(?=x)/~": {}}})", "#/patternProperties/(?=x)~1~0: "},
      {R"({"propertyNames": {"maxLength": 1000000}})", "#/propertyNames: cannot be enforced: "},
  };
  for (const auto& [text, expected] : cases) {
    try {
      schema(text);
      ADD_FAILURE() << text;
    } catch (const UsageError& error) {
      EXPECT_NE(std::string(error.what()).find(expected), std::string::npos) << error.what();
      EXPECT_EQ(std::string(error.what()).find("schema at #"), 0u) << error.what();
    }
  }
}

std::string key_behind(const Grammar& grammar, const std::string& text, int64_t reach) {
  const auto matcher = grammar.matcher();
  for (const char c : text) EXPECT_TRUE(matcher->push(static_cast<uint8_t>(c))) << text;
  std::string key;
  matcher->append_key(key, reach);
  return key;
}

TEST(JsonSchema, KeysAreEqualWhereWhatIsNearIs) {
  const auto grammar = schema(R"({"type": "object", "properties": {"a": {"type": "string", "maxLength": 50},
      "b": {"type": "array", "items": {"type": "integer"}, "maxItems": 90}}})");
  const auto key = [&](const std::string& text) { return key_behind(*grammar, text, 8); };
  EXPECT_EQ(key(R"({"a": "xy)"), key(R"({"a": "some more text)"));
  EXPECT_NE(key(R"({"a": "xy)"), key(cat(R"({"a": ")", std::string(45, 'x'))));
  EXPECT_EQ(key(R"({"b": [1, 2, 3)"), key(R"({"b": [1, 2, 3, 14)"));
  EXPECT_NE(key(R"({"b": [1)"), key(R"({"a": "", "b": [1)"));
  EXPECT_NE(key(R"({"b": [)"), key(R"({"b": [1,)"));
}

TEST(JsonSchema, AssignedMatchersGoOnByThemselves) {
  const auto grammar =
      schema(R"({"type": "array", "items": {"type": "object", "required": ["a"]}, "maxItems": 2})");
  const auto one = grammar->matcher(), other = grammar->matcher();
  for (const char c : std::string(R"([{"a": 1}, {"b)")) ASSERT_TRUE(one->push(static_cast<uint8_t>(c)));
  other->assign(*one);
  for (const char c : std::string(R"(": 1, "a": 2}])")) ASSERT_TRUE(other->push(static_cast<uint8_t>(c)));
  EXPECT_TRUE(other->complete());
  EXPECT_FALSE(one->complete());
  for (const char c : std::string(R"(c": 1, "a": 2}])")) ASSERT_TRUE(one->push(static_cast<uint8_t>(c)));
  EXPECT_TRUE(one->complete());
}

TEST(JsonSchema, DeepNestingNeedsNoStack) {
  const auto grammar = schema("{}");
  const auto matcher = grammar->matcher();
  for (int i = 0; i < 300000; ++i) ASSERT_TRUE(matcher->push('['));
  for (int i = 0; i < 300000; ++i) ASSERT_TRUE(matcher->push(']'));
  EXPECT_TRUE(matcher->complete());
}

}  // namespace
}  // namespace llmtool::test
