#pragma once
// SchemaDocument: the schemas of one JSON Schema document, their names and what references to them mean.

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <unordered_map>
#include <vector>

#include "llmtool/core/error.h"

namespace llmtool {

/// Names the document and the JSON pointer.
class SchemaError final : public UsageError {
 public:
  using UsageError::UsageError;
};

/// JSON Schema core, sections 8 and 9: https://json-schema.org/draft/2020-12/json-schema-core. References
/// that leave the document are errors, and so are keywords that the dialect does not know.
class SchemaDocument {
 public:
  using Location = uint32_t;
  /// Throws SchemaError.
  SchemaDocument(nlohmann::json schema, std::string origin);
  SchemaDocument(const SchemaDocument&) = delete;
  SchemaDocument& operator=(const SchemaDocument&) = delete;

  static constexpr Location kRoot = 0;
  const nlohmann::json& schema(Location location) const { return *locations_[location].value; }
  /// The place of a subschema; it must be one.
  Location of(const nlohmann::json& subschema) const { return by_value_.at(&subschema); }
  bool draft7(Location location) const { return resources_[locations_[location].resource].draft7; }
  /// What a $ref or a $dynamicRef that stands at `location` names.
  Location resolve(Location location, const char* keyword);
  /// The name of the $dynamicAnchor by which `reference` (of $dynamicRef) reached `target`; "" if by none.
  std::string dynamic_name(Location target, const std::string& reference) const;
  /// The $dynamicAnchors of the resource that holds the location.
  const std::map<std::string, Location>& dynamic_anchors(Location location) const;

  /// Throws SchemaError for a place in the document: `location` and, below it, `keyword`.
  [[noreturn]] void fail(Location location, const std::string& keyword, const std::string& message) const;

 private:
  struct Place {
    const nlohmann::json* value;
    std::string pointer;
    uint32_t resource;
  };
  struct Resource {
    std::string uri = {};
    bool draft7 = false;
    Location root = 0;
    std::map<std::string, Location> anchors = {}, dynamic_anchors = {};
  };

  Location add(const nlohmann::json& schema, const std::string& pointer, uint32_t resource);
  void add_children(Location location);
  void add_identity(Location location);
  void check_keywords(Location location) const;
  bool dialect(const nlohmann::json& schema, const std::string& pointer, bool inherited) const;
  Location at_pointer(Location from, uint32_t resource, const std::string& fragment, const char* keyword);
  [[noreturn]] void fail_at(const std::string& pointer, const std::string& message) const;

  nlohmann::json document_;
  std::string origin_;
  std::vector<Place> locations_;
  std::vector<Resource> resources_;
  std::map<std::string, uint32_t> by_uri_;
  std::unordered_map<const nlohmann::json*, Location> by_value_;
};

/// The reference taken relative to `base` (RFC 3986, section 5.2), without its fragment.
std::string resolve_uri(const std::string& base, std::string reference);

}  // namespace llmtool
