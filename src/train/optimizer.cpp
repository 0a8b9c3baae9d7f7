#include "llmtool/train/optimizer.h"

#include <cmath>
#include <cstring>

#include "llmtool/core/error.h"
#include "llmtool/io/safetensors.h"
#include "llmtool/kernels/optimizer.h"

namespace llmtool {

AdamW::AdamW(ParamStore& params, AdamWConfig config)
    : params_(params),
      config_(config),
      first_(static_cast<size_t>(params.trainable_count()) * sizeof(float)),
      second_(static_cast<size_t>(params.trainable_count()) * sizeof(float)) {}

template <class Visit>
void AdamW::each(Visit visit) const {
  auto* first = reinterpret_cast<float*>(first_.data());
  auto* second = reinterpret_cast<float*>(second_.data());
  for (const Param& p : params_.list()) {
    if (!p.trainable) continue;
    visit(p, first, second);
    first += p.value.size();
    second += p.value.size();
  }
}

void AdamW::step(Exec& exec, double learning_rate, double gradient_scale) {
  ++steps_;
  each([&](const Param& p, float* m, float* v) {
    const AdamWStep s{
        learning_rate,  config_.beta1, config_.beta2, config_.eps, p.decay ? config_.weight_decay : 0.0,
        gradient_scale, steps_};
    adamw(exec, s, p.value.f32(), p.grad.f32(), m, v, p.value.size());
  });
}

void AdamW::save(const std::filesystem::path& file) const {
  std::vector<NamedTensor> tensors;
  each([&](const Param& p, float* m, float* v) {
    tensors.push_back({p.name + ".exp_avg", Tensor(m, p.value.shape), DType::f32});
    tensors.push_back({p.name + ".exp_avg_sq", Tensor(v, p.value.shape), DType::f32});
  });
  write_safetensors(file, tensors, {});
}

void AdamW::load(const std::filesystem::path& file, int64_t steps) {
  const SafetensorsFile stored(file);
  const auto read = [&](const std::string& name, float* to, const Shape& shape) {
    const auto it = stored.tensors().find(name);
    if (it == stored.tensors().end() || !(it->second.shape == shape) || it->second.dtype != DType::f32) {
      throw Error(cat(file.string(), ": ", name, ": expected f32 ", shape.text()));
    }
    std::memcpy(to, it->second.data, it->second.bytes());
    release_pages(it->second.data, it->second.bytes());
  };
  each([&](const Param& p, float* m, float* v) {
    read(p.name + ".exp_avg", m, p.value.shape);
    read(p.name + ".exp_avg_sq", v, p.value.shape);
  });
  steps_ = steps;
}

double gradient_norm(Exec& exec, const ParamStore& params) {
  const Tensor all = params.gradients();
  return std::sqrt(sum_of_squares(exec, all.f32(), all.size()));
}

}  // namespace llmtool
