// Prompt caches. The key and the checksum are made to fit, so that what lies behind them is reached.

#include <cstring>

#include "fuzz.h"
#include "llmtool/core/error.h"
#include "llmtool/core/workspace.h"
#include "llmtool/infer/prompt_cache.h"
#include "llmtool/io/files.h"

namespace {
using namespace llmtool;

ModelConfig config() {
  ModelConfig c = ModelConfig::of_family("gemma2");
  c.vocab_size = 20;
  c.hidden_size = 8;
  c.intermediate_size = 8;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 1;
  c.head_dim = 4;
  c.max_position_embeddings = 900;
  c.sliding_window = 3;
  return c;
}

const Transformer& model() {
  static const Transformer made = [] {
    Transformer m(config());
    m.initialize(1);
    return m;
  }();
  return made;
}

constexpr PromptCacheKey kKey{1, 2, DType::f32};
constexpr size_t kHeader = 64;
}  // namespace

namespace llmtool::test {
std::vector<std::string> seed_corpus() {
  ThreadPool pool(1);
  std::vector<std::string> seeds;
  for (const int64_t n : {1, 9, 100}) {
    Workspace workspace(pool);
    ReadText text{std::vector<TokenId>(static_cast<size_t>(n), 7),
                  std::make_shared<KvCache>(model().config(), n)};
    workspace.run([&](Exec& exec) { model().forward(exec, text.ids, *text.cache, {}); });
    seeds.push_back(prompt_cache_bytes(kKey, text));
  }
  return seeds;
}
}  // namespace llmtool::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  if (size >= kHeader) {
    const uint32_t type = 0;
    const uint64_t sum = hash64(std::as_bytes(std::span(bytes)).subspan(kHeader));
    std::memcpy(bytes.data() + 8, &kKey.model, 8);
    std::memcpy(bytes.data() + 16, &kKey.tokenizer, 8);
    std::memcpy(bytes.data() + 24, &type, 4);
    std::memcpy(bytes.data() + kHeader - 8, &sum, 8);
  }
  for (const bool whole : {false, true}) {
    try {
      const ReadText text =
          read_prompt_cache(std::as_bytes(std::span(bytes)), "input", kKey, model().config(), {}, whole);
      KvCache copy(model().config(), 900, DType::f32, whole);
      const auto n = static_cast<int64_t>(text.ids.size());
      if (text.cache->can_cut(n)) copy.copy_from(*text.cache, n);
    } catch (const Error&) {
    }
  }
  return 0;
}
