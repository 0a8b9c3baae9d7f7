// Naming a template or a model in one of its versions.

#include <algorithm>

#include "llmtool/core/error.h"
#include "llmtool/records/record_store.h"

namespace llmtool {

namespace {
constexpr size_t kShortestVersion = 4;

bool names(const Variant& v, const std::string& selector) {
  const auto is = [&](const std::string& name) {
    if (name.empty()) return false;
    if (selector == name) return true;
    const std::string with = name + "@";
    return selector.size() > with.size() && selector.starts_with(with) &&
           v.version.starts_with(selector.substr(with.size()));
  };
  const bool version = selector.size() >= kShortestVersion ? v.version.starts_with(selector)
                                                           : !v.version.empty() && v.version == selector;
  return version || is(v.name) || is(std::filesystem::path(v.name).filename().string());
}
}  // namespace

std::string Variant::text() const {
  return version.empty() ? name : name.empty() ? "@" + version : cat(name, "@", version);
}

std::vector<Variant> select_variants(const std::vector<Variant>& known, const std::string& selector,
                                     const char* what) {
  std::vector<Variant> found;
  std::copy_if(known.begin(), known.end(), std::back_inserter(found),
               [&](const Variant& v) { return names(v, selector); });
  if (!found.empty()) return found;
  std::string there;
  for (size_t i = 0; i < std::min<size_t>(known.size(), 8); ++i)
    there += cat(i > 0 ? ", " : "", known[i].text());
  if (known.size() > 8) there += ", ...";
  throw UsageError(cat(what, " ", selector, ": expected one of those on record, which are ",
                       there.empty() ? "none" : there));
}

}  // namespace llmtool
