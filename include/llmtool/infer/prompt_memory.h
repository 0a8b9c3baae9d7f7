#pragma once
// PromptMemory: reads prompts, and what several begin with once.

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "llmtool/model/transformer.h"
#include "llmtool/text/tokenizer.h"

namespace llmtool {

constexpr int64_t kWorthCopying = 16;  // ids that texts share, at least

/// Positions of a text, prompt and answer, behind the adapter's virtual tokens; `limit`: of all of them,
/// where that is less than the model has; 0: none.
int64_t text_context(const Transformer& model, int64_t limit = 0);

/// A text and the cache that it was read into, where it stands behind the adapter's virtual tokens.
struct ReadText {
  std::vector<TokenId> ids;  // the cache may hold more
  std::shared_ptr<KvCache> cache;
};

/// Reads texts behind the adapter's virtual tokens. Beginnings are copied from the caches of texts that are
/// in use or were kept; what is read has the same bits either way. What was decoded has other last bits than
/// what is read, so that an answer is read again as part of the next prompt.
class PromptMemory {
 public:
  /// `whole`: layers with a window keep all positions, so that a cache can be cut back anywhere.
  explicit PromptMemory(const Transformer& model, DType type = DType::f32, bool whole = false)
      : model_(model), virtual_ids_(model.virtual_ids()), type_(type), whole_(whole) {}

  /// Positions of a text.
  int64_t context() const { return text_context(model_); }
  int64_t virtual_count() const { return static_cast<int64_t>(virtual_ids_.size()); }

  /// A cache of `ids`, with room for `more` positions, and the logits behind the last id (V).
  struct Reading {
    std::shared_ptr<KvCache> cache;
    int64_t copied = 0;  // ids that were not read again
  };
  /// `in_use`: texts whose caches may be copied from, beside those kept. `stop_wanted`, where there is one,
  /// is asked between the pieces of a long text; once it says yes, no more is read, and there is no cache.
  Reading read(Exec& exec, std::span<const TokenId> ids, int64_t more, std::span<float> logits,
               std::span<const ReadText* const> in_use = {},
               const std::function<bool()>& stop_wanted = {}) const;
  /// An empty cache for that many positions, behind the virtual tokens.
  std::shared_ptr<KvCache> begin(Exec& exec, int64_t positions) const;

  /// Texts that others may begin like: the last one kept, and one for good.
  void keep(ReadText text) { kept_ = std::move(text); }
  void keep_for_good(ReadText text) { for_good_ = std::move(text); }

 private:
  std::pair<const KvCache*, int64_t> longest_beginning(std::span<const TokenId> ids,
                                                       std::span<const ReadText* const> in_use) const;

  const Transformer& model_;
  std::vector<int32_t> virtual_ids_;
  DType type_;
  bool whole_;
  ReadText kept_, for_good_;
};

}  // namespace llmtool
