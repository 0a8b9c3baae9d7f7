#pragma once
// SchemaFormulas: schemas and what all, any or none of them accept, each formula once and known by a number.

#include <deque>
#include <map>

#include "grammar/schema_document.h"

namespace llmtool {

/// One text for values that JSON Schema calls equal: keys sorted, numbers by their value.
std::string canonical_text(const nlohmann::json& value);

class SchemaFormulas {
 public:
  using Id = uint32_t;
  using Location = SchemaDocument::Location;
  enum class Kind { nothing, anything, schema, values, negation, all, any };
  static constexpr Id kNothing = 0, kAnything = 1;
  struct Formula {
    Kind kind;
    Location location = 0;
    uint32_t scope = 0;
    std::vector<uint32_t> parts = {};  // formulas; of `values`, values
    auto operator<=>(const Formula& other) const = default;
  };

  explicit SchemaFormulas(SchemaDocument& document);

  /// A schema met while the $dynamicAnchors of `scope` are in force.
  Id schema(Location location, uint32_t scope);
  Id reference(Location location, uint32_t scope, const char* keyword);
  Id values(const std::vector<const nlohmann::json*>& values);
  Id negation(Id formula);
  Id all(std::vector<Id> formulas);
  Id any(std::vector<Id> formulas);

  const Formula& operator[](Id id) const { return formulas_[id]; }
  const nlohmann::json& value(uint32_t id) const { return values_[id]; }

 private:
  Id intern(Formula formula);
  uint32_t enter(uint32_t scope, Location location);
  bool list_of_values(Location location, std::vector<const nlohmann::json*>& values) const;
  void keep_common_values(std::vector<Id>& formulas);

  using Scope = std::map<std::string, Location>;
  SchemaDocument& document_;
  std::deque<Formula> formulas_;
  std::map<Formula, Id> ids_;
  std::deque<nlohmann::json> values_;
  std::map<std::string, uint32_t> value_ids_;
  std::vector<Scope> scopes_;
  std::map<Scope, uint32_t> scope_ids_;
  int depth_ = 0;
};

/// Whether a value is of a type that JSON Schema names.
bool has_type(const nlohmann::json& value, const std::string& type);

}  // namespace llmtool
