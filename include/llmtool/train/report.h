#pragma once
// report.html: a run in one page.

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace llmtool {

struct RunReport {
  std::string title;
  std::vector<std::pair<std::string, std::string>> summary;  // shown at the top
  std::vector<nlohmann::json> metrics;                       // rows of metrics.jsonl
  struct Sample {
    int64_t step;
    std::string prompt, text;
  };
  std::vector<Sample> samples;  // the newest last
  nlohmann::ordered_json config;
  std::vector<std::pair<std::string, std::string>> environment;
};

/// Writes a page that needs nothing beside itself: curves as SVG, samples, config, environment.
void write_report(const std::filesystem::path& file, const RunReport& report);

}  // namespace llmtool
