#include "infer/beam_search.h"

#include <algorithm>
#include <cmath>

namespace llmtool {

namespace {
constexpr double kNever = -1e9;  // below every score, as the reference library has it

struct Beam {
  Hypothesis text;
  std::unique_ptr<KvCache> cache;
};

/// A beam and a token behind it.
struct Candidate {
  size_t beam;
  TokenId id;
  double sum, logprob;
  bool ends = false;
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

  std::vector<Hypothesis> run(const KvCache& prompt, std::span<const float> logits) {
    beams_.push_back({{}, copy(prompt)});
    std::vector<float> rows(logits.begin(), logits.end());
    while (true) {
      std::vector<Candidate> all = candidates(rows);
      finish(all);
      const bool open = std::any_of(all.begin(), all.end(), [](const Candidate& c) { return !c.ends; });
      go_on(all);
      ++length_;
      improvable_ = improvable_ && can_improve();
      const bool full = o_.early_stopping == GenerationOptions::EarlyStopping::yes && all_finished();
      if (!improvable_ || full || !open) return std::move(finished_);
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

  /// The likeliest continuations of all beams: enough that a beam's worth of them goes on whatever ends.
  std::vector<Candidate> candidates(std::span<const float> rows) const {
    const auto V = static_cast<size_t>(model_.config().vocab_size);
    const size_t keep = std::max<size_t>(2, 1 + o_.stop_ids.size()) * finished_.size();
    std::vector<Candidate> all;
    for (size_t b = 0; b < beams_.size(); ++b) {
      const std::span<const float> row = rows.subspan(b * V, V);
      const double log_z = log_sum_exp(row);
      for (size_t id = 0; id < V; ++id) {
        const double logprob = row[id] - log_z;
        all.push_back({b, static_cast<TokenId>(id), beams_[b].text.sum + logprob, logprob});
      }
    }
    const size_t n = std::min(keep, all.size());
    const auto better = [](const Candidate& a, const Candidate& b) {
      if (a.sum != b.sum) return a.sum > b.sum;
      return a.beam != b.beam ? a.beam < b.beam : a.id < b.id;
    };
    std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(n), all.end(), better);
    all.resize(n);
    for (Candidate& c : all) {
      c.ends = length_ + 1 >= most_ ||
               std::find(o_.stop_ids.begin(), o_.stop_ids.end(), c.id) != o_.stop_ids.end();
    }
    return all;
  }

  Hypothesis extended(const Candidate& c) const {
    Hypothesis h = beams_[c.beam].text;
    h.ids.push_back(c.id);
    h.logprobs.push_back(c.logprob);
    h.sum = c.sum;
    return h;
  }

  /// Takes those that end among the first num_beams candidates into the best that have ended.
  void finish(const std::vector<Candidate>& all) {
    const bool closed = o_.early_stopping == GenerationOptions::EarlyStopping::yes && all_finished();
    const size_t B = finished_.size();
    for (size_t i = 0; i < std::min(B, all.size()); ++i) {
      if (!all[i].ends || closed || !improvable_) continue;
      Hypothesis h = extended(all[i]);
      h.finished = true;
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
  void go_on(const std::vector<Candidate>& all) {
    std::vector<Beam> next;
    std::vector<int> uses(beams_.size());
    std::vector<const Candidate*> chosen;
    for (const Candidate& c : all) {
      if (c.ends || chosen.size() == finished_.size()) continue;
      chosen.push_back(&c);
      ++uses[c.beam];
    }
    best_running_ = chosen.empty() ? kNever : chosen[0]->sum;
    for (const Candidate* c : chosen) {
      // The last beam that comes from a cache takes it.
      std::unique_ptr<KvCache>& own = beams_[c->beam].cache;
      next.push_back({extended(*c), --uses[c->beam] == 0 ? nullptr : copy(*own)});
      if (!next.back().cache) next.back().cache = std::move(own);
    }
    beams_ = std::move(next);
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
};
}  // namespace

std::vector<Hypothesis> beam_search(const Transformer& model, Exec& exec, const GenerationOptions& options,
                                    const KvCache& cache, std::span<const float> logits, int64_t room) {
  return Search(model, exec, options, room).run(cache, logits);
}

}  // namespace llmtool
