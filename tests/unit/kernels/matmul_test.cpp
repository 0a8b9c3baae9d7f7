// Matrix products against sums in double.

#include "llmtool/kernels/matmul.h"

#include <gtest/gtest.h>

#include <cstring>

#include "llmtool/kernels/convert.h"
#include "reference.h"

namespace llmtool {
namespace {

using namespace reference;

/// A matrix stored by rows or by columns, with a gap between its lines.
struct Matrix {
  Matrix(int64_t r, int64_t c, bool by_columns, uint64_t seed)
      : rows(r),
        cols(c),
        stride((by_columns ? r : c) + 3),
        transposed(by_columns),
        data(normal(static_cast<size_t>(stride * (by_columns ? c : r)), seed)) {}
  MatrixView view() const {
    return transposed ? MatrixView{data.data(), 1, stride} : MatrixView{data.data(), stride, 1};
  }
  double at(int64_t i, int64_t j) const {
    return data[static_cast<size_t>(transposed ? j * stride + i : i * stride + j)];
  }
  int64_t rows, cols, stride;
  bool transposed;
  std::vector<float> data;
};

struct Shape3 {
  int64_t M, N, K;
};

/// Each of K products and sums rounds to 2^-24 of a partial sum, at most sum |a b|; a walk of K steps strays
/// by sqrt(K) of them, four times that is never seen.
void expect_product(const Matrix& a, const Matrix& b, const std::vector<float>& c, int64_t ldc, double before,
                    const std::vector<float>& bias) {
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t j = 0; j < b.cols; ++j) {
      double sum = before + (bias.empty() ? 0.0 : static_cast<double>(bias[static_cast<size_t>(j)])),
             size = std::abs(sum);
      for (int64_t k = 0; k < a.cols; ++k) {
        sum += a.at(i, k) * b.at(k, j);
        size += std::abs(a.at(i, k) * b.at(k, j));
      }
      const double bound = 4 * std::sqrt(static_cast<double>(a.cols) + 1) * 0x1p-24 * size;
      ASSERT_NEAR(c[static_cast<size_t>(i * ldc + j)], sum, bound)
          << i << " " << j << " of " << a.rows << " " << b.cols << " " << a.cols;
    }
  }
}

TEST(Matmul, EqualsTheSumsInEveryOrientation) {
  const Shape3 shapes[] = {{1, 1, 1},    {12, 32, 5}, {11, 31, 17}, {13, 33, 16},
                           {25, 70, 40}, {5, 200, 3}, {97, 3, 64},  {40, 40, 800}};
  for (const auto& [M, N, K] : shapes) {
    for (int form = 0; form < 16; ++form) {
      const bool a_columns = form & 1, b_columns = form & 2, add = form & 4, with_bias = form & 8;
      Machine m;
      const Matrix a(M, K, a_columns, 1), b(K, N, b_columns, 2);
      const int64_t ldc = N + 5;
      std::vector<float> c(static_cast<size_t>(M * ldc), 7);
      const std::vector<float> bias = with_bias ? normal(static_cast<size_t>(N), 3) : std::vector<float>();
      matmul(m.exec, M, N, K, a.view(), b.view(), c.data(), ldc, add ? Write::add : Write::set,
             with_bias ? bias.data() : nullptr);
      expect_product(a, b, c, ldc, add ? 7 : 0, bias);
      for (int64_t i = 0; i < M; ++i) {
        for (int64_t j = N; j < ldc; ++j) ASSERT_EQ(c[static_cast<size_t>(i * ldc + j)], 7);
      }
    }
  }
}

TEST(Matmul, GoesOnBeyondItsBlocks) {
  // More rows than are packed at a time (1,728 or 864), and more terms (768).
  for (const auto& [M, N, K] : {Shape3{1800, 35, 20}, {30, 900, 1600}, {900, 20, 770}}) {
    Machine m;
    const Matrix a(M, K, true, 1), b(K, N, false, 2);
    std::vector<float> c(static_cast<size_t>(M * N));
    matmul(m.exec, M, N, K, a.view(), b.view(), c.data(), N);
    expect_product(a, b, c, N, 0, {});
  }
}

TEST(Matmul, BitsDependOnAnElementsOwnRowAndColumnAlone) {
  constexpr int64_t M = 300, N = 170, K = 900;
  const Matrix a(M, K, false, 1), b(K, N, true, 2);
  std::vector<float> whole(M * N);
  {
    Machine one(1);
    matmul(one.exec, M, N, K, a.view(), b.view(), whole.data(), N);
  }
  for (const int threads : {2, 5}) {
    Machine m(threads);
    std::vector<float> c(M * N);
    matmul(m.exec, M, N, K, a.view(), b.view(), c.data(), N);
    EXPECT_EQ(c, whole);
  }
  Machine m;
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{1, 1}, {7, 33}, {150, 170}}) {
    std::vector<float> c(static_cast<size_t>(rows * N));
    matmul(m.exec, rows, cols, K, a.view(), b.view(), c.data(), N);
    for (int64_t i = 0; i < rows; ++i) {
      EXPECT_EQ(0, std::memcmp(&c[static_cast<size_t>(i * N)], &whole[static_cast<size_t>(i * N)],
                               static_cast<size_t>(cols) * 4))
          << rows;
    }
  }
}

TEST(Matmul, ADryRunMeasuresWhatItTakes) {
  for (const auto& [M, N, K] : {Shape3{1, 1, 1}, {100, 50, 30}, {2000, 40, 1000}}) {
    ThreadPool pool(2);
    Arena saved, measured;
    Exec dry{pool, saved, measured, Rng()};
    matmul(dry, M, N, K, {nullptr, K, 1}, {nullptr, N, 1}, nullptr, N);
    Arena scratch(measured.peak()), none(64);
    Exec exec{pool, none, scratch, Rng()};
    const Matrix a(M, K, false, 1), b(K, N, false, 2);
    std::vector<float> c(static_cast<size_t>(M * N));
    EXPECT_NO_THROW(matmul(exec, M, N, K, a.view(), b.view(), c.data(), N));
    EXPECT_EQ(scratch.peak(), measured.peak());
  }
}

TEST(MatmulTile, EqualsTheSums) {
  for (const auto& [M, N, K] : {Shape3{1, 1, 1}, {72, 128, 64}, {71, 100, 9}, {13, 40, 1000}}) {
    for (int form = 0; form < 8; ++form) {
      const Matrix a(M, K, form & 1, 1), b(K, N, form & 2, 2);
      Arena scratch(static_cast<size_t>(matmul_tile_scratch(M, N, K)) * 4 + 64);
      std::vector<float> c(static_cast<size_t>(M * N), 3);
      matmul_tile(M, N, K, a.view(), b.view(), c.data(), N, form & 4 ? Write::add : Write::set,
                  scratch.floats(matmul_tile_scratch(M, N, K)));
      expect_product(a, b, c, N, form & 4 ? 3 : 0, {});
    }
  }
}

TEST(Matvec, EqualsTheSumsAndARowsBitsDoNotDependOnItsCompany) {
  for (const auto& [N, K] :
       {std::pair<int64_t, int64_t>{1, 1}, {17, 100}, {40, 64}, {33, 257}, {3, 70000}, {300, 1000}}) {
    const Matrix x(9, K, false, 1), w(K, N, true, 2);
    std::vector<float> xs, ws;  // without gaps
    for (int64_t r = 0; r < 9; ++r) {
      for (int64_t k = 0; k < K; ++k) xs.push_back(static_cast<float>(x.at(r, k)));
    }
    for (int64_t n = 0; n < N; ++n) {
      for (int64_t k = 0; k < K; ++k) ws.push_back(static_cast<float>(w.at(k, n)));
    }
    const auto bias = normal(static_cast<size_t>(N), 3);
    const int64_t ldy = N + 2;
    std::vector<float> whole;
    for (int64_t B = 9; B >= 1; --B) {
      Machine m(static_cast<int>(B % 3 + 1));
      std::vector<float> y(static_cast<size_t>(9 * ldy), 7);
      matvec(m.exec, B, N, K, xs.data(), Tensor(ws.data(), {N, K}), y.data(), ldy, bias.data());
      if (B == 9) {
        whole = y;
        expect_product(x, w, y, ldy, 0, bias);
      }
      EXPECT_EQ(0, std::memcmp(y.data(), whole.data(), static_cast<size_t>((B - 1) * ldy + N) * 4)) << B;
      EXPECT_EQ(y[static_cast<size_t>(N)], 7);
    }
  }
}

TEST(StoredWeights, GiveTheBitsOfTheirValuesInF32) {
  Machine m;
  // Several blocks of the sum, rims of columns and rows; whole blocks of 32 or of 256.
  for (const auto& [dtype, K] : {std::pair(DType::bf16, int64_t{900}),
                                 {DType::f16, 33},
                                 {DType::q8_0, 800},
                                 {DType::q4_0, 96},
                                 {DType::nf4, 832},
                                 {DType::nf4_dq, 1024}}) {
    const int64_t M = 20, N = 45;
    const auto x = normal(static_cast<size_t>(M * K), 1), w = normal(static_cast<size_t>(N * K), 2),
               bias = normal(static_cast<size_t>(N), 3);
    std::vector<std::byte> stored(dtype_bytes(dtype, N * K));
    from_f32(w.data(), stored.data(), dtype, N * K);
    std::vector<float> values(w.size());
    to_f32(stored.data(), dtype, values.data(), N * K);
    const Tensor in_file(stored.data(), dtype, {N, K}), in_f32(values.data(), {N, K});
    for (const int64_t rows : {int64_t{1}, int64_t{3}, M}) {
      std::vector<float> a(static_cast<size_t>(rows * N)), b(a.size());
      matmul(m.exec, rows, N, K, x.data(), in_file, a.data(), N, bias.data());
      matmul(m.exec, rows, N, K, x.data(), in_f32, b.data(), N, bias.data());
      EXPECT_EQ(a, b) << dtype_name(dtype) << " " << rows;
      matvec(m.exec, rows, N, K, x.data(), in_file, a.data(), N, bias.data());
      matvec(m.exec, rows, N, K, x.data(), in_f32, b.data(), N, bias.data());
      EXPECT_EQ(a, b) << dtype_name(dtype) << " " << rows;
      const auto d = normal(static_cast<size_t>(rows * N), 4);
      std::vector<float> e(static_cast<size_t>(rows * K), 1), f = e;
      for (const Write write : {Write::set, Write::add}) {
        matmul_rows(m.exec, rows, K, N, {d.data(), N, 1}, in_file, e.data(), K, write);
        matmul_rows(m.exec, rows, K, N, {d.data(), N, 1}, in_f32, f.data(), K, write);
        EXPECT_EQ(e, f) << dtype_name(dtype) << " " << rows;
      }
    }
  }
}

}  // namespace
}  // namespace llmtool
