#include "grammar/schema_expander.h"

#include <algorithm>

#include "grammar/schema_keywords.h"
#include "llmtool/core/error.h"
#include "llmtool/io/json.h"

namespace llmtool {

using nlohmann::json;

namespace {

constexpr size_t kMaxWork = 100'000;  // alternatives made
constexpr size_t kMaxAlternatives = 4096;
constexpr int kMaxProbeDepth = 12;

template <class T>
class Restored {
 public:
  Restored(T& value, T meanwhile) : value_(value), before_(std::move(value)) {
    value_ = std::move(meanwhile);
  }
  ~Restored() { value_ = std::move(before_); }

 private:
  T& value_;
  T before_;
};

}  // namespace

SchemaExpander::SchemaExpander(const SchemaDocument& document, SchemaFormulas& formulas,
                               StringLanguages& languages)
    : document_(document), formulas_(formulas), languages_(languages) {}

SchemaExpander::Alternatives SchemaExpander::expand(Id formula) {
  Alternatives all(1);
  apply(formula, false, all);
  prune(all);
  return all;
}

StringLanguages::Id SchemaExpander::strings(Id formula) {
  StringLanguages::Id result = languages_.texts({});
  for (SchemaAlternative& one : expand(formula)) {
    if (!(one.types & kString)) continue;
    result = languages_.unite(result, languages_.of(one.string, true, ""), "");
  }
  return result;
}

void SchemaExpander::apply(Id formula, bool negated, Alternatives& all) {
  using Kind = SchemaFormulas::Kind;
  const SchemaFormulas::Formula& f = formulas_[formula];
  if (f.kind == Kind::nothing || f.kind == Kind::anything) {
    if ((f.kind == Kind::nothing) != negated) all.clear();
  } else if (f.kind == Kind::values) {
    negated ? exclude_values(f.parts, all) : apply_values(f.parts, all);
  } else if (f.kind == Kind::negation) {
    ++mute_;
    apply(f.parts[0], !negated, all);
    --mute_;
  } else if (f.kind == Kind::schema) {
    apply_schema(formula, negated, all);
  } else if ((f.kind == Kind::all) != negated) {
    for (const Id part : f.parts) apply(part, negated, all);
  } else {
    std::vector<Way> ways;
    for (const Id part : f.parts) {
      ways.push_back([this, part, negated](Alternatives& one) { apply(part, negated, one); });
    }
    branch(all, ways);
  }
}

void SchemaExpander::apply_schema(Id formula, bool negated, Alternatives& all) {
  const Location location = formulas_[formula].location;
  const std::pair<Id, bool> key{formula, negated};
  if (std::find(open_.begin(), open_.end(), key) != open_.end()) {
    document_.fail(location, "", "the schema refers to itself for the same value, without end");
  }
  open_.push_back(key);
  const Context context{location, formulas_[formula].scope, document_.schema(location), negated};
  mute_ += negated;
  const bool watches =
      context.schema.contains("unevaluatedProperties") || context.schema.contains("unevaluatedItems");
  if (watches && !document_.draft7(location)) {
    apply_with_unevaluated(context, all);
  } else {
    apply_keywords(context, false, all);
  }
  mute_ -= negated;
  open_.pop_back();
}

void SchemaExpander::apply_keywords(const Context& context, bool unevaluated, Alternatives& all) {
  const bool alone = document_.draft7(context.location) && context.schema.contains("$ref");
  std::vector<Way> ways;
  for (const auto& [key, value] : context.schema.items()) {
    if (alone && key != "$ref") continue;
    if (key == "unevaluatedProperties" || key == "unevaluatedItems") continue;
    if (!context.negated) {
      apply_keyword(context, key, all);
      continue;
    }
    // Something of it must fail.
    ways.push_back([this, &context, key = key](Alternatives& one) {
      if (!apply_keyword(context, key, one)) one.clear();
    });
  }
  if (context.negated && unevaluated) {
    ways.push_back([this, &context](Alternatives& one) {
      if (!apply_unevaluated(context, one)) one.clear();
    });
  }
  if (context.negated) branch(all, ways);
}

/// Keywords beside or below note what they looked at before what is left is judged.
void SchemaExpander::apply_with_unevaluated(const Context& context, Alternatives& all) {
  if (context.negated) {
    apply_keywords(context, true, all);
    return;
  }
  const bool watched = recording();
  const Restored<int> loud(mute_, 0);
  for (SchemaAlternative& one : all) one.evaluated.emplace_back();
  ++collecting_;
  apply_keywords(context, false, all);
  apply_unevaluated(context, all);
  --collecting_;
  for (SchemaAlternative& one : all) {
    EvaluatedParts seen = std::move(one.evaluated.back());
    one.evaluated.pop_back();
    if (context.schema.contains("unevaluatedProperties")) seen.all_keys = true;
    if (context.schema.contains("unevaluatedItems")) seen.all_items = true;
    if (watched) one.evaluated.back().add(seen);
  }
}

bool SchemaExpander::apply_unevaluated(const Context& context, Alternatives& all) {
  if (context.negated) {  // the other keywords hold, and what they leave does not
    Context positive{context.location, context.scope, context.schema, false};
    const Restored<int> loud(mute_, 0);
    for (SchemaAlternative& one : all) one.evaluated.emplace_back();
    ++collecting_;
    apply_keywords(positive, false, all);
    --collecting_;
  }
  std::vector<Way> ways;
  const auto each = [&](const char* key, const auto& constrain) {
    if (!context.schema.contains(key)) return;
    const Id value = child(context, key);
    ways.push_back([=](Alternatives& list) {
      for (SchemaAlternative& one : list) constrain(one, value);
    });
  };
  each("unevaluatedProperties", [&, negated = context.negated, this](SchemaAlternative& one, Id value) {
    const EvaluatedParts& seen = one.evaluated.back();
    if (seen.all_keys) {
      if (negated) one.types = 0;
      return;
    }
    KeySet rest{seen.names, seen.languages, true};
    if (!negated) return one.object.add_each({std::move(rest), value});
    one.only(kObject);
    one.object.some.push_back({std::move(rest), formulas_.negation(value)});
  });
  each("unevaluatedItems", [&, negated = context.negated, this](SchemaAlternative& one, Id value) {
    const EvaluatedParts& seen = one.evaluated.back();
    if (seen.all_items) {
      if (negated) one.types = 0;
      return;
    }
    std::vector<Id> either = seen.items;
    either.push_back(value);
    const Id wanted = formulas_.any(either);
    if (!negated) {
      ArrayPart& array = one.array;
      while (array.prefix.size() < seen.prefix) array.prefix.push_back(array.rest);
      for (size_t i = seen.prefix; i < array.prefix.size(); ++i) {
        array.prefix[i] = formulas_.all({array.prefix[i], wanted});
      }
      array.rest = formulas_.all({array.rest, wanted});
      return;
    }
    one.only(kArray);
    one.array.contains.push_back({.from = seen.prefix, .value = formulas_.negation(wanted)});
  });
  if (context.negated) {
    branch(all, ways);
    for (SchemaAlternative& one : all) one.evaluated.pop_back();
  } else {
    for (const Way& way : ways) way(all);
  }
  return true;
}

void SchemaExpander::record(Alternatives& all, const EvaluatedParts& parts) const {
  if (!recording()) return;
  for (SchemaAlternative& one : all) one.evaluated.back().add(parts);
}

void SchemaExpander::branch(Alternatives& all, const std::vector<Way>& ways) {
  Alternatives result;
  for (size_t i = 0; i < ways.size(); ++i) {
    Alternatives one = i + 1 < ways.size() ? all : std::move(all);
    ways[i](one);
    prune(one);
    work_ += one.size() + 1;
    result.insert(result.end(), std::make_move_iterator(one.begin()), std::make_move_iterator(one.end()));
  }
  all = std::move(result);
  if (all.size() <= kMaxAlternatives && work_ <= kMaxWork) return;
  const Location location = open_.empty() ? SchemaDocument::kRoot : formulas_[open_.back().first].location;
  document_.fail(
      location, "",
      "its anyOf, oneOf, not, if and dependencies give too many combinations; name the cases apart "
      "by a required property with a const");
}

void SchemaExpander::prune(Alternatives& all) {
  for (SchemaAlternative& one : all) prune(one);
  std::erase_if(all, [](const SchemaAlternative& one) { return one.types == 0; });
}

void SchemaExpander::prune(SchemaAlternative& one) {
  if ((one.types & kNumber) && one.number.empty()) one.types &= ~kNumber;
  if (one.types & kString) {
    const bool judged = one.string.in.size() + one.string.not_in.size() > 1;
    if (one.string.min > one.string.max ||
        (judged && languages_.dfa(languages_.of(one.string, false, "")).empty())) {
      one.types &= ~kString;
    }
  }
  if (one.types & kArray) {
    const ArrayPart& array = one.array;
    bool possible = array.min <= array.max;
    for (uint64_t i = 0; i < array.min && i <= array.prefix.size(); ++i) {
      possible &= array.at(i) != SchemaFormulas::kNothing;
    }
    if (!possible) one.types &= ~kArray;
  }
  if (one.types & kObject) {
    const ObjectPart& object = one.object;
    bool possible = std::max<uint64_t>(object.min, object.required.size()) <= object.max;
    for (size_t i = 0; possible && i < object.required.size(); ++i) {
      possible = property(object, object.required[i]) != SchemaFormulas::kNothing;
    }
    if (!possible) one.types &= ~kObject;
  }
}

SchemaExpander::Id SchemaExpander::property(const ObjectPart& object, const std::string& name) {
  std::vector<Id> all;
  for (const PropertyPart& part : object.each) {
    if (part.keys.contains(name, languages_)) all.push_back(part.value);
  }
  return formulas_.all(std::move(all));
}

bool SchemaExpander::unsatisfiable(Id formula) {
  if (formula == SchemaFormulas::kNothing) return true;
  if (formula == SchemaFormulas::kAnything || depth_ > kMaxProbeDepth) return false;
  const auto [known, fresh] = unsatisfiable_.try_emplace(formula, false);  // meanwhile: not known to be
  if (!fresh) return known->second;
  const Restored<std::vector<std::pair<Id, bool>>> open(open_, {});
  const Restored<int> collecting(collecting_, 0), mute(mute_, 0), depth(depth_, depth_ + 1);
  bool result = false;
  try {
    Alternatives all = expand(formula);
    result = std::all_of(all.begin(), all.end(), [&](SchemaAlternative& one) { return impossible(one); });
  } catch (const Error&) {  // to be said where it matters
  }
  return unsatisfiable_[formula] = result;
}

bool SchemaExpander::impossible(SchemaAlternative& one) {
  if (one.types & kArray) {
    for (uint64_t i = 0; i < one.array.min && i <= one.array.prefix.size(); ++i) {
      if (unsatisfiable(one.array.at(i))) one.types &= ~kArray;
    }
  }
  if (one.types & kObject) {
    for (const std::string& name : one.object.required) {
      if (unsatisfiable(property(one.object, name))) one.types &= ~kObject;
    }
  }
  return one.types == 0;
}

SchemaExpander::Id SchemaExpander::child(const Context& context, const std::string& key) const {
  return formulas_.schema(document_.of(context.schema[key]), context.scope);
}

std::vector<SchemaExpander::Id> SchemaExpander::children(const Context& context,
                                                         const std::string& key) const {
  std::vector<Id> result;
  for (const json& part : context.schema[key]) {
    result.push_back(formulas_.schema(document_.of(part), context.scope));
  }
  return result;
}

uint64_t SchemaExpander::count(const Context& context, const std::string& key) const {
  const auto value = exact_integer(context.schema[key], 0, INT64_MAX);
  if (!value) {
    document_.fail(context.location, key,
                   cat("expected an integer, at least 0, found ", shown(context.schema[key])));
  }
  return uint64_t(*value);
}

std::vector<std::string> SchemaExpander::names(const Context& context, const std::string& key,
                                               const json& list) const {
  std::vector<std::string> result;
  bool strings = list.is_array();
  if (strings) {
    for (const json& name : list) strings &= name.is_string();
  }
  if (!strings) document_.fail(context.location, key, cat("expected a list of names, found ", shown(list)));
  for (const json& name : list) result.push_back(name);
  return result;
}

StringLanguages::Id SchemaExpander::pattern(const Context& context, const std::string& key,
                                            const std::string& regex) {
  try {
    return languages_.search(regex, "pattern");
  } catch (const Error& error) {
    if (key == "pattern") document_.fail(context.location, key, error.what());
    document_.fail(document_.of(context.schema[key][regex]), "", error.what());
  }
}

}  // namespace llmtool
