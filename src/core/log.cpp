#include "llmtool/core/log.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

namespace llmtool {

namespace {
bool g_quiet = false;
std::string g_progress;
std::mutex g_mutex;

void write_line(std::string_view line) {
  std::lock_guard lock(g_mutex);
  std::string out;
  if (!g_progress.empty()) out += "\r\033[K";
  out.append(line).append("\n").append(g_progress);
  std::fwrite(out.data(), 1, out.size(), stderr);
  std::fflush(stderr);
}

std::string print(const char* format, double value, const char* unit) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, format, value);
  return std::string(buffer) + unit;
}
}  // namespace

void set_quiet(bool quiet) { g_quiet = quiet; }
bool quiet() { return g_quiet; }

void info(std::string_view line) {
  if (!g_quiet) write_line(line);
}

void warn(std::string_view line) { write_line(std::string("warning: ").append(line)); }

bool progress_on_terminal() {
  static const bool terminal = [] {
    const char* term = std::getenv("TERM");
    return isatty(2) && term && std::strcmp(term, "dumb") != 0;
  }();
  return terminal && !g_quiet;
}

void show_progress(const std::string& line) {
  if (!progress_on_terminal()) return;
  std::lock_guard lock(g_mutex);
  g_progress = line;
  const std::string out = "\r\033[K" + line;
  std::fwrite(out.data(), 1, out.size(), stderr);
  std::fflush(stderr);
}

std::string human_bytes(double bytes) {
  const char* const units[] = {" B", " kB", " MB", " GB", " TB"};
  int u = 0;
  while (bytes >= 999.5 && u < 4) bytes /= 1000, ++u;
  return print(u == 0 || bytes >= 99.5 ? "%.0f" : bytes >= 9.95 ? "%.1f" : "%.2f", bytes, units[u]);
}

std::string human_count(double count) {
  const char* const units[] = {"", "K", "M", "B", "T"};
  int u = 0;
  while (count >= 999.95 && u < 4) count /= 1000, ++u;
  return print(u == 0 ? "%.0f" : "%.1f", count, units[u]);
}

std::string human_time(double seconds) {
  if (!(seconds >= 0 && seconds < 1e15)) return "?";  // also what is no number
  const auto s = static_cast<long long>(seconds + 0.5);
  char buffer[64];
  if (s < 60)
    std::snprintf(buffer, sizeof buffer, "%llds", s);
  else if (s < 3600)
    std::snprintf(buffer, sizeof buffer, "%lldm %02llds", s / 60, s % 60);
  else
    std::snprintf(buffer, sizeof buffer, "%lldh %02lldm", s / 3600, s / 60 % 60);
  return buffer;
}

}  // namespace llmtool
