#include "llmtool/data/data_source.h"

#include "llmtool/core/error.h"

namespace llmtool {

void visit_sources(ConfigVisitor& v, std::vector<DataSource>& sources, const char* path_help) {
  v.objects(
      "train", sources.size(), "sources of training text", [&](size_t n) { sources.resize(n); },
      [&](ConfigVisitor& s, size_t i) {
        s.string("path", sources[i].path, path_help);
        s.number("weight", sources[i].weight, {0, 1e9}, "share of the samples; 0 for all: as they come");
      });
}

void check_sources(const std::vector<DataSource>& sources) {
  if (sources.empty()) throw UsageError("data.train: expected at least one source (or --data PATH)");
  size_t weighted = 0;
  for (const DataSource& source : sources) weighted += source.weight > 0;
  if (weighted != 0 && weighted != sources.size())
    throw UsageError("data.train: expected a weight for every source, or for none");
}

}  // namespace llmtool
