#include "grammar/schema_formulas.h"

#include <algorithm>

#include "grammar/decimal.h"
#include "grammar/schema_keywords.h"
#include "llmtool/core/error.h"

namespace llmtool {

using nlohmann::json;

namespace {

constexpr int kMaxReferences = 64;

bool is_note(const std::string& key) {
  static const char* const kNotes[] = {"$schema",
                                       "$id",
                                       "$anchor",
                                       "$dynamicAnchor",
                                       "$defs",
                                       "definitions",
                                       "$comment",
                                       "title",
                                       "description",
                                       "default",
                                       "examples",
                                       "deprecated",
                                       "readOnly",
                                       "writeOnly",
                                       "format",
                                       "contentEncoding",
                                       "contentMediaType",
                                       "contentSchema"};
  return key.starts_with("x-") ||
         std::any_of(std::begin(kNotes), std::end(kNotes), [&](const char* note) { return key == note; });
}

}  // namespace

std::string canonical_text(const json& value) {
  if (value.is_number()) return Decimal::of(value).text();
  if (!value.is_structured()) return value.dump();
  std::string text(1, value.is_array() ? '[' : '{');
  for (const auto& [key, part] : value.items()) {
    if (text.size() > 1) text += ',';
    if (value.is_object()) text += json(key).dump() + ':';
    text += canonical_text(part);
  }
  return text += value.is_array() ? ']' : '}';
}

bool has_type(const json& value, const std::string& type) {
  if (type == "integer") return value.is_number() && Decimal::of(value).integer();
  return value.is_number()    ? type == "number"
         : value.is_string()  ? type == "string"
         : value.is_boolean() ? type == "boolean"
         : value.is_null()    ? type == "null"
         : value.is_array()   ? type == "array"
                              : type == "object";
}

SchemaFormulas::SchemaFormulas(SchemaDocument& document) : document_(document) {
  intern({Kind::nothing});
  intern({Kind::anything});
  scopes_.emplace_back();
  scope_ids_[{}] = 0;
}

SchemaFormulas::Id SchemaFormulas::intern(Formula formula) {
  const auto [place, fresh] = ids_.try_emplace(std::move(formula), Id(formulas_.size()));
  if (fresh) formulas_.push_back(place->first);
  return place->second;
}

uint32_t SchemaFormulas::enter(uint32_t scope, Location location) {
  const auto& anchors = document_.dynamic_anchors(location);
  if (anchors.empty()) return scope;
  Scope inner = scopes_[scope];
  inner.insert(anchors.begin(), anchors.end());  // the outermost stays
  const auto [place, fresh] = scope_ids_.try_emplace(inner, uint32_t(scopes_.size()));
  if (fresh) scopes_.push_back(inner);
  return place->second;
}

bool SchemaFormulas::list_of_values(Location location, std::vector<const json*>& values) const {
  const json& schema = document_.schema(location);
  const bool one = schema.contains("const");
  if (one == schema.contains("enum")) return false;
  for (const auto& [key, value] : schema.items()) {
    if (key != "const" && key != "enum" && key != "type" && !is_note(key)) return false;
  }
  if (!one && !schema["enum"].is_array()) return false;  // said where it is read
  if (one) values.push_back(&schema["const"]);
  if (!one) {
    for (const json& value : schema["enum"]) values.push_back(&value);
  }
  if (schema.contains("type")) {
    if (!schema["type"].is_string()) return false;
    const std::string type = schema["type"];
    std::erase_if(values, [&](const json* value) { return !has_type(*value, type); });
  }
  return true;
}

SchemaFormulas::Id SchemaFormulas::schema(Location location, uint32_t scope) {
  const json& schema = document_.schema(location);
  if (schema.is_boolean()) return schema.get<bool>() ? kAnything : kNothing;
  scope = enter(scope, location);
  const bool alone = document_.draft7(location) && schema.contains("$ref");
  bool empty = true, reference_only = schema.contains("$ref");
  for (const auto& [key, value] : schema.items()) {
    empty &= is_note(key);
    reference_only &= alone || key == "$ref" || is_note(key);
  }
  if (reference_only) return reference(location, scope, "$ref");
  if (empty) return kAnything;
  if (std::vector<const json*> list; list_of_values(location, list)) return values(list);
  return intern({.kind = Kind::schema, .location = location, .scope = scope});
}

SchemaFormulas::Id SchemaFormulas::reference(Location location, uint32_t scope, const char* keyword) {
  Location target = document_.resolve(location, keyword);
  if (keyword == std::string("$dynamicRef")) {
    const std::string name = document_.dynamic_name(target, document_.schema(location)[keyword]);
    const auto found = scopes_[scope].find(name);
    if (!name.empty() && found != scopes_[scope].end()) target = found->second;
  }
  if (++depth_ > kMaxReferences) {
    document_.fail(location, keyword, "the reference leads back to itself, or through more than 64 others");
  }
  const Id id = schema(target, scope);
  --depth_;
  return id;
}

SchemaFormulas::Id SchemaFormulas::values(const std::vector<const json*>& values) {
  std::vector<uint32_t> ids;
  for (const json* value : values) {
    const auto [place, fresh] = value_ids_.try_emplace(canonical_text(*value), uint32_t(values_.size()));
    if (fresh) values_.push_back(*value);
    ids.push_back(place->second);
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  if (ids.empty()) return kNothing;
  return intern({.kind = Kind::values, .parts = std::move(ids)});
}

SchemaFormulas::Id SchemaFormulas::negation(Id formula) {
  if (formula == kNothing) return kAnything;
  if (formula == kAnything) return kNothing;
  if (formulas_[formula].kind == Kind::negation) return formulas_[formula].parts[0];
  return intern({.kind = Kind::negation, .parts = {formula}});
}

/// Of lists of values that must all hold, and those that must not, the values that are left.
void SchemaFormulas::keep_common_values(std::vector<Id>& formulas) {
  std::vector<uint32_t> common;
  bool any = false;
  for (const Id id : formulas) {
    if (formulas_[id].kind != Kind::values) continue;
    const auto& other = formulas_[id].parts;
    if (!any) common = other;
    any = true;
    std::erase_if(common, [&](uint32_t v) { return !std::binary_search(other.begin(), other.end(), v); });
  }
  if (!any) return;
  const auto excluded = [&](Id id) -> const std::vector<uint32_t>* {
    if (formulas_[id].kind != Kind::negation) return nullptr;
    const Formula& inner = formulas_[formulas_[id].parts[0]];
    return inner.kind == Kind::values ? &inner.parts : nullptr;
  };
  std::vector<Id> rest;
  for (const Id id : formulas) {
    if (const auto* out = excluded(id)) {
      std::erase_if(common, [&](uint32_t v) { return std::binary_search(out->begin(), out->end(), v); });
    } else if (formulas_[id].kind != Kind::values) {
      rest.push_back(id);
    }
  }
  rest.push_back(common.empty() ? Id{kNothing} : intern({.kind = Kind::values, .parts = common}));
  formulas = std::move(rest);
}

SchemaFormulas::Id SchemaFormulas::all(std::vector<Id> formulas) {
  std::vector<Id> flat;
  for (const Id id : formulas) {
    if (formulas_[id].kind == Kind::all) {
      flat.insert(flat.end(), formulas_[id].parts.begin(), formulas_[id].parts.end());
    } else if (id != kAnything) {
      flat.push_back(id);
    }
  }
  keep_common_values(flat);
  std::sort(flat.begin(), flat.end());
  flat.erase(std::unique(flat.begin(), flat.end()), flat.end());
  for (const Id id : flat) {
    const Formula& formula = formulas_[id];
    const bool clash =
        formula.kind == Kind::negation && std::binary_search(flat.begin(), flat.end(), formula.parts[0]);
    if (id == kNothing || clash) return kNothing;
  }
  if (flat.empty()) return kAnything;
  if (flat.size() == 1) return flat[0];
  return intern({.kind = Kind::all, .parts = std::move(flat)});
}

SchemaFormulas::Id SchemaFormulas::any(std::vector<Id> formulas) {
  std::sort(formulas.begin(), formulas.end());
  formulas.erase(std::unique(formulas.begin(), formulas.end()), formulas.end());
  std::erase(formulas, Id{kNothing});
  if (std::find(formulas.begin(), formulas.end(), Id{kAnything}) != formulas.end()) return kAnything;
  if (formulas.empty()) return kNothing;
  if (formulas.size() == 1) return formulas[0];
  return intern({.kind = Kind::any, .parts = std::move(formulas)});
}

}  // namespace llmtool
