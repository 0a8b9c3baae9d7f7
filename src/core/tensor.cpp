#include "llmtool/core/tensor.h"

#include <algorithm>
#include <bit>
#include <iterator>

#include "llmtool/core/error.h"

namespace llmtool {

namespace {
struct Storage {
  const char* name;
  DTypeBlock block;
};
/// In the order of DType. A block's bytes: its f16 scales (and minima), then its bits.
constexpr Storage kStorage[] = {{"f32", {1, 4}},
                                {"bf16", {1, 2}},
                                {"f16", {1, 2}},
                                {"i32", {1, 4}},
                                {"f8_e4m3", {1, 1}},
                                {"f8_e5m2", {1, 1}},
                                {"q8_0", {32, 2 + 32}},
                                {"q4_0", {32, 2 + 16}},
                                {"q4_1", {32, 4 + 16}},
                                {"q5_0", {32, 2 + 4 + 16}},
                                {"q5_1", {32, 4 + 4 + 16}},
                                {"q4_k", {256, 4 + 12 + 128}},
                                {"q5_k", {256, 4 + 12 + 32 + 128}},
                                {"q6_k", {256, 128 + 64 + 16 + 2}},
                                {"nf4", {64, 4 + 32}},
                                {"nf4_dq", {256, 2 + 4 + 128}}};
static_assert(std::size(kStorage) == static_cast<size_t>(DType::nf4_dq) + 1);
static_assert(std::ranges::all_of(kStorage, [](const Storage& s) {
  return std::has_single_bit(static_cast<uint64_t>(s.block.elements));
}));
}  // namespace

DTypeBlock dtype_block(DType dtype) { return kStorage[static_cast<size_t>(dtype)].block; }

size_t dtype_bytes(DType dtype, int64_t elements) {
  const DTypeBlock block = dtype_block(dtype);
  if (elements & (block.elements - 1)) {
    throw Error(cat("[", dtype_name(dtype), "] expected a multiple of ", block.elements, " elements, found ",
                    elements));
  }
  const int shift = std::countr_zero(static_cast<uint64_t>(block.elements));  // asked in inner loops
  return static_cast<size_t>(elements >> shift) * static_cast<size_t>(block.bytes);
}

const char* dtype_name(DType dtype) { return kStorage[static_cast<size_t>(dtype)].name; }

Shape::Shape(std::initializer_list<int64_t> list) {
  if (list.size() > dims.size()) throw Error(cat("[shape] at most 4 dimensions, found ", list.size()));
  for (int64_t d : list) dims[rank++] = d;
}

int64_t Shape::size() const {
  int64_t n = 1;
  for (int i = 0; i < rank; ++i) n *= dims[i];
  return n;
}

std::string Shape::text() const {
  std::string out = "(";
  for (int i = 0; i < rank; ++i) out += (i ? ", " : "") + std::to_string(dims[i]);
  return out + ")";
}

}  // namespace llmtool
