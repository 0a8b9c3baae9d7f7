// Every kernel with a backward pass, forward and backward, against the scalar reference.

#include <gtest/gtest.h>

#include "llmtool/kernels/attention.h"
#include "llmtool/kernels/cross_entropy.h"
#include "llmtool/kernels/elementwise.h"
#include "llmtool/kernels/rope.h"
#include "reference.h"

namespace llmtool {
namespace {

using namespace reference;

Tensor view(std::vector<float>& x, int64_t rows, int64_t cols) { return {x.data(), {rows, cols}}; }

TEST(Norm, ForwardAndGradientsEqualTheReference) {
  for (const NormKind kind : {NormKind::layer, NormKind::rms}) {
    for (const auto& [rows, C] : {std::pair<int64_t, int64_t>{3, 5}, {2, 16}, {70, 33}, {1, 130}}) {
      Machine m;
      const auto n = static_cast<size_t>(rows * C), c = static_cast<size_t>(C);
      auto x = normal(n, 1), weight = normal(c, 2), bias = normal(c, 3), dy = normal(n, 4);
      for (float& value : x) value += 0.5f;
      if (kind == NormKind::rms) bias.clear();
      const NormWeights w{
          kind, 1e-5, {weight.data(), {C}}, bias.empty() ? Tensor() : Tensor(bias.data(), {C})};
      std::vector<float> y(n), dx(n, 2.0f), dweight(c, 3.0f), dbias(c, 4.0f);
      norm(m.exec, w, view(x, rows, C), view(y, rows, C));
      const auto f = [&](const auto& in) { return reference::norm(kind, 1e-5, in[0], in[1], in[2]); };
      const std::vector<Values<double>> inputs = {widen(x), widen(weight), widen(bias)};
      EXPECT_LT(distance(y, f(inputs)), kRounding);
      norm_backward(m.exec, w, view(x, rows, C), view(dy, rows, C), view(dx, rows, C), {dweight.data(), {C}},
                    bias.empty() ? Tensor() : Tensor(dbias.data(), {C}));
      auto expected = gradients(inputs, widen(dy), f);
      for (double& value : expected[0]) value += 2;  // they are added to what is there
      for (double& value : expected[1]) value += 3;
      for (double& value : expected[2]) value += 4;
      EXPECT_LT(distance(dx, expected[0]), kRounding);
      EXPECT_LT(distance(dweight, expected[1]), kRounding);
      if (!bias.empty()) {
        EXPECT_LT(distance(dbias, expected[2]), kRounding);
      }
    }
  }
}

TEST(Norm, FrozenWeightsGetNoGradient) {
  Machine m;
  auto x = normal(12, 1), weight = normal(6, 2), dy = normal(12, 3);
  std::vector<float> with(12), without(12), dweight(6);
  const NormWeights w{NormKind::rms, 1e-5, {weight.data(), {6}}, {}};
  norm_backward(m.exec, w, view(x, 2, 6), view(dy, 2, 6), view(with, 2, 6), {dweight.data(), {6}}, {});
  norm_backward(m.exec, w, view(x, 2, 6), view(dy, 2, 6), view(without, 2, 6), {}, {});
  EXPECT_EQ(with, without);
}

TEST(Activation, ForwardAndGradientsEqualTheReference) {
  for (const Activation f : {Activation::silu, Activation::gelu, Activation::gelu_tanh}) {
    for (const bool gated : {false, true}) {
      for (const size_t F : {1u, 7u, 16u, 45u}) {
        Machine m;
        const auto rows = int64_t{3}, cols = static_cast<int64_t>(F);
        auto h = normal(3 * F * (gated ? 2 : 1), F, 2), dy = normal(3 * F, 9);
        std::vector<float> y(3 * F), dh(h.size());
        activate(m.exec, f, gated, view(h, rows, gated ? 2 * cols : cols), view(y, rows, cols));
        const auto reference = [&](const auto& in) { return reference::activate(f, gated, in[0], F); };
        EXPECT_LT(distance(y, reference(std::vector<Values<double>>{widen(h)})), kRounding);
        const Tensor hs = view(h, rows, gated ? 2 * cols : cols);
        activate_backward(m.exec, f, gated, hs, view(dy, rows, cols), view(dh, rows, hs.cols()));
        EXPECT_LT(distance(dh, gradients({widen(h)}, widen(dy), reference)[0]), kRounding);
        if (gated) {  // dh may be h itself
          activate_backward(m.exec, f, gated, hs, view(dy, rows, cols), hs);
          EXPECT_EQ(h, dh);
        } else {  // or dy
          activate_backward(m.exec, f, gated, hs, view(dy, rows, cols), view(dy, rows, cols));
          EXPECT_EQ(dy, dh);
        }
      }
    }
  }
}

TEST(Activation, FarOutItIsTheIdentityOrNothing) {
  Machine m;
  for (const Activation f : {Activation::silu, Activation::gelu, Activation::gelu_tanh}) {
    std::vector<float> h = {-1e4f, -200, -90, 90, 200, 1e4f}, y(6), dh(6), dy(6, 1);
    activate(m.exec, f, false, view(h, 1, 6), view(y, 1, 6));
    activate_backward(m.exec, f, false, view(h, 1, 6), view(dy, 1, 6), view(dh, 1, 6));
    for (size_t i = 0; i < 6; ++i) {
      EXPECT_NEAR(y[i], i < 3 ? 0 : h[i], 1e-6 * std::abs(h[i]));
      EXPECT_NEAR(dh[i], i < 3 ? 0 : 1, 1e-6);
    }
  }
}

TEST(CrossEntropy, LossAndGradientEqualTheReference) {
  constexpr size_t R = 5, V = 37;
  const std::vector<float> weights = normal(V, 5);
  const CrossEntropy all_terms[] = {{.scale = 0.25},
                                    {.z_loss = 0.01, .scale = 0.25},
                                    {.label_smoothing = 0.1, .scale = 0.25},
                                    {.class_weights = weights.data(), .scale = 0.25},
                                    {0.01, 0.2, weights.data(), 0.25}};
  for (const CrossEntropy& terms : all_terms) {
    Machine m;
    auto logits = normal(R * V, 3, 4);
    const std::vector<int32_t> targets = {0, 36, -1, 5, 5};
    const auto losses_of = [&](const auto& in) {
      auto losses = in[0];
      losses.assign(R, 0.0);
      for (size_t r = 0; r < R; ++r) {
        if (targets[r] < 0) continue;
        const auto target = static_cast<size_t>(targets[r]);
        std::decay_t<decltype(in[0][0])> total = 0, sum = 0;
        for (size_t i = 0; i < V; ++i) total += std::exp(in[0][r * V + i]);
        for (size_t i = 0; i < V; ++i) sum += in[0][r * V + i];
        const auto log_z = std::log(total);
        const double s = terms.label_smoothing;
        losses[r] = log_z - (1 - s) * in[0][r * V + target] - s / static_cast<double>(V) * sum +
                    terms.z_loss * log_z * log_z;
        if (terms.class_weights) losses[r] *= static_cast<double>(weights[target]);
      }
      return losses;
    };
    const std::vector<Values<double>> inputs = {widen(logits)};
    const auto expected = losses_of(inputs);
    const auto gradient = gradients(inputs, Values<double>(R, 0.25), losses_of)[0];
    std::vector<double> losses(R);
    const std::vector<float> before = logits;
    cross_entropy(m.exec, view(logits, R, V), targets.data(), terms, false, losses.data());
    EXPECT_EQ(logits, before);
    for (size_t r = 0; r < R; ++r)
      EXPECT_NEAR(losses[r], expected[r], kRounding * (1 + std::abs(expected[r])));
    cross_entropy(m.exec, view(logits, R, V), targets.data(), terms, true, losses.data());
    EXPECT_LT(distance(logits, gradient), kRounding);
    for (size_t i = 0; i < V; ++i) EXPECT_EQ(logits[2 * V + i], 0);
  }
}

TEST(CrossEntropy, HoldsForHugeLogits) {
  Machine m;
  std::vector<float> logits = {1e4f, -1e4f, 0, -1e30f, -1e30f, 5};
  const int32_t targets[] = {1, 2};
  double losses[2];
  cross_entropy(m.exec, view(logits, 2, 3), targets, {}, true, losses);
  EXPECT_NEAR(losses[0], 2e4, 1e-2);
  EXPECT_NEAR(losses[1], 0, 1e-6);
  const std::vector<float> expected = {1, -1, 0, 0, 0, 0};
  for (size_t i = 0; i < 6; ++i) EXPECT_NEAR(logits[i], expected[i], 1e-6);
}

TEST(Rope, RotatesAsTheReferenceAndBack) {
  for (const size_t D : {2u, 8u, 34u}) {
    constexpr size_t T = 6, heads = 3, extra = 5;
    Machine m;
    const size_t width = heads * D + extra;  // what lies behind the heads stays
    auto x = normal(2 * T * width, D);
    const std::vector<float> before = x;
    std::vector<int32_t> positions = {0, 1, 2, 3, 4, 5};
    std::vector<float> table(T * D);
    rope_table(m.exec, {.theta = 100}, positions.data(), T, view(table, T, static_cast<int64_t>(D)));
    const Tensor angles = view(table, T, static_cast<int64_t>(D));
    rope(m.exec, angles, x.data(), 2 * T, static_cast<int64_t>(width), heads, static_cast<int64_t>(D));
    for (size_t row = 0; row < 2 * T; ++row) {
      Values<double> heads_of_row(T * heads * D, 0.0);  // at its own position
      const auto at = static_cast<std::ptrdiff_t>(row % T * heads * D);
      std::copy_n(before.begin() + static_cast<std::ptrdiff_t>(row * width), heads * D,
                  heads_of_row.begin() + at);
      reference::rope(heads_of_row, heads, D, T, 100);
      EXPECT_LT(distance(&x[row * width], {heads_of_row.begin() + at, heads_of_row.begin() + at + heads * D}),
                kRounding);
      for (size_t i = heads * D; i < width; ++i) EXPECT_EQ(x[row * width + i], before[row * width + i]);
    }
    // A rotation's gradient is its inverse.
    rope(m.exec, angles, x.data(), 2 * T, static_cast<int64_t>(width), heads, static_cast<int64_t>(D), true);
    EXPECT_LT(distance(x, widen(before)), kRounding);
  }
}

TEST(Embedding, GathersAndSpreads) {
  Machine m;
  auto table = normal(7 * 3, 1), places = normal(4 * 3, 2), dy = normal(6 * 3, 3);
  const int32_t ids[] = {6, 0, 6, 6, 2, 0}, positions[] = {0, 1, 2, 0, 1, 2};
  std::vector<float> y(18), dtable(21, 1), dplaces(12, 1);
  embed(m.exec, view(table, 7, 3), ids, view(y, 6, 3));
  embed_more(m.exec, view(places, 4, 3), positions, view(y, 6, 3));
  const auto f = [&](const auto& in) {
    auto out = in[0];
    out.clear();
    for (size_t r = 0; r < 6; ++r) {
      for (size_t i = 0; i < 3; ++i)
        out.push_back(in[0][static_cast<size_t>(ids[r]) * 3 + i] +
                      in[1][static_cast<size_t>(positions[r]) * 3 + i]);
    }
    return out;
  };
  const std::vector<Values<double>> inputs = {widen(table), widen(places)};
  EXPECT_LT(distance(y, f(inputs)), kRounding);
  embed_backward(m.exec, view(dy, 6, 3), ids, view(dtable, 7, 3));
  embed_backward(m.exec, view(dy, 6, 3), positions, view(dplaces, 4, 3));
  auto expected = gradients(inputs, widen(dy), f);
  for (auto& gradient : expected) {
    for (double& value : gradient) value += 1;
  }
  EXPECT_LT(distance(dtable, expected[0]), kRounding);
  EXPECT_LT(distance(dplaces, expected[1]), kRounding);
}

struct AttentionCase {
  AttentionShape shape;
  double dropout;
};

std::vector<int64_t> starts_of(const AttentionShape& a) {
  std::vector<int64_t> starts;
  for (size_t b = 0; b <= a.B; ++b) starts.push_back(static_cast<int64_t>(b * a.T));
  return starts;
}

AttentionInput input_of(const AttentionShape& a, const std::vector<int64_t>& starts, double dropout,
                        const std::vector<float>& q, const std::vector<float>& k,
                        const std::vector<float>& v) {
  const auto number = [](size_t n) { return static_cast<int64_t>(n); };
  return {starts,
          number(a.S - a.T),
          number(a.H),
          number(a.K),
          number(a.D),
          q.data(),
          number(a.H * a.D),
          k.data(),
          v.data(),
          number(a.K * a.D),
          {.scale = 1.0f / std::sqrt(static_cast<float>(a.D))},
          Dropout{dropout, Rng(5)}};
}

/// Largest cases first where tiles have rims: 72 queries, 128 keys.
const AttentionCase kAttentionCases[] = {{{1, 5, 5, 2, 2, 4}, 0},    {{2, 7, 7, 4, 2, 6}, 0},
                                         {{1, 9, 9, 6, 1, 3}, 0.3},  {{1, 1, 1, 1, 1, 2}, 0},
                                         {{1, 3, 8, 2, 1, 4}, 0},    {{1, 150, 150, 1, 1, 2}, 0},
                                         {{1, 75, 140, 2, 1, 4}, 0}, {{2, 73, 73, 2, 2, 3}, 0.2}};

TEST(Attention, ForwardEqualsTheReference) {
  for (const auto& [a, dropout] : kAttentionCases) {
    Machine m;
    const auto q = normal(a.B * a.T * a.H * a.D, 1), k = normal(a.B * a.S * a.K * a.D, 2),
               v = normal(a.B * a.S * a.K * a.D, 3);
    const auto starts = starts_of(a);
    const AttentionInput in = input_of(a, starts, dropout, q, k, v);
    std::vector<float> out(q.size()), lse(a.B * a.H * a.T);
    attention(m.exec, in, out.data(), lse.data());
    const Factor factor = [&](uint64_t n) {
      return in.dropout ? static_cast<double>(in.dropout.factor(n)) : 1.0;
    };
    EXPECT_LT(distance(out, reference::attention(a, widen(q), widen(k), widen(v), factor)), kRounding)
        << a.T << " " << a.S;
  }
}

TEST(Attention, GradientsEqualTheReference) {
  for (const auto& [a, dropout] : kAttentionCases) {
    if (a.S != a.T) continue;
    Machine m;
    const auto q = normal(a.B * a.T * a.H * a.D, 1), k = normal(a.B * a.S * a.K * a.D, 2),
               v = normal(a.B * a.S * a.K * a.D, 3);
    const auto dout = normal(q.size(), 4);
    const auto starts = starts_of(a);
    const AttentionInput in = input_of(a, starts, dropout, q, k, v);
    std::vector<float> out(q.size()), lse(a.B * a.H * a.T), dq(q.size(), 9), dk(k.size(), 9), dv(v.size(), 9);
    attention(m.exec, in, out.data(), lse.data());
    attention_backward(m.exec, in, out.data(), lse.data(), dout.data(), dq.data(), dk.data(), dv.data());
    const Factor factor = [&](uint64_t n) {
      return in.dropout ? static_cast<double>(in.dropout.factor(n)) : 1.0;
    };
    const auto expected = gradients({widen(q), widen(k), widen(v)}, widen(dout), [&](const auto& x) {
      return reference::attention(a, x[0], x[1], x[2], factor);
    });
    if (a.T > 1) {  // with one key, the scores do not matter
      EXPECT_LT(distance(dq, expected[0]), kRounding) << a.T;
      EXPECT_LT(distance(dk, expected[1]), kRounding) << a.T;
    }
    EXPECT_LT(distance(dv, expected[2]), kRounding) << a.T;
  }
}

TEST(Attention, LargeScoresDoNotOverflow) {
  const AttentionShape a{1, 4, 4, 1, 1, 2};
  Machine m;
  auto q = normal(8, 1, 300), k = normal(8, 2, 300), v = normal(8, 3);
  std::vector<float> out(8), lse(4);
  const auto starts = starts_of(a);
  attention(m.exec, input_of(a, starts, 0, q, k, v), out.data(), lse.data());
  // Scores of 1e5 are known to 1e5 * 6e-8, so that probabilities are off by a hundredth.
  EXPECT_LT(
      distance(out, reference::attention(a, widen(q), widen(k), widen(v), [](uint64_t) { return 1.0; })),
      0.02);
}

/// Sequences side by side against each of them alone, for queries that see all keys and for those that see
/// the earlier ones.
TEST(Attention, SequencesDoNotSeeEachOther) {
  const std::vector<int64_t> starts = {0, 3, 4, 154, 160};
  const AttentionShape a{1, 160, 160, 4, 2, 3};
  const auto q = normal(160 * 12, 1), k = normal(160 * 6, 2), v = normal(160 * 6, 3),
             dout = normal(160 * 12, 4);
  for (const bool causal : {true, false}) {
    Machine m;
    struct Results {
      std::vector<float> out = std::vector<float>(160 * 12), lse = std::vector<float>(160 * 4),
                         dq = std::vector<float>(160 * 12), dk = std::vector<float>(160 * 6),
                         dv = std::vector<float>(160 * 6);
    } together, alone;
    const auto run = [&](std::span<const int64_t> parts, int64_t first, Results& r) {
      AttentionInput in = input_of(a, {}, 0, q, k, v);
      in.starts = parts;
      in.rules.causal = causal;
      in.q += first * 12, in.k += first * 6, in.v += first * 6;
      attention(m.exec, in, &r.out[first * 12], &r.lse[first * 4]);
      attention_backward(m.exec, in, &r.out[first * 12], &r.lse[first * 4], &dout[first * 12],
                         &r.dq[first * 12], &r.dk[first * 6], &r.dv[first * 6]);
    };
    run(starts, 0, together);
    for (size_t b = 0; b + 1 < starts.size(); ++b) {
      const int64_t part[] = {0, starts[b + 1] - starts[b]};
      run(part, starts[b], alone);
    }
    EXPECT_EQ(together.out, alone.out);
    EXPECT_EQ(together.lse, alone.lse);
    EXPECT_EQ(together.dq, alone.dq);
    EXPECT_EQ(together.dk, alone.dk);
    EXPECT_EQ(together.dv, alone.dv);
    // A first position that sees the others differs from one that does not.
    const bool first_is_own = std::abs(together.out[0] - v[0]) < 1e-6;
    EXPECT_EQ(first_is_own, causal);
  }
}

TEST(AttentionDecode, EqualsTheLastRowOfTheReference) {
  constexpr int64_t H = 6, K = 2, D = 5;
  Machine m;
  const int64_t lengths[] = {1, 9, 300};
  std::vector<std::vector<float>> ks, vs;
  std::vector<KvRows> caches;
  const auto q = normal(3 * H * D + 20, 1);
  for (const int64_t n : lengths) {
    ks.push_back(normal(static_cast<size_t>(n * K * D), 2 + static_cast<uint64_t>(n)));
    vs.push_back(normal(static_cast<size_t>(n * K * D), 3 + static_cast<uint64_t>(n)));
  }
  for (size_t b = 0; b < 3; ++b) {
    caches.push_back({reinterpret_cast<std::byte*>(ks[b].data()), reinterpret_cast<std::byte*>(vs[b].data()),
                      DType::f32, lengths[b], lengths[b] - 1});
  }
  std::vector<float> out(3 * H * D);
  const int64_t stride = H * D + 7;
  attention_decode(m.exec, H, K, D, q.data(), stride, caches, {.scale = 1 / std::sqrt(5.0f)}, out.data());
  for (size_t b = 0; b < 3; ++b) {
    const auto first = q.begin() + static_cast<std::ptrdiff_t>(b) * stride;
    const Values<double> query(first, first + H * D);
    const AttentionShape a{1, 1, static_cast<size_t>(lengths[b]), H, K, D};
    const auto expected =
        reference::attention(a, query, widen(ks[b]), widen(vs[b]), [](uint64_t) { return 1.0; });
    EXPECT_LT(distance(&out[b * H * D], expected), kRounding);
  }
}

TEST(Dropout, KeepsTheMeanAndCanBeHadAgain) {
  Machine m;
  constexpr int64_t n = 100000;
  std::vector<float> x(n, 1), y(n), z(n), again(n);
  const Dropout dropout{0.3, Rng(4)};
  apply_dropout(m.exec, view(x, 1, n), dropout, view(y, 1, n));
  double sum = 0;
  for (size_t i = 0; i < n; ++i) {
    ASSERT_TRUE(y[i] == 0 || y[i] == dropout.keep_scale());
    EXPECT_EQ(y[i], dropout.factor(i));
    sum += y[i];
  }
  // The mean of n draws with variance 0.3 / 0.7: within four standard deviations.
  EXPECT_NEAR(sum / n, 1, 4 * std::sqrt(0.3 / 0.7 / n));
  add_dropout(m.exec, view(x, 1, n), view(x, 1, n), dropout, view(z, 1, n));
  for (size_t i = 0; i < n; ++i) EXPECT_EQ(z[i], 1 + y[i]);
  add_dropout(m.exec, view(x, 1, n), view(x, 1, n), Dropout(), view(z, 1, n));
  EXPECT_EQ(z, std::vector<float>(n, 2));
}

}  // namespace
}  // namespace llmtool
