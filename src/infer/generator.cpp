#include "llmtool/infer/generator.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "infer/generator_impl.h"

namespace llmtool {

namespace {
constexpr int64_t kEchoRows = 256;  // positions of a prompt whose logits exist at a time
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

void Generator::Impl::settle() {
  if (context < 1) throw UsageError(cat("context: expected room for a token, found ", options.context));
  if (options.best_of > 1) {
    if (options.num_samples > 1 || options.num_beams > 1)
      throw UsageError("best_of: expected one answer to each prompt and no beams beside it");
    options.num_samples = options.best_of;
    options.logprobs = std::max<int64_t>(0, options.logprobs);
  }
  if (options.num_beams == 1) return;
  if (speculates() || !options.stop_strings.empty())
    throw UsageError("num_beams: beams take neither speculation nor stop texts");
  if (options.num_samples > options.num_beams) {
    throw UsageError(
        cat("num_samples: expected at most the ", options.num_beams, " beams, found ", options.num_samples));
  }
}

/// False where it was stopped.
bool Generator::Impl::read_echoed(Prefix& prefix) {
  const std::span<const TokenId> ids = prefix.request.ids;
  const int64_t V = model.config().vocab_size, n = static_cast<int64_t>(ids.size());
  std::vector<float> logits(static_cast<size_t>(std::min(n, kEchoRows) * V));
  prefix.logprobs.emplace_back();
  for (int64_t first = 0; first < n; first += kEchoRows) {
    if (stopped()) return false;
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
  return true;
}

std::string name_of(const GenerationRequest& request, int64_t index) {
  return request.name.empty() ? cat("prompt ", index + 1) : request.name;
}

void fit_prompt(std::vector<TokenId>& ids, const std::string& name, int64_t context,
                const Tokenizer* tokenizer, const GenerationOptions& options) {
  const auto length = static_cast<int64_t>(ids.size());
  if (ids.empty()) throw UsageError(cat(name, ": expected at least one token, found none"));
  if (length <= context) return;
  if (!options.truncate_left) {
    throw Error(cat(name, ": ", length, " tokens do not fit the context of ", context,
                    "; --truncate left drops the beginning"));
  }
  // Half of the context stays for the prompt, BOS in front.
  const int64_t room = context - std::min(options.max_new_tokens, context / 2);
  const bool has_bos = tokenizer && tokenizer->bos_id() >= 0 && ids[0] == tokenizer->bos_id() && room > 1;
  ids.erase(ids.begin() + has_bos, ids.end() - (room - has_bos));
}

/// Fits a prompt into the context. Where one that cannot be is skipped, its answer is the error.
bool Generator::Impl::fits(GenerationRequest& request, int64_t index) {
  request.name = name_of(request, index);
  try {
    fit_prompt(request.ids, request.name, context, tokenizer, options);
    return true;
  } catch (const Error& error) {
    if (!options.skip_failed) throw;
    auto slot = std::make_unique<Slot>(tokenizer, options.stop_strings, false);
    slot->result.index = index;
    slot->result.prompt = request.prompt;
    fail(*slot, error.what());
    slots.push_back(std::move(slot));
    return false;
  }
}

std::unique_ptr<Prefix> Generator::Impl::read_prompt(GenerationRequest request, int64_t index) {
  auto p = std::make_unique<Prefix>();
  p->index = index;
  p->request = std::move(request);
  const double start = now();
  const int64_t length = static_cast<int64_t>(p->request.ids.size());
  if (options.echo) {
    p->cache = memory.begin(exec, std::min(context, length + options.max_new_tokens));
    if (!read_echoed(*p)) return nullptr;
  } else {
    p->logits.resize(static_cast<size_t>(model.config().vocab_size));
    std::vector<const ReadText*> in_use;
    for (const auto& slot : slots) in_use.push_back(&slot->prompt);
    const auto reading = memory.read(exec, p->request.ids, std::min(options.max_new_tokens, context - length),
                                     p->logits, in_use, options.stop_wanted);
    if (!reading.cache) return nullptr;
    p->cache = reading.cache;
    p->copied = reading.copied;
    if (prompt_file) prompt_file->offer({p->request.ids, p->cache});
  }
  p->seconds = now() - start;
  return p;
}

bool Generator::Impl::has_text(std::span<const TokenId> ids) const {
  return tokenizer && std::any_of(ids.begin(), ids.end(), [&](TokenId id) {
           return id >= tokenizer->vocab_size() || !tokenizer->is_special(id);
         });
}

/// What the prompt says of its next answer.
void Generator::Impl::describe(GenerationResult& r, Prefix& p) const {
  r.index = p.index;
  r.sample = p.samples_begun++;
  r.prompt = p.request.prompt;
  r.prompt_ids = p.request.ids;
  r.prompt_logprobs = p.logprobs;
  r.prompt_seconds = p.seconds;
  r.prompt_copied = p.copied;
  r.kv_cache_bytes = p.cache->bytes() * static_cast<size_t>(options.num_beams);
}

std::unique_ptr<Slot> Generator::Impl::begin(Prefix& p) {
  auto slot = std::make_unique<Slot>(tokenizer, options.stop_strings, has_text(p.request.ids));
  GenerationResult& r = slot->result;
  describe(r, p);
  slot->rng = Rng(options.seed).split(static_cast<uint64_t>(r.index)).split(static_cast<uint64_t>(r.sample));
  slot->began = now();
  slot->name = p.request.name;
  if (options.sampling.looks_back()) slot->history.read(r.prompt_ids);
  slot->prompt.ids = r.prompt_ids;
  if (p.samples_begun == options.num_samples) {
    slot->prompt.cache = std::move(p.cache);  // the last answer needs no copy
  } else {
    slot->prompt.cache =
        std::make_shared<KvCache>(model.config(), p.cache->capacity(), options.kv_cache_type);
    slot->prompt.cache->copy_from(*p.cache, p.cache->length);
  }
  if (speculates()) slot->so_far = r.prompt_ids;
  slot->draft_limit = options.draft_tokens;
  attempt(*slot, [&] {
    if (options.grammar) slot->held.emplace(*options.grammar, *masks, !has_text(r.prompt_ids));
    if (slot->held && slot->held->ended()) return end(*slot, "stop");
    if (options.max_new_tokens == 0) return end(*slot, "length");
    take_token(*slot, p.logits);
  });
  return slot;
}

/// Token `place` of the answer, by that place's own random number.
TokenId Generator::Impl::draw(Slot& slot, std::span<const float> logits, size_t place) const {
  const double uniform = static_cast<double>(slot.rng.at(place) >> 11) * 0x1p-53;
  return sample(logits, options.sampling, slot.history, uniform);
}

/// Token `place` of the answer, among those with which `held`, if any, may go on.
TokenId Generator::Impl::choose(Slot& slot, std::optional<HeldText>& held, std::span<const float> logits,
                                size_t place) const {
  if (!held) return draw(slot, logits, place);
  if (held->mask().only >= 0) return held->mask().only;
  return held->settled(draw(slot, held->masked(logits), place), logits);
}

bool Generator::Impl::stops_at(TokenId id) const {
  return std::find(options.stop_ids.begin(), options.stop_ids.end(), id) != options.stop_ids.end();
}

void Generator::Impl::end(Slot& slot, const char* reason) {
  GenerationResult& r = slot.result;
  slot.done = true;
  r.finish_reason = reason;
  slot.text.finish();
  r.text = slot.text.text();
  r.complete = !options.grammar || accepts(*options.grammar, r.text);
  r.seconds = now() - slot.began;
  memory.keep(std::move(slot.prompt));
  slot.prompt = {};
  slot.draft_state = {};
}

/// Ends an answer that cannot be; what was written of it is none.
void Generator::Impl::fail(Slot& slot, std::string error) {
  GenerationResult& r = slot.result;
  slot.done = true;
  r.finish_reason = "error";
  r.error = std::move(error);
  r.ids.clear();
  r.logprobs.clear();
  r.top_logprobs.clear();
  if (slot.prompt.cache) memory.keep(std::move(slot.prompt));
  slot.prompt = {};
  slot.draft_state = {};
}

/// Goes on with an answer. An error is of this answer alone: of the others, those before it are given first.
void Generator::Impl::attempt(Slot& slot, const std::function<void()>& step) {
  try {
    step();
  } catch (const UsageError&) {  // of the options, whatever the prompt
    throw;
  } catch (const Error& error) {
    fail(slot, cat(slot.name, ": ", error.what()));
  }
}

void Generator::Impl::take_token(Slot& slot, std::span<const float> logits) {
  GenerationResult& r = slot.result;
  const TokenId id = choose(slot, slot.held, logits, r.ids.size());
  if (stops_at(id)) return end(slot, "stop");
  r.ids.push_back(id);
  slot.last = id;
  if (speculates()) slot.so_far.push_back(id);
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
  if (slot.text.stopped()) return end(slot, "stop");
  if (slot.held) slot.held->push(id);
  if (slot.held && slot.held->ended()) return end(slot, "stop");
  const bool full = positions_of(slot) >= slot.prompt.cache->capacity();
  if (full || static_cast<int64_t>(r.ids.size()) >= options.max_new_tokens) end(slot, "length");
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
    if (stopped()) {
      exhausted = true;
      prefix.reset();
      return;
    }
    if (!prefix) {
      GenerationRequest request;
      if (!exhausted && !slots.empty() && ready && !ready()) return;
      if (exhausted || !source(request)) {
        exhausted = true;
        return;
      }
      const int64_t index = request.index >= 0 ? request.index : prompts;
      const bool fit = fits(request, index);
      if (fit) prefix = read_prompt(std::move(request), index);
      prompts = index + 1;
      if (!prefix || stopped()) continue;
    }
    if (options.num_beams > 1) {
      search_beams(*prefix);
      prefix.reset();
      return;
    }
    slots.push_back(begin(*prefix));
    if (prefix->samples_begun == options.num_samples) prefix.reset();
    if (slots.size() == 1) return;  // it can be shown at once
  }
}

void Generator::Impl::deliver(const Sink& sink, const Stream& stream) {
  while (!slots.empty()) {
    Slot& first = *slots.front();
    const std::string& text = first.text.text();
    if (stream && text.size() > streamed) stream(text.substr(streamed));
    streamed = text.size();
    if (!first.done) return;
    const bool failed = !first.result.error.empty();
    if (failed && !options.skip_failed) throw Error(first.result.error);
    const int64_t index = first.result.index;
    sink(first.result);
    do {  // a prompt with an error has no more answers
      slots.pop_front();
    } while (failed && !slots.empty() && slots.front()->result.index == index);
    if (failed && prefix && prefix->index == index) prefix.reset();
    streamed = 0;
  }
}

Generator::Generator(const Transformer& model, const Tokenizer* tokenizer, ThreadPool& pool,
                     GenerationOptions options)
    : impl_(std::make_unique<Impl>(model, tokenizer, pool, std::move(options))) {}
Generator::~Generator() = default;

void Generator::Impl::run(const Source& source, const Sink& sink, const Stream& stream, const Ready& ready) {
  for (const auto& slot : slots) {  // left behind by a run that an exception ended
    if (slot->prompt.cache) memory.keep(slot->prompt);
  }
  slots.clear();
  prefix.reset();
  streamed = 0;
  exhausted = false;
  while (true) {
    fill(source, ready);
    deliver(sink, stream);
    if (slots.empty() && !prefix && exhausted) break;
    decode();
    deliver(sink, stream);
  }
  if (failure) std::rethrow_exception(std::exchange(failure, nullptr));
}

void Generator::run(const Source& source, const Sink& sink, const Stream& stream, const Ready& ready) {
  const int64_t n = impl_->options.best_of;
  if (n == 1) return impl_->run(source, sink, stream, ready);
  // The best is known when all are there.
  std::optional<GenerationResult> best;
  const auto give = [&] {
    best->sample = 0;
    sink(*std::exchange(best, std::nullopt));
  };
  const auto choose = [&](const GenerationResult& r) {
    if (!r.error.empty()) {
      best = r;
      return give();
    }
    const double sum = std::accumulate(r.logprobs.begin(), r.logprobs.end(), 0.0);
    const double mean = r.logprobs.empty() ? -std::numeric_limits<double>::infinity()
                                           : sum / static_cast<double>(r.logprobs.size());
    // A cut answer is not of its form, however likely: only where all are cut is it the best.
    if (!best || std::pair(r.complete, mean) > std::pair(best->complete, *best->score)) {
      best = r;
      best->score = mean;
    }
    if (r.sample + 1 < n) return;
    give();
  };
  impl_->run(source, choose, {}, ready);
  if (best) give();  // the rest were never begun: all was stopped
}

}  // namespace llmtool
