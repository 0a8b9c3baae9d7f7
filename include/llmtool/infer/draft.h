#pragma once
// Drafts of an answer's next tokens, which the model then checks in one pass (Leviathan et al. 2023).

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "llmtool/core/workspace.h"
#include "llmtool/model/transformer.h"
#include "llmtool/text/tokenizer.h"

namespace llmtool {

/// What followed when the text last had the tokens that it ends with: up to `most` tokens behind the longest
/// such end of two to four tokens, none where there is none. An end that goes on into itself goes round.
std::vector<TokenId> look_up(std::span<const TokenId> text, int64_t most);

/// Throws UsageError naming the first id that stands for another piece in the other tokenizer.
void check_same_vocabulary(const Tokenizer& tokenizer, const Tokenizer& other);

/// A smaller model of the same tokens that writes ahead. Its embedding may have other rows behind the last
/// token than the model's: an id that it lacks is never drafted, and a text that has one gets no drafts.
class DraftModel {
 public:
  /// What it has read of one answer's text.
  struct State {
    std::vector<TokenId> ids;
    std::unique_ptr<KvCache> cache;
  };
  /// A text, how many tokens are wanted, and how one is chosen: by the logits (V) behind `place` drafts.
  struct Request {
    State& state;
    std::span<const TokenId> text;
    int64_t most;
    std::function<TokenId(std::span<const float> logits, int64_t place)> choose;
    std::vector<TokenId> drafts = {};
  };

  /// `vocabulary`: V, of the model that checks the drafts.
  DraftModel(const Transformer& model, int64_t vocabulary, ThreadPool& pool)
      : model_(model), vocabulary_(vocabulary), workspace_(pool) {}
  /// Fills the drafts of all of them, less where its context ends.
  void propose(std::vector<Request>& requests);

 private:
  void catch_up(Request& request);
  bool knows(std::span<const TokenId> ids) const;

  const Transformer& model_;
  int64_t vocabulary_;
  Workspace workspace_;
};

}  // namespace llmtool
