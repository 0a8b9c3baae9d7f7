#pragma once
// A confusion matrix and what is read from it.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "llmtool/train/report.h"

namespace llmtool {

class Confusion {
 public:
  explicit Confusion(std::vector<std::string> labels);
  void add(int64_t truth, int64_t predicted);

  int64_t count() const;
  int64_t of_class(int64_t truth) const;  // examples
  double accuracy() const;
  // Of one class; 0 where a quotient has no examples.
  double precision(int64_t label) const;
  double recall(int64_t label) const;
  double f1(int64_t label) const;
  /// The mean of f1 over the classes that are there or were predicted.
  double macro_f1() const;

  nlohmann::ordered_json rows() const;  // counts, a row per true class
  std::string text() const;             // for a terminal
  RunReport::Table table() const;

 private:
  int64_t at(int64_t truth, int64_t predicted) const {
    return counts_[static_cast<size_t>(truth * classes() + predicted)];
  }
  int64_t predicted(int64_t label) const;
  int64_t classes() const { return static_cast<int64_t>(labels_.size()); }

  std::vector<std::string> labels_;
  std::vector<int64_t> counts_;  // (classes, classes): true, predicted
};

}  // namespace llmtool
