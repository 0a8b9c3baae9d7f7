#pragma once
// The keywords of JSON Schema.

#include <string>
#include <string_view>
#include <vector>

namespace llmtool {

struct SchemaKeyword {
  enum class Holds {
    nothing,         // no schema
    schema,          // one
    list,            // a list of them
    schema_or_list,  // either
    object,          // an object of them
    dependencies,    // an object of schemas or lists of names
    definitions      // an object of schemas that are only referred to
  };
  enum class Draft { both, draft7, draft2020 };
  const char* name;
  Holds holds = Holds::nothing;
  Draft draft = Draft::both;
  bool noted = false;  // says something of instances, and holds them to nothing
};

/// Null if the dialect does not know it.
const SchemaKeyword* schema_keyword(std::string_view name, bool draft7);
std::vector<std::string> schema_keyword_names(bool draft7);

}  // namespace llmtool
