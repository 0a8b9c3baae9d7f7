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
  struct Table {
    std::string title;
    std::vector<std::string> columns;
    std::vector<std::vector<std::string>> rows;    // the first cell names the row
    std::vector<std::vector<double>> shades = {};  // of the cells behind it, 0 to 1; may be fewer
  };
  std::vector<Table> tables;
  nlohmann::ordered_json config;
  std::vector<std::pair<std::string, std::string>> environment;
};

/// Writes a page that needs nothing beside itself: curves as SVG, samples, config, environment.
void write_report(const std::filesystem::path& file, const RunReport& report);

}  // namespace llmtool
