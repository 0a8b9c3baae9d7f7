#pragma once
// Tensor: a non-owning view of contiguous row-major elements.

#include <Eigen/Core>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace llmtool {

/// How elements are stored: one by one, or in ggml's blocks of 32 (q8_0 to q5_1) or 256 (q4_k to q6_k) that
/// share their scales. f8_e4m3 has no infinity, f8_e5m2 is the upper half of an f16 (OCP 8-bit floats). nf4 is
/// QLoRA's 4-bit NormalFloat (Dettmers et al. 2023), in blocks of 64 with an f32 scale (4.5 bits an element);
/// nf4_dq has double quantization, four such blocks whose scales are 8-bit shares of one f16 (4.1875 bits).
/// Both are for memory alone: no file holds them.
enum class DType : uint8_t {
  f32,
  bf16,
  f16,
  i32,
  f8_e4m3,
  f8_e5m2,
  q8_0,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q4_k,
  q5_k,
  q6_k,
  nf4,
  nf4_dq
};

/// The smallest run of elements that can be stored: (1, 4) for f32, (32, 34) for q8_0.
struct DTypeBlock {
  int64_t elements;
  int64_t bytes;
};

DTypeBlock dtype_block(DType dtype);
/// Bytes of that many elements; throws Error unless they are whole blocks. A tensor's rows (its last
/// dimension) are whole blocks each.
size_t dtype_bytes(DType dtype, int64_t elements);
const char* dtype_name(DType dtype);  // "f32", "q4_0", ...

/// At most four dimensions, outermost first.
struct Shape {
  Shape() = default;
  Shape(std::initializer_list<int64_t> list);
  int64_t operator[](int i) const { return dims[i]; }
  bool operator==(const Shape&) const = default;
  int64_t size() const;      // number of elements; 1 for rank 0
  std::string text() const;  // "(2, 3)"

  std::array<int64_t, 4> dims{};
  int rank = 0;
};

/// View {data, dtype, shape}; owns nothing. An empty tensor (data == nullptr) stands for "not there".
struct Tensor {
  Tensor() = default;
  Tensor(float* values, Shape s) : data(values), shape(s) {}
  Tensor(void* values, DType type, Shape s) : data(values), dtype(type), shape(s) {}

  float* f32() const { return static_cast<float*>(data); }
  int64_t size() const { return shape.size(); }
  int64_t cols() const { return shape.rank ? shape[shape.rank - 1] : 1; }  // the last dimension
  int64_t rows() const { return cols() ? size() / cols() : 0; }            // all the others together
  size_t bytes() const { return dtype_bytes(dtype, size()); }
  explicit operator bool() const { return data != nullptr; }

  void* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;
};

using RowMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// An f32 tensor as an Eigen matrix (rows(), cols()).
inline Eigen::Map<RowMatrix> matrix(const Tensor& t) { return {t.f32(), t.rows(), t.cols()}; }
/// An f32 tensor as an Eigen array of size() elements.
inline Eigen::Map<Eigen::ArrayXf> array(const Tensor& t) { return {t.f32(), t.size()}; }

}  // namespace llmtool
