#pragma once
// What commands share that open a model.

#include <memory>
#include <string>
#include <vector>

#include "llmtool/model/model_source.h"
#include "llmtool/peft/merge.h"
#include "llmtool/text/tokenizer.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace llmtool {

/// --adapter, of a command that runs a model with adapters beside its weights.
CLI::Option* add_adapter_flag(CLI::App& app, std::vector<std::string>& named);

/// Of DIR or DIR=NUMBER, DIR being a PEFT folder, a run folder or a checkpoint. Throws UsageError.
WeightedAdapters adapters_named(const std::vector<std::string>& named);

/// Where the tokenizer's files are: with the last adapter that has some, which may know more tokens than the
/// model, else with the model.
std::filesystem::path tokenizer_place(const ModelSource& source, const WeightedAdapters& adapters);
/// The tokenizer named, or the one at that place; nullptr where there is none that can be read.
std::shared_ptr<const Tokenizer> tokenizer_of(const ModelSource& source, const std::string& named,
                                              const WeightedAdapters& adapters = {});

/// Of a Hugging Face folder, a file's text or "" where there is none.
std::string text_beside(const ModelSource& source, const char* name);

/// Tells files from others at a glance: XXH3-64 over names, sizes, and the first and last MiB of a file or of
/// all files of a folder. Throws Error naming what cannot be read.
uint64_t glance_hash(const std::filesystem::path& path);

}  // namespace llmtool
