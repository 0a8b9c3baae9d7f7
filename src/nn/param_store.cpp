#include "llmtool/nn/param_store.h"

#include <utility>

namespace llmtool {

namespace {
/// One block for the tensors that `pick` selects, side by side without gaps.
template <class Chosen>
std::pair<MemoryBlock, Tensor> lay_out(std::deque<Param>& params, Chosen chosen, Tensor Param::*member) {
  int64_t total = 0;
  for (const Param& p : params) total += chosen(p) ? p.value.shape.size() : 0;
  MemoryBlock block(static_cast<size_t>(total) * sizeof(float));
  float* next = reinterpret_cast<float*>(block.data());
  const Tensor all(next, {total});
  for (Param& p : params) {
    if (!chosen(p)) continue;
    p.*member = Tensor(next, p.value.shape);
    next += p.value.shape.size();
  }
  return {std::move(block), all};
}
}  // namespace

Param* ParamStore::add(std::string name, Shape shape, bool decay, bool transpose) {
  Param& p = params_.emplace_back();
  p.name = std::move(name);
  p.value.shape = shape;
  p.decay = decay;
  p.transpose = transpose;
  return &p;
}

void ParamStore::allocate() {
  std::tie(value_block_, values_) = lay_out(
      params_, [](const Param& p) { return !p.mapped; }, &Param::value);
}

void ParamStore::allocate_gradients() {
  std::tie(gradient_block_, gradients_) = lay_out(
      params_, [](const Param& p) { return p.trainable; }, &Param::grad);
}

Param* ParamStore::find(const std::string& name) {
  for (Param& p : params_) {
    if (p.name == name) return &p;
  }
  return nullptr;
}

int64_t ParamStore::count() const {
  int64_t n = 0;
  for (const Param& p : params_) n += p.value.shape.size();
  return n;
}

int64_t ParamStore::trainable_count() const {
  int64_t n = 0;
  for (const Param& p : params_) n += p.trainable ? p.value.shape.size() : 0;
  return n;
}

}  // namespace llmtool
