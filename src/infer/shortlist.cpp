#include "infer/shortlist.h"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>

#include "llmtool/core/error.h"

namespace llmtool {

namespace {
using Entry = Shortlist::Entry;
constexpr double kNever = -std::numeric_limits<double>::infinity();

bool likelier(const Entry& a, const Entry& b) { return a.logit != b.logit ? a.logit > b.logit : a.id < b.id; }

[[noreturn]] void refuse_empty() {
  throw Error(
      "[sampler] no token may come: expected a logit above -infinity, found none; are all ruled out by "
      "biases, "
      "bad words or a form?");
}
}  // namespace

Shortlist::Shortlist(std::span<const float> logits) {
  entries_.resize(logits.size());
  size_t n = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const float x = logits[i];
    if (!(x < std::numeric_limits<float>::infinity()))
      throw Error(cat("[sampler] the logit of token ", i, " is no number"));
    entries_[n] = {static_cast<TokenId>(i), x};
    n += x > -std::numeric_limits<float>::infinity();
  }
  entries_.resize(n);
  if (n == 0) refuse_empty();
}

Entry* Shortlist::find(TokenId id) {
  const auto at =
      by_id_ ? std::lower_bound(entries_.begin(), entries_.end(), id,
                                [](const Entry& e, TokenId wanted) { return e.id < wanted; })
             : std::find_if(entries_.begin(), entries_.end(), [id](const Entry& e) { return e.id == id; });
  return at == entries_.end() || at->id != id ? nullptr : &*at;
}

double Shortlist::greatest() const {
  if (sorted_ > 0) return entries_[0].logit;
  double most = kNever;
  for (const Entry& e : entries_) most = e.logit > most ? e.logit : most;
  return most;
}

Shortlist::Totals Shortlist::totals(bool with_entropy) const {
  constexpr size_t kBlock = 512;  // exponentials of so many at once, on vectors
  const double most = greatest();
  Eigen::Array<double, kBlock, 1> x, weight;
  double sum = 0, weighted = 0;
  for (size_t first = 0; first < entries_.size(); first += kBlock) {
    const size_t n = std::min(kBlock, entries_.size() - first);
    for (size_t i = 0; i < n; ++i) x[static_cast<Eigen::Index>(i)] = entries_[first + i].logit - most;
    for (size_t i = n; i < kBlock; ++i) x[static_cast<Eigen::Index>(i)] = -1e4;  // adds nothing
    weight = x.exp();
    sum += weight.sum();
    if (with_entropy) weighted += (weight * x).sum();
  }
  return {std::log(sum) + most, with_entropy ? std::log(sum) - weighted / sum : 0};
}

void Shortlist::scale(double factor) {
  for (Entry& e : entries_) e.logit *= factor;
}

void Shortlist::add(TokenId id, double amount) {
  Entry* const e = find(id);
  if (!e) return;
  e->logit += amount;
  sorted_ = 0;
}

void Shortlist::repeat(TokenId id, double factor) {
  Entry* const e = find(id);
  if (!e) return;
  e->logit = e->logit > 0 ? e->logit / factor : e->logit * factor;
  sorted_ = 0;
}

void Shortlist::rule_out(TokenId id) {
  const Entry* const e = find(id);
  if (!e) return;
  entries_.erase(entries_.begin() + (e - entries_.data()));
  sorted_ = 0;
  if (entries_.empty()) refuse_empty();
}

void Shortlist::rule_out(const std::vector<bool>& ids) {
  std::erase_if(entries_, [&](const Entry& e) {
    const auto id = static_cast<size_t>(e.id);
    return id < ids.size() && ids[id];
  });
  sorted_ = 0;
  if (entries_.empty()) refuse_empty();
}

void Shortlist::keep_from(double least) {
  const double bound = std::min(least, greatest());
  const size_t before = size();
  std::erase_if(entries_, [bound](const Entry& e) { return e.logit < bound; });
  sorted_ = std::min(sorted_, size());
  dropped_ = dropped_ || size() < before;
}

void Shortlist::keep_likeliest(size_t k) {
  if (k >= size()) return;
  if (sorted_ < k) {
    if (k > 256) {
      std::nth_element(entries_.begin(), entries_.begin() + static_cast<std::ptrdiff_t>(k) - 1,
                       entries_.end(), likelier);
    } else {  // a heap with the least likely of the best on top: most of a vocabulary fails one comparison
      const auto end = entries_.begin() + static_cast<std::ptrdiff_t>(k);
      std::make_heap(entries_.begin(), end, likelier);
      for (auto it = end; it != entries_.end(); ++it) {
        if (!likelier(*it, entries_.front())) continue;
        std::pop_heap(entries_.begin(), end, likelier);
        *(end - 1) = *it;
        std::push_heap(entries_.begin(), end, likelier);
      }
    }
    by_id_ = false;
    sorted_ = 0;
  }
  keep_first(k);
}

void Shortlist::sort_first(size_t n) {
  n = std::min(n, size());
  if (n <= sorted_) return;
  const auto from = entries_.begin() + static_cast<std::ptrdiff_t>(sorted_);
  const auto to = entries_.begin() + static_cast<std::ptrdiff_t>(n);
  if (n < size()) std::nth_element(from, to - 1, entries_.end(), likelier);
  std::sort(from, to, likelier);
  sorted_ = n;
  by_id_ = size() == 1;
}

void Shortlist::keep_first(size_t n) {
  if (n >= size()) return;
  entries_.resize(n);
  sorted_ = std::min(sorted_, n);
  dropped_ = true;
}

void Shortlist::drop_first(size_t n) {
  if (n == 0) return;
  entries_.erase(entries_.begin(), entries_.begin() + static_cast<std::ptrdiff_t>(n));
  sorted_ -= std::min(sorted_, n);
  dropped_ = true;
}

void Shortlist::keep_only(const std::vector<size_t>& places) {
  std::vector<Entry> list;
  list.reserve(places.size());
  for (const size_t place : places) list.push_back(entries_[place]);
  dropped_ = dropped_ || list.size() < entries_.size();
  entries_ = std::move(list);
  sorted_ = 0;
  by_id_ = false;
}

}  // namespace llmtool
