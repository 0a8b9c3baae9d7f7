#pragma once
// What tests share: reference data, temporary folders, running the programs.

#include <filesystem>
#include <string>
#include <vector>

namespace llmtool::test {

/// A file of the reference data; empty when the folder is absent (then GTEST_SKIP()).
std::filesystem::path reference_data(const std::string& relative);
/// A file of this source tree.
std::filesystem::path source_file(const std::string& relative);

/// A fresh folder, removed on destruction.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

/// A program of this build.
std::filesystem::path program_path(const std::string& program);

struct RunResult {
  int code = -1;  // exit code, 128 + n for signal n
  std::string out, err;
};
/// Runs a program of this build ("llmtool", "tokenize", ...) with arguments and standard input.
RunResult run_program(const std::string& program, const std::vector<std::string>& arguments,
                      const std::string& input = "");

void write_text(const std::filesystem::path& path, const std::string& text);
std::string read_text(const std::filesystem::path& path);

}  // namespace llmtool::test

/// Skips the test where the reference data is absent.
#define REQUIRE_REFERENCE(variable, relative)                    \
  const auto variable = llmtool::test::reference_data(relative); \
  if (variable.empty()) GTEST_SKIP() << "no reference data: " << (relative)
