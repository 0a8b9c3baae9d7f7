#include "llmtool/io/safetensors.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "llmtool/core/error.h"
#include "llmtool/io/json.h"

namespace llmtool {

namespace fs = std::filesystem;

namespace {
constexpr size_t kMaxHeader = 100'000'000;  // the format's own limit
constexpr int64_t kMaxOffset = int64_t{1} << 60;

struct StoredType {
  const char* name;
  size_t bits;
  std::optional<DType> dtype;  // where a Tensor can hold it
};
constexpr StoredType kTypes[] = {{"F32", 32, DType::f32},
                                 {"F16", 16, DType::f16},
                                 {"BF16", 16, DType::bf16},
                                 {"I32", 32, DType::i32},
                                 {"F64", 64, {}},
                                 {"I64", 64, {}},
                                 {"U64", 64, {}},
                                 {"U32", 32, {}},
                                 {"I16", 16, {}},
                                 {"U16", 16, {}},
                                 {"I8", 8, {}},
                                 {"U8", 8, {}},
                                 {"BOOL", 8, {}},
                                 {"F8_E4M3", 8, DType::f8_e4m3},
                                 {"F8_E5M2", 8, DType::f8_e5m2},
                                 {"F8_E8M0", 8, {}},
                                 {"C64", 64, {}}};

/// One entry of the header, checked by itself.
struct Entry {
  std::string name;
  const StoredType* type;
  std::vector<int64_t> shape;
  int64_t begin, end;  // bytes from the start of the data
};

std::vector<int64_t> list_of_integers(const JsonObject& info, const char* key) {
  const auto it = info.json().find(key);
  if (it == info.json().end() || !it->is_array())
    throw Error(cat(info.origin(), ": ", key, ": expected a list"));
  return info.integers(key, 0, kMaxOffset);
}

Entry read_entry(const std::string& name, const nlohmann::json& value, const std::string& file) {
  const JsonObject info(value, cat(file, ": ", name));
  Entry e{name, nullptr, list_of_integers(info, "shape"), 0, 0};
  const std::string dtype = info.string("dtype");
  for (const StoredType& type : kTypes) {
    if (dtype == type.name) e.type = &type;
  }
  if (!e.type) throw Error(cat(info.origin(), ": dtype: \"", dtype, "\" is not a type of the format"));
  const std::vector<int64_t> offsets = list_of_integers(info, "data_offsets");
  if (offsets.size() != 2 || offsets[0] > offsets[1]) {
    throw Error(cat(info.origin(), ": data_offsets: expected two that rise"));
  }
  e.begin = offsets[0];
  e.end = offsets[1];
  int64_t bits = static_cast<int64_t>(e.type->bits);
  for (const int64_t dim : e.shape) {
    if (__builtin_mul_overflow(bits, dim, &bits)) throw Error(cat(info.origin(), ": shape: too large"));
  }
  if (bits / 8 != e.end - e.begin) {
    throw Error(cat(info.origin(), ": expected ", bits / 8, " bytes for its shape, found ", e.end - e.begin));
  }
  return e;
}

/// The format wants the tensors to cover the data without gap or overlap.
void check_cover(std::vector<Entry> entries, size_t data_bytes, const std::string& file) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  int64_t at = 0;
  for (const Entry& e : entries) {
    if (e.begin != at)
      throw Error(cat(file, ": ", e.name, ": expected data at offset ", at, ", found ", e.begin));
    at = e.end;
  }
  if (static_cast<uint64_t>(at) != data_bytes) {
    throw Error(cat(file, ": expected ", at, " bytes of data after the header, found ", data_bytes));
  }
}

nlohmann::json read_header(std::span<const std::byte> bytes, const std::string& file) {
  if (bytes.size() < 8) throw Error(cat(file, ": expected at least 8 bytes, found ", bytes.size()));
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  if (length > kMaxHeader)
    throw Error(cat(file, ": header length: expected at most ", kMaxHeader, ", found ", length));
  if (length > bytes.size() - 8) {
    throw Error(cat(file, ": header length: expected at most ", bytes.size() - 8, ", found ", length,
                    "; is the file cut off?"));
  }
  return parse_json({reinterpret_cast<const char*>(bytes.data()) + 8, length}, file + ": header");
}
}  // namespace

SafetensorsFile::SafetensorsFile(const fs::path& path) : file_(path) {
  const std::string name = path.string();
  const std::span<const std::byte> bytes = file_.bytes();
  const nlohmann::json header = read_header(bytes, name);
  const JsonObject object(header, name + ": header");
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  const std::span<const std::byte> data = bytes.subspan(8 + length);
  std::vector<Entry> entries;
  for (const auto& [key, value] : header.items()) {
    if (key == "__metadata__") {
      const JsonObject metadata(value, name + ": __metadata__");
      for (const auto& [k, v] : value.items()) metadata_[k] = metadata.string(k.c_str());
      continue;
    }
    entries.push_back(read_entry(key, value, name));
  }
  check_cover(entries, data.size(), name);
  for (const Entry& e : entries) {
    if (!e.type->dtype || e.shape.size() > 4) {
      unreadable_[e.name] =
          e.type->dtype ? cat(e.type->name, " of ", e.shape.size(), " dimensions") : e.type->name;
      continue;
    }
    Shape shape;
    shape.rank = static_cast<int>(e.shape.size());
    std::copy(e.shape.begin(), e.shape.end(), shape.dims.begin());
    tensors_[e.name] = Tensor(const_cast<std::byte*>(data.data() + e.begin), *e.type->dtype, shape);
  }
}

void SafetensorsFile::copy_f32(const std::string& name, const Tensor& to) const {
  const auto it = tensors_.find(name);
  const bool there = it != tensors_.end();
  if (!there || it->second.dtype != DType::f32 || !(it->second.shape == to.shape)) {
    throw Error(cat(file_.path().string(), ": ", name, ": expected f32 ", to.shape.text(), ", found ",
                    there ? cat(dtype_name(it->second.dtype), " ", it->second.shape.text()) : "nothing"));
  }
  std::memcpy(to.data, it->second.data, it->second.bytes());
  release_pages(it->second.data, it->second.bytes());
}

SafetensorsFolder::SafetensorsFolder(const fs::path& folder) {
  const fs::path single = folder / "model.safetensors", index = folder / "model.safetensors.index.json";
  if (fs::exists(single)) {
    files_.emplace_back(single);
  } else if (fs::exists(index)) {
    const nlohmann::json json = read_json(index);
    const JsonObject root(json, index.string());
    if (!root.has("weight_map"))
      throw Error(cat(index.string(), ": weight_map: expected an object, found nothing"));
    const JsonObject map(json.at("weight_map"), index.string() + ": weight_map");
    std::map<std::string, std::vector<std::string>> shards;  // and what the index says is in them
    for (const auto& [tensor, shard] : map.json().items()) {
      const std::string name = map.string(tensor.c_str());
      if (name.find('/') != std::string::npos || name == "." || name == "..")
        throw Error(cat(map.origin(), ": ", tensor, ": \"", name, "\" is no file name"));
      shards[name].push_back(tensor);
    }
    for (const auto& [shard, names] : shards) {
      const SafetensorsFile& file = files_.emplace_back(folder / shard);
      for (const std::string& name : names) {
        if (!file.tensors().contains(name) && !file.unreadable().contains(name))
          throw Error(cat(map.origin(), ": ", name, ": expected in ", shard, ", found no such tensor there"));
      }
    }
  } else {
    const bool pickled = fs::exists(folder / "pytorch_model.bin");
    throw Error(cat(folder.string(), ": expected model.safetensors",
                    pickled
                        ? "; pytorch_model.bin is a pickle, which runs code when it is read: convert it to "
                          "safetensors with its own library"
                        : ", found none"));
  }
  for (const SafetensorsFile& file : files_) {
    for (const auto& [name, tensor] : file.tensors()) {
      if (!tensors_.emplace(name, tensor).second)
        throw Error(cat(folder.string(), ": ", name, ": stands in two files"));
    }
    unreadable_.insert(file.unreadable().begin(), file.unreadable().end());
  }
}

}  // namespace llmtool
