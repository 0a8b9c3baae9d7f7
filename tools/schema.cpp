#include <CLI/CLI.hpp>
#include <memory>

#include "command.h"

namespace llmtool {

std::function<int()> schema_command(CLI::App& app) {
  auto name = std::make_shared<std::string>();
  std::vector<std::string> names;
  for (const NamedConfig& config : named_configs()) names.emplace_back(config.name);
  app.add_option("NAME", *name, "The command")->required()->check(CLI::IsMember(names));
  return [name] {
    for (const NamedConfig& config : named_configs()) {
      if (*name == config.name)
        print_json(config_schema([&](ConfigVisitor& v) { config.keys(v, ""); }, "llmtool " + *name));
    }
    return 0;
  };
}

}  // namespace llmtool
