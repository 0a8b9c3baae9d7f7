// Training of a byte-level BPE tokenizer on a file.

#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>

#include "bench.h"
#include "llmtool/io/files.h"
#include "llmtool/text/train_tokenizer.h"

using namespace llmtool;
using namespace llmtool::bench;

int main(int argc, char** argv) {
  CLI::App app("Training of a byte-level BPE tokenizer");
  std::string text, output;
  TokenizerTraining settings;
  settings.model_type = "byte-bpe";
  app.add_option("TEXT", text)->required()->check(CLI::ExistingFile);
  app.add_option("--vocab-size", settings.vocab_size);
  app.add_option("--output", output, "tokenizer.json to write");
  CLI11_PARSE(app, argc, argv);

  std::ifstream file(text, std::ios::binary);
  std::string piece, rest;
  const TextSource source = [&](std::string_view& given) {
    piece = rest;
    piece.resize(rest.size() + (1 << 16));
    file.read(piece.data() + rest.size(), 1 << 16);
    piece.resize(rest.size() + static_cast<size_t>(file.gcount()));
    const size_t end = file ? piece.rfind('\n') + 1 : piece.size();  // whole characters: to a line's end
    rest = piece.substr(end);
    piece.resize(end);
    given = piece;
    return !piece.empty() || !rest.empty();
  };
  TokenizerTrainingResult result;
  const double time = seconds([&] { result = train_tokenizer(settings, source); });
  if (!output.empty()) write_file(output, result.model);
  rusage use{};
  ::getrusage(RUSAGE_SELF, &use);
  std::printf("{\"seconds\": %.3f, \"peak_mb\": %.1f, \"vocab_size\": %lld}\n", time,
              static_cast<double>(use.ru_maxrss) / 1024, static_cast<long long>(result.vocab_size));
}
