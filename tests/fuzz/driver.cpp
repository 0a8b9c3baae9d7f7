// Runs a fuzz target without libFuzzer: replays the corpus, then mutates it for a time.
//   fuzz_gguf [--seconds N] [--seed N] [FILE or FOLDER of inputs]...
// The seconds may also come from LLMTOOL_FUZZ_SECONDS. The same seed gives the same inputs in the same order.
// The input at work lies in NAME.input beside the caller, so that it is there after a crash; to replay it,
// name it and --seconds 0.

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "fuzz.h"
#include "llmtool/core/rng.h"
#include "support.h"

namespace fs = std::filesystem;
using llmtool::Rng;

namespace {
constexpr size_t kMaxMutated = 1 << 14;    // larger inputs are replayed only
constexpr double kSlow = 5;                // seconds for one input
constexpr int64_t kMaxResident = 2 << 20;  // kilobytes

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// A file that holds the input at work, and is left behind by a crash.
class Record {
 public:
  explicit Record(const fs::path& path)
      : path_(path), fd_(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666)) {}
  ~Record() {
    close(fd_);
    fs::remove(path_);
  }
  void set(const std::string& input) {
    if (pwrite(fd_, input.data(), input.size(), 0) != static_cast<ssize_t>(input.size()) ||
        ftruncate(fd_, static_cast<off_t>(input.size())) != 0) {
      throw std::runtime_error(path_.string() + ": cannot be written");
    }
  }

 private:
  fs::path path_;
  int fd_;
};

/// Changes an input in one place.
class Mutator {
 public:
  Mutator(Rng& rng, const std::vector<std::string>& corpus) : rng_(rng), corpus_(corpus) {}

  void mutate(std::string& s) {
    switch (rng_.below(9)) {
      case 0:
        if (!s.empty()) s[at(s)] ^= static_cast<char>(1 << rng_.below(8));
        return;
      case 1:
        if (!s.empty()) s[at(s)] = static_cast<char>(rng_.below(256));
        return;
      case 2:
        return s.resize(rng_.below(s.size() + 1));
      case 3:
        return edge_integer(s);
      case 4:
        return small_step(s);
      case 5:
        return splice(s);
      case 6:
        if (!s.empty()) s.erase(at(s), 1 + rng_.below(16));
        return;
      case 7:
        return replace_number(s);
      default:
        return insert_word(s);
    }
  }

 private:
  size_t at(const std::string& s) { return rng_.below(s.size()); }

  /// An integer of 1, 2, 4 or 8 bytes becomes one where arithmetic goes wrong.
  void edge_integer(std::string& s) {
    constexpr uint64_t kEdges[] = {0,          1,          127,        128,        255,        32767,
                                   65535,      0x7fffffff, 0x80000000, 0xffffffff, 1ULL << 32, 1ULL << 60,
                                   ~0ULL >> 1, 1ULL << 63, ~0ULL,      ~0ULL - 7,  ~0ULL - 31};
    const uint64_t value = kEdges[rng_.below(std::size(kEdges))];
    const size_t width = size_t{1} << rng_.below(4);
    if (s.size() >= width) std::memcpy(s.data() + rng_.below(s.size() - width + 1), &value, width);
  }
  void small_step(std::string& s) {
    if (!s.empty()) s[at(s)] = static_cast<char>(s[at(s)] + static_cast<int>(rng_.below(9)) - 4);
  }
  /// A piece of some input goes somewhere else.
  void splice(std::string& s) {
    const std::string& other = corpus_[rng_.below(corpus_.size())];
    if (other.empty()) return;
    const std::string piece = other.substr(rng_.below(other.size()), 1 + rng_.below(64));
    const size_t place = rng_.below(s.size() + 1);
    rng_.below(2) ? s.replace(place, piece.size(), piece) : s.insert(place, piece);
  }
  /// The digits that follow some place become another number.
  void replace_number(std::string& s) {
    constexpr const char* kNumbers[] = {"0",  "-1",    "1e999", "-0.0",       "1.5", "9223372036854775808",
                                        "1",  "65536", "null",  "4294967297", "[]",  "18446744073709551616",
                                        "{}", "1e18",  "-2",    "true",       "256", "\"7\""};
    if (s.empty()) return;
    const size_t from = s.find_first_of("0123456789", at(s));
    if (from == std::string::npos) return;
    const size_t to = std::min(s.find_first_not_of("0123456789.e+-", from), s.size());
    s.replace(from, to - from, kNumbers[rng_.below(std::size(kNumbers))]);
  }
  void insert_word(std::string& s) {
    constexpr const char* kWords[] = {"{",       "}",           "[",       "]",       "\"",
                                      ",",       ":",           "\\u0000", "\xff",    "\"F16\"",
                                      "\"I64\"", "\"F8_E4M3\"", "[[[[[",   "{\"a\":", "\\ud800"};
    s.insert(rng_.below(s.size() + 1), kWords[rng_.below(std::size(kWords))]);
  }

  Rng& rng_;
  const std::vector<std::string>& corpus_;
};

struct Options {
  double seconds = 5;
  uint64_t seed = 1;
  std::vector<std::string> inputs;
};

Options parse(const std::vector<std::string>& arguments) {
  Options options;
  if (const char* seconds = std::getenv("LLMTOOL_FUZZ_SECONDS")) options.seconds = std::atof(seconds);
  for (size_t i = 1; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--seconds" && i + 1 < arguments.size()) {
      options.seconds = std::atof(arguments[++i].c_str());
    } else if (argument == "--seed" && i + 1 < arguments.size()) {
      options.seed = std::strtoull(arguments[++i].c_str(), nullptr, 10);
    } else if (fs::is_directory(argument)) {
      for (const auto& entry : fs::directory_iterator(argument)) {
        if (entry.is_regular_file()) options.inputs.push_back(llmtool::test::read_text(entry.path()));
      }
    } else if (fs::exists(argument)) {
      options.inputs.push_back(llmtool::test::read_text(argument));
    } else {
      throw std::runtime_error(argument + ": neither an option nor a file");
    }
  }
  return options;
}

int run(const std::vector<std::string>& arguments) {
  const Options options = parse(arguments);
  std::vector<std::string> corpus = llmtool::test::seed_corpus();
  corpus.insert(corpus.end(), options.inputs.begin(), options.inputs.end());
  double slowest = 0;
  uint64_t runs = 0;
  const auto start = Clock::now();
  Record record(fs::path(arguments.front()).filename().string() + ".input");
  const auto attempt = [&](const std::string& input) noexcept {  // whatever is thrown ends the program
    record.set(input);
    const auto before = Clock::now();
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
    slowest = std::max(slowest, seconds_since(before));
    ++runs;
  };
  for (const std::string& input : corpus) attempt(input);
  std::erase_if(corpus, [](const std::string& input) { return input.size() > kMaxMutated; });
  Rng rng(options.seed);
  Mutator mutator(rng, corpus);
  while (seconds_since(start) < options.seconds && slowest < kSlow) {
    std::string input = corpus[rng.below(corpus.size())];
    for (uint64_t n = uint64_t{1} << rng.below(4); n > 0; --n) mutator.mutate(input);
    attempt(input);
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::printf("%llu inputs in %.1f s, the slowest in %.3f s, %ld MB at most\n",
              static_cast<unsigned long long>(runs), seconds_since(start), slowest, usage.ru_maxrss / 1024);
  return slowest < kSlow && usage.ru_maxrss < kMaxResident ? 0 : 1;
}
}  // namespace

int main(int argc, char** argv) {
  try {
    return run({argv, argv + argc});
  } catch (const std::runtime_error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 2;
  }
}
