#include "data/input_files.h"

#include <glob.h>

#include <algorithm>
#include <filesystem>

#include "llmtool/core/error.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;

std::vector<std::string> files_in(const std::string& folder,
                                  const std::function<bool(const std::string&)>& wanted, const char* kinds,
                                  int64_t& skipped) {
  std::vector<std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    if (wanted(entry.path().string())) {
      found.push_back(entry.path().string());
    } else {
      ++skipped;
    }
  }
  if (found.empty())
    throw UsageError(cat(folder, ": expected ", kinds, " files (also .gz, .zst) in it, found none"));
  std::sort(found.begin(), found.end());
  return found;
}
}  // namespace

std::vector<std::string> list_files(const std::vector<std::string>& inputs,
                                    const std::function<bool(const std::string&)>& wanted, const char* kinds,
                                    int64_t& skipped) {
  std::vector<std::string> files;
  for (const std::string& input : inputs) {
    if (fs::is_directory(input)) {
      const auto found = files_in(input, wanted, kinds, skipped);
      files.insert(files.end(), found.begin(), found.end());
    } else if (input == "-" || fs::exists(input)) {
      files.push_back(input);
    } else {
      glob_t matches{};
      const int code = ::glob(input.c_str(), 0, nullptr, &matches);
      for (size_t i = 0; code == 0 && i < matches.gl_pathc; ++i) files.emplace_back(matches.gl_pathv[i]);
      ::globfree(&matches);
      if (code != 0) throw UsageError(cat(input, ": no such file or folder, and no file matches it"));
    }
  }
  return files;
}

std::string unpacked_name(std::string path) {
  for (const char* packing : {".gz", ".zst"}) {
    if (path.ends_with(packing)) path.resize(path.size() - std::string(packing).size());
  }
  return path;
}

}  // namespace llmtool
