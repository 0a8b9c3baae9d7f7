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

void add_rows(Exec& exec, const float* from, int64_t from_ld, float factor, float* to, int64_t to_ld,
              int64_t rows, int64_t cols) {
  if (exec.dry()) return;
  for_rows(exec, rows, cols, [&](int64_t row) {
    const float* const x = from + row * from_ld;
    float* const y = to + row * to_ld;
    for (int64_t i = 0; i < cols; ++i) y[i] += factor * x[i];
  });
}

void scale_columns(Exec& exec, const float* x, int64_t x_ld, const float* factors, float* y, int64_t y_ld,
                   int64_t rows, int64_t cols) {
  if (exec.dry()) return;
  for_rows(exec, rows, cols, [&](int64_t row) {
    for (int64_t i = 0; i < cols; ++i) y[row * y_ld + i] = x[row * x_ld + i] * factors[i];
  });
}

void add_column_dots(Exec& exec, const float* a, int64_t a_ld, const float* b, int64_t b_ld, int64_t rows,
                     int64_t cols, float* total) {
  if (exec.dry()) return;
  for_row_groups(exec, cols, 128, [&](int64_t first, int64_t last, int) {
    float sums[128] = {};
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t i = first; i < last; ++i) sums[i - first] += a[row * a_ld + i] * b[row * b_ld + i];
    }
    for (int64_t i = first; i < last; ++i) total[i] += sums[i - first];
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

void embed(Exec& exec, Tensor table, const int32_t* ids, Tensor y) {
  if (exec.dry()) return;
  const int64_t C = y.cols();
  for_rows(exec, y.rows(), C, [&](int64_t row) {
    to_f32(static_cast<const std::byte*>(table.data) + dtype_bytes(table.dtype, ids[row] * C), table.dtype,
           y.f32() + row * C, C);
  });
}

void embed_more(Exec& exec, Tensor table, const int32_t* ids, Tensor y) {
  if (exec.dry()) return;
  const int64_t C = y.cols();
  for_rows(exec, y.rows(), C, [&](int64_t row) {
    const float* const from = table.f32() + ids[row] * C;
    float* const to = y.f32() + row * C;
    for (int64_t i = 0; i < C; ++i) to[i] += from[i];
  });
}

void embed_backward(Exec& exec, Tensor dy, const int32_t* ids, Tensor dtable) {
  if (exec.dry() || !dtable) return;
  const int64_t C = dy.cols();
  // A task owns a range of columns, so that rows with the same id never meet and are added in order.
  for_row_groups(exec, C, 64, [&](int64_t first, int64_t last, int) {
    for (int64_t row = 0; row < dy.rows(); ++row) {
      const float* const from = dy.f32() + row * C;
      float* const to = dtable.f32() + ids[row] * C;
      for (int64_t i = first; i < last; ++i) to[i] += from[i];
    }
  });
}

void gather_rows(Exec& exec, Tensor x, std::span<const int64_t> rows, Tensor y) {
  if (exec.dry()) return;
  const auto C = static_cast<size_t>(x.cols());
  for_rows(exec, static_cast<int64_t>(rows.size()), x.cols(), [&](int64_t i) {
    const auto at = static_cast<size_t>(i);
    std::memcpy(y.f32() + at * C, x.f32() + static_cast<size_t>(rows[at]) * C, C * sizeof(float));
  });
}

void scatter_rows(Exec& exec, Tensor y, std::span<const int64_t> rows, Tensor x) {
  if (exec.dry()) return;
  const auto C = static_cast<size_t>(x.cols());
  for_rows(exec, static_cast<int64_t>(rows.size()), x.cols(), [&](int64_t i) {
    const auto at = static_cast<size_t>(i);
    std::memcpy(x.f32() + static_cast<size_t>(rows[at]) * C, y.f32() + at * C, C * sizeof(float));
  });
}

void mean_rows(Exec& exec, Tensor x, std::span<const int64_t> starts, Tensor y) {
  if (exec.dry()) return;
  const int64_t C = x.cols();
  for_rows(exec, y.rows(), 64 * C, [&](int64_t b) {
    float* const to = y.f32() + b * C;
    std::fill_n(to, C, 0.0f);
    const int64_t first = starts[static_cast<size_t>(b)], last = starts[static_cast<size_t>(b) + 1];
    for (int64_t row = first; row < last; ++row) {
      for (int64_t i = 0; i < C; ++i) to[i] += x.f32()[row * C + i];
    }
    for (int64_t i = 0; i < C; ++i) to[i] /= static_cast<float>(last - first);
  });
}

}  // namespace llmtool
