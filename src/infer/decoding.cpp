// Generator: the steps that write answers.

#include <algorithm>

#include "infer/generator_impl.h"

namespace llmtool {

/// Positions that prompt and answer take in the cache once all but the last token are read.
int64_t Generator::Impl::positions_of(const Slot& slot) const {
  return memory.virtual_count() + static_cast<int64_t>(slot.prompt.ids.size() + slot.result.ids.size()) - 1;
}

/// How many tokens may be drafted: the last one of an answer is not worth it.
int64_t Generator::Impl::draft_room(const Slot& slot) const {
  return std::min({slot.draft_limit, model.room(*slot.prompt.cache) - 1,
                   options.max_new_tokens - static_cast<int64_t>(slot.result.ids.size()) - 1});
}

/// A draft's form goes on by `id`. Where it cannot, or is at its end, drafts are free: they will not stay.
void Generator::Impl::follow(std::optional<HeldText>& held, TokenId id) const {
  if (!held) return;
  bool over = stops_at(id);
  try {
    if (!over) held->push(id);
    over = over || held->ended();
  } catch (const Error&) {  // no token of the vocabulary follows; the answer need not go there
    over = true;
  }
  if (over) held.reset();
}

/// The tokens beside which the form lets none come.
std::vector<TokenId> Generator::Impl::forced_drafts(const Slot& slot, int64_t most) const {
  std::vector<TokenId> drafts;
  if (!slot.held || slot.held->mask().only < 0) return drafts;
  std::optional<HeldText> held = slot.held;
  while (held && held->mask().only >= 0 && static_cast<int64_t>(drafts.size()) < most) {
    drafts.push_back(held->mask().only);
    follow(held, drafts.back());
  }
  return drafts;
}

/// What a draft model writes at `place` behind the answer so far, held to the form as the answer is.
TokenId Generator::Impl::draft_token(Slot& slot, std::optional<HeldText>& held, std::span<const float> logits,
                                     int64_t place) const {
  const auto bound = slot.history.mirostat_bound;  // of the answer, not of drafts
  TokenId id = slot.last;
  try {
    id = choose(slot, held, logits, slot.result.ids.size() + static_cast<size_t>(place));
    follow(held, id);
  } catch (const UsageError&) {
    throw;
  } catch (const Error&) {  // nothing that the draft model knows may come there, where the answer need not go
    held.reset();
  }
  slot.history.mirostat_bound = bound;
  return id;
}

std::vector<std::vector<TokenId>> Generator::Impl::draft(const std::vector<Slot*>& active) {
  std::vector<std::vector<TokenId>> drafts(active.size());
  if (options.look_up) {
    for (size_t b = 0; b < active.size(); ++b) {
      drafts[b] = forced_drafts(*active[b], draft_room(*active[b]));
      if (drafts[b].empty()) drafts[b] = llmtool::look_up(active[b]->so_far, draft_room(*active[b]));
    }
  } else if (drafter) {
    std::vector<DraftModel::Request> requests;
    for (Slot* const slot : active) {
      requests.push_back(
          {slot->draft_state, slot->so_far, draft_room(*slot),
           [this, slot, held = slot->held](std::span<const float> logits, int64_t place) mutable {
             return draft_token(*slot, held, logits, place);
           }});
    }
    drafter->propose(requests);
    for (size_t b = 0; b < active.size(); ++b) drafts[b] = std::move(requests[b].drafts);
  }
  return drafts;
}

/// Takes the answer's tokens from the logits behind its last token and behind each draft (drafts + 1, V), up
/// to the first that is not what was drafted; what was read beyond it leaves the cache.
void Generator::Impl::check_drafts(Slot& slot, std::span<const TokenId> drafts,
                                   std::span<const float> logits) {
  const auto V = static_cast<size_t>(model.config().vocab_size);
  size_t right = 0;
  slot.result.drafted += static_cast<int64_t>(drafts.size());
  while (true) {
    take_token(slot, logits.subspan(right * V, V));
    if (slot.done || right == drafts.size() || slot.last != drafts[right]) break;
    ++right;
  }
  slot.result.accepted += static_cast<int64_t>(right);
  if (slot.done || drafts.empty()) return;
  slot.prompt.cache->cut(positions_of(slot));
  const bool all = right == drafts.size();
  slot.draft_limit = std::clamp<int64_t>(all ? 2 * slot.draft_limit : static_cast<int64_t>(right) + 1, 1,
                                         options.draft_tokens);
}

void Generator::Impl::decode() {
  std::vector<Slot*> active;
  for (const auto& slot : slots) {
    if (!slot->done) active.push_back(slot.get());
  }
  if (active.empty()) return;
  if (stopped()) {
    for (Slot* const slot : active) end(*slot, "stopped");
    return;
  }
  const std::vector<std::vector<TokenId>> drafts = draft(active);
  std::vector<KvCache*> caches;
  std::vector<int32_t> ids;
  for (size_t b = 0; b < active.size(); ++b) {
    ids.push_back(active[b]->last);
    ids.insert(ids.end(), drafts[b].begin(), drafts[b].end());
    caches.insert(caches.end(), 1 + drafts[b].size(), active[b]->prompt.cache.get());
  }
  const int64_t V = model.config().vocab_size, rows = static_cast<int64_t>(ids.size());
  std::vector<float> logits(static_cast<size_t>(rows * V));
  model.decode(exec, ids, caches, Tensor(logits.data(), {rows, V}));
  std::span<const float> rest = logits;
  for (size_t b = 0; b < active.size(); ++b) {
    const size_t own = (1 + drafts[b].size()) * static_cast<size_t>(V);
    attempt(*active[b], [&] { check_drafts(*active[b], drafts[b], rest.first(own)); });
    rest = rest.subspan(own);
  }
}

/// The best answers, as many as are asked for.
std::vector<Hypothesis> Generator::Impl::hypotheses(const Prefix& p) {
  const int64_t room = context - static_cast<int64_t>(p.request.ids.size()) + 1;
  std::optional<HeldText> held;
  if (options.grammar) held.emplace(*options.grammar, *masks, !has_text(p.request.ids));
  std::vector<Hypothesis> found(static_cast<size_t>(options.num_samples));
  if (held && held->ended()) {
    found.resize(1);
    found[0].stopped = true;
  } else if (options.max_new_tokens > 0) {
    found = beam_search(model, exec, options, *p.cache, p.logits, room, held ? &*held : nullptr);
  }
  if (static_cast<int64_t>(found.size()) < options.num_samples) {
    throw Error(cat("expected ", options.num_samples, " answers of ", options.num_beams, " beams, found ",
                    found.size(), "; more beams may find more, or ask for fewer"));
  }
  return found;
}

/// All of a prompt's answers at once.
void Generator::Impl::search_beams(Prefix& p) {
  const double began = now();
  std::vector<Hypothesis> found;
  for (int64_t i = 0; i < options.num_samples; ++i) {
    auto slot = std::make_unique<Slot>(tokenizer, options.stop_strings, has_text(p.request.ids));
    slot->name = p.request.name;
    describe(slot->result, p);
    attempt(*slot, [&] {
      if (i == 0) found = hypotheses(p);
      take_hypothesis(*slot, found[static_cast<size_t>(i)]);
    });
    slot->result.seconds = now() - began;
    slots.push_back(std::move(slot));
    if (found.empty()) break;
  }
  memory.keep({p.request.ids, p.cache});
}

void Generator::Impl::take_hypothesis(Slot& slot, Hypothesis& h) {
  GenerationResult& r = slot.result;
  if (!h.cut && !h.ids.empty() && stops_at(h.ids.back())) h.ids.pop_back();
  for (const TokenId id : h.ids) slot.text.push(id);
  slot.text.finish();
  r.text = slot.text.text();
  r.complete = !options.grammar || accepts(*options.grammar, r.text);
  h.logprobs.resize(h.ids.size());
  if (options.logprobs >= 0) r.logprobs = std::move(h.logprobs);
  r.ids = std::move(h.ids);
  r.score = h.score;
  r.finish_reason = h.cut ? "stopped" : h.stopped ? "stop" : "length";
  slot.done = true;
}

}  // namespace llmtool
