#include "grammar/string_languages.h"

#include <algorithm>

namespace llmtool {

using Combine = ByteDfa::Combine;

void StringPart::add(uint32_t language, bool negated) {
  std::vector<uint32_t>& list = negated ? not_in : in;
  const auto place = std::lower_bound(list.begin(), list.end(), language);
  if (place == list.end() || *place != language) list.insert(place, language);
}

StringLanguages::StringLanguages() { add(ByteDfa::any()); }

StringLanguages::Id StringLanguages::add(ByteDfa dfa) {
  dfas_.push_back(std::move(dfa));
  return Id(dfas_.size() - 1);
}

StringLanguages::Id StringLanguages::search(const std::string& regex, const std::string& origin) {
  const auto found = searches_.find(regex);
  if (found != searches_.end()) return found->second;
  return searches_[regex] = add(ByteDfa::search(regex, origin));
}

StringLanguages::Id StringLanguages::texts(std::vector<std::string> texts) {
  std::sort(texts.begin(), texts.end());
  const auto found = texts_.find(texts);
  if (found != texts_.end()) return found->second;
  std::vector<Expression> choices;
  for (const std::string& text : texts) choices.push_back(Expression::text(text));
  const Id id = add(ByteDfa(Expression::choice(std::move(choices)), ""));
  return texts_[std::move(texts)] = id;
}

StringLanguages::Id StringLanguages::of(const StringPart& part, bool with_lengths,
                                        const std::string& origin) {
  StringPart key = part;
  if (!with_lengths) {
    key.min = 0;
    key.max = kNoLimit;
  }
  if (key == StringPart{}) return kAny;
  if (key == StringPart{.in = {key.in.empty() ? kAny : key.in[0]}}) return key.in[0];
  const auto found = parts_.find(key);
  if (found != parts_.end()) return found->second;
  // One language less is perhaps known already, and what is known takes no work again.
  StringPart rest = key;
  const bool bounded = key.min > 0 || key.max != kNoLimit;
  std::vector<uint32_t>& list = rest.not_in.empty() ? rest.in : rest.not_in;
  const Id last = bounded ? kAny : list.back();
  if (bounded) {
    rest.min = 0;
    rest.max = kNoLimit;
  } else {
    list.pop_back();
  }
  const ByteDfa& others = dfas_[of(rest, true, origin)];
  if (!bounded) {
    const Combine how = key.not_in.empty() ? Combine::both : Combine::first_only;
    return parts_[key] = add(ByteDfa::combined(others, dfas_[last], how, origin, budget_));
  }
  const int64_t most = key.max == kNoLimit ? -1 : int64_t(std::min<uint64_t>(key.max, INT64_MAX));
  const auto lengths = ByteDfa::of_length(int64_t(std::min<uint64_t>(key.min, INT64_MAX)), most, origin);
  return parts_[key] = add(ByteDfa::combined(others, lengths, Combine::both, origin, budget_));
}

StringLanguages::Id StringLanguages::unite(Id a, Id b, const std::string& origin) {
  if (a == b) return a;
  if (a == kAny || b == kAny) return kAny;
  const auto found = unions_.find({a, b});
  if (found != unions_.end()) return found->second;
  const Id id = add(ByteDfa::combined(dfas_[a], dfas_[b], Combine::either, origin, budget_));
  return unions_[{a, b}] = id;
}

}  // namespace llmtool
