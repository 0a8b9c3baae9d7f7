#pragma once
// Sums and dropout over whole tensors.

#include <span>

#include "llmtool/core/exec.h"

namespace llmtool {

/// Dropout (Srivastava et al. 2014): element n is kept, and divided by 1 - rate, when number n of `rng` says
/// so; the mask can be had again from the same rng.
struct Dropout {
  double rate = 0;
  Rng rng;

  float keep_scale() const { return static_cast<float>(1.0 / (1.0 - rate)); }
  float factor(uint64_t n) const { return (rng.at(n) >> 32) >= threshold() ? keep_scale() : 0.0f; }
  explicit operator bool() const { return rate > 0; }

 private:
  uint64_t threshold() const { return static_cast<uint64_t>(rate * 0x1p32); }
};

/// y = x + dropout(a); all of one shape, y may be x or a.
void add_dropout(Exec& exec, Tensor x, Tensor a, const Dropout& dropout, Tensor y);
/// y = dropout(x), y may be x.
void apply_dropout(Exec& exec, Tensor x, const Dropout& dropout, Tensor y);
/// total (N) += the sum of the rows of x (R, N), rows `ld` apart.
void add_column_sums(Exec& exec, const float* x, int64_t rows, int64_t cols, int64_t ld, float* total);

/// Copies `rows` rows of `cols` floats, from_ld apart, to rows to_ld apart.
void copy_rows(Exec& exec, const float* from, int64_t from_ld, float* to, int64_t to_ld, int64_t rows,
               int64_t cols);
/// The same, added: to += factor * from.
void add_rows(Exec& exec, const float* from, int64_t from_ld, float factor, float* to, int64_t to_ld,
              int64_t rows, int64_t cols);
/// y (R, N; rows y_ld apart) = x (R, N; rows x_ld apart) times factors (N); y may be x.
void scale_columns(Exec& exec, const float* x, int64_t x_ld, const float* factors, float* y, int64_t y_ld,
                   int64_t rows, int64_t cols);
/// total (N) += the sums over the rows of the products of a's and b's elements.
void add_column_dots(Exec& exec, const float* a, int64_t a_ld, const float* b, int64_t b_ld, int64_t rows,
                     int64_t cols, float* total);
/// x *= factor.
void scale(Exec& exec, Tensor x, float factor);
/// x = cap * tanh(x / cap) (Gemma 2).
void softcap(Exec& exec, Tensor x, float cap);
/// dx *= the derivative of softcap where its result was y.
void softcap_backward(Exec& exec, Tensor y, float cap, Tensor dx);

/// y (R, C) = table[ids], of any storage type.
void embed(Exec& exec, Tensor table, const int32_t* ids, Tensor y);
/// y (R, C) += table[ids], an f32 table.
void embed_more(Exec& exec, Tensor table, const int32_t* ids, Tensor y);
/// dtable[ids] += dy.
void embed_backward(Exec& exec, Tensor dy, const int32_t* ids, Tensor dtable);
/// y (R, C) = x[rows]; and the other way: x[rows] = y, rows that no one names staying as they are.
void gather_rows(Exec& exec, Tensor x, std::span<const int64_t> rows, Tensor y);
void scatter_rows(Exec& exec, Tensor y, std::span<const int64_t> rows, Tensor x);
/// y (B, C): the mean of x's rows [starts[b], starts[b + 1]) each.
void mean_rows(Exec& exec, Tensor x, std::span<const int64_t> starts, Tensor y);

}  // namespace llmtool
