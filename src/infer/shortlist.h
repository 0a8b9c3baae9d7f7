#pragma once
// Shortlist: the tokens that may still come.

#include <cstdint>
#include <span>
#include <vector>

#include "llmtool/text/tokenizer.h"

namespace llmtool {

/// Logits by token. Filters take tokens away, never all; probabilities are a softmax of the logits that are
/// there.
class Shortlist {
 public:
  struct Entry {
    TokenId id;
    double logit;
  };

  /// Those above -infinity. Throws Error where a logit is no number, or none is left.
  explicit Shortlist(std::span<const float> logits);

  size_t size() const { return entries_.size(); }
  const Entry& operator[](size_t i) const { return entries_[i]; }
  const std::vector<Entry>& entries() const { return entries_; }
  /// Whether all tokens are there (but those ruled out), in the order of their ids.
  bool untouched() const { return by_id_ && !dropped_; }

  double greatest() const;
  struct Totals {
    double log_sum = 0;  // of the exponentials: a token's probability is exp(logit - log_sum)
    double entropy = 0;  // in nats
  };
  Totals totals(bool with_entropy = false) const;

  void scale(double factor);               // of all logits
  void add(TokenId id, double amount);     // to its logit; nothing where it is not there
  void repeat(TokenId id, double factor);  // positive logits / factor, others * factor
  /// Takes a token away; throws Error where it is the last one.
  void rule_out(TokenId id);
  void rule_out(const std::vector<bool>& ids);  // those that are set

  void keep_from(double least);  // those with at least this logit; the likeliest stays in any case
  void keep_likeliest(size_t k);
  /// The first n are then the likeliest in order (ties: the lower id).
  void sort_first(size_t n);
  void keep_first(size_t n);
  void drop_first(size_t n);
  void keep_only(const std::vector<size_t>& places);  // in this order
  void sort() { sort_first(size()); }

 private:
  Entry* find(TokenId id);

  std::vector<Entry> entries_;
  bool by_id_ = true;  // in the order of ids
  size_t sorted_ = 0;  // so many of the likeliest stand in order at the front
  bool dropped_ = false;
};

}  // namespace llmtool
