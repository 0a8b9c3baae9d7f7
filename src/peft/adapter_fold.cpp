// Adapter: weights with the adapter in them.

#include "llmtool/core/error.h"
#include "llmtool/nn/block.h"
#include "llmtool/peft/adapter.h"

namespace llmtool {

namespace {
using Map = Eigen::Map<RowMatrix>;

RowMatrix change_in_full(const LowRank& l) {
  const RowMatrix b = l.e ? RowMatrix(matrix(l.b->value) * array(l.e->value).matrix().asDiagonal())
                          : RowMatrix(matrix(l.b->value));
  return l.scale * (b * matrix(l.a->value));
}
}  // namespace

void Adapter::fold(const Param& p, float* values, double weight) const {
  if (!foldable())
    throw UsageError(
        cat(config_.peft_type, ": no weight can hold it; `generate --adapter` runs it as it is"));
  const auto w = static_cast<float>(weight);
  if (saved_.contains(p.name)) {
    const Param& own = *model_.params().find(p.name);
    for (int64_t i = 0; i < p.value.size(); ++i) values[i] += w * (own.value.f32()[i] - values[i]);
  }
  for (const auto& [name, c] : changes_) {
    if (name != p.name) continue;
    Map to(values, p.value.rows(), p.value.cols());
    const LowRank& l = change(c);
    RowMatrix delta = change_in_full(l);
    if (c.first_a) delta += change_in_full(c.site.linear->parts()[c.site.part].changes[c.index + 1]);
    if (l.magnitude) {
      RowMatrix sum = to + delta;
      for (int64_t row = 0; row < sum.rows(); ++row) {
        const double norm = sum.row(row).cast<double>().norm();
        sum.row(row) *= static_cast<float>(norm > 0 ? l.magnitude->value.f32()[row] / norm : 0);
      }
      delta = sum - to;
    }
    to += w * delta;
  }
  if (embedding_change_ != SIZE_MAX && p.name == model_.embedding().name) {
    const EmbeddingChange& e = model_.embedding_changes()[embedding_change_];
    Map(values, p.value.rows(), p.value.cols()) +=
        w * e.scale * (matrix(e.b->value) * matrix(e.a->value)).transpose();
  }
  const auto factor = [&](const Param& scales, int64_t i) { return 1 + w * (scales.value.f32()[i] - 1); };
  const std::string bias = ".bias";
  const std::string of_weight =
      p.name.ends_with(bias) ? p.name.substr(0, p.name.size() - bias.size()) + ".weight" : p.name;
  const int64_t rows = p.value.shape[0], cols = p.value.size() / rows;
  if (const auto out = output_scales_.find(of_weight); out != output_scales_.end()) {
    for (int64_t i = 0; i < p.value.size(); ++i) values[i] *= factor(*out->second, i / cols);
  }
  if (const auto in = input_scales_.find(p.name); in != input_scales_.end()) {
    for (int64_t i = 0; i < p.value.size(); ++i) values[i] *= factor(*in->second, i % cols);
  }
}

}  // namespace llmtool
