#pragma once
// The goldens of tests/reference: tiny models, and what the reference library computes with them.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "llmtool/io/safetensors.h"
#include "llmtool/model/model_source.h"
#include "llmtool/model/transformer.h"
#include "support.h"

namespace llmtool::test {

struct Machine {
  explicit Machine(int threads = 2) : pool(threads) {}
  ThreadPool pool;
  Arena saved{size_t{16} << 20}, scratch{size_t{64} << 20};
  Exec exec{pool, saved, scratch, Rng(1)};
};

/// LLMTOOL_GOLDENS, or the committed ones.
inline std::filesystem::path goldens() {
  const char* const fresh = std::getenv("LLMTOOL_GOLDENS");
  return fresh ? std::filesystem::path(fresh) : source_file("tests/reference/goldens");
}

/// Those of models that generate, or of the others.
inline std::vector<std::string> golden_names(bool generate) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(goldens())) {
    if (read_model_config(entry.path()).generates() == generate) names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// The largest difference, as a share of the largest value expected; where all are 0 (an expert that nothing
/// went to), itself.
inline double difference(const float* found, const std::vector<float>& expected) {
  double most = 0, scale = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    most = std::max(most, std::abs(static_cast<double>(found[i]) - expected[i]));
    scale = std::max(scale, std::abs(static_cast<double>(expected[i])));
  }
  return scale > 0 ? most / scale : most;
}

/// What a file holds of a parameter, in the parameter's own order.
inline std::vector<float> as_in_memory(const Param& p, const std::vector<float>& stored) {
  std::vector<float> values = stored;
  const int64_t rows = p.value.shape[0], cols = p.value.size() / rows;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t from = p.file_rows.empty() ? r : p.file_rows[static_cast<size_t>(r)];
    for (int64_t c = 0; c < cols; ++c) {
      values[static_cast<size_t>(r * cols + c)] =
          stored[static_cast<size_t>(p.transpose ? c * rows + r : from * cols + c)];
    }
  }
  return values;
}

class Golden : public ::testing::TestWithParam<std::string> {
 protected:
  std::filesystem::path folder = goldens() / GetParam();
  SafetensorsFile golden{folder / "golden.safetensors"};
  Transformer model = load_transformer(folder);
  Machine machine;

  std::vector<int32_t> ids(const std::string& name) const { return values<int32_t>(name); }
  std::vector<float> floats(const std::string& name) const { return values<float>(name); }

 private:
  template <class T>
  std::vector<T> values(const std::string& name) const {
    const Tensor t = golden.tensors().at(name);
    std::vector<T> list(static_cast<size_t>(t.size()));
    std::memcpy(list.data(), t.data, t.bytes());
    return list;
  }
};

}  // namespace llmtool::test
