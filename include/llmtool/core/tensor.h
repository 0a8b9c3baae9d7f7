#pragma once
// Tensor: a non-owning view of contiguous row-major elements.

#include <Eigen/Core>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace llmtool {

enum class DType : uint8_t { f32, bf16, f16, i32 };

size_t dtype_size(DType dtype);       // bytes per element
const char* dtype_name(DType dtype);  // "f32", "bf16", ...

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
  size_t bytes() const { return static_cast<size_t>(size()) * dtype_size(dtype); }
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
