#pragma once
// The numbers of the GGUF format that reader and writer share.

#include <cstdint>
#include <optional>

#include "llmtool/core/tensor.h"
#include "llmtool/io/gguf.h"

namespace llmtool {

constexpr uint32_t kGgufMagic = 0x46554747;  // "GGUF"
constexpr uint32_t kGgufVersion = 3;
constexpr uint64_t kGgufAlignment = 32;
constexpr uint64_t kGgufMaxKey = 65535;  // bytes
constexpr uint64_t kGgufMaxName = 63;    // bytes; ggml keeps 64 with the end
constexpr uint32_t kGgufMaxRank = 4;
constexpr const char* kGgufAlignmentKey = "general.alignment";

/// A type of tensor.
struct GgmlType {
  uint32_t id;
  const char* name;
  DTypeBlock block;
  std::optional<DType> dtype;  // where a Tensor can hold it
};

/// nullptr for a number that names no type (some once did).
const GgmlType* find_ggml_type(uint32_t id);
const GgmlType* find_ggml_type(DType dtype);

const char* gguf_type_name(GgufType type);  // "uint32", as the specification has it
/// Bytes of one element; 0 for string, array and numbers that name no type.
uint64_t gguf_type_bytes(GgufType type);

/// Rounded up to a multiple of `alignment`, a power of two; the sum must not overflow.
constexpr uint64_t gguf_padded(uint64_t bytes, uint64_t alignment) {
  return (bytes + alignment - 1) & ~(alignment - 1);
}

}  // namespace llmtool
