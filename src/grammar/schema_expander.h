#pragma once
// SchemaExpander: a formula of schemas as a list of alternatives, one of which an instance must be.

#include <functional>
#include <map>

#include "grammar/schema_alternative.h"

namespace llmtool {

/// The keywords of JSON Schema's validation and applicator vocabularies and what their failing means,
/// https://json-schema.org/draft/2020-12/json-schema-validation. Only what stands in place (allOf, $ref, ...)
/// is followed; items and properties are formulas in the result. Throws UsageError with the JSON pointer of a
/// keyword that is malformed or cannot be enforced.
class SchemaExpander {
 public:
  using Id = SchemaFormulas::Id;
  using Location = SchemaDocument::Location;
  using Alternatives = std::vector<SchemaAlternative>;

  SchemaExpander(const SchemaDocument& document, SchemaFormulas& formulas, StringLanguages& languages);

  Alternatives expand(Id formula);
  /// The texts that a formula allows as strings.
  StringLanguages::Id strings(Id formula);
  SchemaFormulas& formulas() { return formulas_; }
  StringLanguages& languages() { return languages_; }

 private:
  struct Context {
    Location location;
    uint32_t scope;
    const nlohmann::json& schema;
    bool negated;
  };

  void apply(Id formula, bool negated, Alternatives& all);
  void apply_values(const std::vector<uint32_t>& values, Alternatives& all);
  void exclude_values(const std::vector<uint32_t>& values, Alternatives& all);
  void exclude_compound(const nlohmann::json& value, Alternatives& all);
  void apply_schema(Id formula, bool negated, Alternatives& all);
  void apply_keywords(const Context& context, bool unevaluated, Alternatives& all);
  void apply_with_unevaluated(const Context& context, Alternatives& all);
  bool apply_unevaluated(const Context& context, Alternatives& all);
  bool apply_keyword(const Context& context, const std::string& key, Alternatives& all);
  bool apply_type(const Context& context, const std::string& key, Alternatives& all);
  bool apply_number(const Context& context, const std::string& key, Alternatives& all);
  bool apply_string(const Context& context, const std::string& key, Alternatives& all);
  void apply_bound(const Context& context, const std::string& key, uint8_t type, Alternatives& all);
  bool apply_array(const Context& context, const std::string& key, Alternatives& all);
  void apply_items(const Context& context, const std::string& key, uint64_t from, Alternatives& all);
  void apply_prefix(const Context& context, const std::string& key, Alternatives& all);
  void apply_contains(const Context& context, Alternatives& all);
  bool apply_object(const Context& context, const std::string& key, Alternatives& all);
  void apply_property_values(const Context& context, KeySet keys, Id value, Alternatives& all);
  void apply_property_names(const Context& context, Alternatives& all);
  void apply_required(const Context& context, Alternatives& all);
  bool apply_dependencies(const Context& context, const std::string& key, Alternatives& all);
  bool apply_combination(const Context& context, const std::string& key, Alternatives& all);
  void apply_any(const std::vector<Id>& parts, Alternatives& all);
  void apply_one(const Context& context, const std::vector<Id>& parts, Alternatives& all);
  void apply_condition(const Context& context, Alternatives& all);

  /// Each alternative goes on by every way; those that are impossible end.
  using Way = std::function<void(Alternatives&)>;
  void branch(Alternatives& all, const std::vector<Way>& ways);
  void prune(Alternatives& all);
  void prune(SchemaAlternative& one);
  /// True only if no instance is both.
  bool unsatisfiable(Id formula);
  bool impossible(SchemaAlternative& one);

  Id child(const Context& context, const std::string& key) const;
  std::vector<Id> children(const Context& context, const std::string& key) const;
  uint64_t count(const Context& context, const std::string& key) const;
  std::vector<std::string> names(const Context& context, const std::string& key,
                                 const nlohmann::json& list) const;
  Id property(const ObjectPart& object, const std::string& name);
  StringLanguages::Id pattern(const Context& context, const std::string& key, const std::string& regex);
  bool recording() const { return collecting_ > 0 && mute_ == 0; }
  void record(Alternatives& all, const EvaluatedParts& parts) const;

  const SchemaDocument& document_;
  SchemaFormulas& formulas_;
  StringLanguages& languages_;
  std::vector<std::pair<Id, bool>> open_;  // schemas that are being read in one place
  std::map<Id, bool> unsatisfiable_;
  int collecting_ = 0, mute_ = 0, depth_ = 0;
  size_t work_ = 0;
};

}  // namespace llmtool
