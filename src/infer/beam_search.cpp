#include "infer/beam_search.h"

#include <algorithm>
#include <cmath>
#include <exception>

#include "llmtool/core/error.h"

namespace llmtool {

namespace {
constexpr double kNever = -1e9;  // below every score, as the reference library has it

struct Beam {
  Hypothesis text;
  std::unique_ptr<KvCache> cache;
  std::unique_ptr<HeldText> held;  // where there is a form
};

/// A beam and a token behind it.
struct Candidate {
  size_t beam;
  TokenId id;
  double sum, logprob;
};

/// A candidate that the form lets go on.
struct Continuation : Candidate {
  bool ends = false, stops = false;  // stops: not for the limit
  std::unique_ptr<HeldText> held;

  explicit Continuation(const Candidate& c) : Candidate(c) {}
};

class Search {
 public:
  Search(const Transformer& model, Exec& exec, const GenerationOptions& options, int64_t room)
      : model_(model),
        exec_(exec),
        o_(options),
        most_(std::min(room, options.max_new_tokens)),
        finished_(static_cast<size_t>(options.num_beams)) {
    for (Hypothesis& h : finished_) h.score = kNever;
  }

  std::vector<Hypothesis> run(const KvCache& prompt, std::span<const float> logits, const HeldText* held) {
    beams_.push_back({{}, copy(prompt), held ? std::make_unique<HeldText>(*held) : nullptr});
    std::vector<float> rows(logits.begin(), logits.end());
    while (true) {
      std::vector<Continuation> all = likeliest(candidates(rows));
      finish(all);
      const bool open = std::any_of(all.begin(), all.end(), [](const Continuation& c) { return !c.ends; });
      go_on(all);
      ++length_;
      improvable_ = improvable_ && can_improve();
      const bool full = o_.early_stopping == GenerationOptions::EarlyStopping::yes && all_finished();
      if (!improvable_ || full || !open) return found();
      if (o_.stop_wanted && o_.stop_wanted()) return as_they_are();
      rows = decode();
    }
  }

 private:
  std::unique_ptr<KvCache> copy(const KvCache& cache) const {
    auto made = std::make_unique<KvCache>(model_.config(), cache.capacity(), cache.type());
    made->copy_from(cache, cache.length);
    return made;
  }

  /// All tokens that may come behind a beam.
  std::vector<Candidate> candidates(std::span<const float> rows) const {
    const auto V = static_cast<size_t>(model_.config().vocab_size);
    std::vector<Candidate> all;
    all.reserve(rows.size());
    for (size_t b = 0; b < beams_.size(); ++b) {
      const std::span<const float> row = rows.subspan(b * V, V);
      const double log_z = log_sum_exp(row);
      const TokenMask* const mask = beams_[b].held ? &beams_[b].held->mask() : nullptr;
      for (size_t id = 0; id < V; ++id) {
        if (mask && !mask->allows(static_cast<TokenId>(id))) continue;
        const double logprob = row[id] - log_z;
        all.push_back({b, static_cast<TokenId>(id), beams_[b].text.sum + logprob, logprob});
      }
    }
    return all;
  }

  /// The likeliest continuations of all beams: a beam's worth of those that go on, and what ends before them.
  std::vector<Continuation> likeliest(std::vector<Candidate> heap) {
    const auto worse = [](const Candidate& a, const Candidate& b) {
      if (a.sum != b.sum) return a.sum < b.sum;
      return a.beam != b.beam ? a.beam > b.beam : a.id > b.id;
    };
    const size_t B = finished_.size();
    const bool last = length_ + 1 >= most_;
    std::vector<Continuation> all;
    std::make_heap(heap.begin(), heap.end(), worse);
    for (size_t open = 0; !heap.empty() && open < B && !(last && all.size() == B); heap.pop_back()) {
      std::pop_heap(heap.begin(), heap.end(), worse);
      Continuation next(heap.back());
      if (!follow(next, last)) continue;
      open += !next.ends;
      all.push_back(std::move(next));
    }
    return all;
  }

  /// What comes of a candidate; false where no token of the vocabulary can follow it. `last`: by the limit.
  bool follow(Continuation& next, bool last) {
    next.stops = std::find(o_.stop_ids.begin(), o_.stop_ids.end(), next.id) != o_.stop_ids.end();
    if (const auto& held = beams_[next.beam].held; held && !next.stops) {
      next.held = std::make_unique<HeldText>(*held);
      try {
        next.held->push(next.id);
      } catch (const Error&) {
        stuck_ = std::current_exception();
        return false;
      }
      // At a form's end the stop id is to come, and counts, where there are one and room for it.
      next.stops = next.held->ended() && (o_.stop_ids.empty() || last);
    }
    next.ends = next.stops || last;
    return true;
  }

  Hypothesis extended(const Candidate& c) const {
    Hypothesis h = beams_[c.beam].text;
    h.ids.push_back(c.id);
    h.logprobs.push_back(c.logprob);
    h.sum = c.sum;
    return h;
  }

  /// Takes those that end among the first num_beams candidates into the best that have ended.
  void finish(const std::vector<Continuation>& all) {
    const bool closed = o_.early_stopping == GenerationOptions::EarlyStopping::yes && all_finished();
    const size_t B = finished_.size();
    for (size_t i = 0; i < std::min(B, all.size()); ++i) {
      if (!all[i].ends || closed || !improvable_) continue;
      Hypothesis h = extended(all[i]);
      h.finished = true;
      h.stopped = all[i].stops;
      h.score = h.sum / std::pow(static_cast<double>(length_ + 1), o_.length_penalty);
      finished_.push_back(std::move(h));
    }
    std::stable_sort(finished_.begin(), finished_.end(),
                     [](const Hypothesis& a, const Hypothesis& b) { return a.score > b.score; });
    finished_.resize(B);
  }

  /// What has ended, and behind it the beams, the best first.
  std::vector<Hypothesis> as_they_are() {
    std::erase_if(finished_, [](const Hypothesis& h) { return !h.finished; });
    for (Beam& beam : beams_) {
      Hypothesis& h = beam.text;
      h.cut = true;
      h.score = h.sum / std::pow(static_cast<double>(length_), o_.length_penalty);
      finished_.push_back(std::move(h));
    }
    Hypothesis none;
    none.score = kNever;
    finished_.resize(static_cast<size_t>(o_.num_beams), none);
    return std::move(finished_);
  }

  /// The best candidates that have not ended are the beams to come.
  void go_on(std::vector<Continuation>& all) {
    std::vector<Beam> next;
    std::vector<int> uses(beams_.size());
    std::vector<Continuation*> chosen;
    for (Continuation& c : all) {
      if (c.ends || chosen.size() == finished_.size()) continue;
      chosen.push_back(&c);
      ++uses[c.beam];
    }
    best_running_ = chosen.empty() ? kNever : chosen[0]->sum;
    for (Continuation* const c : chosen) {
      // The last beam that comes from a cache takes it.
      std::unique_ptr<KvCache>& own = beams_[c->beam].cache;
      next.push_back({extended(*c), --uses[c->beam] == 0 ? nullptr : copy(*own), std::move(c->held)});
      if (!next.back().cache) next.back().cache = std::move(own);
    }
    beams_ = std::move(next);
  }

  /// Those that have ended.
  std::vector<Hypothesis> found() {
    std::erase_if(finished_, [](const Hypothesis& h) { return !h.finished; });
    if (finished_.empty() && stuck_) std::rethrow_exception(stuck_);
    return std::move(finished_);
  }

  bool all_finished() const {
    return std::all_of(finished_.begin(), finished_.end(), [](const Hypothesis& h) { return h.finished; });
  }

  /// Whether the best running beam could become better than the worst that has ended, as guessed from its
  /// length now or, where longer ones are favoured and the search never stops early, the greatest.
  bool can_improve() const {
    const bool never = o_.early_stopping == GenerationOptions::EarlyStopping::never && o_.length_penalty > 0;
    const auto length = static_cast<double>(never ? most_ : length_);
    const double best = best_running_ / std::pow(length, o_.length_penalty);
    return best > finished_.back().score || (!all_finished() && best > kNever);
  }

  std::vector<float> decode() {
    const auto B = static_cast<int64_t>(beams_.size()), V = model_.config().vocab_size;
    std::vector<int32_t> ids;
    std::vector<KvCache*> caches;
    for (const Beam& beam : beams_) {
      ids.push_back(beam.text.ids.back());
      caches.push_back(beam.cache.get());
    }
    std::vector<float> rows(static_cast<size_t>(B * V));
    model_.decode(exec_, ids, caches, Tensor(rows.data(), {B, V}));
    return rows;
  }

  const Transformer& model_;
  Exec& exec_;
  const GenerationOptions& o_;
  int64_t most_, length_ = 0;  // tokens of an answer: the limit, and so far
  std::vector<Beam> beams_;
  std::vector<Hypothesis> finished_;  // num_beams, the best first; those that have not ended fill it up
  double best_running_ = 0;
  bool improvable_ = true;
  std::exception_ptr stuck_;  // the last error of a form
};
}  // namespace

std::vector<Hypothesis> beam_search(const Transformer& model, Exec& exec, const GenerationOptions& options,
                                    const KvCache& cache, std::span<const float> logits, int64_t room,
                                    const HeldText* held) {
  return Search(model, exec, options, room).run(cache, logits, held);
}

}  // namespace llmtool
