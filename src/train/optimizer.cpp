#include "llmtool/train/optimizer.h"

#include <cmath>
#include <cstring>

#include "llmtool/core/error.h"
#include "llmtool/io/safetensors.h"
#include "llmtool/kernels/optimizer.h"

namespace llmtool {

AdamW::AdamW(ParamStores stores, AdamWConfig config)
    : stores_(std::move(stores)),
      config_(config),
      first_(static_cast<size_t>(trainable_count(stores_)) * sizeof(float)),
      second_(static_cast<size_t>(trainable_count(stores_)) * sizeof(float)) {}

template <class Visit>
void AdamW::each(Visit visit) const {
  auto* first = reinterpret_cast<float*>(first_.data());
  auto* second = reinterpret_cast<float*>(second_.data());
  for (const ParamStore* store : stores_) {
    for (const Param& p : store->list()) {
      if (!p.trainable) continue;
      visit(p, first, second);
      first += p.value.size();
      second += p.value.size();
    }
  }
}

void AdamW::step(Exec& exec, double learning_rate, double gradient_scale) {
  ++steps_;
  each([&](const Param& p, float* m, float* v) {
    const AdamWStep s{learning_rate * p.rate_scale,         config_.beta1,  config_.beta2, config_.eps,
                      p.decay ? config_.weight_decay : 0.0, gradient_scale, steps_};
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
  each([&](const Param& p, float* m, float* v) {
    stored.copy_f32(p.name + ".exp_avg", Tensor(m, p.value.shape));
    stored.copy_f32(p.name + ".exp_avg_sq", Tensor(v, p.value.shape));
  });
  steps_ = steps;
}

int64_t parameter_count(const ParamStores& stores) {
  int64_t count = 0;
  for (const ParamStore* store : stores) count += store->count();
  return count;
}

int64_t trainable_count(const ParamStores& stores) {
  int64_t count = 0;
  for (const ParamStore* store : stores) count += store->trainable_count();
  return count;
}

void zero_gradients(Exec& exec, const ParamStores& stores) {
  for (const ParamStore* store : stores) {
    if (store->gradients()) fill_zero(exec, store->gradients());
  }
}

double gradient_norm(Exec& exec, const ParamStores& stores) {
  double squares = 0;
  for (const ParamStore* store : stores) {
    const Tensor all = store->gradients();
    if (all) squares += sum_of_squares(exec, all.f32(), all.size());
  }
  return std::sqrt(squares);
}

}  // namespace llmtool
