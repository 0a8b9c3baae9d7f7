// Adapter: the values it starts from.

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>

#include "llmtool/core/error.h"
#include "llmtool/core/workspace.h"
#include "llmtool/kernels/convert.h"
#include "llmtool/nn/block.h"
#include "llmtool/peft/adapter.h"
#include "peft/adalora.h"

namespace llmtool {

namespace {
using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

void draw_normal(Tensor t, double deviation, Rng rng) {
  for (int64_t i = 0; i < t.size(); ++i) t.f32()[i] = static_cast<float>(deviation * rng.normal());
}
void draw_uniform(Tensor t, double bound, Rng rng) {
  for (int64_t i = 0; i < t.size(); ++i) t.f32()[i] = static_cast<float>(bound * (2 * rng.uniform() - 1));
}
void set_all(Tensor t, float value) { std::fill_n(t.f32(), t.size(), value); }

Matrix widened(const Tensor& weight) {
  std::vector<float> values(static_cast<size_t>(weight.size()));
  to_f32(weight.data, weight.dtype, values.data(), weight.size());
  return Eigen::Map<const RowMatrix>(values.data(), weight.rows(), weight.cols()).cast<double>();
}

/// The `rank` greatest singular values of w (out, in) with their right vectors, by the eigenvectors of the
/// smaller Gram matrix.
struct Svd {
  Matrix u, v;  // (out, R), (in, R)
  Eigen::VectorXd s;
};
Svd exact_svd(const Matrix& w, int64_t rank) {
  const bool wide = w.cols() > w.rows();
  const Matrix gram = wide ? Matrix(w * w.transpose()) : Matrix(w.transpose() * w);
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(gram);
  const Matrix vectors = solver.eigenvectors().rightCols(rank).rowwise().reverse();
  const Eigen::VectorXd s = solver.eigenvalues().tail(rank).reverse().cwiseMax(0).cwiseSqrt();
  const Eigen::VectorXd inverse = s.unaryExpr([](double x) { return x > 0 ? 1 / x : 0.0; });
  if (wide) return {vectors, (w.transpose() * vectors) * inverse.asDiagonal(), s};
  return {(w * vectors) * inverse.asDiagonal(), vectors, s};
}

/// Halko, Martinsson and Tropp 2011, with `iterations` of the power method.
Svd random_svd(const Matrix& w, int64_t rank, int64_t iterations, Rng rng) {
  Matrix probe(w.cols(), rank);
  for (int64_t i = 0; i < probe.size(); ++i) probe.data()[i] = rng.normal();
  const auto orthonormal = [&](const Matrix& m) {
    return Matrix(Eigen::HouseholderQR<Eigen::MatrixXd>(m).householderQ() *
                  Eigen::MatrixXd::Identity(m.rows(), rank));
  };
  Matrix q = orthonormal(w * probe);
  for (int64_t i = 0; i < iterations; ++i) q = orthonormal(w * orthonormal(w.transpose() * q));
  const Svd small = exact_svd(q.transpose() * w, rank);
  return {q * small.u, small.v, small.s};
}
}  // namespace

void Adapter::initialize_low_rank(uint64_t seed) {
  uint64_t stream = 0;
  const std::string& init = config_.init_lora_weights;
  for (const auto& [name, c] : changes_) {
    LowRank& l = change(c);
    const Rng rng = Rng(seed).split(stream++);
    if (l.e) {
      draw_normal(l.a.value(), 0.02, rng.split(0));
      draw_normal(l.b.value(), 0.02, rng.split(1));
      set_all(l.e->value, 0);
      continue;
    }
    if (init == "gaussian") {
      draw_normal(l.a.value(), 1.0 / static_cast<double>(l.rank()), rng.split(0));
    } else {
      draw_uniform(l.a.value(), 1.0 / std::sqrt(static_cast<double>(l.in())), rng.split(0));
    }
    set_all(l.b.value(), 0);
    // As many columns as A has rows, of all experts together.
    const auto columns = static_cast<double>(l.a.param->value.shape[0]);
    if (init == "false") draw_uniform(l.b.value(), 1.0 / std::sqrt(columns), rng.split(1));
  }
}

void Adapter::initialize_pissa(uint64_t seed) {
  const std::string& init = config_.init_lora_weights;
  uint64_t stream = 0;
  for (const auto& [name, c] : changes_) {
    LowRank& l = change(c);
    const Tensor& weight = c.site.linear->parts()[c.site.part].weight->value;
    const int64_t R = l.rank();
    if (R > std::min(l.in(), l.out()))
      throw UsageError(
          cat("adapter.r: expected at most ", std::min(l.in(), l.out()), " for pissa, found ", R));
    const Svd svd = init == "pissa" ? exact_svd(widened(weight), R)
                                    : random_svd(widened(weight), R, std::stoll(init.substr(12)),
                                                 Rng(seed).split(stream++));
    const Eigen::VectorXd roots = (svd.s / static_cast<double>(l.scale)).cwiseSqrt();
    matrix(l.a.value()) = (roots.asDiagonal() * svd.v.transpose()).cast<float>();
    matrix(l.b.value()) = (svd.u * roots.asDiagonal()).cast<float>();
    matrix(c.first_a->value) = matrix(l.a.value());
    matrix(c.first_b->value) = matrix(l.b.value());
  }
}

void Adapter::measure_magnitudes() {
  ThreadPool pool(1);
  Workspace workspace(pool);
  for (const auto& [name, c] : changes_) {
    LowRank& l = change(c);
    if (!l.magnitude) continue;
    const WeightView weight(c.site.linear->parts()[c.site.part].weight->value);
    workspace.run([&](Exec& exec) {
      l.measure(exec, weight);
      l.refresh(exec, weight);
    });
  }
}

void Adapter::initialize(uint64_t seed, std::span<const int32_t> prompt_ids) {
  if (config_.init_lora_weights.starts_with("pissa") && config_.peft_type == "LORA") {
    initialize_pissa(seed);
  } else {
    initialize_low_rank(seed);
  }
  for (const auto* scales : {&input_scales_, &output_scales_}) {
    uint64_t stream = scales == &input_scales_ ? 1 : 2;
    for (const auto& [name, p] : *scales) {
      set_all(p->value, 1);
      if (!config_.init_ia3_weights) draw_normal(p->value, 1, Rng(seed).split(stream += 2));
    }
  }
  uint64_t stream = 0;
  for (int64_t layer = 0; config_.peft_type == "ADAPTION_PROMPT" && layer < model_.config().num_hidden_layers;
       ++layer) {
    const AdaptionPrompt& prompt = model_.block(layer).prompt;
    if (!prompt.tokens) continue;
    draw_normal(prompt.tokens->value, 1, Rng(seed).split(stream++));
    set_all(prompt.gate->value, 0);
  }
  Param* const virtual_values = config_.has_virtual_tokens() ? &store_.list().front() : nullptr;
  if (virtual_values) draw_normal(virtual_values->value, 1, Rng(seed).split(0));
  if (config_.peft_type == "PROMPT_TUNING" && config_.prompt_tuning_init != "RANDOM") {
    std::vector<int32_t> ids(prompt_ids.begin(), prompt_ids.end());
    Rng rng = Rng(seed).split(1);
    if (config_.prompt_tuning_init == "SAMPLE_VOCAB") {
      ids.clear();
      for (int64_t i = 0; i < config_.num_virtual_tokens; ++i)
        ids.push_back(static_cast<int32_t>(rng.below(static_cast<uint64_t>(model_.config().vocab_size))));
    }
    if (ids.empty())
      throw UsageError("adapter.prompt_tuning_init_text: expected a text with at least one token");
    model_.embedding_rows(ids, virtual_values->value);
  }
  if (embedding_change_ != SIZE_MAX) {
    const EmbeddingChange& change = model_.embedding_changes()[embedding_change_];
    set_all(change.a->value, 0);
    draw_normal(change.b->value, 1, Rng(seed).split(~uint64_t{0}));
  }
  for (const auto& [name, c] : changes_) {  // |W| of rows: nothing is changed at first
    LowRank& l = change(c);
    if (l.magnitude) set_all(l.magnitude->value, 1);
  }
  measure_magnitudes();
  for (const auto& [name, c] : changes_) {
    LowRank& l = change(c);
    for (int64_t i = 0; l.magnitude && i < l.out(); ++i)
      l.magnitude->value.f32()[i] = l.gains.f32()[i] != 0 ? 1 / l.gains.f32()[i] : 0;
  }
  measure_magnitudes();
}

}  // namespace llmtool
