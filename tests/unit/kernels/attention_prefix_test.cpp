// Attention with a prefix that has a head for each query head, against the scalar reference, which is given
// all keys and values repeated.

#include <gtest/gtest.h>

#include "llmtool/kernels/attention.h"
#include "reference.h"

namespace llmtool {
namespace {

using namespace reference;

struct PrefixCase {
  AttentionShape shape;
  size_t count;
};

/// Borders of tiles lie at 72 queries and 128 keys.
const PrefixCase kCases[] = {
    {{1, 9, 9, 4, 2, 3}, 3}, {{2, 7, 7, 4, 2, 2}, 3}, {{2, 5, 5, 2, 1, 2}, 8}, {{1, 134, 134, 2, 1, 1}, 130}};

int64_t number(size_t n) { return static_cast<int64_t>(n); }
double one(uint64_t) { return 1; }

/// (B, S, H, D): keys, or, `part` 1, values, those of the prefix (count, 2, H, D) in their place, of x (B, S,
/// K, D).
template <class S>
Values<S> repeated(const PrefixCase& c, const Values<S>& x, const Values<S>& prefix, size_t part) {
  const AttentionShape& a = c.shape;
  Values<S> all;
  for (size_t row = 0; row < a.B * a.S; ++row) {
    for (size_t h = 0; h < a.H; ++h) {
      const size_t s = row % a.S, group = a.H / a.K;
      const auto from = s < c.count ? prefix.begin() + number(((2 * s + part) * a.H + h) * a.D)
                                    : x.begin() + number((row * a.K + h / group) * a.D);
      all.insert(all.end(), from, from + number(a.D));
    }
  }
  return all;
}

template <class S>
Values<S> expected(const PrefixCase& c, const std::vector<Values<S>>& in) {
  AttentionShape wide = c.shape;
  wide.K = wide.H;
  return reference::attention(wide, in[0], repeated(c, in[1], in[3], 0), repeated(c, in[2], in[3], 1), one);
}

struct Inputs {
  explicit Inputs(const PrefixCase& c)
      : shape(c.shape),
        q(normal(c.shape.B * c.shape.T * c.shape.H * c.shape.D, 1)),
        k(normal(c.shape.B * c.shape.S * c.shape.K * c.shape.D, 2)),
        v(normal(k.size(), 3)),
        prefix(normal(c.count * 2 * c.shape.H * c.shape.D, 4)) {
    for (size_t b = 0; b <= shape.B; ++b) starts.push_back(number(b * shape.T));
    rules.scale = 1.0f / std::sqrt(static_cast<float>(shape.D));
    rules.prefix = {prefix.data(), number(c.count), number(2 * shape.H * shape.D)};
  }
  AttentionInput input() const {
    const int64_t D = number(shape.D);
    return {starts,
            number(shape.S - shape.T),
            number(shape.H),
            number(shape.K),
            D,
            q.data(),
            number(shape.H) * D,
            k.data(),
            v.data(),
            number(shape.K) * D,
            rules,
            Dropout()};
  }
  std::vector<Values<double>> widened() const { return {widen(q), widen(k), widen(v), widen(prefix)}; }
  KvRows cache() {
    return {reinterpret_cast<std::byte*>(k.data()), reinterpret_cast<std::byte*>(v.data()), DType::f32,
            number(shape.S), number(shape.S) - 1};
  }

  AttentionShape shape;
  std::vector<float> q, k, v, prefix;
  std::vector<int64_t> starts;
  AttentionRules rules;
};

TEST(AttentionPrefix, ForwardAndGradientsEqualTheReference) {
  for (const PrefixCase& c : kCases) {
    Machine m;
    const Inputs in(c);
    std::vector<float> out(in.q.size()), lse(out.size()), dq(out.size(), 9), dk(in.k.size(), 9), dv(dk),
        dprefix(in.prefix.size(), 5);
    attention(m.exec, in.input(), out.data(), lse.data());
    EXPECT_LT(distance(out, expected(c, in.widened())), kRounding) << c.count;
    const auto dout = normal(out.size(), 5);
    attention_backward(m.exec, in.input(), out.data(), lse.data(), dout.data(), dq.data(), dk.data(),
                       dv.data(), dprefix.data());
    auto wanted = gradients(in.widened(), widen(dout), [&](const auto& x) { return expected(c, x); });
    for (double& value : wanted[3]) value += 5;  // it is added to what is there
    EXPECT_LT(distance(dq, wanted[0]), kRounding) << c.count;
    EXPECT_LT(distance(dprefix, wanted[3]), kRounding) << c.count;
    if (c.count < c.shape.S) {
      EXPECT_LT(distance(dk, wanted[1]), kRounding) << c.count;
      EXPECT_LT(distance(dv, wanted[2]), kRounding) << c.count;
    } else {
      EXPECT_EQ(dk, std::vector<float>(dk.size(), 0));
      EXPECT_EQ(dv, std::vector<float>(dv.size(), 0));
    }
  }
}

TEST(AttentionPrefix, GradientsHaveTheirBitsFrozenOrNotAndByAnyNumberOfThreads) {
  const PrefixCase c{{3, 80, 80, 4, 2, 3}, 5};
  const Inputs in(c);
  const auto dout = normal(in.q.size(), 5);
  std::vector<std::vector<float>> all[3];
  for (const int run : {0, 1, 2}) {
    Machine m(run == 1 ? 1 : 3);
    std::vector<float> out(in.q.size()), lse(out.size()), dq(out.size()), dk(in.k.size()), dv(dk),
        dprefix(in.prefix.size());
    attention(m.exec, in.input(), out.data(), lse.data());
    attention_backward(m.exec, in.input(), out.data(), lse.data(), dout.data(), dq.data(), dk.data(),
                       dv.data(), run == 2 ? nullptr : dprefix.data());
    all[run] = {out, dq, dk, dv};
    if (run != 2) all[run].push_back(dprefix);
  }
  EXPECT_EQ(all[0], all[1]);
  all[0].pop_back();
  EXPECT_EQ(all[0], all[2]);
}

TEST(AttentionPrefix, CachesAreReadBehindIt) {
  for (const PrefixCase& c :
       {PrefixCase{{1, 4, 11, 4, 2, 3}, 3}, {{1, 75, 210, 2, 1, 4}, 130}, {{1, 3, 5, 4, 2, 2}, 9}}) {
    Machine m;
    Inputs in(c);
    const KvRows cache = in.cache();
    AttentionInput input = in.input();
    input.k = input.v = nullptr;
    input.cache = &cache;
    std::vector<float> out(in.q.size());
    attention(m.exec, input, out.data(), nullptr);
    EXPECT_LT(distance(out, expected(c, in.widened())), kRounding) << c.count;
  }
}

TEST(AttentionPrefix, DecodingEqualsTheReference) {
  for (const int threads : {1, 8}) {  // with idle threads, heads of a group are tasks of their own
    for (const PrefixCase& c : {PrefixCase{{1, 1, 2, 6, 2, 5}, 3},
                                {{1, 1, 9, 6, 2, 5}, 3},
                                {{1, 1, 300, 6, 2, 5}, 3},
                                {{1, 1, 300, 6, 2, 5}, 130}}) {
      Machine m(threads);
      Inputs in(c);
      std::vector<float> out(in.q.size());
      const KvRows caches[] = {in.cache()};
      attention_decode(m.exec, 6, 2, 5, in.q.data(), 30, caches, in.rules, out.data());
      EXPECT_LT(distance(out, expected(c, in.widened())), kRounding) << c.shape.S << " " << c.count;
    }
  }
}

}  // namespace
}  // namespace llmtool
