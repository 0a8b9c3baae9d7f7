#include "train/confusion.h"

#include <algorithm>
#include <iomanip>
#include <numeric>
#include <sstream>

namespace llmtool {

namespace {
double quotient(int64_t part, int64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

std::string fixed(double value) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(3) << value;
  return out.str();
}

/// Characters of UTF-8: what a terminal shows, for most scripts.
size_t width(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}
}  // namespace

Confusion::Confusion(std::vector<std::string> labels)
    : labels_(std::move(labels)), counts_(labels_.size() * labels_.size()) {}

void Confusion::add(int64_t truth, int64_t predicted) {
  ++counts_[static_cast<size_t>(truth * classes() + predicted)];
}

int64_t Confusion::count() const { return std::accumulate(counts_.begin(), counts_.end(), int64_t{0}); }

int64_t Confusion::of_class(int64_t truth) const {
  int64_t sum = 0;
  for (int64_t p = 0; p < classes(); ++p) sum += at(truth, p);
  return sum;
}

int64_t Confusion::predicted(int64_t label) const {
  int64_t sum = 0;
  for (int64_t t = 0; t < classes(); ++t) sum += at(t, label);
  return sum;
}

double Confusion::accuracy() const {
  int64_t right = 0;
  for (int64_t c = 0; c < classes(); ++c) right += at(c, c);
  return quotient(right, count());
}

double Confusion::precision(int64_t label) const { return quotient(at(label, label), predicted(label)); }
double Confusion::recall(int64_t label) const { return quotient(at(label, label), of_class(label)); }
double Confusion::f1(int64_t label) const {
  return quotient(2 * at(label, label), predicted(label) + of_class(label));
}

double Confusion::macro_f1() const {
  double sum = 0;
  int64_t there = 0;
  for (int64_t c = 0; c < classes(); ++c) {
    if (predicted(c) + of_class(c) == 0) continue;
    sum += f1(c);
    ++there;
  }
  return there == 0 ? 0 : sum / static_cast<double>(there);
}

nlohmann::ordered_json Confusion::rows() const {
  auto all = nlohmann::ordered_json::array();
  for (int64_t t = 0; t < classes(); ++t) {
    auto row = nlohmann::ordered_json::array();
    for (int64_t p = 0; p < classes(); ++p) row.push_back(at(t, p));
    all.push_back(row);
  }
  return all;
}

RunReport::Table Confusion::table() const {
  RunReport::Table table{"Confusion matrix of the last evaluation", {"true \\ predicted"}, {}, {}};
  table.columns.insert(table.columns.end(), labels_.begin(), labels_.end());
  table.columns.insert(table.columns.end(), {"precision", "recall", "F1"});
  for (int64_t t = 0; t < classes(); ++t) {
    std::vector<std::string> row = {labels_[static_cast<size_t>(t)]};
    std::vector<double> shades;
    for (int64_t p = 0; p < classes(); ++p) {
      row.push_back(std::to_string(at(t, p)));
      shades.push_back(quotient(at(t, p), of_class(t)));
    }
    for (const double share : {precision(t), recall(t), f1(t)}) row.push_back(fixed(share));
    table.rows.push_back(row);
    table.shades.push_back(shades);
  }
  return table;
}

std::string Confusion::text() const {
  const RunReport::Table all = table();
  std::vector<std::vector<std::string>> lines = {all.columns};
  lines.insert(lines.end(), all.rows.begin(), all.rows.end());
  std::vector<size_t> widths(all.columns.size());
  for (const auto& line : lines) {
    for (size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], width(line[i]));
  }
  std::string text;
  for (const auto& line : lines) {
    if (!text.empty()) text += '\n';
    for (size_t i = 0; i < line.size(); ++i) {
      const std::string padding(widths[i] - width(line[i]), ' ');
      text += i == 0 ? "  " + line[i] + padding : "  " + padding + line[i];
    }
  }
  return text;
}

}  // namespace llmtool
