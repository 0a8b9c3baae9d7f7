#pragma once
// DataSource: where training data comes from, and how much of it.

#include <string>
#include <vector>

#include "llmtool/io/config.h"

namespace llmtool {

struct DataSource {
  std::string path;   // file, folder or glob; for pretraining text or token shards (.bin)
  double weight = 0;  // share of the samples; 0 for all: as they come
};

/// The key "train": a list of objects with path and weight. `path_help` says which files.
void visit_sources(ConfigVisitor& v, std::vector<DataSource>& sources, const char* path_help);
/// Throws UsageError where there is no source, or where some have a weight and some none.
void check_sources(const std::vector<DataSource>& sources);

}  // namespace llmtool
