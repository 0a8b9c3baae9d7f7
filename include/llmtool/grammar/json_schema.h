#pragma once
// JSON Schema as a form: texts that are JSON and valid, nothing else.

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "llmtool/grammar/matcher.h"

namespace llmtool {

/// The texts whose value is valid by `schema`, of draft 2020-12 or, where "$schema" says so, draft 7
/// (https://json-schema.org/draft/2020-12, https://json-schema.org/draft-07). Throws UsageError, opening with
/// `origin` and the JSON pointer, on what is no schema, on a keyword or a combination that cannot be enforced
/// exactly, and where no instance is valid. What the notes say (title, format, ...) is not enforced; of
/// those that speak of instances, as format does, a warning says so unless quiet().
///
/// Properties come in any order and no key comes twice, in whatever spelling. Of spellings: whitespace is
/// what JSON writers put: nothing, one space, or a line break with at most 32 spaces or tabs behind `[`, `{`
/// and `,` and before `]` and `}`; nothing or one space behind `:`. Numbers have an exponent only where the
/// schema says no more of them than their type, and integers, multiples and listed numbers at most one zero
/// more behind the point than they need. Strings are well-formed UTF-8 without lone surrogates.
std::shared_ptr<const Grammar> parse_json_schema(const nlohmann::json& schema, const std::string& origin);
/// The same of a file. Throws Error where it cannot be read or is no JSON, and UsageError on a number of
/// which a parsed document keeps only what is near: an integer of more than 64 bits, a decimal beyond a
/// double.
std::shared_ptr<const Grammar> read_json_schema(const std::filesystem::path& file);

}  // namespace llmtool
