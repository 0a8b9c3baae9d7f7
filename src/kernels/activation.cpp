#include "llmtool/kernels/activation.h"

#include "kernels/parallel.h"
#include "kernels/simd.h"

namespace llmtool {

namespace {
using simd::broadcast;
using simd::Vec;

struct ValueAndSlope {
  Vec value, slope;
};

ValueAndSlope silu(Vec x) {
  const Vec s = 1.0f / (1.0f + simd::exp(-x));
  return {x * s, s * (1.0f + x * (1.0f - s))};
}

ValueAndSlope gelu_tanh(Vec x) {
  constexpr float kRoot = 0.79788456080286536f;  // sqrt(2 / pi)
  const Vec u = kRoot * (x + 0.044715f * x * x * x);
  const Vec s = 1.0f / (1.0f + simd::exp(-2.0f * u));  // (1 + tanh(u)) / 2
  const Vec du = kRoot * (1.0f + 0.134145f * x * x);
  return {x * s, s + 2.0f * x * s * (1.0f - s) * du};
}

/// The normal distribution's function by Abramowitz and Stegun 7.1.26 (absolute error below 1e-7).
ValueAndSlope gelu(Vec x) {
  const Vec density = simd::exp(-0.5f * x * x);
  const Vec z = 0.70710678118654752f * simd::max(x, -x);
  const Vec t = 1.0f / (1.0f + 0.3275911f * z);
  const Vec poly =
      t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
  const Vec tail = 0.5f * poly * density;  // probability beyond |x|
  const Vec phi = x < broadcast(0) ? tail : 1.0f - tail;
  return {x * phi, phi + x * density * 0.3989422804014327f};
}

ValueAndSlope relu(Vec x) {
  const Vec slope = x > broadcast(0) ? broadcast(1) : Vec{};
  return {x * slope, slope};
}

ValueAndSlope tanh(Vec x) {
  const Vec t = simd::tanh(x);
  return {t, 1.0f - t * t};
}

template <class F>
void forward_rows(Exec& exec, bool gated, Tensor h, Tensor y, F f) {
  const int64_t width = y.cols();
  for_rows(exec, y.rows(), 8 * width, [&](int64_t row) {
    const float* in = h.f32() + row * h.cols();
    float* out = y.f32() + row * width;
    simd::for_lanes(width, [&](int64_t i, auto part) {
      Vec v = f(simd::load(in + i, part)).value;
      if (gated) v *= simd::load(in + width + i, part);
      simd::store(out + i, v, part);
    });
  });
}

template <class F>
void backward_rows(Exec& exec, bool gated, Tensor h, Tensor dy, Tensor dh, F f) {
  const int64_t width = dy.cols();
  for_rows(exec, dy.rows(), 8 * width, [&](int64_t row) {
    const float *in = h.f32() + row * h.cols(), *d = dy.f32() + row * width;
    float* out = dh.f32() + row * h.cols();
    simd::for_lanes(width, [&](int64_t i, auto part) {
      const ValueAndSlope v = f(simd::load(in + i, part));
      const Vec g = simd::load(d + i, part);
      if (!gated) return simd::store(out + i, g * v.slope, part);
      const Vec up = simd::load(in + width + i, part);
      simd::store(out + i, g * up * v.slope, part);
      simd::store(out + width + i, g * v.value, part);
    });
  });
}

template <class Rows>
void dispatch(Activation f, Rows rows) {
  switch (f) {
    case Activation::silu:
      return rows([](Vec x) { return silu(x); });
    case Activation::gelu:
      return rows([](Vec x) { return gelu(x); });
    case Activation::gelu_tanh:
      return rows([](Vec x) { return gelu_tanh(x); });
    case Activation::relu:
      return rows([](Vec x) { return relu(x); });
    case Activation::tanh:
      return rows([](Vec x) { return tanh(x); });
  }
}
}  // namespace

void activate(Exec& exec, Activation f, bool gated, Tensor h, Tensor y) {
  if (exec.dry()) return;
  dispatch(f, [&](auto function) { forward_rows(exec, gated, h, y, function); });
}

void activate_backward(Exec& exec, Activation f, bool gated, Tensor h, Tensor dy, Tensor dh) {
  if (exec.dry()) return;
  dispatch(f, [&](auto function) { backward_rows(exec, gated, h, dy, dh, function); });
}

}  // namespace llmtool
