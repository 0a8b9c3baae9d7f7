#pragma once
// Beam search: the likeliest continuations as a whole, as the reference library searches for them.

#include "llmtool/grammar/held_text.h"
#include "llmtool/infer/generator.h"
#include "llmtool/infer/prompt_memory.h"

namespace llmtool {

/// An answer found: its ids, the last of which may be a stop id.
struct Hypothesis {
  std::vector<TokenId> ids;
  std::vector<double> logprobs;  // of ids
  double sum = 0;                // of logprobs
  double score = 0;              // the sum over length to the power of the length penalty
  bool finished = false;         // by a stop id, the form's end or the token limit
  bool stopped = false;          // not by the limit
  bool cut = false;              // it was being written when the search was stopped
};

/// The `num_beams` best, the best first. `cache` has been read up to the prompt's last id, behind which
/// `logits` (V) stand; at most `room` tokens are written. `held`: the form at an answer's beginning, or
/// nullptr. What it rules out is passed over, and scores stay those of the model. Fewer are found where the
/// form has no more. Throws Error where all beams get stuck in a form that the vocabulary cannot spell.
std::vector<Hypothesis> beam_search(const Transformer& model, Exec& exec, const GenerationOptions& options,
                                    const KvCache& cache, std::span<const float> logits, int64_t room,
                                    const HeldText* held);

}  // namespace llmtool
