#pragma once
// The tables of a database of records.

#include <filesystem>
#include <memory>
#include <string>

#include "llmtool/records/record_store.h"
#include "records/database.h"

namespace llmtool {

/// Opens the database; `create` begins one where the file is missing or empty. Throws UsageError where it is
/// missing, Error where it is something else.
std::unique_ptr<Database> open_schema(const std::filesystem::path& path, bool create);

/// Throws Error, opening with `origin`, on another word than right and wrong.
Verdict verdict_named(const std::string& name, const std::string& origin);

}  // namespace llmtool
