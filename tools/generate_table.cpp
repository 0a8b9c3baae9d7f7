#include "generate_table.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <set>
#include <span>
#include <utility>

#include "generate_config.h"
#include "llmtool/core/clock.h"
#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/io/files.h"

namespace llmtool {

namespace {
using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;
/// A transaction takes some hundredths of a second: rows that come faster share one.
constexpr double kHoldSeconds = 0.2;
constexpr size_t kMostHeld = 64;

std::string counted(int64_t n, const char* what) { return cat(n, " ", what, n == 1 ? "" : "s"); }

bool same_file(const std::string& a, const std::string& b) {
  std::error_code none;
  if (fs::exists(a, none) && fs::exists(b, none)) return fs::equivalent(a, b, none);
  return fs::weakly_canonical(fs::absolute(a), none) == fs::weakly_canonical(fs::absolute(b), none);
}

/// The same for rows whose records differ in nothing but the time: of what a row holds beside its input, the
/// prompt, the answer and its number of several. Read back from CSV, values are texts and none is missing.
uint64_t record_key(const Json& row) {
  static const std::set<std::string> kElse = {"index", "finish_reason", "complete",     "error",
                                              "ids",   "logprobs",      "top_logprobs", "probabilities"};
  std::map<std::string, std::string> parts;
  for (const auto& [name, value] : row.items()) {
    if (std::string text = plain_text(value); !text.empty() && !kElse.contains(name))
      parts[name] = std::move(text);
  }
  const std::string key = json_line(Json(parts));
  return hash64(std::as_bytes(std::span(key)));
}
}  // namespace

void check_files(const GenerateConfig& c) {
  const std::pair<const char*, const std::string*> read[] = {{"template", &c.prompt.template_file},
                                                             {"shots", &c.prompt.shots},
                                                             {"grammar", &c.grammar},
                                                             {"json_schema", &c.json_schema}};
  for (const auto& [key, file] : read) {
    if (!file->empty() && *file != "-" && !fs::exists(*file))
      throw UsageError(cat(key, ": ", *file, ": expected a file, found none"));
  }
  const std::string& output = c.table.output;
  if (output.empty()) return;
  if (!output.ends_with(".jsonl") && !output.ends_with(".csv"))
    throw UsageError(cat("output: expected a name that ends in .jsonl or .csv, found ", output,
                         "; without --output the rows go to standard output"));
  std::vector<std::pair<const char*, const std::string*>> others(std::begin(read), std::end(read));
  others.insert(
      others.end(),
      {{"input", &c.table.input}, {"record", &c.record}, {"prompt_cache", &c.options.prompt_cache}});
  for (const auto& [key, file] : others) {
    for (const std::string& written : {output, output + ".run.json"}) {
      if (!file->empty() && *file != "-" && same_file(written, *file))
        throw UsageError(cat("output: ", written, " would take the place of the ", key, ", ", *file,
                             ", which is the same file; give another name"));
    }
  }
}

TableRun::TableRun(const TableSettings& settings, std::shared_ptr<const PromptWriter> writer,
                   const GenerationOptions& options, bool details, bool show_prompt)
    : settings_(settings),
      rows_(RowTable::open(settings.input, settings.input_format)),
      writer_(std::move(writer)),
      options_(options),
      details_(details),
      show_prompt_(show_prompt) {}

void TableRun::open_output(const Json& made_by, bool overwrite) {
  if (settings_.output.empty()) return;
  // Its settings are written once, before the first record.
  if (const fs::path beside = settings_.output + ".run.json"; !overwrite && fs::exists(beside))
    begun_ = utc_text(std::chrono::file_clock::to_sys(fs::last_write_time(beside)));
  output_.emplace(settings_.output, made_by, overwrite);
  resume();
}

/// Walks over the answers that are there: all samples of one row behind the other, or its error alone.
void TableRun::resume() {
  int64_t whole = 0, index = 0, sample = 0;  // rows of the output that are of whole groups
  int64_t cut = 0, whole_cut = 0;            // answers that ended early
  std::vector<uint64_t> keys;                // of a group
  for (int64_t i = 0; i < output_->rows(); ++i) {
    const Json row = output_->row(i);
    const auto wrong = [&](const std::string& what) {
      throw UsageError(cat(settings_.output, ": row ", i + 1, ": expected the answer to row ", index + 1,
                           " of ", settings_.input, ", found ", what, "; --overwrite begins anew"));
    };
    if (index >= rows_.size()) wrong("one more than there are rows");
    const auto says = [&](const char* name, int64_t value) {
      return row.contains(name) && plain_text(row[name]) == std::to_string(value);
    };
    if (!says("index", index) || !says("sample", sample)) wrong("another index or sample");
    const Json input = input_of(index);
    for (const auto& [name, value] : input.items()) {
      const std::string ours = column(name, input);
      if (!row.contains(ours) || plain_text(row[ours]) != plain_text(value)) wrong(cat("another ", ours));
    }
    cut += row.contains("complete") && plain_text(row["complete"]) == "false";
    const bool failed = row.contains("finish_reason") && row["finish_reason"] == "error";
    if (!failed) keys.push_back(record_key(row));
    if (++sample < options_.num_samples && !failed) continue;
    for (const uint64_t key : std::exchange(keys, {})) ++equal_[key];
    sample = 0;
    ++index;
    whole = i + 1;
    whole_cut = cut;
  }
  output_->truncate(whole);
  first_ = next_ = index;
  if (first_ > 0) info(cat(settings_.output, ": goes on behind row ", first_, " of ", rows_.size()));
  if (whole_cut == 0) return;
  code_ = kCutShort;
  warn(cat(settings_.output, ": ", counted(whole_cut, "answer"), " there ended before ",
           whole_cut == 1 ? "it was" : "they were", " whole"));
}

bool TableRun::next(GenerationRequest& request) {
  while (next_ < rows_.size()) {
    const int64_t index = next_++;
    try {
      request = request_of(writer_->write(rows_[index], index, rows_.origin(index)));
      request.index = index;
      request.name = rows_.origin(index);
      return true;
    } catch (const UsageError&) {
      throw;
    } catch (const Error& e) {
      if (!options_.skip_failed) throw;
      pass_over(index, e.what());
    }
  }
  return false;
}

void TableRun::pass_over(int64_t index, const std::string& error) {
  warn(error);
  skipped_[index] = error;
  ++skipped_count_;
}

Generator::Source TableRun::source() {
  return [this](GenerationRequest& request) { return next(request); };
}

/// What a column of the input is called in the output.
std::string TableRun::column(const std::string& name, const Json& input) const {
  static const char* const kOurs[] = {"index",    "sample", "response",      "finish_reason",
                                      "error",    "ids",    "logprobs",      "top_logprobs",
                                      "complete", "choice", "probabilities", "tokens"};
  const bool ours = std::find(std::begin(kOurs), std::end(kOurs), name) != std::end(kOurs);
  if (!ours && (name != "prompt" || !writer_->adds())) return name;
  std::string other = "input_" + name;
  while (input.contains(other)) other = "input_" + other;
  return other;
}

/// The row; one that cannot be read has columns without values.
Json TableRun::input_of(int64_t index) {
  try {
    return rows_[index];
  } catch (const Error&) {
  }
  for (int64_t i = 0; i < rows_.size() && !blank_; ++i) {
    try {
      blank_ = rows_[i];
    } catch (const Error&) {
    }
  }
  if (!blank_) blank_ = Json::object();
  for (auto& [name, value] : blank_->items()) value = nullptr;
  return *blank_;
}

Json TableRun::row_of(int64_t index, const Json& fields) {
  Json row = Json::object();
  const Json input = input_of(index);
  for (const auto& [name, value] : input.items()) row[column(name, input)] = value;
  row.update(fields);
  return row;
}

void TableRun::write(Json row) {
  if (!recorder_) return put(row);
  held_.push_back(std::move(row));
  if (held_.size() >= kMostHeld || now() - last_written_ > kHoldSeconds) write_held();
}

/// Records first: a row that is there is not asked again.
void TableRun::write_held() {
  const std::vector<Json> rows = std::exchange(held_, {});
  if (rows.empty()) return;
  recorder_->check();             // before the old table goes
  if (output_) output_->begin();  // or a run that is killed here would not know its records again
  recorder_->write();
  for (const Json& row : rows) put(row);
  last_written_ = now();
}

void TableRun::put(const Json& row) {
  if (output_) return output_->append(row);
  print_out(json_line(row) + "\n");
}

/// Those in front of row `before`.
void TableRun::write_skipped(int64_t before) {
  while (!skipped_.empty() && skipped_.begin()->first < before) {
    GenerationResult none;
    none.index = skipped_.begin()->first;
    none.finish_reason = "error";
    none.error = skipped_.begin()->second;
    write(row_of(none.index, fields_of(none)));
    skipped_.erase(skipped_.begin());
  }
}

Json TableRun::fields_of(const GenerationResult& r) const {
  Json fields = {{"index", r.index}, {"sample", r.sample}};
  if (writer_->adds()) fields["prompt"] = r.prompt;
  if (choices_) {
    add_choice(fields, r.error.empty() ? &*choice_ : nullptr, *choices_, details_);
  } else {
    fields["response"] = r.text;
  }
  fields["finish_reason"] = r.finish_reason;
  if (options_.grammar) fields["complete"] = r.error.empty() ? Json(r.complete) : Json();
  fields["error"] = r.error.empty() ? Json() : Json(r.error);
  if (details_ && !choices_) {
    const Json all = result_row(r, options_, nullptr);
    for (const char* name : {"ids", "logprobs", "top_logprobs"}) fields[name] = all[name];
  }
  return fields;
}

void TableRun::deliver(const GenerationResult& r, Recorder* recorder) {
  const bool failed = !r.error.empty();
  write_skipped(r.index);
  Json row = row_of(r.index, fields_of(r));
  if (failed) {
    warn(r.error);
    ++skipped_count_;
  } else if (recorder) {
    recorder->hold(r, rows_[r.index], equal_[record_key(row)]++);
  }
  write(std::move(row));
  tokens_ += static_cast<int64_t>(r.ids.size());
  if (failed || r.sample + 1 == options_.num_samples) show_progress_of(r.index + 1);
}

void TableRun::count_cut(const GenerationResult& r) {
  if (r.complete) return;
  code_ = kCutShort;
  if (cut_count_++ == 0) first_cut_ = cat(rows_.origin(r.index), ": ", cause_of_cut(r, options_));
}

void TableRun::show_progress_of(int64_t rows_done) {
  if (!output_) return;
  const double spent = now() - began_;
  const auto done = static_cast<double>(rows_done - first_),
             left = static_cast<double>(rows_.size() - rows_done);
  const std::string numbers =
      cat("row ", rows_done, "/", rows_.size(), "  ", human_count(static_cast<double>(tokens_) / spent),
          " tokens/s  ", human_time(spent / done * left), " left");
  if (progress_on_terminal()) {
    constexpr int64_t kWidth = 24;
    std::string bar;
    for (int64_t i = 0; i < kWidth; ++i) bar += i < kWidth * rows_done / rows_.size() ? "█" : "░";
    show_progress(bar + " " + numbers);
  } else if (spent - last_shown_ >= 10) {
    last_shown_ = spent;
    info(numbers);
  }
}

/// Asks all rows and says how it went; the exit code.
int TableRun::go_through(const std::function<void(const Generator::Source&)>& ask, Recorder* recorder) {
  began_ = last_written_ = now();
  recorder_ = recorder;
  if (recorder && !begun_.empty())
    recorder->expect_known(begun_, static_cast<int64_t>(kMostHeld) + options_.num_samples);
  try {
    try {
      ask(show_prompt_ ? shown_prompts(source()) : source());
      write_skipped(rows_.size());
    } catch (const ReaderGone&) {
      throw;
    } catch (...) {
      write_held();
      if (output_ && output_->rows() > 0) output_->sync();
      throw;
    }
    write_held();
  } catch (const ReaderGone&) {
    return 0;
  }
  show_progress("");
  if (skipped_count_ > 0)
    warn(cat(counted(skipped_count_, "row"), skipped_count_ == 1 ? " has" : " have",
             " an error instead of an answer"));
  if (cut_count_ > 0)
    warn(cat(counted(cut_count_, "answer"), " ended before ", cut_count_ == 1 ? "it was" : "they were",
             " whole; ", cut_count_ == 1 ? "" : "the first: ", first_cut_));
  if (!output_) return code_;
  output_->sync();
  info(cat(settings_.output, ": ", counted(rows_.size(), "row"), " answered, ", rows_.size() - first_,
           " of them now in ", human_time(now() - began_)));
  return code_;
}

int TableRun::answer(Generator& generator, Recorder* recorder) {
  return go_through(
      [&](const Generator::Source& source) {
        generator.run(source, [&](const GenerationResult& r) {
          count_cut(r);
          deliver(r, recorder);
        });
      },
      recorder);
}

int TableRun::choose(ChoiceScorer& scorer, const ChoiceOptions& options, Recorder* recorder) {
  choices_ = &options;
  return go_through(
      [&](const Generator::Source& source) {
        GenerationRequest request;
        while (source(request)) {
          ChoiceTexts fitted;
          try {
            fitted = scorer.fit(request, request.index);
          } catch (const Error& e) {
            if (!options_.skip_failed) throw;
            pass_over(request.index, e.what());
            continue;
          }
          choice_ = scorer.score(request, request.index, fitted);
          deliver(as_answer(*choice_, options), recorder);
        }
      },
      recorder);
}

}  // namespace llmtool
