#include "grammar/schema_keywords.h"

namespace llmtool {
namespace {

using Holds = SchemaKeyword::Holds;
using Draft = SchemaKeyword::Draft;

constexpr SchemaKeyword kKeywords[] = {
    // What an instance is held to.
    {"type"},
    {"enum"},
    {"const"},
    {"minimum"},
    {"maximum"},
    {"exclusiveMinimum"},
    {"exclusiveMaximum"},
    {"multipleOf"},
    {"minLength"},
    {"maxLength"},
    {"pattern"},
    {"prefixItems", Holds::list, Draft::draft2020},
    {"items", Holds::schema, Draft::draft2020},
    {"items", Holds::schema_or_list, Draft::draft7},
    {"additionalItems", Holds::schema, Draft::draft7},
    {"contains", Holds::schema},
    {"minContains", Holds::nothing, Draft::draft2020},
    {"maxContains", Holds::nothing, Draft::draft2020},
    {"minItems"},
    {"maxItems"},
    {"uniqueItems"},
    {"unevaluatedItems", Holds::schema, Draft::draft2020},
    {"properties", Holds::object},
    {"patternProperties", Holds::object},
    {"additionalProperties", Holds::schema},
    {"propertyNames", Holds::schema},
    {"required"},
    {"minProperties"},
    {"maxProperties"},
    {"dependentRequired", Holds::nothing, Draft::draft2020},
    {"dependentSchemas", Holds::object, Draft::draft2020},
    {"dependencies", Holds::dependencies},
    {"unevaluatedProperties", Holds::schema, Draft::draft2020},
    {"allOf", Holds::list},
    {"anyOf", Holds::list},
    {"oneOf", Holds::list},
    {"not", Holds::schema},
    {"if", Holds::schema},
    {"then", Holds::schema},
    {"else", Holds::schema},
    {"$ref"},
    {"$dynamicRef", Holds::nothing, Draft::draft2020},
    // Names of schemas.
    {"$schema"},
    {"$id"},
    {"$anchor", Holds::nothing, Draft::draft2020},
    {"$dynamicAnchor", Holds::nothing, Draft::draft2020},
    {"$defs", Holds::definitions},
    {"definitions", Holds::definitions},
    // Notes.
    {"$comment"},
    {"title"},
    {"description"},
    {"default"},
    {"examples"},
    {"deprecated"},
    {"readOnly"},
    {"writeOnly"},
    {"format", Holds::nothing, Draft::both, true},
    {"contentEncoding", Holds::nothing, Draft::both, true},
    {"contentMediaType", Holds::nothing, Draft::both, true},
    {"contentSchema", Holds::schema, Draft::draft2020, true},
};

bool known(const SchemaKeyword& keyword, bool draft7) {
  return keyword.draft == Draft::both || (keyword.draft == Draft::draft7) == draft7;
}

}  // namespace

const SchemaKeyword* schema_keyword(std::string_view name, bool draft7) {
  for (const SchemaKeyword& keyword : kKeywords) {
    if (keyword.name == name && known(keyword, draft7)) return &keyword;
  }
  return nullptr;
}

std::vector<std::string> schema_keyword_names(bool draft7) {
  std::vector<std::string> names;
  for (const SchemaKeyword& keyword : kKeywords) {
    if (known(keyword, draft7)) names.emplace_back(keyword.name);
  }
  return names;
}

}  // namespace llmtool
