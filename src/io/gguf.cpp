#include "llmtool/io/gguf.h"

#include <bit>
#include <cstring>
#include <limits>

#include "io/gguf_types.h"
#include "llmtool/core/error.h"

namespace llmtool {

static_assert(std::endian::native == std::endian::little, "values are read as they lie in the file");

namespace {
/// A name from the file for a message: at most 60 bytes, printable.
std::string printable(std::string_view text) {
  std::string out(text.substr(0, 60));
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < ' ' || static_cast<unsigned char>(c) > '~') c = '?';
  }
  return text.size() > 60 ? out + "..." : out;
}
}  // namespace

/// Walks the header from front to back; nothing is allocated on the word of a count alone.
class GgufReader {
 public:
  explicit GgufReader(GgufFile& file)
      : file_(file), bytes_(file.file_.bytes()), name_(file.file_.path().string()) {}

  void read() {
    const auto [tensors, entries] = read_header();
    file_.metadata_.origin_ = name_;
    for (uint64_t i = 0; i < entries; ++i) read_entry();
    read_alignment();
    for (uint64_t i = 0; i < tensors; ++i) read_tensor();
    place_tensors();
  }

 private:
  struct Pending {
    const std::string* name;
    const GgmlType* type;
    Shape shape;
    uint64_t offset;  // from the start of the data
  };
  struct Counts {
    uint64_t tensors, entries;
  };

  [[noreturn]] void fail(const std::string& thing, uint64_t offset, const std::string& problem) const {
    throw Error(cat(name_, ": ", thing, ": at offset ", offset, ": ", problem));
  }
  uint64_t left() const { return bytes_.size() - at_; }
  void need(uint64_t bytes, const std::string& thing) const {
    if (bytes > left())
      fail(thing, at_, cat("expected ", bytes, " more bytes, found ", left(), "; is the file cut off?"));
  }
  template <class T>
  T take(const std::string& thing) {
    need(sizeof(T), thing);
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  std::string_view take_text(const std::string& thing, uint64_t max) {
    const uint64_t start = at_, length = take<uint64_t>(thing);
    if (length > max) fail(thing, start, cat("expected at most ", max, " bytes of text, found ", length));
    need(length, thing);
    const auto* const text = reinterpret_cast<const char*>(bytes_.data() + at_);
    at_ += length;
    return {text, length};
  }

  Counts read_header() {
    if (take<uint32_t>("magic") != kGgufMagic)
      fail("magic", 0, "expected GGUF; is this another kind of file?");
    const uint32_t version = take<uint32_t>("version");
    if (version != 2 && version != kGgufVersion) {
      const bool swapped = version != 0 && (version & 0xffff) == 0;
      fail("version", 4,
           swapped ? "the file is big-endian, which is not supported"
                   : cat("expected 2 or ", kGgufVersion, ", found ", version));
    }
    file_.version_ = version;
    const uint64_t tensors = take<uint64_t>("number of tensors");
    const uint64_t entries = take<uint64_t>("number of keys");
    // The least that a tensor takes: name length, rank, type, offset; a key: its length, type, value.
    if (tensors > left() / 24) fail("number of tensors", 8, too_many(tensors));
    if (entries > left() / 13) fail("number of keys", 16, too_many(entries));
    return {tensors, entries};
  }
  std::string too_many(uint64_t count) const {
    return cat("found ", count, ", more than the file's ", bytes_.size(), " bytes can hold");
  }

  void read_entry() {
    const uint64_t start = at_;
    const std::string_view key = take_text("key", kGgufMaxKey);
    const auto [place, fresh] = file_.metadata_.values_.try_emplace(std::string(key));
    const std::string thing = printable(key);
    if (!fresh) fail(thing, start, "stands twice");
    GgufValue value{take_type(thing), false, 1, 0, {}};
    if (value.type == GgufType::array) {
      value.list = true;
      value.type = take_type(thing);
      if (value.type == GgufType::array) fail(thing, at_ - 4, "a list of lists cannot be read");
      value.count = take<uint64_t>(thing);
    }
    value.offset = at_;
    skip_elements(value, thing);
    value.bytes = bytes_.subspan(value.offset, at_ - value.offset);
    place->second = value;
  }

  GgufType take_type(const std::string& thing) {
    const auto type = take<uint32_t>(thing);
    if (type > static_cast<uint32_t>(GgufType::f64))
      fail(thing, at_ - 4, cat("expected a type from 0 to 12, found ", type));
    return static_cast<GgufType>(type);
  }

  void skip_elements(const GgufValue& value, const std::string& thing) {
    const uint64_t least = value.type == GgufType::string ? 8 : gguf_type_bytes(value.type);
    if (value.count > left() / least)
      fail(thing, at_, cat("a list of ", value.count, ", more than the ", left(), " bytes left can hold"));
    if (value.type == GgufType::string) {
      for (uint64_t i = 0; i < value.count; ++i) take_text(thing, left());
      return;
    }
    at_ += value.count * least;
  }

  void read_alignment() {
    const auto it = file_.metadata_.values_.find(kGgufAlignmentKey);
    if (it == file_.metadata_.values_.end()) return;
    const GgufValue& value = it->second;
    if (value.list || value.type != GgufType::u32)
      fail(kGgufAlignmentKey, value.offset, "expected an uint32");
    const int64_t alignment = file_.metadata_.integer(kGgufAlignmentKey, 0, UINT32_MAX);
    if (!std::has_single_bit(static_cast<uint64_t>(alignment)))
      fail(kGgufAlignmentKey, value.offset, cat("expected a power of two, found ", alignment));
    alignment_ = static_cast<uint64_t>(alignment);
  }

  void read_tensor() {
    const uint64_t start = at_;
    const std::string_view key = take_text("name of a tensor", kGgufMaxName);
    const std::string thing = printable(key);
    const auto [place, fresh] = file_.unreadable_.try_emplace(std::string(key));
    if (!fresh) fail(thing, start, "stands twice");
    const Shape shape = take_shape(thing);
    const uint64_t type_at = at_;
    const GgmlType* const type = find_ggml_type(take<uint32_t>(thing));
    if (!type) {
      uint32_t id = 0;
      std::memcpy(&id, bytes_.data() + type_at, sizeof id);
      fail(thing, type_at, cat("type ", id, " is none of ggml's"));
    }
    place->second = type->name;
    const int64_t row = shape.rank ? shape[shape.rank - 1] : 1;
    if (row % type->block.elements != 0) {
      fail(thing, type_at,
           cat("expected rows of a multiple of ", type->block.elements, " elements for ", type->name,
               ", found ", row));
    }
    const uint64_t offset_at = at_, offset = take<uint64_t>(thing);
    if (offset != end_) fail(thing, offset_at, cat("expected its data at ", end_, ", found ", offset));
    pending_.push_back({&place->first, type, shape, offset});
    uint64_t bytes = 0;
    const auto blocks = static_cast<uint64_t>(shape.size() / type->block.elements);
    if (__builtin_mul_overflow(blocks, static_cast<uint64_t>(type->block.bytes), &bytes) ||
        __builtin_add_overflow(end_, bytes, &end_) ||
        end_ > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) - alignment_) {
      fail(thing, start, cat("a shape of ", shape.text(), " is too large"));
    }
    end_ = gguf_padded(end_, alignment_);
  }

  /// The file says the innermost dimension first.
  Shape take_shape(const std::string& thing) {
    const uint64_t start = at_;
    const auto rank = take<uint32_t>(thing);
    if (rank > kGgufMaxRank) fail(thing, start, cat("expected at most 4 dimensions, found ", rank));
    Shape shape;
    shape.rank = static_cast<int>(rank);
    int64_t size = 1;
    for (int i = shape.rank - 1; i >= 0; --i) {
      const uint64_t dim_at = at_, dim = take<uint64_t>(thing);
      if (dim > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) ||
          __builtin_mul_overflow(size, static_cast<int64_t>(dim), &size)) {
        fail(thing, dim_at, cat("dimension ", shape.rank - 1 - i, " of ", dim, " is too large"));
      }
      shape.dims[static_cast<size_t>(i)] = static_cast<int64_t>(dim);
    }
    return shape;
  }

  void place_tensors() {
    const uint64_t start = gguf_padded(at_, alignment_);
    if (end_ > 0 && bytes_.size() == start) {
      file_.header_only_ = true;
      return;
    }
    const uint64_t found = bytes_.size() > start ? bytes_.size() - start : 0;
    if (end_ > found)
      fail("data", start, cat("expected ", end_, " bytes, found ", found, "; is the file cut off?"));
    for (const Pending& p : pending_) {
      if (!p.type->dtype) continue;
      auto* const data = const_cast<std::byte*>(bytes_.data() + (end_ > 0 ? start + p.offset : 0));
      file_.tensors_[*p.name] = Tensor(data, *p.type->dtype, p.shape);
    }
    for (const auto& [name, tensor] : file_.tensors_) file_.unreadable_.erase(name);
  }

  GgufFile& file_;
  std::span<const std::byte> bytes_;
  std::string name_;
  uint64_t at_ = 0, alignment_ = kGgufAlignment;
  uint64_t end_ = 0;  // of the tensors so far, from the start of the data
  std::vector<Pending> pending_;
};

GgufFile::GgufFile(const std::filesystem::path& path) : file_(path) { GgufReader(*this).read(); }

}  // namespace llmtool
