// Which area may include which: an arrow that is not drawn here needs a decision, not an #include.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "support.h"

namespace llmtool {
namespace {

namespace fs = std::filesystem;
using Arrows = std::map<std::string, std::set<std::string>>;

/// Direct arrows; what a dependency may include, its dependents may include too.
const Arrows kArrows = {{"core", {}},
                        {"kernels", {"core"}},
                        {"io", {"core"}},
                        {"text", {"io"}},
                        {"nn", {"kernels"}},
                        {"model", {"nn", "io"}},
                        {"peft", {"model", "text"}},
                        {"data", {"text"}},
                        {"grammar", {"text"}},
                        {"prompt", {"data"}},
                        {"records", {"grammar"}},
                        {"infer", {"model", "grammar"}},
                        {"train", {"peft", "data", "infer"}}};

void add_reachable(const std::string& area, std::set<std::string>& reached) {
  if (!reached.insert(area).second) return;
  for (const std::string& next : kArrows.at(area)) add_reachable(next, reached);
}

std::set<std::string> reachable(const std::string& area) {
  std::set<std::string> reached;
  add_reachable(area, reached);
  return reached;
}

std::vector<std::string> includes_of(const std::string& source) {
  static const std::regex kInclude("^[ \\t]*#[ \\t]*include[ \\t]*[\"<]([^\">]+)[\">]");
  std::vector<std::string> found;
  std::istringstream lines(source);
  for (std::string line; std::getline(lines, line);) {
    if (std::smatch match; std::regex_search(line, match, kInclude)) found.push_back(match[1]);
  }
  return found;
}

/// "" where `file` (a path below the source tree) may include `include`, else what is wrong.
std::string complaint(const fs::path& file, const std::string& include) {
  const std::vector<std::string> at(file.begin(), file.end());
  const fs::path included_path(include);
  const std::vector<std::string> parts(included_path.begin(), included_path.end());
  const bool is_public = parts.front() == "llmtool";
  const bool is_private = parts.size() == 2 && kArrows.contains(parts.front());
  const bool is_relative = include.find("..") != std::string::npos;
  if (is_relative) return file.string() + " includes " + include + ": by its full name only";
  if (!is_public && !is_private) return "";  // a library's header, or a tool's own
  if (at.front() == "tools") {
    return is_public ? "" : file.string() + " includes " + include + ": tools use public headers alone";
  }
  const bool in_public = at.front() == "include";
  if (in_public && is_private) return file.string() + " includes " + include + ": a public header may not";
  const std::string from = in_public ? at.at(2) : at.at(1), to = is_public ? parts.at(1) : parts.front();
  if (!kArrows.contains(from)) return file.string() + ": area " + from + " is not in the table of arrows";
  if (reachable(from).contains(to)) return "";
  return file.string() + " includes " + include + ": there is no arrow from " + from + " to " + to;
}

TEST(Structure, IncludesFollowTheArrows) {
  const fs::path root = test::source_file("");
  int files = 0;
  for (const char* top : {"src", "include", "tools"}) {
    for (const auto& entry : fs::recursive_directory_iterator(root / top)) {
      const std::string extension = entry.path().extension().string();
      if (extension != ".h" && extension != ".cpp") continue;
      ++files;
      const fs::path file = entry.path().lexically_relative(root);
      for (const std::string& include : includes_of(test::read_text(entry.path()))) {
        EXPECT_EQ(complaint(file, include), "");
      }
    }
  }
  EXPECT_GT(files, 50);
}

TEST(Structure, AWrongArrowIsSeen) {
  EXPECT_NE(complaint("src/io/json.cpp", "llmtool/text/tokenizer.h"), "");
  EXPECT_NE(complaint("src/kernels/norm.cpp", "nn/block.h"), "");
  EXPECT_NE(complaint("src/nn/linear.cpp", "llmtool/io/json.h"), "");
  EXPECT_NE(complaint("src/data/corpus.cpp", "llmtool/model/transformer.h"), "");
  EXPECT_NE(complaint("tools/pretrain.cpp", "train/pretrain_run.h"), "");
  EXPECT_NE(complaint("include/llmtool/train/trainer.h", "train/pretrain_run.h"), "");
  EXPECT_NE(complaint("src/train/report.cpp", "../io/json.h"), "");
  EXPECT_NE(complaint("src/newarea/x.cpp", "llmtool/core/error.h"), "");
}

TEST(Structure, ARightArrowPasses) {
  EXPECT_EQ(complaint("src/train/report.cpp", "llmtool/core/error.h"), "");
  EXPECT_EQ(complaint("src/text/utf8.h", "llmtool/core/error.h"), "");
  EXPECT_EQ(complaint("src/train/report.cpp", "train/chart.h"), "");
  EXPECT_EQ(complaint("src/infer/generator.cpp", "text/utf8.h"), "");
  EXPECT_EQ(complaint("tools/pretrain.cpp", "llmtool/train/trainer.h"), "");
  EXPECT_EQ(complaint("src/io/files.cpp", "sys/mman.h"), "");
}

TEST(Structure, IncludesAreFoundHoweverTheyAreSpaced) {
  EXPECT_EQ(includes_of("#include \"a/b.h\"\n  #  include <c>\n// #include \"d\"\n"),
            (std::vector<std::string>{"a/b.h", "c"}));
}

}  // namespace
}  // namespace llmtool
