// Encoding speed of a tokenizer on one thread: a text in pieces, and lines without spaces of two lengths.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>
#include <vector>

#include "bench.h"
#include "llmtool/io/files.h"
#include "llmtool/text/tokenizer.h"

using namespace llmtool;
using namespace llmtool::bench;

namespace {
/// Nanoseconds for each byte of `texts`.
double cost(const Tokenizer& tokenizer, const std::vector<std::string>& texts, int64_t& tokens) {
  size_t bytes = 0;
  tokens = 0;
  const double time = seconds([&] {
    for (const std::string& text : texts) {
      tokens += static_cast<int64_t>(tokenizer.encode(text).size());
      bytes += text.size();
    }
  });
  return time * 1e9 / static_cast<double>(bytes);
}

/// A text without spaces of so many bytes: letters in no order that merges know much of.
std::string one_word(size_t bytes) {
  std::string word;
  uint32_t state = 1;
  while (word.size() < bytes) {
    state = state * 1664525 + 1013904223;
    word += static_cast<char>('a' + (state >> 24) % 26);
  }
  return word;
}
}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Encoding speed on one thread");
  std::string model, file;
  int rounds = 5;
  size_t piece = 4096;
  app.add_option("--model", model, "Tokenizer")->required();
  app.add_option("--text", file, "Text")->required();
  app.add_option("--rounds", rounds)->check(CLI::PositiveNumber);
  app.add_option("--piece", piece, "Bytes that are encoded at once (cut behind a line)")
      ->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);

  const auto tokenizer = load_tokenizer(model);
  const std::string text = read_file(file);
  std::vector<std::string> pieces;
  for (size_t from = 0; from < text.size();) {
    const size_t line = text.find('\n', std::min(from + piece, text.size()));
    const size_t end = line == std::string::npos ? text.size() : line + 1;
    pieces.push_back(text.substr(from, end - from));
    from = end;
  }
  const std::vector<std::string> long_line = {one_word(1 << 20)}, short_lines(64, one_word(1 << 14));
  std::vector<double> costs, long_costs, short_costs;
  int64_t tokens = 0, ignored = 0;
  for (int round = 0; round <= rounds; ++round) {
    const double whole = cost(*tokenizer, pieces, tokens);
    const double brief = cost(*tokenizer, short_lines, ignored),
                 long_one = cost(*tokenizer, long_line, ignored);
    if (round == 0) continue;
    costs.push_back(whole);
    short_costs.push_back(brief);
    long_costs.push_back(long_one);
  }
  std::printf(
      "{\"tokens\": %lld, \"mb_per_second\": %.2f, \"ns_per_byte_16k_word\": %.1f, \"ns_per_byte_1m_word\": "
      "%.1f}\n",
      static_cast<long long>(tokens), 1e3 / median(costs), median(short_costs), median(long_costs));
}
