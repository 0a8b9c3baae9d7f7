#include "formats.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "llmtool/core/error.h"
#include "llmtool/io/gguf.h"
#include "llmtool/io/llama2c.h"
#include "llmtool/io/safetensors.h"
#include "llmtool/kernels/convert.h"
#include "support.h"

namespace llmtool::test {

MemoryFile::MemoryFile(std::string_view contents) : fd_(memfd_create("llmtool-test", MFD_CLOEXEC)) {
  if (fd_ < 0) throw std::runtime_error("memfd_create failed");
  set(contents);
}

MemoryFile::~MemoryFile() { close(fd_); }

void MemoryFile::set(std::string_view contents) {
  const bool done = ftruncate(fd_, 0) == 0 &&
                    pwrite(fd_, contents.data(), contents.size(), 0) == static_cast<ssize_t>(contents.size());
  if (!done) throw std::runtime_error("a file in memory cannot be written");
}

std::filesystem::path MemoryFile::path() const { return "/proc/self/fd/" + std::to_string(fd_); }

namespace {
std::vector<float> ramp(int64_t n) {
  std::vector<float> values(static_cast<size_t>(n));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 37) / 16 - 1;
  return values;
}

void read_tensor(const Tensor& t) {
  if (t.dtype == DType::i32) return;
  constexpr int64_t kPiece = 1 << 16;
  std::vector<float> values(static_cast<size_t>(std::min(t.size(), kPiece)));
  const auto* at = static_cast<const std::byte*>(t.data);
  for (int64_t first = 0; first < t.size(); first += kPiece) {
    const int64_t count = std::min(kPiece, t.size() - first);
    to_f32(at, t.dtype, values.data(), count);
    at += dtype_bytes(t.dtype, count);
  }
}

template <class Call>
void allow_error(Call&& call) {
  try {
    call();
  } catch (const Error&) {  // a refusal is an answer
  }
}
}  // namespace

std::string sample_gguf() {
  TempFolder folder;
  const std::vector<GgufEntry> metadata = {
      {"general.architecture", std::string("llama")},
      {"u32", uint32_t{7}},
      {"i32", int32_t{-7}},
      {"u64", uint64_t{1} << 40},
      {"i64", -(int64_t{1} << 40)},
      {"f32", 0.5f},
      {"f64", 0.25},
      {"bool", true},
      {"bytes", std::vector<uint8_t>{0, 127, 255}},
      {"u32s", std::vector<uint32_t>{1, 2, 3}},
      {"i32s", std::vector<int32_t>{1, -2, 3}},
      {"f32s", std::vector<float>{0, -1, 2.5f}},
      {"bools", std::vector<bool>{true, false}},
      {"texts", std::vector<std::string>{"<s>", "", "\xe2\x96\x81the"}},
  };
  const std::vector<GgufTensor> tensors = {{"f32", {2, 3}, DType::f32},
                                           {"f16", {5}, DType::f16},
                                           {"bf16", {2, 1, 2, 2}, DType::bf16},
                                           {"q8_0", {2, 32}, DType::q8_0},
                                           {"q4_0", {1, 64}, DType::q4_0}};
  GgufWriter writer(folder / "x.gguf", metadata, tensors);
  for (const GgufTensor& t : tensors) {
    std::vector<float> values = ramp(t.shape.size());
    writer.write(Tensor(values.data(), t.shape), from_f32);
  }
  writer.commit();
  return read_text(folder / "x.gguf");
}

std::string sample_safetensors() {
  TempFolder folder;
  std::vector<float> values = ramp(24);
  std::vector<uint8_t> bytes = {0, 1, 0x38, 0x7f, 0xff, 0xc0};
  write_safetensors(folder / "x.safetensors",
                    {{"a.weight", Tensor(values.data(), {2, 3, 4}), DType::f32},
                     {"b.weight", Tensor(values.data(), {4, 6}), DType::bf16, true},
                     {"c.bias", Tensor(values.data(), {5}), DType::f16},
                     {"d", Tensor(bytes.data(), DType::f8_e4m3, {2, 3}), DType::f8_e4m3},
                     {"e", Tensor(bytes.data(), DType::f8_e5m2, {6}), DType::f8_e5m2},
                     {"empty", Tensor(values.data(), {0, 3}), DType::f32}},
                    {{"format", "pt"}, {"note", "a \"quoted\" text"}});
  return read_text(folder / "x.safetensors");
}

std::string sample_llama2c() {
  // C 8, F 12, L 2, H 2, K 1, V -11 (a head of its own), T 4
  const int32_t header[] = {8, 12, 2, 2, 1, -11, 4};
  const int64_t per_layer = 8 + 8 * 8 + 4 * 8 + 4 * 8 + 8 * 8 + 8 + 3 * 12 * 8;
  const std::vector<float> values = ramp(11 * 8 + 2 * per_layer + 8 + 2 * 4 * 2 + 11 * 8);
  std::string file(reinterpret_cast<const char*>(header), sizeof header);
  return file.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
}

void read_whole_gguf(const std::filesystem::path& path) {
  const GgufFile file(path);
  const GgufMetadata& metadata = file.metadata();
  for (const auto& [key, value] : metadata.values()) {
    allow_error([&] { metadata.integer(key, INT64_MIN, INT64_MAX); });
    allow_error([&] { metadata.integer(key, 0, 100, 7); });
    allow_error([&] { metadata.number(key); });
    allow_error([&] { metadata.boolean(key, false); });
    allow_error([&] { metadata.string(key); });
    allow_error([&] { metadata.integers(key, INT64_MIN, INT64_MAX); });
    allow_error([&] { metadata.numbers(key); });
    allow_error([&] { metadata.booleans(key); });
    allow_error([&] { metadata.strings(key); });
  }
  for (const auto& [name, tensor] : file.tensors()) read_tensor(tensor);
}

void read_whole_safetensors(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  for (const auto& [name, tensor] : file.tensors()) read_tensor(tensor);
}

void read_whole_llama2c(const std::filesystem::path& path) {
  const Llama2cFile file(path);
  for (const auto& [name, tensor] : file.tensors()) read_tensor(tensor);
}

}  // namespace llmtool::test
