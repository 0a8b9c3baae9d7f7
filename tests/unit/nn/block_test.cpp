// Linear and the whole block, forward and backward, against the scalar reference.

#include "llmtool/nn/block.h"

#include <gtest/gtest.h>

#include "reference.h"

namespace llmtool {
namespace {

using namespace reference;

void fill(Param& p, uint64_t seed, double scale, double mean = 0) {
  const auto values = normal(static_cast<size_t>(p.value.size()), seed, scale);
  for (size_t i = 0; i < values.size(); ++i) p.value.f32()[i] = values[i] + static_cast<float>(mean);
}

Values<double> widen(const Tensor& t) { return {t.f32(), t.f32() + t.size()}; }

TEST(Linear, StackedWeightsEqualTheReferenceWhereverTheyLie) {
  constexpr int64_t rows = 5, in = 7;
  for (const bool neighbours : {true, false}) {
    for (const bool with_bias : {true, false}) {
      for (const bool few_rows : {true, false}) {
        Machine m;
        ParamStore store;
        Linear layer(in);
        std::vector<Param*> weights, biases;
        for (const int64_t out : {6, 3, 4}) {
          weights.push_back(store.add("w", {out, in}, true));
          if (!neighbours || with_bias) biases.push_back(store.add("b", {out}, false));  // lies between them
        }
        store.allocate();
        store.allocate_gradients();
        for (size_t i = 0; i < weights.size(); ++i) {
          fill(*weights[i], i, 1);
          if (with_bias) fill(*biases[i], 10 + i, 1);
          layer.add(weights[i], with_bias ? biases[i] : nullptr);
        }
        auto x = normal(rows * in, 20), dy = normal(rows * 13, 21);
        std::vector<float> y(rows * 13), dx(rows * in, 9);
        layer.forward(m.exec, {x.data(), {rows, in}}, {y.data(), {rows, 13}}, LinearMode{.few_rows = few_rows});
        std::vector<Values<double>> inputs = {reference::widen(x)};
        for (size_t i = 0; i < 3; ++i) inputs.push_back(widen(weights[i]->value));
        for (size_t i = 0; i < 3; ++i)
          inputs.push_back(with_bias ? widen(biases[i]->value) : Values<double>());
        const auto f = [&](const auto& v) {
          auto result = v[0];
          result.assign(rows * 13, 0.0);
          const size_t outs[] = {6, 3, 4}, first[] = {0, 6, 9};
          for (size_t i = 0; i < 3; ++i) {
            const auto part = reference::linear(v[0], v[1 + i], v[4 + i], in);
            for (size_t r = 0; r < rows; ++r) {
              for (size_t o = 0; o < outs[i]; ++o) result[r * 13 + first[i] + o] = part[r * outs[i] + o];
            }
          }
          return result;
        };
        EXPECT_LT(distance(y, f(inputs)), kRounding);
        layer.backward(m.exec, {x.data(), {rows, in}}, {dy.data(), {rows, 13}}, {dx.data(), {rows, in}});
        const auto expected = gradients(inputs, reference::widen(dy), f);
        EXPECT_LT(distance(dx, expected[0]), kRounding);
        for (size_t i = 0; i < 3; ++i) {
          EXPECT_LT(distance(weights[i]->grad.f32(), expected[1 + i]), kRounding);
          if (with_bias) {
            EXPECT_LT(distance(biases[i]->grad.f32(), expected[4 + i]), kRounding);
          }
        }
      }
    }
  }
}

TEST(Linear, FrozenWeightsAreLeftAloneAndGradientsAccumulate) {
  Machine m;
  ParamStore store;
  Param *frozen = store.add("a", {3, 4}, true), *trained = store.add("b", {3, 4}, true);
  frozen->trainable = false;
  store.allocate();
  store.allocate_gradients();
  EXPECT_FALSE(frozen->grad);
  Linear layer(4);
  layer.add(frozen, nullptr);
  layer.add(trained, nullptr);
  auto x = normal(8, 1), dy = normal(12, 2);
  layer.backward(m.exec, {x.data(), {2, 4}}, {dy.data(), {2, 6}}, {});
  const Values<double> once = widen(trained->grad);
  layer.backward(m.exec, {x.data(), {2, 4}}, {dy.data(), {2, 6}}, {});
  Values<double> twice = once;
  for (double& value : twice) value *= 2;
  EXPECT_LT(distance(trained->grad.f32(), twice), kRounding);
}

/// What tells one family's block from another's.
struct Family {
  const char* name;
  NormKind norm;
  Activation activation;
  bool gated, bias, rotates;
  size_t kv_heads;
  double dropout;
};

/// Nine operations in a row, each with a rounding of its own: they add up like a random walk.
constexpr double kChain = 3 * kRounding;
constexpr size_t kB = 2, kT = 5, kH = 4, kD = 4, kC = 12, kF = 10;

/// A block with random weights, and the same block in the reference's arithmetic.
struct Subject {
  explicit Subject(const Family& f) : family(f) {
    const auto C = static_cast<int64_t>(kC), F = static_cast<int64_t>(kF);
    const auto width = static_cast<int64_t>(kH * kD), kv_width = static_cast<int64_t>(f.kv_heads * kD);
    const auto norm_of = [&](const char* name) {
      Norm norm{f.norm, 1e-5, store.add(name, {C}, false), nullptr};
      if (f.bias) norm.bias = store.add("bias", {C}, false);
      return norm;
    };
    const auto linear_of = [&](int64_t in, std::initializer_list<int64_t> outs) {
      Linear layer(in);
      for (const int64_t out : outs) {
        Param* weight = store.add("weight", {out, in}, true);
        layer.add(weight, f.bias ? store.add("bias", {out}, false) : nullptr);
      }
      return layer;
    };
    block.attention_norm = norm_of("attention_norm");
    block.qkv = linear_of(C, {width, kv_width, kv_width});
    block.out = linear_of(width, {C});
    block.mlp_norm = norm_of("mlp_norm");
    block.up = f.gated ? linear_of(C, {F, F}) : linear_of(C, {F});
    block.down = linear_of(F, {C});
    block.heads = kH;
    block.kv_heads = static_cast<int64_t>(f.kv_heads);
    block.head_dim = kD;
    block.rules.scale = 1.0f / std::sqrt(static_cast<float>(kD));
    block.activation = f.activation;
    block.gated = f.gated;
    block.attention_dropout = block.residual_dropout = f.dropout;
    store.allocate();
    store.allocate_gradients();
    uint64_t seed = 100;
    for (Param& p : store.list()) fill(p, ++seed, 0.4, p.name.ends_with("norm") ? 1 : 0);
  }

  /// inputs: x, then every parameter in the order of the store.
  template <class S>
  Values<S> reference_forward(const std::vector<Values<S>>& inputs, const Rng& rng) const {
    size_t next = 1;
    const auto take = [&] { return inputs[next++]; };
    const auto take_bias = [&] { return family.bias ? take() : Values<S>(); };
    const auto normed = [&](const Values<S>& x) {
      const Values<S> weight = take(), bias = take_bias();
      return reference::norm(family.norm, 1e-5, x, weight, bias);
    };
    const auto product = [&](const Values<S>& x, size_t in) {
      const Values<S> weight = take(), bias = take_bias();
      return reference::linear(x, weight, bias, in);
    };
    const auto factor = [&](uint64_t stream) {
      return [dropout = Dropout{family.dropout, rng.split(stream)}](uint64_t n) {
        return dropout ? static_cast<double>(dropout.factor(n)) : 1.0;
      };
    };
    const Values<S>& x = inputs[0];
    const Values<S> n1 = normed(x);
    Values<S> q = product(n1, kC), k = product(n1, kC), v = product(n1, kC);
    if (family.rotates) {
      reference::rope(q, kH, kD, kT, 100);
      reference::rope(k, family.kv_heads, kD, kT, 100);
    }
    const Values<S> a = reference::attention({kB, kT, kT, kH, family.kv_heads, kD}, q, k, v, factor(0));
    Values<S> r = product(a, kH * kD);
    const auto residual = factor(1), mlp_residual = factor(2);
    for (size_t i = 0; i < r.size(); ++i) r[i] = x[i] + residual(i) * r[i];
    const Values<S> n2 = normed(r);
    Values<S> h;
    if (family.gated) {
      const Values<S> gate = product(n2, kC), up = product(n2, kC);
      for (size_t row = 0; row < kB * kT; ++row) {
        h.insert(h.end(), gate.begin() + static_cast<long>(row * kF),
                 gate.begin() + static_cast<long>((row + 1) * kF));
        h.insert(h.end(), up.begin() + static_cast<long>(row * kF),
                 up.begin() + static_cast<long>((row + 1) * kF));
      }
    } else {
      h = product(n2, kC);
    }
    Values<S> y = product(reference::activate(family.activation, family.gated, h, kF), kF);
    for (size_t i = 0; i < y.size(); ++i) y[i] = r[i] + mlp_residual(i) * y[i];
    return y;
  }

  Family family;
  ParamStore store;
  Block block;
};

class BlockOf : public ::testing::TestWithParam<Family> {};

TEST_P(BlockOf, EqualsTheReferenceForwardAndBackward) {
  Machine m;
  Subject subject(GetParam());
  const auto B = static_cast<int64_t>(kB), T = static_cast<int64_t>(kT), C = static_cast<int64_t>(kC);
  auto x = normal(kB * kT * kC, 1), dy = normal(x.size(), 2);
  std::vector<float> y(x.size()), d = dy, angles(kT * kD);
  std::vector<int32_t> positions;
  for (int32_t i = 0; i < B * T; ++i) positions.push_back(i % static_cast<int32_t>(T));
  const int64_t starts[] = {0, T, 2 * T};
  static_assert(kB == 2);
  Sequences s{starts, positions.data()};
  s.training = true;
  if (subject.family.rotates) {
    s.rope[0] = {angles.data(), {T, kD}};
    rope_table(m.exec, {.theta = 100}, positions.data(), kT, s.rope[0]);
  }
  const Rng rng = Rng(7).split(3);
  BlockSaved saved;
  const Tensor xs(x.data(), {B, T, C}), ys(y.data(), {B, T, C});
  subject.block.forward(m.exec, s, rng, xs, ys, &saved);
  std::vector<Values<double>> inputs = {reference::widen(x)};
  for (const Param& p : subject.store.list()) inputs.push_back(widen(p.value));
  const auto f = [&](const auto& in) { return subject.reference_forward(in, rng); };
  EXPECT_LT(distance(y, f(inputs)), kChain);
  subject.block.backward(m.exec, s, rng, saved, {d.data(), {B, T, C}});
  const auto expected = gradients(inputs, reference::widen(dy), f);
  EXPECT_LT(distance(d, expected[0]), kChain);
  size_t i = 0;
  for (const Param& p : subject.store.list()) {
    const Values<double>& gradient = expected[++i];
    double size = 0;
    for (const double value : gradient) size += value * value;
    if (std::sqrt(size) < 1e-9) continue;  // the bias of the keys moves all scores of a query alike
    EXPECT_LT(distance(p.grad.f32(), gradient), kChain) << p.name << " " << i;
  }
  // What is kept for backward does not depend on whether the output is wanted.
  BlockSaved again;
  subject.block.forward(m.exec, s, rng, xs, {}, &again);
  EXPECT_EQ(widen(again.h), widen(saved.h));
  EXPECT_EQ(widen(again.lse), widen(saved.lse));
}

INSTANTIATE_TEST_SUITE_P(
    Families, BlockOf,
    ::testing::Values(Family{"llama", NormKind::rms, Activation::silu, true, false, true, 2, 0},
                      Family{"llama_dropout", NormKind::rms, Activation::silu, true, false, true, 1, 0.2},
                      Family{"gpt2", NormKind::layer, Activation::gelu_tanh, false, true, false, 4, 0},
                      Family{"gpt2_dropout", NormKind::layer, Activation::gelu_tanh, false, true, false, 4,
                             0.2},
                      Family{"biases_gelu", NormKind::rms, Activation::gelu, true, true, true, 4, 0}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace llmtool
