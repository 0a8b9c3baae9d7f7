#include "grammar/schema_document.h"

#include "grammar/schema_keywords.h"
#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/io/json.h"

namespace llmtool {

using nlohmann::json;

namespace {

std::string escaped(const std::string& token) {
  std::string text;
  for (const char c : token) text += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
  return text;
}

std::string unescaped(std::string_view token) {
  std::string text;
  for (size_t i = 0; i < token.size(); ++i) {
    const bool escape = token[i] == '~' && i + 1 < token.size();
    text += !escape ? token[i] : token[++i] == '1' ? '/' : '~';
  }
  return text;
}

std::string percent_decoded(std::string_view text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool escape = text[i] == '%' && i + 2 < text.size() && isxdigit(uint8_t(text[i + 1])) &&
                        isxdigit(uint8_t(text[i + 2]));
    if (escape) {
      result += char(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16));
      i += 2;
    } else {
      result += text[i];
    }
  }
  return result;
}

struct UriParts {
  std::string scheme, authority, path, query;  // with their ':', '//' and '?'
};

UriParts split_uri(std::string uri) {
  UriParts parts;
  const size_t colon = uri.find_first_of(":/?");
  if (colon != uri.npos && colon > 0 && uri[colon] == ':') {
    parts.scheme = uri.substr(0, colon + 1);
    uri.erase(0, colon + 1);
  }
  if (uri.starts_with("//")) {
    const size_t end = std::min(uri.find_first_of("/?", 2), uri.size());
    parts.authority = uri.substr(0, end);
    uri.erase(0, end);
  }
  const size_t query = std::min(uri.find('?'), uri.size());
  parts.path = uri.substr(0, query);
  parts.query = uri.substr(query);
  return parts;
}

std::string without_dots(const std::string& path) {
  std::vector<std::string> kept;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string segment = path.substr(begin, end - begin);
    const bool last = end == path.size();
    if (segment == "..") {
      if (kept.size() > 1) kept.pop_back();
      if (last) kept.push_back("");
    } else if (segment == ".") {
      if (last) kept.push_back("");
    } else {
      kept.push_back(segment);
    }
    begin = end + 1;
  }
  std::string result;
  for (size_t i = 0; i < kept.size(); ++i) result.append(i ? "/" : "").append(kept[i]);
  return result;
}

}  // namespace

std::string resolve_uri(const std::string& base, std::string reference) {
  reference = reference.substr(0, reference.find('#'));
  if (reference.empty()) return base;
  UriParts r = split_uri(reference);
  const UriParts b = split_uri(base);
  if (r.scheme.empty()) {
    r.scheme = b.scheme;
    if (r.authority.empty()) {
      r.authority = b.authority;
      if (r.path.empty()) {
        r.path = b.path;
        if (r.query.empty()) r.query = b.query;
      } else if (r.path[0] != '/') {
        const size_t slash = b.path.rfind('/');
        const std::string folder =
            slash == b.path.npos ? (b.authority.empty() ? "" : "/") : b.path.substr(0, slash + 1);
        r.path = folder + r.path;
      }
    }
  }
  const bool hierarchical = r.path.starts_with('/');
  return r.scheme + r.authority + (hierarchical ? without_dots(r.path) : r.path) + r.query;
}

SchemaDocument::SchemaDocument(json schema, std::string origin)
    : document_(std::move(schema)), origin_(std::move(origin)) {
  resources_.push_back({.draft7 = dialect(document_, "", false)});
  by_uri_[""] = 0;
  add(document_, "", 0);
}

void SchemaDocument::fail_at(const std::string& pointer, const std::string& message) const {
  throw SchemaError(cat(origin_, " at #", pointer, ": ", message));
}

void SchemaDocument::fail(Location location, const std::string& keyword, const std::string& message) const {
  fail_at(cat(locations_[location].pointer, keyword.empty() ? "" : "/", escaped(keyword)), message);
}

bool SchemaDocument::dialect(const json& schema, const std::string& pointer, bool inherited) const {
  if (!schema.is_object() || !schema.contains("$schema")) return inherited;
  const json& name = schema["$schema"];
  if (name.is_string()) {
    std::string text = name;
    if (text.ends_with('#')) text.pop_back();
    if (text == "https://json-schema.org/draft/2020-12/schema") return false;
    if (text == "http://json-schema.org/draft-07/schema" ||
        text == "https://json-schema.org/draft-07/schema") {
      return true;
    }
  }
  fail_at(pointer + "/$schema", cat("expected the name of draft 2020-12 or of draft 7, found ", shown(name)));
}

SchemaDocument::Location SchemaDocument::add(const json& schema, const std::string& pointer,
                                             uint32_t resource) {
  const auto location = Location(locations_.size());
  locations_.push_back({&schema, pointer, resource});
  by_value_[&schema] = location;
  if (schema.is_boolean()) return location;
  if (!schema.is_object()) fail_at(pointer, cat("expected a schema, found ", shown(schema)));
  add_identity(location);
  check_keywords(location);
  add_children(location);
  return location;
}

void SchemaDocument::add_identity(Location location) {
  Place& place = locations_[location];
  const json& schema = *place.value;
  const bool old = resources_[place.resource].draft7;
  const auto text = [&](const char* key) {
    if (!schema[key].is_string()) fail(location, key, cat("expected a string, found ", shown(schema[key])));
    return schema[key].get<std::string>();
  };
  if (schema.contains("$id") && !(old && schema.contains("$ref"))) {
    const std::string id = text("$id");
    const std::string uri = resolve_uri(resources_[place.resource].uri, id);
    if (id.starts_with('#')) {
      if (!dialect(schema, place.pointer, old))
        fail(location, "$id", "a name without a fragment is expected; $anchor makes one");
      resources_[place.resource].anchors[id.substr(1)] = location;
    } else {
      Resource resource{.uri = uri, .draft7 = dialect(schema, place.pointer, old), .root = location};
      place.resource = uint32_t(resources_.size());
      resources_.push_back(std::move(resource));
      if (!by_uri_.emplace(uri, place.resource).second && uri != "") {
        fail(location, "$id", cat("the document names two schemas ", shown(uri)));
      }
    }
  }
  Resource& resource = resources_[place.resource];
  if (resource.draft7) return;
  if (schema.contains("$anchor")) resource.anchors[text("$anchor")] = location;
  if (schema.contains("$dynamicAnchor")) {
    resource.anchors[text("$dynamicAnchor")] = location;
    resource.dynamic_anchors[text("$dynamicAnchor")] = location;
  }
}

void SchemaDocument::check_keywords(Location location) const {
  const json& schema = *locations_[location].value;
  const bool old = draft7(location);
  if (old && schema.contains("$ref")) return;  // what stands beside it means nothing there
  for (const auto& [key, value] : schema.items()) {
    const SchemaKeyword* keyword = schema_keyword(key, old);
    if (keyword && keyword->noted && !quiet())
      warn(cat("#", locations_[location].pointer, "/", key, ": an annotation, not enforced"));
    if (keyword || key.starts_with("x-")) continue;
    const std::vector<std::string> known = schema_keyword_names(old);
    const std::string near = nearest(key, known.data(), known.size());
    fail(location, key,
         cat("not a keyword of ", old ? "draft 7" : "draft 2020-12",
             near.empty() ? "" : cat("; did you mean ", shown(near), "?"), " (x-... may hold notes)"));
  }
}

void SchemaDocument::add_children(Location location) {
  const Place place = locations_[location];
  const bool old = resources_[place.resource].draft7;
  const bool alone = old && place.value->contains("$ref");
  for (const auto& [key, value] : place.value->items()) {
    const SchemaKeyword* keyword = schema_keyword(key, old);
    if (!keyword || (alone && keyword->holds != SchemaKeyword::Holds::definitions)) continue;
    const std::string pointer = cat(place.pointer, "/", escaped(key));
    using Holds = SchemaKeyword::Holds;
    const Holds holds = keyword->holds;
    if (holds == Holds::schema || (holds == Holds::schema_or_list && !value.is_array())) {
      add(value, pointer, place.resource);
    } else if (holds == Holds::list || holds == Holds::schema_or_list) {
      if (!value.is_array() || (value.empty() && holds == Holds::list)) {
        fail_at(pointer, cat("expected a list of schemas, found ", shown(value)));
      }
      for (size_t i = 0; i < value.size(); ++i) add(value[i], cat(pointer, "/", i), place.resource);
    } else if (holds != Holds::nothing) {
      if (!value.is_object()) fail_at(pointer, cat("expected an object of schemas, found ", shown(value)));
      for (const auto& [name, part] : value.items()) {
        if (holds == Holds::dependencies && part.is_array()) continue;
        add(part, cat(pointer, "/", escaped(name)), place.resource);
      }
    }
  }
}

SchemaDocument::Location SchemaDocument::resolve(Location location, const char* keyword) {
  const json& reference = schema(location)[keyword];
  if (!reference.is_string()) fail(location, keyword, cat("expected a string, found ", shown(reference)));
  const std::string text = reference;
  const uint32_t here = locations_[location].resource;
  const std::string uri = resolve_uri(resources_[here].uri, text);
  uint32_t resource = here;
  if (uri != resources_[here].uri) {
    const auto found = by_uri_.find(uri);
    if (found == by_uri_.end()) {
      fail(location, keyword, cat(shown(text), " is not in this document; copy what it names into $defs"));
    }
    resource = found->second;
  }
  const size_t hash = text.find('#');
  const std::string fragment = hash == text.npos ? "" : percent_decoded(text.substr(hash + 1));
  if (fragment.empty()) return resources_[resource].root;
  if (fragment[0] == '/') return at_pointer(location, resource, fragment, keyword);
  const auto& anchors = resources_[resource].anchors;
  const auto anchor = anchors.find(fragment);
  if (anchor == anchors.end()) fail(location, keyword, cat("no schema is called ", shown(text)));
  return anchor->second;
}

SchemaDocument::Location SchemaDocument::at_pointer(Location from, uint32_t resource,
                                                    const std::string& fragment, const char* keyword) {
  const json* value = locations_[resources_[resource].root].value;
  std::string pointer = locations_[resources_[resource].root].pointer;
  for (size_t begin = 1; begin <= fragment.size();) {
    const size_t end = std::min(fragment.find('/', begin), fragment.size());
    const std::string token = unescaped(fragment.substr(begin, end - begin));
    begin = end + 1;
    pointer += cat("/", escaped(token));
    const bool index = value->is_array() && !token.empty() && token.size() < 10 &&
                       token.find_first_not_of("0123456789") == token.npos;
    if (value->is_object() && value->contains(token)) {
      value = &(*value)[token];
    } else if (index && std::stoul(token) < value->size()) {
      value = &(*value)[std::stoul(token)];
    } else {
      fail(from, keyword, cat(shown(schema(from)[keyword]), ": nothing stands at #", pointer));
    }
    if (const auto found = by_value_.find(value); found != by_value_.end()) {
      resource = locations_[found->second].resource;
    }
  }
  const auto found = by_value_.find(value);
  return found != by_value_.end() ? found->second : add(*value, pointer, resource);
}

std::string SchemaDocument::dynamic_name(Location target, const std::string& reference) const {
  const size_t hash = reference.find('#');
  if (hash == reference.npos) return "";
  const std::string name = percent_decoded(reference.substr(hash + 1));
  const auto& anchors = dynamic_anchors(target);
  const auto found = anchors.find(name);
  return found != anchors.end() && found->second == target ? name : "";
}

const std::map<std::string, SchemaDocument::Location>& SchemaDocument::dynamic_anchors(
    Location location) const {
  return resources_[locations_[location].resource].dynamic_anchors;
}

}  // namespace llmtool
