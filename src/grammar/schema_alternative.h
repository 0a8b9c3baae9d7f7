#pragma once
// SchemaAlternative: what a schema asks of an instance, type by type, with nothing left to choose.

#include <string>
#include <vector>

#include "grammar/number_set.h"
#include "grammar/schema_formulas.h"
#include "grammar/string_languages.h"

namespace llmtool {

enum JsonType : uint8_t {
  kNull = 1,
  kTrue = 2,
  kFalse = 4,
  kNumber = 8,
  kString = 16,
  kArray = 32,
  kObject = 64,
  kAllTypes = 127
};

/// Keys that have one of the names or are in one of the languages; with `others` the keys that are not.
struct KeySet {
  std::vector<std::string> names = {};
  std::vector<uint32_t> languages = {};
  bool others = false;
  bool contains(const std::string& key, const StringLanguages& languages) const;
  friend bool operator==(const KeySet& a, const KeySet& b) = default;
};

struct PropertyPart {
  KeySet keys;
  SchemaFormulas::Id value;
  friend bool operator==(const PropertyPart& a, const PropertyPart& b) = default;
};

struct ObjectPart {
  std::vector<PropertyPart> each;     // every property with such a key has such a value
  std::vector<PropertyPart> some;     // at least one property has such a key and value
  std::vector<std::string> required;  // sorted
  uint64_t min = 0, max = kNoLimit;
  void require(const std::string& name);
  void add_each(PropertyPart part);
  friend bool operator==(const ObjectPart& a, const ObjectPart& b) = default;
};

/// Of the items from index `from` to before `to`, at least `min` and at most `max` are values of `value`.
struct ContainsPart {
  uint64_t from = 0, to = kNoLimit;
  SchemaFormulas::Id value = SchemaFormulas::kAnything;
  uint64_t min = 1, max = kNoLimit;
  friend bool operator==(const ContainsPart& a, const ContainsPart& b) = default;
};

struct ArrayPart {
  std::vector<SchemaFormulas::Id> prefix;
  SchemaFormulas::Id rest = SchemaFormulas::kAnything;
  std::vector<ContainsPart> contains;
  uint64_t min = 0, max = kNoLimit;
  bool unique = false;
  SchemaDocument::Location unique_at = 0;  // where it is asked
  SchemaFormulas::Id at(uint64_t index) const { return index < prefix.size() ? prefix[index] : rest; }
  friend bool operator==(const ArrayPart& a, const ArrayPart& b) = default;
};

/// What keywords have looked at, for the unevaluated... keywords beside or above them.
struct EvaluatedParts {
  std::vector<std::string> names = {};
  std::vector<uint32_t> languages = {};
  bool all_keys = false;
  uint64_t prefix = 0;
  bool all_items = false;
  std::vector<SchemaFormulas::Id> items = {};  // and the items that are values of these
  void add(const EvaluatedParts& other);
};

struct SchemaAlternative {
  uint8_t types = kAllTypes;
  NumberSet number;
  StringPart string;
  ArrayPart array;
  ObjectPart object;
  std::vector<EvaluatedParts> evaluated;  // one for each unevaluated... keyword that is being read

  bool only(uint8_t mask) { return (types &= mask) != 0; }
};

}  // namespace llmtool
