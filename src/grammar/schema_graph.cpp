#include "grammar/schema_graph.h"

#include <algorithm>

#include "llmtool/core/error.h"

namespace llmtool {
namespace {

constexpr size_t kMaxNodes = 20'000;

template <class Part>
void add_once(std::vector<Part>& parts, const Part& part) {
  if (std::find(parts.begin(), parts.end(), part) == parts.end()) parts.push_back(part);
}

/// A part that asks for nothing makes the others needless.
template <class Part>
void keep_widest(std::vector<Part>& parts, const Part& anything) {
  if (std::find(parts.begin(), parts.end(), anything) != parts.end()) parts = {anything};
}

}  // namespace

SchemaGraph::SchemaGraph(const nlohmann::json& schema, const std::string& origin)
    : document_(schema, origin), formulas_(document_), expander_(document_, formulas_, languages_) {
  root_ = node_of(formulas_.schema(SchemaDocument::kRoot, 0));
  for (uint32_t id = 0; id < nodes_.size(); ++id) fill(id);
  array_banned_.assign(arrays_.size(), false);
  do {
    find_satisfiable();
  } while (!check_unique());
  drop_empty();
  if (!satisfiable_[root_]) document_.fail(SchemaDocument::kRoot, "", "no instance is valid");
}

SchemaDocument::Location SchemaGraph::place_of(SchemaFormulas::Id formula) const {
  const SchemaFormulas::Formula& f = formulas_[formula];
  using Kind = SchemaFormulas::Kind;
  if (f.kind == Kind::schema) return f.location;
  if (f.kind == Kind::values || f.parts.empty()) return SchemaDocument::kRoot;
  for (const SchemaFormulas::Id part : f.parts) {
    if (const auto place = place_of(part); place != SchemaDocument::kRoot) return place;
  }
  return SchemaDocument::kRoot;
}

uint32_t SchemaGraph::node_of(SchemaFormulas::Id formula) {
  const auto [place, fresh] = ids_.try_emplace(formula, uint32_t(nodes_.size()));
  if (!fresh) return place->second;
  nodes_.emplace_back();
  node_formulas_.push_back(formula);
  if (nodes_.size() > kMaxNodes) {
    document_.fail(place_of(formula), "",
                   cat("the schema needs more than ", kMaxNodes, " combinations of its parts"));
  }
  return place->second;
}

void SchemaGraph::fill(uint32_t id) {
  const SchemaFormulas::Id formula = node_formulas_[id];
  Node node;
  std::vector<NumberSet> numbers;
  std::vector<StringPart> strings;
  std::vector<ArrayPart> arrays;
  std::vector<ObjectPart> objects;
  const auto node_of_formula = [this](SchemaFormulas::Id child) { return node_of(child); };
  try {
    for (const SchemaAlternative& one : expander_.expand(formula)) {
      node.literals |= one.types & (kNull | kTrue | kFalse);
      if (one.types & kNumber) add_once(numbers, one.number);
      if (one.types & kString) add_once(strings, one.string);
      if (one.types & kArray) add_once(arrays, one.array);
      if (one.types & kObject) add_once(objects, one.object);
    }
    keep_widest(numbers, NumberSet());
    keep_widest(strings, StringPart());
    keep_widest(arrays, ArrayPart());
    keep_widest(objects, ObjectPart());
    for (NumberSet& number : numbers) {
      node.numbers.push_back(uint32_t(numbers_.size()));
      numbers_.push_back(std::move(number));
    }
    nodes_[id] = node;
    add_strings(id, std::move(strings));
    list_only_values(formula);
    for (const ArrayPart& part : arrays) {
      nodes_[id].arrays.push_back(uint32_t(arrays_.size()));
      arrays_.emplace_back(part, formulas_, node_of_formula);
      unique_at_.push_back(part.unique_at);
    }
    for (const ObjectPart& part : objects) {
      nodes_[id].objects.push_back(uint32_t(objects_.size()));
      objects_.emplace_back(part, formulas_, languages_, node_of_formula);
    }
  } catch (const SchemaError&) {
    throw;
  } catch (const Error& error) {
    document_.fail(place_of(formula), "", cat("cannot be enforced: ", error.what()));
  }
}

/// Strings without bounds on their lengths are read as one language.
void SchemaGraph::add_strings(uint32_t id, std::vector<StringPart> parts) {
  std::optional<StringLanguages::Id> unbounded;
  const auto add = [&](StringLanguages::Id language, uint64_t min, uint64_t max) {
    StringShape shape(language == StringLanguages::kAny ? nullptr : &languages_.dfa(language), min, max);
    if (shape.empty()) return;
    nodes_[id].strings.push_back(uint32_t(strings_.size()));
    strings_.push_back(std::move(shape));
  };
  for (const StringPart& part : parts) {
    const StringLanguages::Id language = languages_.of(part, false, "the strings");
    if (part.min > 0 || part.max != kNoLimit) {
      add(language, part.min, part.max);
    } else {
      unbounded = unbounded ? languages_.unite(*unbounded, language, "the strings") : language;
    }
  }
  if (unbounded) add(*unbounded, 0, kNoLimit);
}

/// Nodes with a finite instance: those of scalars, and then those made of such, until no more are found.
void SchemaGraph::find_satisfiable() {
  satisfiable_.assign(nodes_.size(), false);
  array_possible_.assign(arrays_.size(), false);
  object_possible_.assign(objects_.size(), false);
  for (bool more = true; more;) {
    more = false;
    for (size_t id = nodes_.size(); id-- > 0;) {
      if (satisfiable_[id] || !update(nodes_[id])) continue;
      satisfiable_[id] = true;
      more = true;
    }
  }
  for (Node& node : nodes_) update(node);
}

bool SchemaGraph::update(Node& node) {
  bool any = node.literals || !node.numbers.empty() || !node.strings.empty();
  for (const uint32_t id : node.arrays)
    any |= array_possible_[id] = arrays_[id].update(satisfiable_) && !array_banned_[id];
  for (const uint32_t id : node.objects) any |= object_possible_[id] = objects_[id].update(satisfiable_);
  return any;
}

void SchemaGraph::drop_empty() {
  for (Node& node : nodes_) {
    std::erase_if(node.arrays, [&](uint32_t id) { return !array_possible_[id]; });
    std::erase_if(node.objects, [&](uint32_t id) { return !object_possible_[id]; });
  }
}

/// The shapes of a list of values come in its order.
void SchemaGraph::list_only_values(SchemaFormulas::Id formula) {
  if (formulas_[formula].kind != SchemaFormulas::Kind::values) return;
  only_arrays_.resize(arrays_.size());
  only_objects_.resize(objects_.size());
  for (const uint32_t id : formulas_[formula].parts) {
    const nlohmann::json& value = formulas_.value(id);
    if (value.is_array()) only_arrays_.push_back(canonical_text(value));
    if (value.is_object()) only_objects_.push_back(canonical_text(value));
  }
}

/// False if an array turned out to have too few different items, so that what has values must be found again.
bool SchemaGraph::check_unique() {
  only_arrays_.resize(arrays_.size());
  only_objects_.resize(objects_.size());
  distinct_.assign(arrays_.size(), {});
  bool settled = true;
  for (uint32_t id = 0; id < arrays_.size(); ++id) {
    const ArrayShape& array = arrays_[id];
    if (!array.unique() || !array_possible_[id]) continue;
    any_unique_ = true;
    std::vector<std::optional<DistinctItems::Values>> domains;
    for (const auto& choices : array.positions()) {
      domains.emplace_back(DistinctItems::Values{});
      for (const ArrayShape::Choice& choice : choices) {
        if (!choice.usable) continue;
        domains.back() = values(choice.node);
        check_unique_item(id, choice.node);
        if (!array.counts_items() || !domains.back()) continue;
        document_.fail(unique_at_[id], "uniqueItems",
                       "cannot be enforced beside contains where items have few values");
      }
    }
    distinct_[id] = DistinctItems(std::move(domains), array.min());
    if (distinct_[id].possible(0, {})) continue;
    array_banned_[id] = true;
    settled = false;
  }
  return settled;
}

/// Whether more items can always make another value of it.
bool SchemaGraph::always_open(uint32_t array) const {
  if (!arrays_[array].always_open()) return false;
  const auto& rest = arrays_[array].positions().back();
  return !arrays_[array].unique() ||
         std::any_of(rest.begin(), rest.end(),
                     [&](const ArrayShape::Choice& choice) { return choice.usable && !values(choice.node); });
}

/// While an item is read, it must be certain that it can still become one that is not there yet.
void SchemaGraph::check_unique_item(uint32_t array, uint32_t node) const {
  for (const uint32_t id : nodes_[node].arrays) {
    if (!array_possible_[id] || always_open(id) || !only_arrays_[id].empty()) continue;
    document_.fail(unique_at_[array], "uniqueItems",
                   "cannot be enforced where the items are arrays of bounded length");
  }
  for (const uint32_t id : nodes_[node].objects) {
    if (!object_possible_[id] || objects_[id].always_open() || !only_objects_[id].empty()) continue;
    document_.fail(unique_at_[array], "uniqueItems",
                   "cannot be enforced where the items are objects of which not any property is allowed");
  }
}

/// Canonical texts of all values of a node; nullopt where they are many.
std::optional<DistinctItems::Values> SchemaGraph::values(uint32_t id) const {
  const Node& node = nodes_[id];
  DistinctItems::Values result;
  if (node.literals & kNull) result.push_back("null");
  if (node.literals & kTrue) result.push_back("true");
  if (node.literals & kFalse) result.push_back("false");
  for (const uint32_t number : node.numbers) {
    const auto members = numbers_[number].members(DistinctItems::kMaxValues);
    if (!members) return std::nullopt;
    for (const Decimal& member : *members) result.push_back(member.text());
  }
  for (const uint32_t string : node.strings) {
    const auto members = strings_[string].members(DistinctItems::kMaxValues);
    if (!members) return std::nullopt;
    for (const std::string& member : *members) result.push_back(nlohmann::json(member).dump());
  }
  for (const uint32_t array : node.arrays) {
    if (array_possible_[array] && only_arrays_[array].empty()) return std::nullopt;
    result.push_back(only_arrays_[array]);
  }
  for (const uint32_t object : node.objects) {
    if (object_possible_[object] && only_objects_[object].empty()) return std::nullopt;
    result.push_back(only_objects_[object]);
  }
  std::sort(result.begin(), result.end());
  result.erase(std::unique(result.begin(), result.end()), result.end());
  return result;
}

}  // namespace llmtool
