#pragma once
// The goldens of tests/reference: tiny models, and what the reference library computes with them.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "llmtool/core/error.h"
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

/// What it throws, "" where it throws nothing.
template <class Exception, class Call>
std::string refusal_of(Call&& call) {
  try {
    call();
  } catch (const Exception& e) {
    return e.what();
  }
  return "";
}

/// All that `again` has, bit for bit; but for Gemma's norms, to which 1 is added on the way.
inline void expect_equal_parameters(Transformer& model, Transformer& again) {
  const bool shifted = model.config().model_type.starts_with("gemma");
  for (const Param& p : again.params().list()) {
    const Param* const before = model.params().find(p.name);
    ASSERT_NE(before, nullptr) << p.name;
    ASSERT_EQ(p.value.shape, before->value.shape) << p.name;
    std::vector<float> expected(static_cast<size_t>(p.value.size()));
    std::memcpy(expected.data(), before->value.data, before->value.bytes());
    EXPECT_LE(difference(p.value.f32(), expected), shifted && p.value.shape.rank == 1 ? 1e-6 : 0) << p.name;
  }
}

/// A golden's folder with another config.
class Variant {
 public:
  Variant(const char* name, const nlohmann::json& changes) {
    const std::filesystem::path folder = goldens() / name;
    nlohmann::json config = nlohmann::json::parse(read_text(folder / "config.json"));
    for (const auto& [key, value] : changes.items()) {
      config[key] = value;
      if (value == "absent") config.erase(key);
    }
    write_text(place_ / "config.json", config.dump());
    std::filesystem::copy_file(folder / "model.safetensors", place_ / "model.safetensors");
  }
  std::filesystem::path path() const { return place_.path(); }
  std::string refusal() const {
    return refusal_of<Error>([&] { read_model_config(path()); });
  }

 private:
  TempFolder place_;
};

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
