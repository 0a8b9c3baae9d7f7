#include "llmtool/nn/linear.h"

#include "llmtool/kernels/elementwise.h"

namespace llmtool {

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
  while (end < parts_.size()) {
    const Part &a = parts_[end - 1], &b = parts_[end];
    if (!follows(a.weight->value, b.weight->value) || !follows(a.weight->grad, b.weight->grad)) break;
    if ((a.bias == nullptr) != (b.bias == nullptr)) break;
    if (a.bias && !(follows(a.bias->value, b.bias->value) && follows(a.bias->grad, b.bias->grad))) break;
    ++end;
  }
  return end;
}

void Linear::forward(Exec& exec, Tensor x, Tensor y, bool few_rows) const {
  for (size_t i = 0, end; i < parts_.size(); i = end) {
    end = run_end(i);
    const Part& part = parts_[i];
    const int64_t out = parts_[end - 1].offset + parts_[end - 1].out - part.offset;
    const WeightView weight(part.weight->value);
    const float* bias = part.bias ? part.bias->value.f32() : nullptr;
    float* to = y.f32() + part.offset;
    if (few_rows) {
      matvec(exec, x.rows(), out, in_, x.f32(), weight, to, out_, bias);
    } else {
      matmul(exec, x.rows(), out, in_, x.f32(), weight, to, out_, bias);
    }
  }
}

void Linear::backward(Exec& exec, Tensor x, Tensor dy, Tensor dx) {
  const int64_t rows = x.rows();
  for (size_t i = 0, end; i < parts_.size(); i = end) {
    end = run_end(i);
    const Part& part = parts_[i];
    const int64_t out = parts_[end - 1].offset + parts_[end - 1].out - part.offset;
    const MatrixView d{dy.f32() + part.offset, out_, 1};
    if (dx) {
      matmul(exec, rows, in_, out, d, {part.weight->value.f32(), in_, 1}, dx.f32(), in_,
             i == 0 ? Write::set : Write::add);
    }
    if (part.weight->grad) {
      matmul(exec, out, in_, rows, d.transposed(), {x.f32(), in_, 1}, part.weight->grad.f32(), in_,
             Write::add);
    }
    if (part.bias && part.bias->grad) add_column_sums(exec, d.data, rows, out, out_, part.bias->grad.f32());
  }
}

}  // namespace llmtool
