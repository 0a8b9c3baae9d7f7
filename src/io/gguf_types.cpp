#include "io/gguf_types.h"

namespace llmtool {

namespace {
constexpr GgmlType kTypes[] = {{0, "F32", {1, 4}, DType::f32},
                               {1, "F16", {1, 2}, DType::f16},
                               {2, "Q4_0", {32, 18}, DType::q4_0},
                               {3, "Q4_1", {32, 20}, DType::q4_1},
                               {6, "Q5_0", {32, 22}, DType::q5_0},
                               {7, "Q5_1", {32, 24}, DType::q5_1},
                               {8, "Q8_0", {32, 34}, DType::q8_0},
                               {9, "Q8_1", {32, 36}, {}},
                               {10, "Q2_K", {256, 84}, {}},
                               {11, "Q3_K", {256, 110}, {}},
                               {12, "Q4_K", {256, 144}, DType::q4_k},
                               {13, "Q5_K", {256, 176}, DType::q5_k},
                               {14, "Q6_K", {256, 210}, DType::q6_k},
                               {15, "Q8_K", {256, 292}, {}},
                               {16, "IQ2_XXS", {256, 66}, {}},
                               {17, "IQ2_XS", {256, 74}, {}},
                               {18, "IQ3_XXS", {256, 98}, {}},
                               {19, "IQ1_S", {256, 50}, {}},
                               {20, "IQ4_NL", {32, 18}, {}},
                               {21, "IQ3_S", {256, 110}, {}},
                               {22, "IQ2_S", {256, 82}, {}},
                               {23, "IQ4_XS", {256, 136}, {}},
                               {24, "I8", {1, 1}, {}},
                               {25, "I16", {1, 2}, {}},
                               {26, "I32", {1, 4}, DType::i32},
                               {27, "I64", {1, 8}, {}},
                               {28, "F64", {1, 8}, {}},
                               {29, "IQ1_M", {256, 56}, {}},
                               {30, "BF16", {1, 2}, DType::bf16},
                               {34, "TQ1_0", {256, 54}, {}},
                               {35, "TQ2_0", {256, 66}, {}},
                               {39, "MXFP4", {32, 17}, {}},
                               {40, "NVFP4", {64, 36}, {}},
                               {41, "Q1_0", {128, 18}, {}}};
}  // namespace

const GgmlType* find_ggml_type(uint32_t id) {
  for (const GgmlType& type : kTypes) {
    if (type.id == id) return &type;
  }
  return nullptr;
}

const GgmlType* find_ggml_type(DType dtype) {
  for (const GgmlType& type : kTypes) {
    if (type.dtype == dtype) return &type;
  }
  return nullptr;
}

const char* gguf_type_name(GgufType type) {
  constexpr const char* kNames[] = {"uint8",   "int8",   "uint16", "int16",  "uint32", "int32",  "float32",
                                    "boolean", "string", "array",  "uint64", "int64",  "float64"};
  const auto id = static_cast<uint32_t>(type);
  return id < std::size(kNames) ? kNames[id] : "?";
}

uint64_t gguf_type_bytes(GgufType type) {
  constexpr uint64_t kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  const auto id = static_cast<uint32_t>(type);
  return id < std::size(kBytes) ? kBytes[id] : 0;
}

}  // namespace llmtool
