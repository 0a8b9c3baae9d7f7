#include "llmtool/infer/prompt_cache.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/core/workspace.h"
#include "llmtool/io/files.h"
#include "text/common_prefix.h"

namespace llmtool {

namespace {
constexpr char kMagic[8] = {'L', 'L', 'M', 'T', 'K', 'V', 'C', '1'};
constexpr DType kTypes[] = {DType::f32, DType::f16, DType::q8_0};

struct Header {
  char magic[8];
  uint64_t model, tokenizer;
  uint32_t type, layers;  // type: its place in kTypes
  uint64_t row_bytes, ids, positions;
  uint64_t checksum;  // of all behind the header
};
static_assert(sizeof(Header) == 64);

template <class T>
void append(std::string& out, const T* values, size_t n) {
  out.append(reinterpret_cast<const char*>(values), n * sizeof(T));
}

/// Calls copy(bytes in the cache) for the rows [first, last) of keys or values, in order.
template <class Copy>
void each_run(std::byte* rows, int64_t slots, size_t row_bytes, int64_t first, int64_t last, Copy copy) {
  for (int64_t p = first, n; p < last; p += n) {
    n = std::min(last - p, slots - p % slots);
    copy(std::span(rows + static_cast<size_t>(p % slots) * row_bytes, static_cast<size_t>(n) * row_bytes));
  }
}

uint64_t hash_text(std::string_view text) { return hash64(std::as_bytes(std::span(text))); }

/// Of all bytes, or of 16 pieces of a large tensor.
uint64_t sample_hash(std::span<const std::byte> bytes) {
  constexpr size_t kPiece = 4096, kPieces = 16;
  if (bytes.size() <= kPiece * kPieces) return hash64(bytes);
  std::string hashes;
  for (size_t i = 0; i < kPieces; ++i) {
    const uint64_t h = hash64(bytes.subspan((bytes.size() - kPiece) / (kPieces - 1) * i, kPiece));
    append(hashes, &h, 1);
  }
  return hash_text(hashes);
}
}  // namespace

uint64_t fingerprint_of(const Transformer& model, ThreadPool& pool) {
  std::string parts = model_config_json(model.config(), "float32").dump();
  for (const Param& p : model.params().list()) {
    parts += p.name;
    const uint64_t hash = sample_hash({static_cast<const std::byte*>(p.value.data), p.value.bytes()});
    append(parts, &hash, 1);
  }
  const int64_t V = model.config().vocab_size, n = std::min<int64_t>(16, model.config().context());
  std::vector<int32_t> ids = model.virtual_ids();
  ids.resize(static_cast<size_t>(std::min(n, static_cast<int64_t>(ids.size()))));
  while (static_cast<int64_t>(ids.size()) < n)
    ids.push_back(static_cast<int32_t>(static_cast<int64_t>(ids.size()) * V / n));
  std::vector<float> logits(static_cast<size_t>(V));
  Workspace workspace(pool);
  KvCache cache(model.config(), n);
  workspace.run([&](Exec& exec) { model.forward(exec, ids, cache, Tensor(logits.data(), {1, V})); });
  append(parts, logits.data(), logits.size());
  return hash_text(parts);
}

std::string prompt_cache_bytes(const PromptCacheKey& key, const ReadText& text) {
  const KvCache& cache = *text.cache;
  std::string body;
  append(body, text.ids.data(), text.ids.size());
  for (int64_t layer = 0; layer < cache.layers(); ++layer) {
    const KvRows rows = cache.rows(layer);
    const int64_t first = cache.first_held(layer);
    append(body, &first, 1);
    for (std::byte* const part : {rows.keys, rows.values}) {
      each_run(part, rows.slots, cache.row_bytes(), first, cache.length,
               [&](std::span<std::byte> run) { append(body, run.data(), run.size()); });
    }
  }
  Header h{};
  std::memcpy(h.magic, kMagic, sizeof kMagic);
  h.model = key.model;
  h.tokenizer = key.tokenizer;
  h.type = static_cast<uint32_t>(std::find(std::begin(kTypes), std::end(kTypes), key.type) - kTypes);
  h.layers = static_cast<uint32_t>(cache.layers());
  h.row_bytes = cache.row_bytes();
  h.ids = text.ids.size();
  h.positions = static_cast<uint64_t>(cache.length);
  h.checksum = hash_text(body);
  std::string out;
  append(out, &h, 1);
  return out + body;
}

namespace {
Error damaged(const std::string& origin, const char* what) {
  return Error(cat(origin, ": ", what, "; delete it, and it is made again"));
}

/// A file's bytes from front to back.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const std::string& origin) : bytes_(bytes), origin_(origin) {}
  std::span<const std::byte> take(uint64_t n) {
    if (n > bytes_.size()) throw damaged(origin_, "the prompt cache ends too early");
    const auto taken = bytes_.first(static_cast<size_t>(n));
    bytes_ = bytes_.subspan(static_cast<size_t>(n));
    return taken;
  }
  std::span<const std::byte> rest() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
  const std::string& origin_;
};

void check_key(const Header& h, const PromptCacheKey& key, const std::string& origin) {
  const auto differs = [&](const char* what) {
    throw Error(
        cat(origin, ": the prompt cache was made with another ", what, "; delete it, or name another file"));
  };
  if (h.model != key.model) differs("model (weights, config, adapters or kind of machine)");
  if (h.tokenizer != key.tokenizer) differs("tokenizer");
  if (h.type >= std::size(kTypes) || kTypes[h.type] != key.type) differs("--kv-cache-type");
}
/// Every layer's rows, into an empty cache of n positions.
void fill_layers(Cursor& cursor, const ModelConfig& config, KvCache& cache, int64_t n,
                 const std::string& origin) {
  int64_t first_of_windows = 0;
  for (int64_t layer = 0; layer < cache.layers(); ++layer) {
    const KvRows rows = cache.rows(layer);
    int64_t first;
    std::memcpy(&first, cursor.take(sizeof first).data(), sizeof first);
    const int64_t window = config.window_of(layer);
    if (first < 0 || first > (window > 0 ? std::max<int64_t>(0, n + 1 - window) : 0))
      throw damaged(origin, "the prompt cache lacks positions that the model sees");
    const int64_t kept = std::max(first, n - rows.slots);  // of a ring of this capacity
    first_of_windows = std::max(first_of_windows, kept);
    for (std::byte* const part : {rows.keys, rows.values}) {
      auto from = cursor.take(static_cast<uint64_t>(n - first) * cache.row_bytes());
      from = from.subspan(static_cast<size_t>(kept - first) * cache.row_bytes());
      each_run(part, rows.slots, cache.row_bytes(), kept, n, [&](std::span<std::byte> run) {
        std::memcpy(run.data(), from.data(), run.size());
        from = from.subspan(run.size());
      });
    }
  }
  cache.set_filled(n, first_of_windows);
}
}  // namespace

ReadText read_prompt_cache(std::span<const std::byte> bytes, const std::string& origin,
                           const PromptCacheKey& key, const ModelConfig& config,
                           std::span<const int32_t> virtual_ids, bool whole) {
  Header h;
  if (bytes.size() < sizeof h) throw damaged(origin, "this is no prompt cache");
  Cursor cursor(bytes, origin);
  std::memcpy(&h, cursor.take(sizeof h).data(), sizeof h);
  if (std::memcmp(h.magic, kMagic, sizeof kMagic) != 0) throw damaged(origin, "this is no prompt cache");
  check_key(h, key, origin);
  const auto context = static_cast<uint64_t>(config.context());
  const size_t row_bytes = dtype_bytes(key.type, config.kv_heads() * config.head_dim);
  if (h.layers != static_cast<uint64_t>(config.num_hidden_layers) || h.row_bytes != row_bytes || h.ids == 0 ||
      h.ids > context || h.positions != h.ids + virtual_ids.size() || h.positions > context) {
    throw damaged(origin, "the prompt cache's sizes are not the model's");
  }
  if (hash64(cursor.rest()) != h.checksum) throw damaged(origin, "the prompt cache is damaged");
  const auto n = static_cast<int64_t>(h.positions);
  ReadText text;
  text.ids.resize(h.ids);
  std::memcpy(text.ids.data(), cursor.take(h.ids * sizeof(TokenId)).data(), h.ids * sizeof(TokenId));
  for (const TokenId id : text.ids) {
    if (id < 0 || id >= config.vocab_size)
      throw damaged(origin, "the prompt cache holds an id beyond the vocabulary");
  }
  if (cursor.rest().size() > 2 * h.layers * (h.positions * row_bytes + sizeof(int64_t)))
    throw damaged(origin, "the prompt cache is too long");
  text.cache = std::make_shared<KvCache>(config, n, key.type, whole);
  fill_layers(cursor, config, *text.cache, n, origin);
  if (!cursor.rest().empty()) throw damaged(origin, "the prompt cache is too long");
  text.cache->ids.assign(virtual_ids.begin(), virtual_ids.end());
  text.cache->ids.insert(text.cache->ids.end(), text.ids.begin(), text.ids.end());
  return text;
}

PromptCacheFile::PromptCacheFile(std::filesystem::path path, const Transformer& model,
                                 const Tokenizer* tokenizer, ThreadPool& pool, DType type)
    : path_(std::move(path)),
      model_(model),
      key_{fingerprint_of(model, pool), tokenizer ? tokenizer->hash() : 0, type} {}

ReadText PromptCacheFile::read(bool whole) const {
  std::error_code none;
  const bool is_file = std::filesystem::is_regular_file(path_, none);
  if (is_file ? std::filesystem::file_size(path_, none) == 0 : !std::filesystem::exists(path_, none))
    return {};
  const MappedFile file(path_);
  const std::vector<int32_t> virtual_ids = model_.virtual_ids();
  ReadText text = read_prompt_cache(file.bytes(), path_.string(), key_, model_.config(), virtual_ids, whole);
  known_ = text.ids;
  return text;
}

void PromptCacheFile::offer(const ReadText& text) {
  if (std::exchange(offered_, true)) return;
  const size_t lost = known_.size() - common_prefix(known_, text.ids);
  if (static_cast<int64_t>(lost) >= kWorthCopying || text.ids.size() < 2 * known_.size()) return;
  try {
    write_file(path_, prompt_cache_bytes(key_, text));
  } catch (const Error& e) {
    warn(cat("the prompt cache is not kept: ", e.what()));
  }
}

}  // namespace llmtool
