#pragma once
// The transformer's arithmetic written out plainly for any scalar type. In double it says what the result
// should be; in complex numbers what a gradient should be: F'(x) = Im F(x + ih) / h holds to the last digit
// for tiny h (Squire and Trapp 1998).

#include <cmath>
#include <complex>
#include <functional>
#include <vector>

#include "llmtool/core/exec.h"
#include "llmtool/core/rng.h"
#include "llmtool/kernels/activation.h"
#include "llmtool/kernels/norm.h"

namespace llmtool::reference {

using Complex = std::complex<double>;
template <class S>
using Values = std::vector<S>;

inline double real(double x) { return x; }
inline double real(Complex x) { return x.real(); }

inline double error_function(double x) { return std::erf(x); }
/// Exact to the first order of the imaginary part, which is all a complex step sees.
inline Complex error_function(Complex z) {
  const double x = z.real();
  return {std::erf(x), z.imag() * 2 / std::sqrt(M_PI) * std::exp(-x * x)};
}

/// x (rows, C).
template <class S>
Values<S> norm(NormKind kind, double eps, const Values<S>& x, const Values<S>& weight,
               const Values<S>& bias) {
  const size_t C = weight.size();
  Values<S> y(x.size());
  for (size_t row = 0; row < x.size(); row += C) {
    S mean = 0, square = 0;
    for (size_t i = 0; i < C; ++i) mean += x[row + i] / static_cast<double>(C);
    if (kind == NormKind::rms) mean = 0;
    for (size_t i = 0; i < C; ++i)
      square += (x[row + i] - mean) * (x[row + i] - mean) / static_cast<double>(C);
    for (size_t i = 0; i < C; ++i) {
      y[row + i] = (x[row + i] - mean) / std::sqrt(square + eps) * weight[i];
      if (!bias.empty()) y[row + i] += bias[i];
    }
  }
  return y;
}

template <class S>
S activation(Activation f, S x) {
  switch (f) {
    case Activation::silu:
      return x / (1.0 + std::exp(-x));
    case Activation::gelu:
      return 0.5 * x * (1.0 + error_function(x * M_SQRT1_2));
    default:
      return 0.5 * x * (1.0 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  }
}

/// h (rows, F or 2 F) to (rows, F).
template <class S>
Values<S> activate(Activation f, bool gated, const Values<S>& h, size_t F) {
  Values<S> y;
  for (size_t row = 0; row < h.size(); row += gated ? 2 * F : F) {
    for (size_t i = 0; i < F; ++i) {
      S value = activation(f, h[row + i]);
      if (gated) value *= h[row + F + i];
      y.push_back(value);
    }
  }
  return y;
}

/// x (rows, in) w (out, in)^T + bias.
template <class S>
Values<S> linear(const Values<S>& x, const Values<S>& w, const Values<S>& bias, size_t in) {
  const size_t rows = x.size() / in, out = w.size() / in;
  Values<S> y(rows * out);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t o = 0; o < out; ++o) {
      S sum = bias.empty() ? S(0) : bias[o];
      for (size_t i = 0; i < in; ++i) sum += x[r * in + i] * w[o * in + i];
      y[r * out + o] = sum;
    }
  }
  return y;
}

struct AttentionShape {
  size_t B, T, S, H, K, D;
};
/// The factor on a probability (dropout), by number.
using Factor = std::function<double(uint64_t)>;

/// q (B, T, H, D), the last T of S positions; k, v (B, S, K, D); returns (B, T, H, D).
template <class S>
Values<S> attention(const AttentionShape& a, const Values<S>& q, const Values<S>& k, const Values<S>& v,
                    const Factor& factor) {
  Values<S> out(q.size(), S(0));
  for (size_t b = 0; b < a.B; ++b) {
    for (size_t h = 0; h < a.H; ++h) {
      for (size_t t = 0; t < a.T; ++t) {
        const size_t kept = a.S - a.T + t + 1, query = ((b * a.T + t) * a.H + h) * a.D;
        const auto key = [&](size_t s) { return ((b * a.S + s) * a.K + h / (a.H / a.K)) * a.D; };
        Values<S> scores(kept, S(0));
        double most = -1e300;
        for (size_t s = 0; s < kept; ++s) {
          for (size_t d = 0; d < a.D; ++d)
            scores[s] += q[query + d] * k[key(s) + d] / std::sqrt(static_cast<double>(a.D));
          most = std::max(most, real(scores[s]));
        }
        S total = 0;
        for (S& score : scores) total += score = std::exp(score - most);
        for (size_t s = 0; s < kept; ++s) {
          const double f = factor(((b * a.H + h) * a.T + t) * a.S + s);
          for (size_t d = 0; d < a.D; ++d) out[query + d] += scores[s] / total * f * v[key(s) + d];
        }
      }
    }
  }
  return out;
}

/// Rotates every head of x (rows, heads, D); row r stands at position r % T.
template <class S>
void rope(Values<S>& x, size_t heads, size_t D, size_t T, double theta) {
  for (size_t at = 0; at < x.size(); at += D) {
    const double position = static_cast<double>(at / D / heads % T);
    for (size_t i = 0; i < D / 2; ++i) {
      const double angle = position * std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(D));
      const S a = x[at + i], b = x[at + D / 2 + i];
      x[at + i] = a * std::cos(angle) - b * std::sin(angle);
      x[at + D / 2 + i] = b * std::cos(angle) + a * std::sin(angle);
    }
  }
}

inline Values<double> widen(const std::vector<float>& x) { return {x.begin(), x.end()}; }

/// The gradient of sum(dy * f(inputs)) with respect to every element of every input, by a complex step each.
template <class F>
std::vector<Values<double>> gradients(const std::vector<Values<double>>& inputs, const Values<double>& dy,
                                      F f) {
  constexpr double kStep = 1e-100;
  std::vector<Values<Complex>> point;
  for (const auto& input : inputs) point.emplace_back(input.begin(), input.end());
  std::vector<Values<double>> result;
  for (auto& input : point) {
    Values<double>& gradient = result.emplace_back();
    for (Complex& element : input) {
      element += Complex(0, kStep);
      const Values<Complex> y = f(point);
      element = element.real();
      double sum = 0;
      for (size_t i = 0; i < dy.size(); ++i) sum += dy[i] * y[i].imag();
      gradient.push_back(sum / kStep);
    }
  }
  return result;
}

/// Normal numbers, as floats: what the reference sees is what the kernel sees.
inline std::vector<float> normal(size_t n, uint64_t seed, double scale = 1) {
  Rng rng(seed);
  std::vector<float> x(n);
  for (float& value : x) value = static_cast<float>(rng.normal() * scale);
  return x;
}

/// |found - expected| / |expected| in the Euclidean norm.
inline double distance(const float* found, const Values<double>& expected) {
  double off = 0, size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    off += (found[i] - expected[i]) * (found[i] - expected[i]);
    size += expected[i] * expected[i];
  }
  return std::sqrt(off / size);
}
inline double distance(const std::vector<float>& found, const Values<double>& expected) {
  return distance(found.data(), expected);
}

/// Float arithmetic over sums of some dozens of terms: every term is rounded a few times to 2^-24 = 6e-8, and
/// roundings add up like a random walk. A wrong term, sign or factor is orders of magnitude above.
constexpr double kRounding = 1e-6;

/// Threads and arenas for a kernel.
struct Machine {
  explicit Machine(int threads = 2) : pool(threads) {}
  ThreadPool pool;
  Arena saved{size_t{64} << 20}, scratch{size_t{64} << 20};
  Exec exec{pool, saved, scratch, Rng(1)};
};

}  // namespace llmtool::reference
