#include <algorithm>
#include <cstring>
#include <set>
#include <type_traits>

#include "io/gguf_types.h"
#include "llmtool/core/error.h"
#include "llmtool/io/gguf.h"

namespace llmtool {

namespace {
constexpr int64_t kPiece = 1 << 16;  // elements converted at a time; whole blocks of every type

/// Bytes gathered before they are written.
class Buffer {
 public:
  template <class T>
  void put(T number) {
    static_assert(std::is_arithmetic_v<T>);
    append(&number, sizeof number);
  }
  void put_text(std::string_view text) {
    put<uint64_t>(text.size());
    append(text.data(), text.size());
  }
  void append(const void* data, size_t bytes) { bytes_.append(static_cast<const char*>(data), bytes); }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

template <class T>
constexpr GgufType type_of() {
  if constexpr (std::is_same_v<T, bool>) return GgufType::boolean;
  if constexpr (std::is_same_v<T, uint8_t>) return GgufType::u8;
  if constexpr (std::is_same_v<T, uint32_t>) return GgufType::u32;
  if constexpr (std::is_same_v<T, int32_t>) return GgufType::i32;
  if constexpr (std::is_same_v<T, uint64_t>) return GgufType::u64;
  if constexpr (std::is_same_v<T, int64_t>) return GgufType::i64;
  if constexpr (std::is_same_v<T, float>) return GgufType::f32;
  if constexpr (std::is_same_v<T, double>) return GgufType::f64;
  return GgufType::string;
}

/// Appends type and value of whatever a GgufEntry can hold.
struct ValueWriter {
  Buffer& out;

  void type(GgufType t) const { out.put(static_cast<uint32_t>(t)); }
  template <class T>
  void element(const T& value) const {
    if constexpr (std::is_same_v<T, std::string>) {
      out.put_text(value);
    } else if constexpr (std::is_same_v<T, bool>) {
      out.put<uint8_t>(value);
    } else {
      out.put(value);
    }
  }
  template <class T>
  void operator()(const T& value) const {
    type(type_of<T>());
    element(value);
  }
  template <class T>
  void operator()(const std::vector<T>& values) const {
    type(GgufType::array);
    type(type_of<T>());
    out.put<uint64_t>(values.size());
    for (const T& value : values) element(value);
  }
  void operator()(const GgufValue& value) const {
    if (value.list) type(GgufType::array);
    type(value.type);
    if (value.list) out.put(value.count);
    out.append(value.bytes.data(), value.bytes.size());
  }
};

void put_metadata(Buffer& out, const std::vector<GgufEntry>& metadata, const std::string& file) {
  std::set<std::string> keys;
  for (const GgufEntry& entry : metadata) {
    if (!keys.insert(entry.key).second) throw Error(cat(file, ": ", entry.key, ": given twice"));
    if (entry.key.size() > kGgufMaxKey)
      throw Error(cat(file, ": expected keys of at most ", kGgufMaxKey, " bytes, found ", entry.key.size()));
    if (entry.key == kGgufAlignmentKey)
      throw Error(cat(file, ": ", kGgufAlignmentKey, ": is always ", kGgufAlignment, " and not written"));
    out.put_text(entry.key);
    std::visit(ValueWriter{out}, entry.value);
  }
}

void put_tensors(Buffer& out, const std::vector<GgufTensor>& tensors, const std::string& file) {
  std::set<std::string> names;
  uint64_t offset = 0;
  for (const GgufTensor& t : tensors) {
    if (!names.insert(t.name).second) throw Error(cat(file, ": ", t.name, ": given twice"));
    if (t.name.size() > kGgufMaxName) {
      throw Error(cat(file, ": ", t.name, ": expected a name of at most ", kGgufMaxName, " bytes, found ",
                      t.name.size()));
    }
    const GgmlType* const type = find_ggml_type(t.stored);
    if (!type) throw Error(cat(file, ": ", t.name, ": GGUF has no type ", dtype_name(t.stored)));
    const int64_t row = t.shape.rank ? t.shape[t.shape.rank - 1] : 1;
    if (row % type->block.elements != 0) {
      throw Error(cat(file, ": ", t.name, ": ", type->name, " wants rows of a multiple of ",
                      type->block.elements, ", found ", row));
    }
    out.put_text(t.name);
    out.put(static_cast<uint32_t>(t.shape.rank));
    for (int i = t.shape.rank - 1; i >= 0; --i) out.put(static_cast<uint64_t>(t.shape[i]));
    out.put(type->id);
    out.put(offset);
    offset = gguf_padded(offset + dtype_bytes(t.stored, t.shape.size()), kGgufAlignment);
  }
}
/// The shape of one entry along the first dimension.
Shape slice_of(const Shape& shape) {
  Shape slice;
  slice.rank = shape.rank - 1;
  std::copy(shape.dims.begin() + 1, shape.dims.begin() + shape.rank, slice.dims.begin());
  return slice;
}
}  // namespace

GgufWriter::GgufWriter(const std::filesystem::path& path, const std::vector<GgufEntry>& metadata,
                       std::vector<GgufTensor> tensors)
    : name_(path.string()), file_(path), tensors_(std::move(tensors)) {
  Buffer header;
  header.put(kGgufMagic);
  header.put(kGgufVersion);
  header.put<uint64_t>(tensors_.size());
  header.put<uint64_t>(metadata.size());
  put_metadata(header, metadata, name_);
  put_tensors(header, tensors_, name_);
  file_.write(header.bytes().data(), header.bytes().size());
  pad(header.bytes().size());
}

/// Writes the zeros that fill up what stands behind `bytes`.
void GgufWriter::pad(uint64_t bytes) {
  constexpr char kZeros[kGgufAlignment] = {};
  file_.write(kZeros, gguf_padded(bytes, kGgufAlignment) - bytes);
}

void GgufWriter::write(const Tensor& tensor, Convert convert) {
  if (next_ == tensors_.size()) throw Error(cat(name_, ": expected ", next_, " tensors, given one more"));
  const GgufTensor& t = tensors_[next_];
  const DType given = convert ? DType::f32 : t.stored;
  const bool whole = slices_ == 0 && tensor.shape == t.shape;
  const bool slice = t.shape.rank > 1 && tensor.shape == slice_of(t.shape);
  if ((!whole && !slice) || tensor.dtype != given) {
    throw Error(cat(name_, ": ", t.name, ": expected ", t.shape.text(), " of ", dtype_name(given), ", found ",
                    tensor.shape.text(), " of ", dtype_name(tensor.dtype)));
  }
  const int64_t n = tensor.size();
  if (t.stored == given) {
    file_.write(tensor.data, tensor.bytes());
  } else {
    std::vector<std::byte> piece(dtype_bytes(t.stored, std::min(n, kPiece)));
    for (int64_t first = 0; first < n; first += kPiece) {
      const int64_t count = std::min(kPiece, n - first);
      convert(tensor.f32() + first, piece.data(), t.stored, count);
      file_.write(piece.data(), dtype_bytes(t.stored, count));
    }
  }
  if (!whole && ++slices_ < t.shape[0]) return;
  slices_ = 0;
  ++next_;
  pad(dtype_bytes(t.stored, t.shape.size()));
}

void GgufWriter::commit() {
  if (next_ != tensors_.size())
    throw Error(cat(name_, ": expected ", tensors_.size(), " tensors, given ", next_));
  file_.commit();
}

}  // namespace llmtool
