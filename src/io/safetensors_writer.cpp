#include <nlohmann/json.hpp>
#include <vector>

#include "llmtool/core/error.h"
#include "llmtool/io/safetensors.h"

namespace llmtool {

namespace {
constexpr int64_t kPiece = 1 << 16;  // elements converted at a time

const char* format_name(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "F32";
    case DType::bf16:
      return "BF16";
    case DType::f16:
      return "F16";
    case DType::i32:
      return "I32";
    case DType::f8_e4m3:
      return "F8_E4M3";
    case DType::f8_e5m2:
      return "F8_E5M2";
    default:
      throw Error(cat("safetensors have no type ", dtype_name(dtype)));
  }
}

template <class Stored>
void append(std::vector<std::byte>& out, const float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const Stored value(x[i]);
    const auto* bytes = reinterpret_cast<const std::byte*>(&value);
    out.insert(out.end(), bytes, bytes + sizeof value);
  }
}

void write_floats(FileWriter& file, const float* x, int64_t n, DType stored) {
  if (stored != DType::bf16 && stored != DType::f16 && stored != DType::f32)
    throw Error(cat("f32 cannot be converted to ", dtype_name(stored), " while writing"));
  if (stored == DType::f32) return file.write(x, static_cast<size_t>(n) * sizeof(float));
  std::vector<std::byte> out;
  for (int64_t first = 0; first < n; first += kPiece) {
    out.clear();
    const int64_t count = std::min(kPiece, n - first);
    stored == DType::bf16 ? append<Eigen::bfloat16>(out, x + first, count)
                          : append<Eigen::half>(out, x + first, count);
    file.write(out.data(), out.size());
  }
}

void write_rows(FileWriter& file, const NamedTensor& t) {
  const auto rows = static_cast<int64_t>(t.file_rows.size()),
             cols = t.tensor.size() / std::max<int64_t>(rows, 1);
  std::vector<int64_t> row_of(t.file_rows.size());
  for (int64_t r = 0; r < rows; ++r) row_of[static_cast<size_t>(t.file_rows[static_cast<size_t>(r)])] = r;
  for (const int64_t r : row_of) write_floats(file, t.tensor.f32() + r * cols, cols, t.stored);
}

void write_tensor(FileWriter& file, const NamedTensor& t) {
  if (!t.file_rows.empty()) return write_rows(file, t);
  if (t.tensor.dtype == t.stored && !t.transpose) return file.write(t.tensor.data, t.tensor.bytes());
  if (t.tensor.dtype != DType::f32) throw Error(cat(t.name, ": only f32 can be converted while writing"));
  if (!t.transpose) return write_floats(file, t.tensor.f32(), t.tensor.size(), t.stored);
  const int64_t rows = t.tensor.shape[0], cols = t.tensor.shape[1];
  std::vector<float> column(static_cast<size_t>(rows));
  for (int64_t c = 0; c < cols; ++c) {
    for (int64_t r = 0; r < rows; ++r) column[static_cast<size_t>(r)] = t.tensor.f32()[r * cols + c];
    write_floats(file, column.data(), rows, t.stored);
  }
}
}  // namespace

void write_safetensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  size_t offset = 0;
  for (const NamedTensor& t : tensors) {
    std::vector<int64_t> shape(t.tensor.shape.dims.begin(),
                               t.tensor.shape.dims.begin() + t.tensor.shape.rank);
    if (t.transpose) std::swap(shape.at(0), shape.at(1));
    const size_t bytes = dtype_bytes(t.stored, t.tensor.size());
    if (header.contains(t.name)) throw Error(cat(path.string(), ": ", t.name, ": given twice"));
    header[t.name] = {
        {"dtype", format_name(t.stored)}, {"shape", shape}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump();
  text.append((64 - (8 + text.size()) % 64) % 64, ' ');
  FileWriter file(path);
  const uint64_t length = text.size();
  file.write(&length, sizeof length);
  file.write(text.data(), text.size());
  for (const NamedTensor& t : tensors) {
    if (!t.fetch) {
      write_tensor(file, t);
      continue;
    }
    NamedTensor fetched = t;
    fetched.tensor = t.fetch();
    write_tensor(file, fetched);
  }
  file.close();
}

}  // namespace llmtool
