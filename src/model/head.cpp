// Transformer: what stands on top of the last layer.

#include <cmath>

#include "llmtool/core/error.h"
#include "llmtool/kernels/cross_entropy.h"
#include "llmtool/kernels/optimizer.h"
#include "model/transformer_impl.h"

namespace llmtool {

namespace {
constexpr uint64_t kHeadStream = ~uint64_t{1};

/// Rows whose logits exist at a time: enough for the matrix product to be fast, few enough to stay small.
int64_t logit_rows(int64_t V) { return std::clamp<int64_t>((int64_t{4} << 20) / V, 256, 1024); }
}  // namespace

void Transform::forward(Exec& exec, Tensor x, Tensor raw, Tensor activated, Tensor y) const {
  dense.forward(exec, x, raw);
  activate(exec, activation, false, raw, norm ? activated : y);
  if (norm) norm.forward(exec, activated, y);
}

void Transform::backward(Exec& exec, Tensor x, Tensor raw, Tensor activated, Tensor d) {
  ArenaScope scope(exec.scratch);
  const Tensor dactivated = exec.scratch.take(d.shape);
  if (norm) {
    fill_zero(exec, dactivated);
    norm.backward(exec, activated, d, dactivated);
  }
  activate_backward(exec, activation, false, raw, norm ? dactivated : d, dactivated);
  dense.backward(exec, x, dactivated, d);
}

void Transformer::Impl::add_head() {
  const WeightNames& n = row.names;
  const int64_t C = config.hidden_size, V = config.vocab_size;
  if (config.pooler) pooler.dense = add_linear(n.prefix, {n.pooler}, C, {C}, true);
  switch (config.head) {
    case HeadKind::language_model:
      if (*n.head_transform) {
        transform = {add_linear("", {n.head_transform}, C, {C}, true), activation_named(config.hidden_act),
                     add_norm("", n.head_norm)};
      }
      head = config.tie_word_embeddings ? embedding : store.add(cat(n.head, ".weight"), {V, C}, true);
      if (*n.head_bias) {
        const bool tied = config.tie_word_embeddings;
        head_bias = store.add(tied ? n.head_bias : cat(n.head, ".bias"), {V}, false);
      }
      break;
    case HeadKind::classification: {
      const auto labels = static_cast<int64_t>(config.labels.size());
      head = store.add(cat(n.classifier, ".weight"), {labels, C}, true);
      if (row.classifier_bias) head_bias = store.add(cat(n.classifier, ".bias"), {labels}, false);
      break;
    }
    case HeadKind::none:
      return;
  }
  output = Linear(C);
  output.add(head, head_bias);
}

void Transformer::Impl::require_generation() const {
  if (!config.generates()) throw Error(cat("[model] ", class_of(config), " does not predict next tokens"));
}

void Transformer::Impl::logits_of(Exec& exec, Tensor hidden, Tensor logits, bool few_rows) const {
  ArenaScope scope(exec.scratch);
  const int64_t rows = hidden.rows(), C = config.hidden_size;
  Tensor x = hidden;
  if (final_norm) {
    x = exec.scratch.take({rows, C});
    final_norm.forward(exec, hidden, x);
    report("final_norm", -1, x);
  }
  const Transform& before = config.head == HeadKind::classification ? pooler : transform;
  if (before) {
    const Tensor raw = exec.scratch.take({rows, C}), activated = exec.scratch.take({rows, C});
    const Tensor features = exec.scratch.take({rows, C});
    before.forward(exec, x, raw, activated, features);
    x = features;
  }
  output.forward(exec, x, logits, {.few_rows = few_rows});
  if (config.final_logit_softcapping > 0 && config.head == HeadKind::language_model)
    softcap(exec, logits, static_cast<float>(config.final_logit_softcapping));
}

void Transformer::Impl::require_loss() const {
  if (config.head == HeadKind::none) throw Error("[model] a model without a head has no loss");
  const bool one_of_labels = config.problem_type.empty()
                                 ? config.labels.size() != 1
                                 : config.problem_type == "single_label_classification";
  if (config.head == HeadKind::classification && !one_of_labels)
    throw Error("[model] a classification head is trained on one label of several, not on numbers or sets");
}

std::vector<int64_t> Transformer::Impl::summary_rows(const Batch& batch,
                                                     std::span<const int64_t> starts) const {
  std::vector<int64_t> rows;
  for (size_t b = 0; b + 1 < starts.size(); ++b) {
    int64_t row = pooler ? starts[b] : starts[b + 1] - 1;
    while (!pooler && config.pad_token_id && row > starts[b] &&
           batch.ids[static_cast<size_t>(row)] == *config.pad_token_id) {
      --row;
    }
    rows.push_back(row);
  }
  return rows;
}

std::vector<int64_t> Transformer::Impl::rows_of_loss(Exec& exec, std::span<const int64_t> summaries,
                                                     std::span<const int32_t> targets,
                                                     std::vector<int32_t>& counted) const {
  std::vector<int64_t> rows;
  for (size_t i = 0; i < targets.size(); ++i) {
    if (!exec.dry() && targets[i] < 0) continue;
    rows.push_back(summaries.empty() ? static_cast<int64_t>(i) : summaries[i]);
    counted.push_back(targets[i]);
  }
  return rows;
}

void Transformer::Impl::output_loss(Exec& exec, Tensor features, std::span<const int32_t> targets,
                                    const LossOptions& options, bool gradient, double* losses) {
  ArenaScope scope(exec.scratch);
  const int64_t N = features.rows(), C = features.cols(), V = outputs(), chunk = std::min(N, logit_rows(V));
  const Tensor logits_block = exec.scratch.take({chunk, V});
  const bool caps = config.final_logit_softcapping > 0 && config.head == HeadKind::language_model;
  const auto cap = static_cast<float>(config.final_logit_softcapping);
  const Tensor dx_block = gradient ? exec.scratch.take({chunk, C}) : Tensor();
  const CrossEntropy terms{options.z_loss, options.label_smoothing,
                           options.class_weights.empty() ? nullptr : options.class_weights.data(),
                           options.scale};
  const Tensor capped = caps && gradient ? exec.scratch.take({chunk, V}) : Tensor();
  for (int64_t first = 0; first < N; first += chunk) {
    const int64_t rows = std::min(chunk, N - first);
    const Tensor logits(logits_block.f32(), {rows, V});
    const Tensor x(features.f32() + first * C, {rows, C});
    output.forward(exec, x, logits, {.training = gradient});
    if (caps) {
      softcap(exec, logits, cap);
      if (gradient) copy_rows(exec, logits.f32(), V, capped.f32(), V, rows, V);
    }
    cross_entropy(exec, logits, targets.data() + first, terms, gradient, losses + first);
    if (!gradient) continue;
    if (caps) softcap_backward(exec, {capped.f32(), {rows, V}}, cap, logits);
    const Tensor dx(dx_block.f32(), {rows, C});
    output.backward(exec, x, logits, dx);
    copy_rows(exec, dx.f32(), C, x.f32(), C, rows, C);  // no longer needed
  }
}

LossSums Transformer::Impl::head_loss(Exec& exec, const Sequences& s, std::span<const int64_t> summaries,
                                      Tensor hidden, std::span<const int32_t> targets,
                                      const LossOptions& options, Tensor dhidden) {
  ArenaScope scope(exec.scratch);
  std::vector<int32_t> counted;
  const std::vector<int64_t> rows = rows_of_loss(exec, summaries, targets, counted);
  const auto N = static_cast<int64_t>(rows.size()), C = hidden.cols();
  if (N == 0) {
    if (dhidden) fill_zero(exec, dhidden);
    return {};
  }
  const auto take = [&] { return exec.scratch.take({N, C}); };
  const bool all = N == hidden.rows();
  // A dry run cannot know the targets: the copy for fewer rows is there in any case.
  const Tensor copy = take(), picked = all ? hidden : copy;
  if (!all) gather_rows(exec, hidden, rows, picked);
  Tensor x = picked;
  if (final_norm) {
    x = take();
    final_norm.forward(exec, picked, x);
    report("final_norm", -1, x);
  }
  Transform& before = config.head == HeadKind::classification ? pooler : transform;
  Tensor raw, activated, features = x;
  if (before) {
    raw = take(), activated = take(), features = take();
    before.forward(exec, x, raw, activated, features);
  }
  const double rate = s.training && config.head == HeadKind::classification ? config.classifier_dropout : 0;
  const Dropout dropout{rate, exec.rng.split(kHeadStream)};
  if (dropout) apply_dropout(exec, features, dropout, features);
  const Tensor losses_block = exec.scratch.take({2 * N});
  auto* const losses = static_cast<double*>(losses_block.data);
  output_loss(exec, features, counted, options, static_cast<bool>(dhidden), losses);
  if (dhidden) {
    if (dropout) apply_dropout(exec, features, dropout, features);
    if (before) before.backward(exec, x, raw, activated, features);
    const Tensor dpicked = all ? dhidden : take();
    if (final_norm) {
      fill_zero(exec, dpicked);
      final_norm.backward(exec, picked, features, dpicked);
    } else {
      copy_rows(exec, features.f32(), C, dpicked.f32(), C, N, C);
    }
    if (!all) {
      fill_zero(exec, dhidden);
      scatter_rows(exec, dpicked, rows, dhidden);
    }
  }
  LossSums sums;
  sums.count = exec.dry() ? 0 : N;
  for (int64_t i = 0; i < sums.count; ++i) {
    sums.loss += losses[i];
    sums.weight += options.class_weights.empty()
                       ? 1.0
                       : static_cast<double>(
                             options.class_weights[static_cast<size_t>(counted[static_cast<size_t>(i)])]);
  }
  return sums;
}

}  // namespace llmtool
