#include "model_files.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>

#include "llmtool/core/error.h"
#include "llmtool/core/rng.h"
#include "llmtool/io/files.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;

/// A name that is there is one, whatever it looks like.
std::pair<fs::path, double> adapter_named(const std::string& named) {
  const size_t at = named.rfind('=');
  if (at == std::string::npos || fs::exists(named)) return {find_adapter_folder(named), 1};
  const std::string number = named.substr(at + 1);
  double weight = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), weight);
  if (error != std::errc() || end != number.data() + number.size() || !std::isfinite(weight))
    throw UsageError(cat("--adapter ", named, ": expected a number behind =, found \"", number, "\""));
  return {find_adapter_folder(named.substr(0, at)), weight};
}
}  // namespace

CLI::Option* add_adapter_flag(CLI::App& app, std::vector<std::string>& named) {
  return app
      .add_option(
          "--adapter", named,
          "PEFT folder or run folder, its change times SCALE (of DoRA, the low-rank part of it); may be "
          "repeated")
      ->type_name("DIR[=SCALE]")
      ->allow_extra_args(false);
}

WeightedAdapters adapters_named(const std::vector<std::string>& named) {
  WeightedAdapters adapters;
  for (const std::string& name : named) adapters.push_back(adapter_named(name));
  return adapters;
}

fs::path tokenizer_place(const ModelSource& source, const WeightedAdapters& adapters) {
  for (auto adapter = adapters.rbegin(); adapter != adapters.rend(); ++adapter) {
    if (has_tokenizer(adapter->first)) return adapter->first;
  }
  return source.path();
}

std::shared_ptr<const Tokenizer> tokenizer_of(const ModelSource& source, const std::string& named,
                                              const WeightedAdapters& adapters) {
  if (!named.empty()) return load_tokenizer(named);
  const fs::path path = tokenizer_place(source, adapters);
  const bool could = fs::is_directory(path) || std::string(source.format()) == "GGUF";
  return could && has_tokenizer(path) ? load_tokenizer(path) : nullptr;
}

std::string text_beside(const ModelSource& source, const char* name) {
  const fs::path file = source.path() / name;
  return fs::is_regular_file(file) ? read_file(file) : "";
}

uint64_t glance_hash(const fs::path& path) {
  constexpr size_t kGlance = size_t{1} << 20;
  std::vector<fs::path> files;
  if (fs::is_directory(path)) {
    for (const auto& entry : fs::directory_iterator(path)) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
  } else {
    files.push_back(path);
  }
  std::string all;
  for (const fs::path& file : files) {
    const MappedFile mapped(file);
    const auto bytes = mapped.bytes();
    const auto ends = bytes.size() > 2 * kGlance
                          ? mix64(hash64(bytes.first(kGlance))) ^ hash64(bytes.last(kGlance))
                          : hash64(bytes);
    all += cat(file.filename().string(), " ", bytes.size(), " ", hex(ends), "\n");
  }
  return hash64(std::as_bytes(std::span(all)));
}

}  // namespace llmtool
