// Keywords that speak of types, values, numbers, strings and arrays.

#include <algorithm>

#include "grammar/schema_expander.h"
#include "llmtool/core/error.h"
#include "llmtool/io/json.h"

namespace llmtool {

using nlohmann::json;

namespace {

uint8_t type_of(const json& value) {
  if (value.is_boolean()) return value.get<bool>() ? kTrue : kFalse;
  return value.is_null()     ? kNull
         : value.is_number() ? kNumber
         : value.is_string() ? kString
         : value.is_array()  ? kArray
                             : kObject;
}

uint8_t type_named(const std::string& name) {
  return name == "null"                          ? kNull
         : name == "boolean"                     ? kTrue | kFalse
         : name == "number" || name == "integer" ? kNumber
         : name == "string"                      ? kString
         : name == "array"                       ? kArray
         : name == "object"                      ? kObject
                                                 : 0;
}

struct SimpleValues {
  uint8_t types = 0;
  std::vector<Decimal> numbers;
  std::vector<std::string> strings;
  void add(const json& value) {
    types |= type_of(value);
    if (value.is_number()) numbers.push_back(Decimal::of(value));
    if (value.is_string()) strings.push_back(value);
  }
};

}  // namespace

void SchemaExpander::apply_values(const std::vector<uint32_t>& values, Alternatives& all) {
  SimpleValues simple;
  std::vector<Way> ways;
  for (const uint32_t id : values) {
    const json& value = formulas_.value(id);
    if (!value.is_structured()) {
      simple.add(value);
      continue;
    }
    ways.push_back([this, &value](Alternatives& list) {
      for (SchemaAlternative& one : list) {
        one.only(type_of(value));
        for (const auto& [key, part] : value.items()) {
          const Id exactly = formulas_.values({&part});
          if (value.is_object()) {
            one.object.require(key);
            one.object.add_each({{.names = {key}}, exactly});
            continue;
          }
          const size_t index = std::stoul(key);
          while (one.array.prefix.size() <= index) one.array.prefix.push_back(one.array.rest);
          one.array.prefix[index] = formulas_.all({one.array.prefix[index], exactly});
        }
        uint64_t& min = value.is_array() ? one.array.min : one.object.min;
        uint64_t& max = value.is_array() ? one.array.max : one.object.max;
        min = std::max<uint64_t>(min, value.size());
        max = std::min<uint64_t>(max, value.size());
      }
    });
  }
  if (simple.types) {
    ways.push_back([this, &simple](Alternatives& list) {
      const auto strings = simple.strings.empty() ? StringLanguages::kAny : languages_.texts(simple.strings);
      for (SchemaAlternative& one : list) {
        one.only(simple.types);
        if (!simple.numbers.empty()) one.number.allow_only(simple.numbers);
        if (!simple.strings.empty()) one.string.add(strings, false);
      }
    });
  }
  branch(all, ways);
}

void SchemaExpander::exclude_values(const std::vector<uint32_t>& values, Alternatives& all) {
  SimpleValues simple;
  for (const uint32_t id : values) {
    const json& value = formulas_.value(id);
    value.is_structured() ? exclude_compound(value, all) : simple.add(value);
  }
  const auto strings = simple.strings.empty() ? StringLanguages::kAny : languages_.texts(simple.strings);
  for (SchemaAlternative& one : all) {
    one.types &= ~(simple.types & (kNull | kTrue | kFalse));
    if (!simple.numbers.empty()) one.number.exclude(simple.numbers);
    if (!simple.strings.empty()) one.string.add(strings, true);
  }
}

/// Another type, another size, or another value in one place.
void SchemaExpander::exclude_compound(const json& value, Alternatives& all) {
  const uint8_t type = type_of(value);
  const bool array = value.is_array();
  const auto sized = [&](bool larger) {
    return [=, size = uint64_t(value.size())](Alternatives& list) {
      for (SchemaAlternative& one : list) {
        one.only(type);
        uint64_t& min = array ? one.array.min : one.object.min;
        uint64_t& max = array ? one.array.max : one.object.max;
        larger ? void(min = std::max(min, size + 1)) : void(max = std::min(max, size - 1));
      }
    };
  };
  std::vector<Way> ways = {[type](Alternatives& list) {
    for (SchemaAlternative& one : list) one.only(uint8_t(kAllTypes & ~type));
  }};
  ways.push_back(sized(true));
  if (array && !value.empty()) ways.push_back(sized(false));
  for (const auto& [key, part] : value.items()) {
    const Id other = formulas_.negation(formulas_.values({&part}));
    ways.push_back([=, this, key = key](Alternatives& list) {
      for (SchemaAlternative& one : list) {
        one.only(type);
        if (array) {
          const uint64_t index = std::stoul(key);
          one.array.contains.push_back({.from = index, .to = index + 1, .value = other});
        } else {
          one.object.require(key);
          one.object.add_each({{.names = {key}}, other});
        }
      }
    });
    if (array) continue;
    ways.push_back([=, key = key](Alternatives& list) {
      for (SchemaAlternative& one : list) {
        one.only(type);
        one.object.add_each({{.names = {key}}, SchemaFormulas::kNothing});
      }
    });
  }
  branch(all, ways);
}

bool SchemaExpander::apply_type(const Context& context, const std::string& key, Alternatives& all) {
  const json& value = context.schema[key];
  if (key == "const") {
    apply(formulas_.values({&value}), context.negated, all);
    return true;
  }
  if (key == "enum") {
    if (!value.is_array())
      document_.fail(context.location, key, cat("expected a list, found ", shown(value)));
    std::vector<const json*> list;
    for (const json& one : value) list.push_back(&one);
    apply(formulas_.values(list), context.negated, all);
    return true;
  }
  if (key != "type") return false;
  uint8_t types = 0;
  bool integer = false, number = false;
  if (value.is_array() && value.empty())
    document_.fail(context.location, key, "expected a type or a list of them, found []");
  for (const std::string& name : names(context, key, value.is_string() ? json::array({value}) : value)) {
    if (type_named(name) == 0) {
      document_.fail(
          context.location, key,
          cat("expected null, boolean, number, integer, string, array or object, found ", shown(name)));
    }
    types |= type_named(name);
    integer |= name == "integer";
    number |= name == "number";
  }
  integer &= !number;
  for (SchemaAlternative& one : all) {
    one.only(!context.negated ? types : uint8_t(~types | (integer ? kNumber : 0)));
    if (!integer) continue;
    context.negated ? one.number.not_multiple_of(Decimal("1")) : one.number.multiple_of(Decimal("1"));
  }
  return true;
}

bool SchemaExpander::apply_number(const Context& context, const std::string& key, Alternatives& all) {
  const bool lower = key == "minimum" || key == "exclusiveMinimum";
  const bool upper = key == "maximum" || key == "exclusiveMaximum";
  if (!lower && !upper && key != "multipleOf") return false;
  const json& value = context.schema[key];
  if (!value.is_number())
    document_.fail(context.location, key, cat("expected a number, found ", shown(value)));
  const Decimal limit = Decimal::of(value);
  const bool exclusive = key.starts_with("exclusive");
  for (SchemaAlternative& one : all) {
    if (context.negated) one.only(kNumber);
    if (lower || upper) {
      lower != context.negated ? one.number.at_least(limit, exclusive != context.negated)
                               : one.number.at_most(limit, exclusive != context.negated);
      continue;
    }
    if (limit <= Decimal())
      document_.fail(context.location, key, cat("expected more than 0, found ", shown(value)));
    if (!(context.negated ? one.number.not_multiple_of(limit) : one.number.multiple_of(limit))) {
      document_.fail(
          context.location, key,
          "cannot be enforced: it, or its least common multiple with others, has more than 18 digits");
    }
  }
  return true;
}

bool SchemaExpander::apply_string(const Context& context, const std::string& key, Alternatives& all) {
  if (key != "minLength" && key != "maxLength" && key != "pattern") return false;
  if (key == "pattern") {
    const json& value = context.schema[key];
    if (!value.is_string())
      document_.fail(context.location, key, cat("expected a string, found ", shown(value)));
    const StringLanguages::Id language = pattern(context, key, value);
    for (SchemaAlternative& one : all) {
      if (context.negated) one.only(kString);
      one.string.add(language, context.negated);
    }
    return true;
  }
  const uint64_t limit = count(context, key);
  const bool lower = (key == "minLength") != context.negated;
  for (SchemaAlternative& one : all) {
    StringPart& string = one.string;
    if (context.negated) one.only(limit == 0 && !lower ? 0 : kString);
    if (lower) string.min = std::max(string.min, limit + context.negated);
    if (!lower) string.max = std::min(string.max, limit - context.negated);
  }
  return true;
}

/// minItems, maxProperties, ...: of how many parts a value of that type has.
void SchemaExpander::apply_bound(const Context& context, const std::string& key, uint8_t type,
                                 Alternatives& all) {
  const uint64_t limit = count(context, key);
  const bool lower = key.starts_with("min") != context.negated;
  for (SchemaAlternative& one : all) {
    if (context.negated) one.only(limit == 0 && !lower ? 0 : type);
    uint64_t& min = type == kObject ? one.object.min : one.array.min;
    uint64_t& max = type == kObject ? one.object.max : one.array.max;
    if (lower) min = std::max(min, limit + context.negated);
    if (!lower) max = std::min(max, limit - context.negated);
  }
}

bool SchemaExpander::apply_array(const Context& context, const std::string& key, Alternatives& all) {
  const json& value = context.schema[key];
  if (key == "prefixItems" || (key == "items" && value.is_array())) {
    apply_prefix(context, key, all);
  } else if (key == "items") {
    const bool behind = !document_.draft7(context.location) && context.schema.contains("prefixItems");
    apply_items(context, key, behind ? context.schema["prefixItems"].size() : 0, all);
  } else if (key == "additionalItems") {
    const bool list = context.schema.contains("items") && context.schema["items"].is_array();
    if (!list) return false;
    apply_items(context, key, context.schema["items"].size(), all);
  } else if (key == "contains") {
    apply_contains(context, all);
  } else if (key == "minItems" || key == "maxItems") {
    apply_bound(context, key, kArray, all);
  } else if (key == "uniqueItems") {
    if (!value.is_boolean())
      document_.fail(context.location, key, cat("expected true or false, found ", shown(value)));
    if (!value.get<bool>()) return false;
    if (context.negated) document_.fail(context.location, key, "cannot be enforced where it must not hold");
    for (SchemaAlternative& one : all) {
      one.array.unique = true;
      one.array.unique_at = context.location;
    }
  } else {
    return false;
  }
  return true;
}

void SchemaExpander::apply_items(const Context& context, const std::string& key, uint64_t from,
                                 Alternatives& all) {
  const Id value = child(context, key);
  for (SchemaAlternative& one : all) {
    ArrayPart& array = one.array;
    if (context.negated) {
      one.only(kArray);
      array.contains.push_back({.from = from, .value = formulas_.negation(value)});
      continue;
    }
    while (array.prefix.size() < from) array.prefix.push_back(array.rest);
    for (size_t i = from; i < array.prefix.size(); ++i)
      array.prefix[i] = formulas_.all({array.prefix[i], value});
    array.rest = formulas_.all({array.rest, value});
  }
  record(all, {.all_items = true});
}

void SchemaExpander::apply_prefix(const Context& context, const std::string& key, Alternatives& all) {
  const std::vector<Id> values = children(context, key);
  if (context.negated) {
    std::vector<Way> ways;
    for (size_t i = 0; i < values.size(); ++i) {
      ways.push_back([this, i, other = formulas_.negation(values[i])](Alternatives& list) {
        for (SchemaAlternative& one : list) {
          one.only(kArray);
          one.array.contains.push_back({.from = i, .to = i + 1, .value = other});
        }
      });
    }
    branch(all, ways);
    return;
  }
  for (SchemaAlternative& one : all) {
    ArrayPart& array = one.array;
    while (array.prefix.size() < values.size()) array.prefix.push_back(array.rest);
    for (size_t i = 0; i < values.size(); ++i) array.prefix[i] = formulas_.all({array.prefix[i], values[i]});
  }
  record(all, {.prefix = values.size()});
}

void SchemaExpander::apply_contains(const Context& context, Alternatives& all) {
  const Id value = child(context, "contains");
  const bool old = document_.draft7(context.location);
  const auto bound = [&](const char* key, uint64_t otherwise) {
    return !old && context.schema.contains(key) ? count(context, key) : otherwise;
  };
  const uint64_t min = bound("minContains", 1), max = bound("maxContains", kNoLimit);
  if (!context.negated) {
    for (SchemaAlternative& one : all) {
      if (min > max) one.only(uint8_t(kAllTypes & ~kArray));
      if (min > 0 || max != kNoLimit) one.array.contains.push_back({.value = value, .min = min, .max = max});
    }
    if (!old) record(all, {.items = {value}});
    return;
  }
  std::vector<Way> ways;
  const auto way = [&](uint64_t least, uint64_t most) {
    ways.push_back([=](Alternatives& list) {
      for (SchemaAlternative& one : list) {
        one.only(kArray);
        one.array.contains.push_back({.value = value, .min = least, .max = most});
      }
    });
  };
  if (min > 0) way(0, min - 1);
  if (max != kNoLimit) way(max + 1, kNoLimit);
  branch(all, ways);
}

}  // namespace llmtool
