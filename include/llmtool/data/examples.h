#pragma once
// Examples: the rows of a fine-tuning run as token ids, and which of these the loss is taken on.

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "llmtool/core/thread_pool.h"
#include "llmtool/data/example_config.h"
#include "llmtool/text/tokenizer.h"

namespace llmtool {

struct ExampleOptions {
  ExampleConfig data;
  LossOn loss_on = LossOn::completion;
  int64_t max_length = 0;  // tokens; what is longer loses its end; 0: no bound
  uint64_t seed = 1;       // of the split
};

/// One example of a set, which owns what it points to.
struct Example {
  std::span<const TokenId> ids;
  std::span<const uint8_t> trained;  // 1: predicting this id counts in the loss; the first never is predicted
  int32_t label = -1;                // the class, where one is learnt
  int64_t full_length = 0;           // ids before it was cut
  int64_t trained_tokens() const;
};

/// What may be wrong with an example.
enum class ExampleFlaw : uint8_t {
  truncated = 1,   // trained tokens were cut off
  open_end = 2,    // nothing that ends a turn or a text behind the trained tokens, or it is not trained
  empty = 4,       // no text, or no answer
  double_bos = 8,  // begins with BOS twice
  chat = 16        // (no flaw) came from a conversation
};

/// Quantiles of the examples' lengths, before they are cut.
struct LengthStatistics {
  static constexpr std::array<double, 7> kQuantiles = {0, 0.25, 0.5, 0.75, 0.9, 0.99, 1};
  std::array<int64_t, 7> lengths{};
  int64_t examples = 0, tokens = 0, trained = 0;  // tokens as trained on
};

/// The examples of one split, in the order of their rows.
class ExampleSet {
 public:
  int64_t size() const { return static_cast<int64_t>(records_.size()); }
  Example operator[](int64_t i) const;
  std::string origin(int64_t i) const;  // "rows.jsonl: row 12"
  int source(int64_t i) const { return record(i).source; }
  bool has(int64_t i, ExampleFlaw flaw) const { return record(i).flaws & static_cast<uint8_t>(flaw); }
  /// Of the text, without regard to how much space is between its words.
  uint64_t text_hash(int64_t i) const { return record(i).text_hash; }
  LengthStatistics statistics() const;
  uint64_t hash() const;  // of all ids, masks and labels

  /// Rows without a token to train on, which are left out.
  struct LeftOut {
    struct Row {
      std::string origin, excerpt;
    };
    int64_t count = 0;
    std::vector<Row> rows;  // the first of them
  };
  const LeftOut& untrained() const { return untrained_; }  // that say something
  const LeftOut& empty() const { return empty_; }          // without any text

 private:
  friend class ExampleBuilder;
  struct Tokens {
    std::vector<TokenId> ids;  // one example behind the other
    std::vector<uint8_t> trained;
  };
  struct Record {
    int64_t offset = 0, row = 0;
    uint64_t text_hash = 0;
    int32_t length = 0, full_length = 0, file = 0, source = 0, label = -1;
    uint8_t flaws = 0;
  };
  const Record& record(int64_t i) const { return records_[static_cast<size_t>(i)]; }

  std::shared_ptr<const Tokens> tokens_;  // of both splits
  std::shared_ptr<const std::vector<std::string>> files_;
  std::vector<Record> records_;
  LeftOut untrained_, empty_;
};

struct Examples {
  ExampleSet train, validation;
  std::vector<std::string> labels;  // names of the classes
  std::string template_source;      // that conversations are written with; "" without one
  std::string prompt_template;
  bool template_ends_turns = true;  // false: it puts nothing behind an assistant's answer that ends it
};

/// Reads all rows and encodes them, on all threads, with one result for any number of them.
///
/// Ids and masks are those of TRL 1.16's SFTTrainer: {text} and {prompt, completion} are encoded with the
/// tokenizer's special tokens around them and EOS behind the text (unless it ends with it); what stands
/// behind the ids that the prompt alone begins with, too, is the completion. Conversations are encoded as
/// their template writes them. An assistant's turn is what {% generation %} blocks write; a template without
/// such blocks is rendered up to each turn, and refused where that does not begin the whole conversation.
/// A row whose class is learnt is its text, with the tokenizer's special tokens around it.
///
/// Held out rows are drawn by seed, and equal ones stay together. Throws Error naming file and row,
/// UsageError on keys of the config.
Examples load_examples(ThreadPool& pool, const Tokenizer& tokenizer, const ExampleOptions& options);

}  // namespace llmtool
