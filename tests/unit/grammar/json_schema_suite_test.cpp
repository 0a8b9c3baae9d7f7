// The official JSON-Schema-Test-Suite: what it calls valid is reachable, in every usual spelling, and what it
// calls invalid is not; what is refused is listed here.

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "data/byte_source.h"
#include "llmtool/core/error.h"
#include "llmtool/grammar/json_schema.h"
#include "llmtool/io/json.h"
#include "support.h"
#include "walks.h"

namespace llmtool::test {
namespace {

using json = nlohmann::ordered_json;

/// Files of a .tar.gz by their names.
std::map<std::string, std::string> unpack(const std::string& path) {
  std::string tar, block(1 << 16, '\0');
  const auto source = open_bytes(path);
  while (const size_t size = source->read(block.data(), block.size())) tar.append(block, 0, size);
  std::map<std::string, std::string> files;
  for (size_t at = 0; at + 512 <= tar.size() && tar[at] != '\0';) {
    const std::string name = tar.c_str() + at;
    const size_t size = std::stoull(tar.substr(at + 124, 11), nullptr, 8);
    files[name] = tar.substr(at + 512, size);
    at += 512 + (size + 511) / 512 * 512;
  }
  return files;
}

struct Style {
  std::string comma, colon, indent;
  bool reversed, ascii;
};

/// A number without an exponent, since numbers of which a schema says more than their type have none.
std::string plain_number(const json& value) {
  std::string text = value.dump();
  const size_t e = text.find('e');
  if (e == text.npos) return text;
  int64_t shift = std::stoll(text.substr(e + 1));
  text.resize(e);
  const std::string sign = text[0] == '-' ? "-" : "";
  text.erase(0, sign.size());
  const size_t dot = text.find('.');
  std::string whole = text.substr(0, dot), rest = dot == text.npos ? "" : text.substr(dot + 1);
  for (; shift > 0; --shift) {
    whole += rest.empty() ? '0' : rest[0];
    rest.erase(0, 1);
  }
  for (; shift < 0; ++shift) {
    rest.insert(0, 1, whole.empty() ? '0' : whole.back());
    if (!whole.empty()) whole.pop_back();
  }
  whole.erase(0, std::min(whole.find_first_not_of('0'), whole.size()));
  return sign + (whole.empty() ? "0" : whole) + (rest.empty() ? "" : "." + rest);
}

void write(const json& value, const Style& style, const std::string& margin, std::string& out) {
  if (value.is_number()) out += plain_number(value);
  if (!value.is_structured()) {
    if (!value.is_number()) out += value.dump(-1, ' ', style.ascii);
    return;
  }
  out += value.is_array() ? '[' : '{';
  const std::string inner = style.indent.empty() ? "" : margin + style.indent;
  std::vector<std::string> parts;
  for (const auto& [key, part] : value.items()) {
    std::string text = value.is_array() ? "" : json(key).dump(-1, ' ', style.ascii).append(style.colon);
    write(part, style, inner, text);
    parts.push_back(std::move(text));
  }
  if (value.is_object() && style.reversed) std::reverse(parts.begin(), parts.end());
  for (size_t i = 0; i < parts.size(); ++i) out += (i ? style.comma : "") + inner + parts[i];
  if (!parts.empty() && !style.indent.empty()) out += margin;
  out += value.is_array() ? ']' : '}';
}

const std::vector<Style> kStyles = {{",", ":", "", false, true},
                                    {", ", ": ", "", false, false},
                                    {",", ": ", "  ", true, true},
                                    {",", ": ", "\t", false, false},
                                    {", ", ": ", "", true, false}};

/// What may be refused, as draft/file and group; of a name that ends in '*', every group.
const std::set<std::string> kRefused = {
    // Another document is referred to, the metaschema among them.
    "refRemote.json/*",
    "optional/cross-draft.json/*",
    "optional/format-assertion.json/*",
    "vocabulary.json/*",
    "defs.json/*",
    "definitions.json/*",
    "ref.json/remote ref, containing refs itself",
    "dynamicRef.json/strict-tree schema, guards against misspelled properties",
    "dynamicRef.json/tests for implementation dynamic anchor and reference link",
    "dynamicRef.json/$ref and $dynamicAnchor are independent of order - $defs first",
    "dynamicRef.json/$ref and $dynamicAnchor are independent of order - $ref first",
    "dynamicRef.json/$ref to $dynamicRef finds detached $dynamicAnchor",
    // Keywords that a draft does not know.
    "optional/unknownKeyword.json/*",
    "optional/refOfUnknownKeyword.json/*",
};
/// These hold notes to be assertions, which no draft asks for.
const std::set<std::string> kNotes = {"draft7/optional/content.json"};

bool may_be_refused(const std::string& file, const std::string& group) {
  const std::string name = file.substr(file.find('/') + 1);
  return kRefused.contains(name + "/*") || kRefused.contains(name + "/" + group);
}

void check_group(const std::string& file, const json& group, size_t& refused, size_t& texts) {
  const std::string name = group.at("description");
  SCOPED_TRACE(file + ": " + name);
  nlohmann::json schema = nlohmann::json::parse(group.at("schema").dump());
  if (file.starts_with("draft7") && schema.is_object() && !schema.contains("$schema")) {
    schema["$schema"] = "http://json-schema.org/draft-07/schema#";
  }
  std::shared_ptr<const Grammar> grammar;
  try {
    grammar = parse_json_schema(schema, "schema");
  } catch (const UsageError& error) {
    const std::string message = error.what();
    if (message.find("no instance is valid") != message.npos) {
      for (const json& test : group.at("tests")) EXPECT_FALSE(test.at("valid")) << message;
      return;
    }
    ++refused;
    EXPECT_EQ(message.find("schema at #"), 0u) << message;
    EXPECT_TRUE(may_be_refused(file, name)) << message;
    return;
  }
  for (const json& test : group.at("tests")) {
    for (const Style& style : kStyles) {
      std::string text;
      write(test.at("data"), style, "\n", text);
      EXPECT_EQ(accepts(*grammar, text), test.at("valid").get<bool>()) << text;
      ++texts;
    }
  }
}

TEST(JsonSchemaSuite, ValidInstancesAreReachableAndInvalidOnesAreNot) {
  REQUIRE_REFERENCE(archive, "jsonschema/JSON-Schema-Test-Suite-draft7+2020-12.tar.gz");
  size_t refused = 0, texts = 0;
  for (const auto& [path, content] : unpack(archive.string())) {
    const size_t begin = path.find("tests/draft");
    if (begin == path.npos || !path.ends_with(".json")) continue;
    const std::string file = path.substr(begin + 6);
    if (file.find("/format/") != file.npos || kNotes.contains(file)) continue;  // format is a note
    for (const json& group : parse_ordered_json(content, file)) check_group(file, group, refused, texts);
  }
  EXPECT_GT(texts, 5000u);
  EXPECT_LE(refused, 47u);
}

}  // namespace
}  // namespace llmtool::test
