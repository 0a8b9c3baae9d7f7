#include "support.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace llmtool::test {

namespace fs = std::filesystem;

fs::path reference_data(const std::string& relative) {
  const char* folder = std::getenv("LLMTOOL_REFERENCE_DATA");
  const fs::path path = fs::path(folder ? folder : LLMTOOL_REFERENCE_DATA) / relative;
  return fs::exists(path) ? path : fs::path();
}

fs::path source_file(const std::string& relative) { return fs::path(LLMTOOL_SOURCE_DIR) / relative; }

fs::path program_path(const std::string& program) { return fs::path(LLMTOOL_BIN_DIR) / program; }

TempFolder::TempFolder() {
  std::string name = (fs::temp_directory_path() / "llmtool-test-XXXXXX").string();
  if (!mkdtemp(name.data())) throw std::runtime_error("mkdtemp failed");
  path_ = name;
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

RunResult run_program(const std::string& program, const std::vector<std::string>& arguments,
                      const std::string& input) {
  TempFolder folder;
  write_text(folder / "in", input);
  const std::string binary = program_path(program).string();
  const pid_t child = fork();
  if (child == 0) {
    const auto redirect = [&](const char* name, int flags, int to) {
      const int fd = open((folder / name).c_str(), flags, 0600);
      if (fd < 0 || dup2(fd, to) < 0) _exit(126);
    };
    redirect("in", O_RDONLY, 0);
    redirect("out", O_WRONLY | O_CREAT, 1);
    redirect("err", O_WRONLY | O_CREAT, 2);
    std::vector<char*> argv{const_cast<char*>(binary.c_str())};
    for (const auto& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
    argv.push_back(nullptr);
    execv(binary.c_str(), argv.data());
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  RunResult result;
  result.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.out = read_text(folder / "out");
  result.err = read_text(folder / "err");
  return result;
}

void write_text(const fs::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary).write(text.data(), static_cast<std::streamsize>(text.size()));
}

std::string read_text(const fs::path& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

}  // namespace llmtool::test
