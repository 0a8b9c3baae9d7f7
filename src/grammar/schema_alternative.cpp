#include "grammar/schema_alternative.h"

#include <algorithm>

namespace llmtool {

bool KeySet::contains(const std::string& key, const StringLanguages& all) const {
  const bool named = std::find(names.begin(), names.end(), key) != names.end() ||
                     std::any_of(languages.begin(), languages.end(),
                                 [&](uint32_t language) { return all.dfa(language).matches(key); });
  return named != others;
}

void ObjectPart::require(const std::string& name) {
  const auto place = std::lower_bound(required.begin(), required.end(), name);
  if (place == required.end() || *place != name) required.insert(place, name);
}

void ObjectPart::add_each(PropertyPart part) {
  if (part.value != SchemaFormulas::kAnything) each.push_back(std::move(part));
}

void EvaluatedParts::add(const EvaluatedParts& other) {
  names.insert(names.end(), other.names.begin(), other.names.end());
  languages.insert(languages.end(), other.languages.begin(), other.languages.end());
  all_keys |= other.all_keys;
  prefix = std::max(prefix, other.prefix);
  all_items |= other.all_items;
  items.insert(items.end(), other.items.begin(), other.items.end());
}

}  // namespace llmtool
