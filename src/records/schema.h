#pragma once
// The tables of a database of records.

#include <filesystem>
#include <memory>
#include <string>

#include "llmtool/records/record_store.h"
#include "records/database.h"

namespace llmtool {

/// Opens the database; Mode::create begins one where the file is missing or empty, and both modes that write
/// bring older tables up to date. Throws UsageError where it is missing, Error where it is something else.
std::unique_ptr<Database> open_schema(const std::filesystem::path& path, RecordStore::Mode mode);
/// Tables of a database that was opened to be read may be older; those of version 1 have no column
/// records.complete.
int64_t schema_version(Database& db);

/// Throws Error, opening with `origin`, on another word than right and wrong.
Verdict verdict_named(const std::string& name, const std::string& origin);

}  // namespace llmtool
