#include "llmtool/kernels/elementwise.h"

#include <cstring>

#include "kernels/parallel.h"
#include "kernels/simd.h"
#include "llmtool/kernels/convert.h"

namespace llmtool {

void add_dropout(Exec& exec, Tensor x, Tensor a, const Dropout& dropout, Tensor y) {
  if (exec.dry()) return;
  for_elements(exec, y.size(), [&](int64_t first, int64_t last) {
    const float *xs = x.f32(), *as = a.f32();
    float* ys = y.f32();
    if (!dropout) {
      for (int64_t i = first; i < last; ++i) ys[i] = xs[i] + as[i];
    } else {
      for (int64_t i = first; i < last; ++i) ys[i] = xs[i] + as[i] * dropout.factor(i);
    }
  });
}

void apply_dropout(Exec& exec, Tensor x, const Dropout& dropout, Tensor y) {
  if (exec.dry()) return;
  for_elements(exec, y.size(), [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) y.f32()[i] = x.f32()[i] * dropout.factor(i);
  });
}

void add_column_sums(Exec& exec, const float* x, int64_t rows, int64_t cols, int64_t ld, float* total) {
  if (exec.dry()) return;
  for_row_groups(exec, cols, 128, [&](int64_t first, int64_t last, int) {
    float sums[128] = {};
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t i = first; i < last; ++i) sums[i - first] += x[row * ld + i];
    }
    for (int64_t i = first; i < last; ++i) total[i] += sums[i - first];
  });
}

void copy_rows(Exec& exec, const float* from, int64_t from_ld, float* to, int64_t to_ld, int64_t rows,
               int64_t cols) {
  if (exec.dry()) return;
  for_rows(exec, rows, cols, [&](int64_t row) {
    std::memcpy(to + row * to_ld, from + row * from_ld, static_cast<size_t>(cols) * sizeof(float));
  });
}

void scale(Exec& exec, Tensor x, float factor) {
  if (exec.dry()) return;
  for_elements(exec, x.size(), [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) x.f32()[i] *= factor;
  });
}

void softcap(Exec& exec, Tensor x, float cap) {
  if (exec.dry()) return;
  for_elements(exec, x.size(), [&](int64_t first, int64_t last) {
    simd::for_lanes(last - first, [&](int64_t i, auto part) {
      float* const at = x.f32() + first + i;
      simd::store(at, simd::tanh(simd::load(at, part) * (1.0f / cap)) * cap, part);
    });
  });
}

void softcap_backward(Exec& exec, Tensor y, float cap, Tensor dx) {
  if (exec.dry()) return;
  for_elements(exec, y.size(), [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const float t = y.f32()[i] / cap;
      dx.f32()[i] *= 1.0f - t * t;
    }
  });
}

void embed(Exec& exec, Tensor table, Tensor position_table, const int32_t* ids, const int32_t* positions,
           Tensor y) {
  if (exec.dry()) return;
  const int64_t C = y.cols();
  for_rows(exec, y.rows(), C, [&](int64_t row) {
    float* to = y.f32() + row * C;
    to_f32(static_cast<const std::byte*>(table.data) + dtype_bytes(table.dtype, ids[row] * C), table.dtype,
           to, C);
    if (!position_table) return;
    const float* place = position_table.f32() + positions[row] * C;
    for (int64_t i = 0; i < C; ++i) to[i] += place[i];
  });
}

void embed_backward(Exec& exec, Tensor dy, const int32_t* ids, const int32_t* positions, Tensor dtable,
                    Tensor dposition_table) {
  if (exec.dry()) return;
  const int64_t C = dy.cols();
  // A task owns a range of columns, so that rows with the same id never meet and are added in order.
  for_row_groups(exec, C, 64, [&](int64_t first, int64_t last, int) {
    for (int64_t row = 0; row < dy.rows(); ++row) {
      const float* from = dy.f32() + row * C;
      for (int64_t i = first; dtable && i < last; ++i) dtable.f32()[ids[row] * C + i] += from[i];
      for (int64_t i = first; dposition_table && i < last; ++i) {
        dposition_table.f32()[positions[row] * C + i] += from[i];
      }
    }
  });
}

}  // namespace llmtool
