#include "llmtool/infer/generator.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <exception>
#include <map>
#include <utility>

#include "llmtool/core/error.h"

namespace llmtool {

namespace {
constexpr int64_t kEchoRows = 256;  // positions of a prompt whose logits exist at a time

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// A prompt that has been read, kept until all its answers have begun.
struct Prefix {
  GenerationRequest request;
  int64_t index = 0;
  std::unique_ptr<KvCache> cache;
  std::vector<float> logits;  // (V): after the last token
  std::vector<std::optional<double>> logprobs;
  double seconds = 0;
  int64_t samples_begun = 0;
};

/// An answer being written.
struct Slot {
  GenerationResult result;
  std::unique_ptr<KvCache> cache;
  TokenHistory history;
  AnswerText text;
  Rng rng;
  TokenId last = 0;
  double began = 0;
  bool done = false;

  Slot(const Tokenizer* tokenizer, const std::vector<std::string>& stops, bool continues)
      : text(tokenizer, stops, continues) {}
};
}  // namespace

size_t generation_scratch(const Transformer& model, ThreadPool& pool, int64_t batch_size, bool echo) {
  Arena saved, scratch;
  Exec exec{pool, saved, scratch, Rng()};
  const ModelConfig& c = model.config();
  KvCache cache(c, c.context());
  const int64_t n = std::min<int64_t>(c.context(), 512), rows = echo ? std::min(n, kEchoRows) : 1;
  const std::vector<int32_t> ids(static_cast<size_t>(std::max(n, batch_size)));
  float unused = 0;
  model.forward(exec, std::span(ids).first(static_cast<size_t>(n)), cache,
                Tensor(&unused, {rows, c.vocab_size}));
  const std::vector<KvCache*> caches(static_cast<size_t>(batch_size), &cache);
  model.decode(exec, std::span(ids).first(static_cast<size_t>(batch_size)), caches,
               Tensor(&unused, {batch_size, c.vocab_size}));
  return scratch.peak();
}

struct Generator::Impl {
  Impl(const Transformer& m, const Tokenizer* t, ThreadPool& p, GenerationOptions o)
      : model(m),
        tokenizer(t),
        options(std::move(o)),
        virtual_ids(m.virtual_ids()),
        context(m.config().context() - static_cast<int64_t>(virtual_ids.size())),
        saved(4096),
        scratch(generation_scratch(m, p, options.batch_size, options.echo)),
        exec{p, saved, scratch, Rng()} {}

  std::unique_ptr<Prefix> read_prompt(GenerationRequest request, int64_t index);
  void read_echoed(Prefix& prefix);
  std::unique_ptr<Slot> begin(Prefix& prefix);
  void take_token(Slot& slot, std::span<const float> logits);
  void fill(const Source& source, const Ready& ready);
  void take_prompts(const Source& source, const Ready& ready);
  void decode();
  void deliver(const Sink& sink, const Stream& stream);

  const Transformer& model;
  const Tokenizer* tokenizer;
  GenerationOptions options;
  std::vector<int32_t> virtual_ids;  // in front of every prompt
  int64_t context;                   // behind them
  Arena saved, scratch;
  Exec exec;
  std::deque<std::unique_ptr<Slot>> slots;  // in the order of delivery
  std::unique_ptr<Prefix> prefix;           // whose answers are being begun
  int64_t prompts = 0;
  bool exhausted = false;
  std::exception_ptr failure;  // of a prompt: no more are taken
  size_t streamed = 0;         // bytes of the first slot's text that were streamed
};

void Generator::Impl::read_echoed(Prefix& prefix) {
  const std::span<const TokenId> ids = prefix.request.ids;
  const int64_t V = model.config().vocab_size, n = static_cast<int64_t>(ids.size());
  std::vector<float> logits(static_cast<size_t>(std::min(n, kEchoRows) * V));
  prefix.logprobs.emplace_back();
  for (int64_t first = 0; first < n; first += kEchoRows) {
    const int64_t rows = std::min(kEchoRows, n - first);
    model.forward(exec, ids.subspan(static_cast<size_t>(first), static_cast<size_t>(rows)), *prefix.cache,
                  Tensor(logits.data(), {rows, V}));
    for (int64_t r = 0; r < rows && first + r + 1 < n; ++r) {
      const std::span<const float> row(logits.data() + r * V, static_cast<size_t>(V));
      const TokenId next = ids[static_cast<size_t>(first + r + 1)];
      prefix.logprobs.emplace_back(row[static_cast<size_t>(next)] - log_sum_exp(row));
    }
    if (first + rows == n) prefix.logits.assign(logits.data() + (rows - 1) * V, logits.data() + rows * V);
  }
}

std::unique_ptr<Prefix> Generator::Impl::read_prompt(GenerationRequest request, int64_t index) {
  auto p = std::make_unique<Prefix>();
  p->index = index;
  auto& ids = request.ids;
  const auto length_given = static_cast<int64_t>(ids.size());
  if (ids.empty()) throw UsageError(cat("prompt ", index + 1, ": expected at least one token, found none"));
  if (length_given > context && !options.truncate_left) {
    throw Error(cat("prompt ", index + 1, ": ", ids.size(), " tokens do not fit the model's context of ",
                    context, virtual_ids.empty() ? "" : " behind the adapter's virtual tokens",
                    "; --truncate left drops the beginning"));
  }
  if (length_given > context) {  // half of the context stays for the prompt, BOS in front
    const int64_t room = context - std::min(options.max_new_tokens, context / 2);
    const bool has_bos = tokenizer && tokenizer->bos_id() >= 0 && ids[0] == tokenizer->bos_id() && room > 1;
    ids.erase(ids.begin() + has_bos, ids.end() - (room - has_bos));
  }
  p->request = std::move(request);
  const double start = now();
  const int64_t length = static_cast<int64_t>(p->request.ids.size());
  p->cache =
      std::make_unique<KvCache>(model.config(), static_cast<int64_t>(virtual_ids.size()) +
                                                    std::min(context, length + options.max_new_tokens));
  model.forward(exec, virtual_ids, *p->cache, {});
  if (options.echo) {
    read_echoed(*p);
  } else {
    p->logits.resize(static_cast<size_t>(model.config().vocab_size));
    model.forward(exec, p->request.ids, *p->cache, Tensor(p->logits.data(), {1, model.config().vocab_size}));
  }
  p->seconds = now() - start;
  return p;
}

std::unique_ptr<Slot> Generator::Impl::begin(Prefix& p) {
  const auto& prompt = p.request.ids;
  const bool has_text = tokenizer && std::any_of(prompt.begin(), prompt.end(), [&](TokenId id) {
                          return id >= tokenizer->vocab_size() || !tokenizer->is_special(id);
                        });
  auto slot = std::make_unique<Slot>(tokenizer, options.stop_strings, has_text);
  GenerationResult& r = slot->result;
  r.index = p.index;
  r.sample = p.samples_begun++;
  r.prompt = p.request.prompt;
  r.prompt_ids = p.request.ids;
  r.prompt_logprobs = p.logprobs;
  r.prompt_seconds = p.seconds;
  slot->rng = Rng(options.seed).split(static_cast<uint64_t>(r.index)).split(static_cast<uint64_t>(r.sample));
  slot->began = now();
  if (options.sampling.looks_back()) slot->history.read(r.prompt_ids);
  if (p.samples_begun == options.num_samples) {
    slot->cache = std::move(p.cache);  // the last answer needs no copy
  } else {
    slot->cache = std::make_unique<KvCache>(model.config(), p.cache->capacity());
    slot->cache->copy_from(*p.cache);
  }
  if (options.max_new_tokens == 0) {
    slot->done = true;
    r.finish_reason = "length";
  } else {
    take_token(*slot, p.logits);
  }
  return slot;
}

void Generator::Impl::take_token(Slot& slot, std::span<const float> logits) {
  GenerationResult& r = slot.result;
  const double uniform = static_cast<double>(slot.rng.at(r.ids.size()) >> 11) * 0x1p-53;
  const TokenId id = sample(logits, options.sampling, slot.history, uniform);
  const auto end = [&](const char* reason) {
    slot.done = true;
    r.finish_reason = reason;
    slot.text.finish();
    r.text = slot.text.text();
    r.seconds = now() - slot.began;
    slot.cache.reset();
  };
  if (std::find(options.stop_ids.begin(), options.stop_ids.end(), id) != options.stop_ids.end())
    return end("stop");
  r.ids.push_back(id);
  slot.last = id;
  slot.history.add(id);
  if (options.logprobs >= 0) {
    const double log_z = log_sum_exp(logits);
    r.logprobs.push_back(logits[static_cast<size_t>(id)] - log_z);
    SamplingOptions plain;
    plain.temperature = 1;
    plain.top_k = std::max<int64_t>(1, options.logprobs);
    std::vector<TokenLogprob> top = candidates(logits, plain, {});
    top.resize(std::min(top.size(), static_cast<size_t>(options.logprobs)));
    for (auto& [token, value] : top) value = logits[static_cast<size_t>(token)] - log_z;
    r.top_logprobs.push_back(std::move(top));
  }
  slot.text.push(id);
  if (slot.text.stopped()) return end("stop");
  const bool full = slot.cache->length >= slot.cache->capacity();
  if (full || static_cast<int64_t>(r.ids.size()) >= options.max_new_tokens) end("length");
}

void Generator::Impl::fill(const Source& source, const Ready& ready) {
  try {
    take_prompts(source, ready);
  } catch (...) {
    failure = std::current_exception();
    exhausted = true;
    prefix.reset();
  }
}

void Generator::Impl::take_prompts(const Source& source, const Ready& ready) {
  const auto active = [&] {
    return std::count_if(slots.begin(), slots.end(), [](const auto& s) { return !s->done; });
  };
  // Finished answers that wait for an earlier one are bounded, too.
  while (active() < options.batch_size && static_cast<int64_t>(slots.size()) < 64 * options.batch_size) {
    if (!prefix) {
      GenerationRequest request;
      if (!exhausted && !slots.empty() && ready && !ready()) return;
      if (exhausted || !source(request)) {
        exhausted = true;
        return;
      }
      const int64_t index = request.index >= 0 ? request.index : prompts;
      prefix = read_prompt(std::move(request), index);
      prompts = index + 1;
    }
    slots.push_back(begin(*prefix));
    if (prefix->samples_begun == options.num_samples) prefix.reset();
    if (slots.size() == 1) return;  // it can be shown at once
  }
}

void Generator::Impl::decode() {
  std::vector<Slot*> active;
  std::vector<KvCache*> caches;
  std::vector<int32_t> ids;
  for (const auto& slot : slots) {
    if (slot->done) continue;
    active.push_back(slot.get());
    caches.push_back(slot->cache.get());
    ids.push_back(slot->last);
  }
  if (active.empty()) return;
  const int64_t V = model.config().vocab_size, B = static_cast<int64_t>(active.size());
  std::vector<float> logits(static_cast<size_t>(B * V));
  model.decode(exec, ids, caches, Tensor(logits.data(), {B, V}));
  for (int64_t b = 0; b < B; ++b) {
    take_token(*active[static_cast<size_t>(b)], {logits.data() + b * V, static_cast<size_t>(V)});
  }
}

void Generator::Impl::deliver(const Sink& sink, const Stream& stream) {
  while (!slots.empty()) {
    Slot& first = *slots.front();
    const std::string& text = first.text.text();
    if (stream && text.size() > streamed) stream(text.substr(streamed));
    streamed = text.size();
    if (!first.done) return;
    sink(first.result);
    slots.pop_front();
    streamed = 0;
  }
}

Generator::Generator(const Transformer& model, const Tokenizer* tokenizer, ThreadPool& pool,
                     GenerationOptions options)
    : impl_(std::make_unique<Impl>(model, tokenizer, pool, std::move(options))) {}
Generator::~Generator() = default;

void Generator::run(const Source& source, const Sink& sink, const Stream& stream, const Ready& ready) {
  Impl& g = *impl_;
  g.slots.clear();
  g.prefix.reset();
  g.exhausted = false;
  g.streamed = 0;
  while (true) {
    g.fill(source, ready);
    g.deliver(sink, stream);
    if (g.slots.empty() && !g.prefix && g.exhausted) break;
    g.decode();
    g.deliver(sink, stream);
  }
  if (g.failure) std::rethrow_exception(std::exchange(g.failure, nullptr));
}

}  // namespace llmtool
