// Adapter: weights with the adapter in them.

#include <algorithm>

#include "llmtool/core/error.h"
#include "llmtool/nn/block.h"
#include "llmtool/peft/adapter.h"

namespace llmtool {

namespace {
using Map = Eigen::Map<RowMatrix>;

RowMatrix change_in_full(const LowRank& l) {
  const RowMatrix b = l.e ? RowMatrix(matrix(l.b.value()) * array(l.e->value).matrix().asDiagonal())
                          : RowMatrix(matrix(l.b.value()));
  return l.scale * (b * matrix(l.a.value()));
}
}  // namespace

void Adapter::check_foldable(double weight) const {
  if (!config_.is_lora() && config_.peft_type != "IA3")
    throw UsageError(
        cat(config_.peft_type, ": no weight can hold it; `generate --adapter` runs it as it is"));
  if (weight != 1) check_scalable();
}

void Adapter::replace(const Param& p, float* values, double weight) const {
  if (!saved_.contains(p.name)) return;
  const float* const own = model_.params().find(p.name)->value.f32();
  if (weight == 1) {  // to the bit
    std::copy_n(own, p.value.size(), values);
    return;
  }
  const auto w = static_cast<float>(weight);
  for (int64_t i = 0; i < p.value.size(); ++i) values[i] += w * (own[i] - values[i]);
}

void Adapter::fold(const Param& p, float* values, double weight) const {
  check_foldable(weight);
  const auto w = static_cast<float>(weight);
  for (const auto& [name, c] : changes_) {
    if (name != p.name) continue;
    Map to(values, p.value.rows(), p.value.cols());
    const LowRank& l = change(c);
    RowMatrix delta = change_in_full(l);
    if (c.first_a) delta += change_in_full(c.site.linear->parts()[c.site.part].changes[c.index + 1]);
    to += w * delta;
    for (int64_t row = 0; l.magnitude && row < to.rows(); ++row) {
      const double norm = to.row(row).cast<double>().norm();
      to.row(row) *= static_cast<float>(norm > 0 ? l.magnitude->value.f32()[row] / norm : 0);
    }
  }
  if (embedding_change_ != SIZE_MAX && p.name == model_.embedding().name) {
    const EmbeddingChange& e = model_.embedding_changes()[embedding_change_];
    Map(values, p.value.rows(), p.value.cols()) +=
        w * e.scale * (matrix(e.b->value) * matrix(e.a->value)).transpose();
  }
  const std::string bias = ".bias";
  const std::string of_weight =
      p.name.ends_with(bias) ? p.name.substr(0, p.name.size() - bias.size()) + ".weight" : p.name;
  const int64_t rows = p.value.shape[0], cols = p.value.size() / rows;
  if (const auto out = output_scales_.find(of_weight); out != output_scales_.end()) {
    for (int64_t i = 0; i < p.value.size(); ++i) values[i] *= out->second->value.f32()[i / cols];
  }
  if (const auto in = input_scales_.find(p.name); in != input_scales_.end()) {
    for (int64_t i = 0; i < p.value.size(); ++i) values[i] *= in->second->value.f32()[i % cols];
  }
}

}  // namespace llmtool
