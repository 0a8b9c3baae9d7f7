#pragma once
// RunFolder: the place of one training run; what it holds survives a crash at any moment.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "llmtool/io/files.h"

namespace llmtool {

/// run.json, metrics.jsonl, report.html, model/, checkpoints/step-N/. One process at a time.
class RunFolder {
 public:
  struct Checkpoint {
    int64_t step;
    std::filesystem::path path;
  };

  /// Creates the folder and locks it. Throws Error where it cannot be written or another run holds it. An
  /// empty path is the place of a run that leaves nothing: it has no checkpoints and takes none.
  explicit RunFolder(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }

  /// Saves what `write` puts into the folder that it is given: into step-N.tmp first, synchronised and with a
  /// manifest, then renamed; afterwards those that are not whole go, and the oldest: `keep` (at least 2)
  /// stay. Throws Error where it cannot be saved; the earlier ones are then untouched.
  std::filesystem::path save_checkpoint(int64_t step, int64_t keep,
                                        const std::function<void(const std::filesystem::path&)>& write);
  /// The newest checkpoint that is whole; those that are not are named in a warning.
  std::optional<Checkpoint> latest_checkpoint();
  bool has_checkpoints() const { return !checkpoints().empty(); }

  /// metrics.jsonl: one row more, or none: a row that does not fit the disk is taken back. Throws Error.
  void append_metrics(const nlohmann::ordered_json& row);
  /// Drops rows beyond `step` and torn ones; the others stay as they are, byte for byte.
  void rewind_metrics(int64_t step);
  std::vector<nlohmann::json> metrics() const;

 private:
  struct Row {
    std::string line;
    nlohmann::json json;
  };
  std::vector<Row> rows() const;
  void recover();
  void prune(int64_t saved, int64_t keep);
  std::vector<Checkpoint> checkpoints() const;  // the newest first

  std::filesystem::path path_;
  std::optional<FolderLock> lock_;
  std::set<int64_t> damaged_;  // steps that latest_checkpoint passed over
};

}  // namespace llmtool
