// Keywords that speak of objects, and those that combine schemas.

#include <algorithm>

#include "grammar/schema_expander.h"
#include "llmtool/core/error.h"
#include "llmtool/io/json.h"

namespace llmtool {

using nlohmann::json;

bool SchemaExpander::apply_keyword(const Context& context, const std::string& key, Alternatives& all) {
  return apply_type(context, key, all) || apply_number(context, key, all) ||
         apply_string(context, key, all) || apply_array(context, key, all) ||
         apply_object(context, key, all) || apply_dependencies(context, key, all) ||
         apply_combination(context, key, all);
}

bool SchemaExpander::apply_object(const Context& context, const std::string& key, Alternatives& all) {
  const json& schema = context.schema;
  if (key == "properties" || key == "patternProperties") {
    std::vector<Way> ways;
    EvaluatedParts seen;
    for (const auto& [name, part] : schema[key].items()) {
      KeySet keys;
      key == "properties" ? keys.names.push_back(name)
                          : keys.languages.push_back(pattern(context, key, name));
      seen.names.insert(seen.names.end(), keys.names.begin(), keys.names.end());
      seen.languages.insert(seen.languages.end(), keys.languages.begin(), keys.languages.end());
      const Id value = formulas_.schema(document_.of(part), context.scope);
      ways.push_back([this, &context, keys, value](Alternatives& one) {
        apply_property_values(context, keys, value, one);
      });
    }
    if (context.negated) {
      branch(all, ways);
    } else {
      for (const Way& way : ways) way(all);
      record(all, seen);
    }
  } else if (key == "additionalProperties") {
    KeySet rest{.others = true};
    if (schema.contains("properties")) {
      for (const auto& [name, part] : schema["properties"].items()) rest.names.push_back(name);
    }
    if (schema.contains("patternProperties")) {
      for (const auto& [name, part] : schema["patternProperties"].items()) {
        rest.languages.push_back(pattern(context, "patternProperties", name));
      }
    }
    apply_property_values(context, std::move(rest), child(context, key), all);
    record(all, {.all_keys = true});
  } else if (key == "propertyNames") {
    apply_property_names(context, all);
  } else if (key == "required") {
    apply_required(context, all);
  } else if (key == "minProperties" || key == "maxProperties") {
    apply_bound(context, key, kObject, all);
  } else {
    return false;
  }
  return true;
}

void SchemaExpander::apply_property_values(const Context& context, KeySet keys, Id value, Alternatives& all) {
  const bool one_name = !keys.others && keys.names.size() == 1 && keys.languages.empty();
  for (SchemaAlternative& one : all) {
    if (!context.negated) {
      one.object.add_each({keys, value});
      continue;
    }
    one.only(kObject);
    const Id other = formulas_.negation(value);
    if (one_name) {
      one.object.require(keys.names[0]);
      one.object.add_each({keys, other});
    } else if (other == SchemaFormulas::kNothing) {
      one.types = 0;
    } else {
      one.object.some.push_back({keys, other});
    }
  }
}

void SchemaExpander::apply_property_names(const Context& context, Alternatives& all) {
  StringLanguages::Id allowed = StringLanguages::kAny;
  try {
    allowed = strings(child(context, "propertyNames"));
  } catch (const SchemaError&) {
    throw;
  } catch (const Error& error) {
    document_.fail(context.location, "propertyNames", cat("cannot be enforced: ", error.what()));
  }
  if (allowed == StringLanguages::kAny) {
    if (context.negated) all.clear();
    return;
  }
  const KeySet forbidden{.languages = {allowed}, .others = true};
  for (SchemaAlternative& one : all) {
    if (context.negated) {
      one.only(kObject);
      one.object.some.push_back({forbidden, SchemaFormulas::kAnything});
    } else {
      one.object.add_each({forbidden, SchemaFormulas::kNothing});
    }
  }
}

void SchemaExpander::apply_required(const Context& context, Alternatives& all) {
  std::vector<Way> ways;
  for (const std::string& name : names(context, "required", context.schema["required"])) {
    ways.push_back([&context, name](Alternatives& list) {
      for (SchemaAlternative& one : list) {
        if (!context.negated) {
          one.object.require(name);
          continue;
        }
        one.only(kObject);
        one.object.add_each({{.names = {name}}, SchemaFormulas::kNothing});
      }
    });
  }
  if (context.negated) return branch(all, ways);
  for (const Way& way : ways) way(all);
}

bool SchemaExpander::apply_dependencies(const Context& context, const std::string& key, Alternatives& all) {
  if (key != "dependentRequired" && key != "dependentSchemas" && key != "dependencies") return false;
  const json& dependencies = context.schema[key];
  if (!dependencies.is_object()) {
    document_.fail(context.location, key, cat("expected an object, found ", shown(dependencies)));
  }
  std::vector<Way> failures;
  for (const auto& [name, dependent] : dependencies.items()) {
    const bool list = key == "dependentRequired" || dependent.is_array();
    const auto others = list ? names(context, key, dependent) : std::vector<std::string>{};
    const Id value =
        list ? Id{SchemaFormulas::kAnything} : formulas_.schema(document_.of(dependent), context.scope);
    const Way present = [this, name = name, others, value, list, &context](Alternatives& all) {
      for (SchemaAlternative& one : all) {
        one.only(kObject);
        one.object.require(name);
        if (context.negated) continue;
        for (const std::string& other : others) one.object.require(other);
      }
      if (!list) return apply(value, context.negated, all);
      if (!context.negated) return;
      std::vector<Way> missing;
      for (const std::string& other : others) {
        missing.push_back([other](Alternatives& some) {
          for (SchemaAlternative& one : some) {
            one.object.add_each({{.names = {other}}, SchemaFormulas::kNothing});
          }
        });
      }
      branch(all, missing);
    };
    failures.push_back(present);
    if (context.negated) continue;
    branch(all, {[name = name](Alternatives& list) {
                   for (SchemaAlternative& one : list) {
                     one.object.add_each({{.names = {name}}, SchemaFormulas::kNothing});
                   }
                 },
                 present});
  }
  if (context.negated) branch(all, failures);
  return true;
}

bool SchemaExpander::apply_combination(const Context& context, const std::string& key, Alternatives& all) {
  if (key == "$ref" || key == "$dynamicRef") {
    apply(formulas_.reference(context.location, context.scope, key.c_str()), context.negated, all);
  } else if (key == "not") {
    ++mute_;
    apply(child(context, key), !context.negated, all);
    --mute_;
  } else if (key == "allOf") {
    std::vector<Way> ways;
    for (const Id part : children(context, key)) {
      ways.push_back([this, part, &context](Alternatives& one) { apply(part, context.negated, one); });
    }
    if (context.negated) branch(all, ways);
    if (context.negated) return true;
    for (const Way& way : ways) way(all);
  } else if (key == "anyOf") {
    const std::vector<Id> parts = children(context, key);
    if (!context.negated) {
      apply_any(parts, all);
    } else {
      for (const Id part : parts) apply(part, true, all);
    }
  } else if (key == "oneOf") {
    apply_one(context, children(context, key), all);
  } else if (key == "if") {
    apply_condition(context, all);
  } else {
    return false;
  }
  return true;
}

/// Where it matters what each part has looked at, which of them hold is decided one by one.
void SchemaExpander::apply_any(const std::vector<Id>& parts, Alternatives& all) {
  std::vector<Way> ways;
  for (size_t i = 0; i < parts.size(); ++i) {
    ways.push_back([this, &parts, i](Alternatives& one) {
      apply(parts[i], false, one);
      if (!recording()) return;
      for (size_t j = 0; j < i; ++j) apply(parts[j], true, one);
      for (size_t j = i + 1; j < parts.size(); ++j) {
        branch(one, {[&](Alternatives& list) { apply(parts[j], false, list); },
                     [&](Alternatives& list) { apply(parts[j], true, list); }});
      }
    });
  }
  branch(all, ways);
}

void SchemaExpander::apply_one(const Context& context, const std::vector<Id>& parts, Alternatives& all) {
  const auto apart = [&](size_t i, size_t j) { return unsatisfiable(formulas_.all({parts[i], parts[j]})); };
  std::vector<Way> ways;
  if (context.negated) {
    ways.push_back([&](Alternatives& none) {
      for (const Id part : parts) apply(part, true, none);
    });
    for (size_t i = 0; i < parts.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        if (apart(i, j)) continue;
        ways.push_back([this, &parts, i, j](Alternatives& two) {
          apply(parts[i], false, two);
          apply(parts[j], false, two);
        });
      }
    }
  }
  for (size_t i = 0; i < parts.size() && !context.negated; ++i) {
    ways.push_back([this, &parts, i, apart](Alternatives& one) {
      apply(parts[i], false, one);
      for (size_t j = 0; j < parts.size(); ++j) {
        if (j != i && !apart(i, j)) apply(parts[j], true, one);
      }
    });
  }
  branch(all, ways);
}

void SchemaExpander::apply_condition(const Context& context, Alternatives& all) {
  const auto part = [&](const char* key) {
    return context.schema.contains(key) ? child(context, key) : Id{SchemaFormulas::kAnything};
  };
  const Id condition = child(context, "if"), then = part("then"), otherwise = part("else");
  const bool plain = then == SchemaFormulas::kAnything && otherwise == SchemaFormulas::kAnything;
  if (plain && !context.negated && !recording()) return;
  branch(all, {[&](Alternatives& one) {
                 apply(condition, false, one);
                 apply(then, context.negated, one);
               },
               [&](Alternatives& one) {
                 apply(condition, true, one);
                 apply(otherwise, context.negated, one);
               }});
}

}  // namespace llmtool
