#include "llmtool/model/embedding.h"

#include <nlohmann/json.hpp>
#include <string>

#include "llmtool/core/error.h"
#include "llmtool/io/files.h"
#include "llmtool/io/json.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;
constexpr const char *kModules = "modules.json", *kPooling = "1_Pooling/config.json";
constexpr const char* kMode = "pooling_mode_";
constexpr std::pair<const char*, Pooling> kModes[] = {
    {"cls_token", Pooling::first}, {"mean_tokens", Pooling::mean}, {"lasttoken", Pooling::last}};
constexpr const char* kHint = "; --pooling of embed chooses what is done instead";

std::optional<Pooling> read_pooling(const fs::path& folder) {
  if (!fs::is_regular_file(folder / kPooling)) return {};
  const std::string origin = (folder / kPooling).string();
  const nlohmann::json parsed = parse_json(read_file(folder / kPooling), origin);
  const JsonObject json(parsed, origin);
  std::string modes;
  for (const auto& [key, value] : parsed.items()) {
    if (!key.starts_with(kMode) || value != true) continue;
    if (!modes.empty()) modes += ' ';
    modes += key.substr(std::string_view(kMode).size());
  }
  for (const auto& [name, pooling] : kModes) {
    if (modes == name) return pooling;
  }
  throw Error(cat(origin, ": expected one of cls_token, lasttoken and mean_tokens, found ",
                  modes.empty() ? "none" : modes, kHint));
}

bool read_normalize(const fs::path& folder) {
  if (!fs::is_regular_file(folder / kModules)) return false;
  const std::string origin = (folder / kModules).string();
  bool found = false;
  const nlohmann::json modules = parse_json(read_file(folder / kModules), origin);
  for (const nlohmann::json& module : modules.is_array() ? modules : nlohmann::json::array()) {
    const std::string type = JsonObject(module, origin).string("type", "");
    const std::string name = type.substr(type.rfind('.') + 1);
    if (name == "Normalize") found = true;
    if (name != "Normalize" && name != "Transformer" && name != "Pooling")
      throw Error(cat(origin, ": ", type, " is not supported", kHint));
  }
  return found;
}
}  // namespace

EmbeddingSettings read_embedding_settings(const fs::path& folder) {
  return {read_pooling(folder), read_normalize(folder)};
}

void write_embedding_settings(const EmbeddingSettings& settings, int64_t width, const fs::path& folder) {
  if (!settings.pooling && !settings.normalize) return;
  nlohmann::ordered_json modules = nlohmann::ordered_json::array();
  const auto add = [&](const char* type, const char* path) {
    modules.push_back({{"idx", modules.size()},
                       {"name", std::to_string(modules.size())},
                       {"path", path},
                       {"type", cat("sentence_transformers.models.", type)}});
  };
  add("Transformer", "");
  if (settings.pooling) {
    nlohmann::ordered_json pooling = {{"word_embedding_dimension", width}};
    for (const auto& [name, mode] : kModes) pooling[cat(kMode, name)] = mode == settings.pooling;
    fs::create_directories((folder / kPooling).parent_path());
    write_file(folder / kPooling, pooling.dump(2) + "\n");
    add("Pooling", "1_Pooling");
  }
  if (settings.normalize) add("Normalize", "2_Normalize");
  write_file(folder / kModules, modules.dump(2) + "\n");
}

}  // namespace llmtool
