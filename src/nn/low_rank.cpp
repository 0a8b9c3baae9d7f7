#include "llmtool/nn/low_rank.h"

#include <cmath>
#include <vector>

#include "llmtool/kernels/convert.h"
#include "llmtool/kernels/elementwise.h"

namespace llmtool {

namespace {
constexpr uint64_t kAdapterStream = 0x6c6f7261;  // apart from the layers' own

Dropout dropout_of(const LowRank& l, const Exec& exec) {
  return {l.dropout, exec.rng.split(kAdapterStream).split(l.stream)};
}
}  // namespace

Tensor LowRank::dropped(Exec& exec, Tensor x, const LinearMode& mode) const {
  if (!mode.training || dropout == 0) return x;
  const Tensor y = exec.scratch.take(x.shape);
  apply_dropout(exec, x, dropout_of(*this, exec), y);
  return y;
}

void LowRank::add_through_dropout(Exec& exec, Tensor d, Tensor dx) const {
  add_dropout(exec, dx, d, dropout_of(*this, exec), dx);
}

Tensor LowRank::project(Exec& exec, Tensor x, const LinearMode& mode) const {
  const int64_t rows = x.rows();
  const Tensor u = exec.scratch.take({rows, rank()});
  const WeightView weight(a.value());
  if (mode.few_rows) {
    matvec(exec, rows, rank(), in(), x.f32(), weight, u.f32(), rank());
  } else {
    matmul(exec, rows, rank(), in(), x.f32(), weight, u.f32(), rank());
  }
  return u;
}

void LowRank::add_change(Exec& exec, Tensor x, const LinearMode& mode, float* y, int64_t y_ld) const {
  ArenaScope scope(exec.scratch);
  const int64_t rows = x.rows(), R = rank();
  const Tensor u = project(exec, dropped(exec, x, mode), mode);
  if (e) scale_columns(exec, u.f32(), R, e->value.f32(), u.f32(), R, rows, R);
  llmtool::scale(exec, u, scale);
  if (mode.few_rows) {
    const Tensor change = exec.scratch.take({rows, out()});
    matvec(exec, rows, out(), R, u.f32(), WeightView(b.value()), change.f32(), out());
    add_rows(exec, change.f32(), out(), 1, y, y_ld, rows, out());
  } else {
    matmul(exec, rows, out(), R, {u.f32(), R, 1}, MatrixView{b.value().f32(), R, 1}.transposed(), y, y_ld,
           Write::add);
  }
}

void LowRank::change_backward(Exec& exec, Tensor x, const float* dy, int64_t dy_ld, Tensor dx) {
  ArenaScope scope(exec.scratch);
  const int64_t rows = x.rows(), R = rank();
  const LinearMode mode{.training = true};
  const Tensor xd = dropped(exec, x, mode), u = project(exec, xd, mode), du = exec.scratch.take({rows, R});
  const MatrixView d{dy, dy_ld, 1};
  matmul(exec, rows, R, out(), d, MatrixView{b.value().f32(), R, 1}, du.f32(), R);
  llmtool::scale(exec, du, scale);
  if (e && e->grad) add_column_dots(exec, du.f32(), R, u.f32(), R, rows, R, e->grad.f32());
  if (b.grad()) {
    const Tensor scaled = exec.scratch.take({rows, R});
    if (!exec.dry()) copy_rows(exec, u.f32(), R, scaled.f32(), R, rows, R);
    if (e) scale_columns(exec, scaled.f32(), R, e->value.f32(), scaled.f32(), R, rows, R);
    llmtool::scale(exec, scaled, scale);
    matmul(exec, out(), R, rows, d.transposed(), {scaled.f32(), R, 1}, b.grad().f32(), R, Write::add);
  }
  if (e) scale_columns(exec, du.f32(), R, e->value.f32(), du.f32(), R, rows, R);
  if (a.grad()) {
    matmul(exec, R, in(), rows, MatrixView{du.f32(), R, 1}.transposed(), {xd.f32(), in(), 1}, a.grad().f32(),
           in(), Write::add);
  }
  if (!dx) return;
  const MatrixView from{du.f32(), R, 1}, through{a.value().f32(), in(), 1};
  if (dropout == 0) return matmul(exec, rows, in(), R, from, through, dx.f32(), in(), Write::add);
  const Tensor dxd = exec.scratch.take({rows, in()});
  matmul(exec, rows, in(), R, from, through, dxd.f32(), in());
  add_through_dropout(exec, dxd, dx);
}

void LowRank::measure(Exec& exec, WeightView weight) {
  if (exec.dry()) return;
  std::vector<float> row(static_cast<size_t>(in()));
  for (int64_t i = 0; i < out(); ++i) {
    to_f32(static_cast<const std::byte*>(weight.data) + dtype_bytes(weight.dtype, i * in()), weight.dtype,
           row.data(), in());
    double sum = 0;
    for (const float w : row) sum += static_cast<double>(w) * w;
    weight_squares.f32()[i] = static_cast<float>(sum);
  }
}

/// |W + s B A|^2 of a row = |w|^2 + 2 s b . (A w) + s^2 b . (A A^T) b, for less than the sum itself would
/// cost.
void LowRank::refresh(Exec& exec, WeightView weight) {
  ArenaScope scope(exec.scratch);
  const int64_t R = rank(), N = out();
  const Tensor aw = exec.scratch.take({R, N}), aa = exec.scratch.take({R, R});
  const MatrixView am{a.value().f32(), in(), 1};
  matmul(exec, R, N, in(), a.value().f32(), weight, aw.f32(), N);
  matmul(exec, R, R, in(), am, am.transposed(), aa.f32(), R);
  if (exec.dry()) return;
  const double s = scale;
  for (int64_t i = 0; i < N; ++i) {
    const float* const bi = b.value().f32() + i * R;
    double cross = 0, square = 0;
    for (int64_t r = 0; r < R; ++r) {
      cross += static_cast<double>(bi[r]) * aw.f32()[r * N + i];
      for (int64_t q = 0; q < R; ++q) square += static_cast<double>(bi[r]) * bi[q] * aa.f32()[r * R + q];
    }
    const double norm = std::sqrt(std::max(0.0, weight_squares.f32()[i] + 2 * s * cross + s * s * square));
    gains.f32()[i] = static_cast<float>(magnitude->value.f32()[i] / norm);
  }
}

}  // namespace llmtool
