#include "llmtool/data/examples.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "data/example_encoder.h"
#include "data/input_files.h"
#include "data/row_reader.h"
#include "llmtool/core/error.h"
#include "llmtool/core/rng.h"
#include "llmtool/io/files.h"
#include "llmtool/io/json.h"

namespace llmtool {

int64_t Example::trained_tokens() const {
  return std::accumulate(trained.begin(), trained.end(), int64_t{0});
}

Example ExampleSet::operator[](int64_t i) const {
  const Record& r = record(i);
  const auto from = static_cast<size_t>(r.offset), count = static_cast<size_t>(r.length);
  return {std::span(tokens_->ids).subspan(from, count), std::span(tokens_->trained).subspan(from, count),
          r.label, r.full_length};
}

std::string ExampleSet::origin(int64_t i) const {
  return cat((*files_)[static_cast<size_t>(record(i).file)], ": row ", record(i).row);
}

LengthStatistics ExampleSet::statistics() const {
  LengthStatistics found;
  std::vector<int32_t> lengths;
  for (int64_t i = 0; i < size(); ++i) {
    lengths.push_back(record(i).full_length);
    found.tokens += record(i).length;
    found.trained += (*this)[i].trained_tokens();
  }
  found.examples = size();
  std::sort(lengths.begin(), lengths.end());
  for (size_t q = 0; q < found.lengths.size() && !lengths.empty(); ++q) {
    const double at = LengthStatistics::kQuantiles[q] * static_cast<double>(lengths.size() - 1);
    found.lengths[q] = lengths[static_cast<size_t>(std::lround(at))];
  }
  return found;
}

uint64_t ExampleSet::hash() const {
  uint64_t hash = 0;
  for (int64_t i = 0; i < size(); ++i) {
    const Example example = (*this)[i];
    hash = mix64(hash ^ hash64(std::as_bytes(example.ids)));
    hash = mix64(hash ^ hash64(std::as_bytes(example.trained)) ^ static_cast<uint64_t>(example.label));
  }
  return hash;
}

/// Puts rows into the sets as they are read.
class ExampleBuilder {
 public:
  ExampleBuilder(ThreadPool& pool, const ExampleEncoder& encoder, const ExampleOptions& options)
      : pool_(pool), encoder_(encoder), options_(options) {}

  void read(const std::string& input, int32_t source, ExampleSet& set);
  /// Moves some of the training rows to the validation set.
  void hold_out(double fraction);
  Examples finish();

  ExampleSet& train() { return made_.train; }
  ExampleSet& validation() { return made_.validation; }

 private:
  struct FoundLabel {
    std::string name, origin;  // where it stands first
    bool trained = false;
  };
  std::string origin_of(const RawRow& row) const { return cat(files_->back(), ": row ", row.number); }
  void encode(std::vector<RawRow>& batch, int32_t source, ExampleSet& set);
  void add(const EncodedRow& row, const RawRow& raw, int32_t source, ExampleSet& set);
  int32_t label_of(const std::string& name, const RawRow& raw, bool trained);
  void name_labels();

  ThreadPool& pool_;
  const ExampleEncoder& encoder_;
  const ExampleOptions& options_;
  Examples made_;
  std::shared_ptr<ExampleSet::Tokens> tokens_ = std::make_shared<ExampleSet::Tokens>();
  std::shared_ptr<std::vector<std::string>> files_ = std::make_shared<std::vector<std::string>>();
  std::vector<FoundLabel> labels_;
  std::map<std::string, int32_t> label_numbers_;
  bool has_chats_ = false;
};

void ExampleBuilder::read(const std::string& input, int32_t source, ExampleSet& set) {
  constexpr size_t kRows = 1024, kBytes = size_t{4} << 20;
  int64_t skipped = 0;
  const RowFormat format{options_.data.input_format, options_.data.columns};
  for (const std::string& path : list_files({input}, has_rows, ".jsonl, .json, .csv or .tsv", skipped)) {
    files_->push_back(path);
    const auto bytes = open_bytes(path);
    std::vector<RawRow> batch;
    size_t held = 0;
    read_rows(*bytes, path, format, [&](RawRow&& row) {
      held += row.bytes();
      batch.push_back(std::move(row));
      if (batch.size() < kRows && held < kBytes) return;
      encode(batch, source, set);
      held = 0;
    });
    encode(batch, source, set);
  }
}

void ExampleBuilder::encode(std::vector<RawRow>& batch, int32_t source, ExampleSet& set) {
  std::vector<EncodedRow> rows(batch.size());
  std::vector<std::exception_ptr> failures(batch.size());
  pool_.run(static_cast<int64_t>(batch.size()), [&](int64_t task, int) {
    const auto i = static_cast<size_t>(task);
    try {
      const std::string origin = origin_of(batch[i]);
      rows[i] = encoder_.encode(parse_row(batch[i], origin), origin);
    } catch (...) {
      failures[i] = std::current_exception();
    }
  });
  for (size_t i = 0; i < batch.size(); ++i) {
    if (failures[i]) std::rethrow_exception(failures[i]);  // of the first row, whichever thread came first
    add(rows[i], batch[i], source, set);
  }
  batch.clear();
}

void ExampleBuilder::add(const EncodedRow& row, const RawRow& raw, int32_t source, ExampleSet& set) {
  constexpr size_t kShown = 3;
  has_chats_ = has_chats_ || (row.flaws & static_cast<uint8_t>(ExampleFlaw::chat));
  const bool trained = std::find(row.trained.begin(), row.trained.end(), 1) != row.trained.end();
  if (!trained && !options_.data.classifies()) {
    const bool empty = row.flaws & static_cast<uint8_t>(ExampleFlaw::empty);
    ExampleSet::LeftOut& left_out = empty ? set.empty_ : set.untrained_;
    if (left_out.rows.size() < kShown) left_out.rows.push_back({origin_of(raw), row.excerpt});
    ++left_out.count;
    return;
  }
  ExampleSet::Record record;
  record.offset = static_cast<int64_t>(tokens_->ids.size());
  record.row = raw.number;
  record.text_hash = row.text_hash;
  record.length = static_cast<int32_t>(row.ids.size());
  record.full_length = static_cast<int32_t>(row.full_length);
  record.file = static_cast<int32_t>(files_->size()) - 1;
  record.source = source;
  record.label = row.label ? label_of(*row.label, raw, &set == &made_.train) : -1;
  record.flaws = row.flaws;
  tokens_->ids.insert(tokens_->ids.end(), row.ids.begin(), row.ids.end());
  tokens_->trained.insert(tokens_->trained.end(), row.trained.begin(), row.trained.end());
  set.records_.push_back(record);
}

int32_t ExampleBuilder::label_of(const std::string& name, const RawRow& raw, bool trained) {
  const auto [at, fresh] = label_numbers_.try_emplace(name, static_cast<int32_t>(labels_.size()));
  if (fresh) labels_.push_back({name, origin_of(raw), false});
  FoundLabel& label = labels_[static_cast<size_t>(at->second)];
  label.trained = label.trained || trained;
  return at->second;
}

void ExampleBuilder::hold_out(double fraction) {
  auto& records = made_.train.records_;
  std::vector<uint64_t> draws;
  const uint64_t key = Rng(options_.seed).split(0).key;
  const auto draw = [&](const ExampleSet::Record& r) { return mix64(r.text_hash ^ key); };
  for (const auto& record : records) draws.push_back(draw(record));
  const auto count = static_cast<size_t>(std::ceil(fraction * static_cast<double>(records.size())));
  if (count == 0 || count >= records.size()) return;
  std::nth_element(draws.begin(), draws.begin() + static_cast<std::ptrdiff_t>(count) - 1, draws.end());
  // Equal rows have equal draws, so that they come together, if perhaps a few too many.
  const uint64_t last = draws[count - 1];
  const auto kept = std::stable_partition(records.begin(), records.end(),
                                          [&](const auto& record) { return draw(record) > last; });
  made_.validation.records_.assign(kept, records.end());
  records.erase(kept, records.end());
}

void ExampleBuilder::name_labels() {
  std::vector<std::string>& names = made_.labels;
  names = options_.data.labels;
  for (const FoundLabel& label : labels_) {
    if (!options_.data.labels.empty()) break;
    if (label.trained) names.push_back(label.name);
  }
  const auto number = [](const std::string& name) -> std::optional<int64_t> {
    const auto parsed = nlohmann::json::parse(name, nullptr, false);
    return exact_integer(parsed, INT64_MIN, INT64_MAX);
  };
  if (options_.data.labels.empty()) {
    const bool numbers =
        std::all_of(names.begin(), names.end(), [&](const auto& n) { return number(n).has_value(); });
    std::sort(names.begin(), names.end(), [&](const std::string& a, const std::string& b) {
      return numbers ? *number(a) < *number(b) : a < b;
    });
  }
  if (names.size() < 2)
    throw UsageError(cat("data.label_column: expected at least two labels, found ",
                         names.empty() ? "none" : "only " + names[0]));
  std::vector<int32_t> places;
  for (const FoundLabel& label : labels_) {
    const auto at = std::find(names.begin(), names.end(), label.name);
    if (at == names.end())
      throw Error(cat(label.origin, ": label ", label.name, " stands in no training row"));
    places.push_back(static_cast<int32_t>(at - names.begin()));
  }
  for (ExampleSet* set : {&made_.train, &made_.validation}) {
    for (auto& record : set->records_) record.label = places[static_cast<size_t>(record.label)];
  }
}

Examples ExampleBuilder::finish() {
  if (options_.data.classifies()) name_labels();
  tokens_->ids.shrink_to_fit();
  tokens_->trained.shrink_to_fit();
  for (ExampleSet* set : {&made_.train, &made_.validation}) {
    set->tokens_ = tokens_;
    set->files_ = files_;
  }
  made_.prompt_template = options_.data.prompt_template;
  if (has_chats_) {
    made_.template_source = encoder_.template_source();
    made_.template_ends_turns = encoder_.template_ends_turns();
  }
  return std::move(made_);
}

Examples load_examples(ThreadPool& pool, const Tokenizer& tokenizer, const ExampleOptions& options) {
  const ExampleConfig& data = options.data;
  data.check();
  const ExampleEncoder encoder(tokenizer, options);
  ExampleBuilder builder(pool, encoder, options);
  for (size_t i = 0; i < data.train.size(); ++i)
    builder.read(data.train[i].path, static_cast<int32_t>(i), builder.train());
  const ExampleSet& train = builder.train();
  if (train.size() + train.untrained().count + train.empty().count == 0)
    throw Error(cat(data.train[0].path, ": expected rows to train on, found none"));
  for (const std::string& input : data.validation) builder.read(input, 0, builder.validation());
  if (data.validation.empty()) builder.hold_out(data.validation_fraction);
  return builder.finish();
}

}  // namespace llmtool
