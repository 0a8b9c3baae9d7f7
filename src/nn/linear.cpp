#include "llmtool/nn/linear.h"

#include <algorithm>

#include "llmtool/kernels/elementwise.h"
#include "llmtool/kernels/optimizer.h"

namespace llmtool {

namespace {
bool trained(const Param* p) { return p && p->grad; }

/// The product of scales, element by element, in scratch.
Tensor product(Exec& exec, const std::vector<Param*>& scales, size_t without = SIZE_MAX) {
  const Tensor all = exec.scratch.take({scales[0]->value.size()});
  if (exec.dry()) return all;
  std::fill_n(all.f32(), all.size(), 1.0f);
  for (size_t i = 0; i < scales.size(); ++i) {
    if (i != without) scale_columns(exec, all.f32(), 0, scales[i]->value.f32(), all.f32(), 0, 1, all.size());
  }
  return all;
}

/// d (of the product of the scales, from dots) becomes that of each.
void scales_backward(Exec& exec, const std::vector<Param*>& scales, const float* a, int64_t a_ld,
                     const float* b, int64_t b_ld, int64_t rows) {
  for (size_t i = 0; i < scales.size(); ++i) {
    if (!trained(scales[i])) continue;
    ArenaScope scope(exec.scratch);
    const int64_t n = scales[i]->value.size();
    const Tensor dots = exec.scratch.take({n});
    fill_zero(exec, dots);
    add_column_dots(exec, a, a_ld, b, b_ld, rows, n, dots.f32());
    const Tensor others = product(exec, scales, i);
    add_column_dots(exec, dots.f32(), n, others.f32(), n, 1, n, scales[i]->grad.f32());
  }
}
}  // namespace

bool Linear::Part::trains() const {
  const auto some = [](const std::vector<Param*>& list) {
    return std::any_of(list.begin(), list.end(), trained);
  };
  return trained(weight) || trained(bias) || some(input_scales) || some(output_scales) ||
         std::any_of(changes.begin(), changes.end(), [](const LowRank& l) {
           return trained(l.a.param) || trained(l.b.param) || trained(l.e) || trained(l.magnitude);
         });
}

bool Linear::Part::reads_input() const { return trained(weight) || alone() || !changes.empty(); }

bool Linear::reads_input() const {
  return std::any_of(parts_.begin(), parts_.end(), [](const Part& p) { return p.reads_input(); });
}

bool Linear::trains() const {
  return std::any_of(parts_.begin(), parts_.end(), [](const Part& p) { return p.trains(); });
}

void Linear::add(Param* weight, Param* bias) {
  const int64_t out = weight->value.shape[0];
  parts_.push_back({weight, bias, out, out_});
  out_ += out;
}

size_t Linear::run_end(size_t first) const {
  const auto follows = [](const Tensor& a, const Tensor& b) {
    return (!a && !b) ||
           (a && b && a.dtype == b.dtype && static_cast<const std::byte*>(a.data) + a.bytes() == b.data);
  };
  size_t end = first + 1;
  if (parts_[first].alone()) return end;
  while (end < parts_.size()) {
    const Part &a = parts_[end - 1], &b = parts_[end];
    if (b.alone()) break;
    if (!follows(a.weight->value, b.weight->value) || !follows(a.weight->grad, b.weight->grad)) break;
    if ((a.bias == nullptr) != (b.bias == nullptr)) break;
    if (a.bias && !(follows(a.bias->value, b.bias->value) && follows(a.bias->grad, b.bias->grad))) break;
    ++end;
  }
  return end;
}

/// y (rows, columns of those parts; y_ld apart) = x W^T, with the bias where `bias`.
void Linear::multiply(Exec& exec, Tensor x, size_t first, size_t end, const LinearMode& mode, bool bias,
                      float* y, int64_t y_ld) const {
  const Part& part = parts_[first];
  const int64_t out = parts_[end - 1].offset + parts_[end - 1].out - part.offset;
  const WeightView weight(part.weight->value);
  const float* const added = bias && part.bias ? part.bias->value.f32() : nullptr;
  if (mode.few_rows) {
    matvec(exec, x.rows(), out, in_, x.f32(), weight, y, y_ld, added);
  } else {
    matmul(exec, x.rows(), out, in_, x.f32(), weight, y, y_ld, added);
  }
}

void Linear::forward(Exec& exec, Tensor x, Tensor y, const LinearMode& mode) const {
  for (size_t i = 0, end; i < parts_.size(); i = end) {
    end = run_end(i);
    if (parts_[i].alone()) {
      forward_alone(exec, parts_[i], x, y.f32() + parts_[i].offset, mode);
      continue;
    }
    multiply(exec, x, i, end, mode, true, y.f32() + parts_[i].offset, out_);
    for (size_t p = i; p < end; ++p) {
      for (const LowRank& change : parts_[p].changes) {
        change.add_change(exec, x, mode, y.f32() + parts_[p].offset, out_);
      }
    }
  }
}

/// y (rows, part.out; out_ apart), of a part that scales or has a magnitude.
void Linear::forward_alone(Exec& exec, const Part& part, Tensor x, float* y, const LinearMode& mode) const {
  ArenaScope scope(exec.scratch);
  const int64_t rows = x.rows(), N = part.out;
  const auto index = static_cast<size_t>(&part - parts_.data());
  if (!part.input_scales.empty()) {
    const Tensor scaled = exec.scratch.take(x.shape);
    scale_columns(exec, x.f32(), in_, product(exec, part.input_scales).f32(), scaled.f32(), in_, rows, in_);
    x = scaled;
  }
  if (part.has_magnitude()) {
    // y = W x + b - W d + gain (W d + change(d)), where d is x behind dropout.
    const LowRank& change = part.changes[0];
    const Tensor d = change.dropped(exec, x, mode);
    const bool same = d.data == x.data;
    multiply(exec, x, index, index + 1, mode, !same, y, out_);
    float* v = y;
    int64_t v_ld = out_;
    if (!same) {
      const Tensor wd = exec.scratch.take({rows, N});
      v = wd.f32(), v_ld = N;
      multiply(exec, d, index, index + 1, mode, false, v, v_ld);
      add_rows(exec, v, v_ld, -1, y, out_, rows, N);
    }
    change.add_change(exec, x, mode, v, v_ld);
    scale_columns(exec, v, v_ld, change.gains.f32(), v, v_ld, rows, N);
    if (!same) add_rows(exec, v, v_ld, 1, y, out_, rows, N);
    if (same && part.bias) add_rows(exec, part.bias->value.f32(), 0, 1, y, out_, rows, N);
  } else {
    multiply(exec, x, index, index + 1, mode, true, y, out_);
    for (const LowRank& change : part.changes) change.add_change(exec, x, mode, y, out_);
  }
  if (!part.output_scales.empty())
    scale_columns(exec, y, out_, product(exec, part.output_scales).f32(), y, out_, rows, N);
}

void Linear::backward(Exec& exec, Tensor x, Tensor dy, Tensor dx) {
  for (size_t i = 0, end; i < parts_.size(); i = end) {
    end = run_end(i);
    const Write write = i == 0 ? Write::set : Write::add;
    if (parts_[i].alone()) {
      backward_alone(exec, parts_[i], x, dy, dx, write);
    } else {
      run_backward(exec, x, dy, dx, i, end, write);
    }
  }
}

void Linear::run_backward(Exec& exec, Tensor x, Tensor dy, Tensor dx, size_t first, size_t end, Write write) {
  const Part& part = parts_[first];
  const int64_t rows = x.rows(), out = parts_[end - 1].offset + parts_[end - 1].out - part.offset;
  const MatrixView d{dy.f32() + part.offset, out_, 1};
  if (dx) matmul_rows(exec, rows, in_, out, d, WeightView(part.weight->value), dx.f32(), in_, write);
  if (part.weight->grad) {
    matmul(exec, out, in_, rows, d.transposed(), {x.f32(), in_, 1}, part.weight->grad.f32(), in_, Write::add);
  }
  if (part.bias && part.bias->grad) add_column_sums(exec, d.data, rows, out, out_, part.bias->grad.f32());
  for (size_t p = first; p < end; ++p) {
    for (LowRank& change : parts_[p].changes) {
      change.change_backward(exec, x, dy.f32() + parts_[p].offset, out_, dx);
    }
  }
}

/// Of y = s (W (i x) + b) + ..., outside in.
void Linear::backward_alone(Exec& exec, Part& part, Tensor x, Tensor dy, Tensor dx, Write write) {
  ArenaScope scope(exec.scratch);
  const int64_t rows = x.rows(), N = part.out;
  const auto index = static_cast<size_t>(&part - parts_.data());
  Tensor xs = x;
  if (!part.input_scales.empty()) {
    xs = exec.scratch.take(x.shape);
    scale_columns(exec, x.f32(), in_, product(exec, part.input_scales).f32(), xs.f32(), in_, rows, in_);
  }
  const float* d = dy.f32() + part.offset;
  int64_t d_ld = out_;
  if (!part.output_scales.empty()) {
    if (std::any_of(part.output_scales.begin(), part.output_scales.end(), trained)) {
      ArenaScope inner(exec.scratch);
      const Tensor y = exec.scratch.take({rows, N});
      multiply(exec, xs, index, index + 1, {}, true, y.f32(), N);
      for (const LowRank& change : part.changes) change.add_change(exec, xs, {.training = true}, y.f32(), N);
      scales_backward(exec, part.output_scales, y.f32(), N, d, d_ld, rows);
    }
    const Tensor scaled = exec.scratch.take({rows, N});
    scale_columns(exec, d, d_ld, product(exec, part.output_scales).f32(), scaled.f32(), N, rows, N);
    d = scaled.f32(), d_ld = N;
  }
  const bool scaled_input = !part.input_scales.empty();
  // A gradient that passes a scale, or that is not the first, is made apart.
  const bool needs_dx = dx || std::any_of(part.input_scales.begin(), part.input_scales.end(), trained);
  Tensor dxs = dx;
  if (needs_dx && (scaled_input || write == Write::add)) dxs = exec.scratch.take(x.shape);
  const MatrixView dm{d, d_ld, 1};
  if (part.has_magnitude()) {
    if (dxs) fill_zero(exec, dxs);
    magnitude_backward(exec, part, xs, d, d_ld, dxs);
  } else {
    if (dxs) matmul_rows(exec, rows, in_, N, dm, WeightView(part.weight->value), dxs.f32(), in_);
    for (LowRank& change : part.changes) change.change_backward(exec, xs, d, d_ld, dxs);
  }
  if (part.weight->grad)
    matmul(exec, N, in_, rows, dm.transposed(), {xs.f32(), in_, 1}, part.weight->grad.f32(), in_, Write::add);
  if (part.bias && part.bias->grad) add_column_sums(exec, d, rows, N, d_ld, part.bias->grad.f32());
  if (scaled_input) {
    scales_backward(exec, part.input_scales, x.f32(), in_, dxs.f32(), in_, rows);
    if (dx)
      scale_columns(exec, dxs.f32(), in_, product(exec, part.input_scales).f32(), dxs.f32(), in_, rows, in_);
  }
  if (!dx || dxs.data == dx.data) return;
  if (write == Write::add) return add_rows(exec, dxs.f32(), in_, 1, dx.f32(), in_, rows, in_);
  copy_rows(exec, dxs.f32(), in_, dx.f32(), in_, rows, in_);
}

/// Of y = W x - W d + gain (W d + change(d)), where d is x behind dropout and the gain's norm a constant.
void Linear::magnitude_backward(Exec& exec, Part& part, Tensor x, const float* dy, int64_t dy_ld, Tensor dx) {
  ArenaScope scope(exec.scratch);
  LowRank& change = part.changes[0];
  const int64_t rows = x.rows(), N = part.out;
  const auto index = static_cast<size_t>(&part - parts_.data());
  const LinearMode mode{.training = true};
  const Tensor d = change.dropped(exec, x, mode);
  const bool same = d.data == x.data;
  if (trained(change.magnitude)) {
    ArenaScope inner(exec.scratch);
    const Tensor v = exec.scratch.take({rows, N}), dots = exec.scratch.take({N});
    multiply(exec, d, index, index + 1, {}, false, v.f32(), N);
    change.add_change(exec, x, mode, v.f32(), N);
    fill_zero(exec, dots);
    add_column_dots(exec, dy, dy_ld, v.f32(), N, rows, N, dots.f32());
    for (int64_t i = 0; !exec.dry() && i < N; ++i) {
      // gain = m / norm
      const float m = change.magnitude->value.f32()[i];
      if (m != 0) change.magnitude->grad.f32()[i] += dots.f32()[i] * (change.gains.f32()[i] / m);
    }
  }
  const Tensor scaled = exec.scratch.take({rows, N});
  scale_columns(exec, dy, dy_ld, change.gains.f32(), scaled.f32(), N, rows, N);
  const WeightView weight(part.weight->value);
  if (dx && same) {
    matmul_rows(exec, rows, in_, N, {scaled.f32(), N, 1}, weight, dx.f32(), in_, Write::add);
  } else if (dx) {
    ArenaScope inner(exec.scratch);
    matmul_rows(exec, rows, in_, N, {dy, dy_ld, 1}, weight, dx.f32(), in_, Write::add);
    const Tensor more = exec.scratch.take({rows, N}), through = exec.scratch.take(x.shape);
    copy_rows(exec, scaled.f32(), N, more.f32(), N, rows, N);
    add_rows(exec, dy, dy_ld, -1, more.f32(), N, rows, N);
    matmul_rows(exec, rows, in_, N, {more.f32(), N, 1}, weight, through.f32(), in_);
    change.add_through_dropout(exec, through, dx);
  }
  change.change_backward(exec, x, scaled.f32(), N, dx);
}

void Linear::refresh(Exec& exec) {
  for (Part& part : parts_) {
    if (part.has_magnitude()) part.changes[0].refresh(exec, WeightView(part.weight->value));
  }
}

}  // namespace llmtool
