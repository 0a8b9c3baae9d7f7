#include "generate_table.h"

#include <algorithm>
#include <chrono>

#include "generate_config.h"
#include "llmtool/core/error.h"
#include "llmtool/core/log.h"

namespace llmtool {

namespace {
using Json = nlohmann::ordered_json;
struct ReaderGone {};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
}  // namespace

TableRun::TableRun(const TableSettings& settings, std::shared_ptr<const PromptWriter> writer,
                   const GenerationOptions& options, int64_t room, bool details, bool show_prompt)
    : settings_(settings),
      rows_(RowTable::open(settings.input, settings.input_format)),
      writer_(std::move(writer)),
      options_(options),
      room_(room),
      details_(details),
      show_prompt_(show_prompt) {}

void TableRun::open_output(const Json& made_by, bool overwrite) {
  if (settings_.output.empty()) return;
  output_.emplace(settings_.output, made_by, overwrite);
  resume();
}

/// Walks over the answers that are there: all samples of one row behind the other, or its error alone.
void TableRun::resume() {
  int64_t whole = 0, index = 0, sample = 0;  // rows of the output that are of whole groups
  for (int64_t i = 0; i < output_->rows(); ++i) {
    const Json row = output_->row(i);
    const auto wrong = [&](const std::string& what) {
      throw UsageError(cat(settings_.output, ": row ", i + 1, ": expected the answer to row ", index + 1,
                           " of ", settings_.input, ", found ", what, "; --overwrite begins anew"));
    };
    if (index >= rows_.size()) wrong("one more than there are rows");
    const auto says = [&](const char* name, int64_t value) {
      return row.contains(name) && AnswerFile::cell(row[name]) == std::to_string(value);
    };
    if (!says("index", index) || !says("sample", sample)) wrong("another index or sample");
    const Json input = rows_[index];
    for (const auto& [name, value] : input.items()) {
      if (!row.contains(column(name)) || AnswerFile::cell(row[column(name)]) != AnswerFile::cell(value))
        wrong(cat("another ", column(name)));
    }
    const bool failed = row.contains("finish_reason") && row["finish_reason"] == "error";
    if (++sample < options_.num_samples && !failed) continue;
    sample = 0;
    ++index;
    whole = i + 1;
  }
  output_->truncate(whole);
  first_ = next_ = index;
  if (first_ > 0) info(cat(settings_.output, ": goes on behind row ", first_, " of ", rows_.size()));
}

bool TableRun::next(GenerationRequest& request) {
  while (next_ < rows_.size()) {
    const int64_t index = next_++;
    try {
      request = request_of(writer_->write(rows_[index], index, rows_.origin(index)));
      const auto length = static_cast<int64_t>(request.ids.size());
      if (room_ > 0 && length > room_)
        throw Error(cat(rows_.origin(index), ": the prompt's ", length,
                        " tokens do not fit the model's context of ", room_,
                        "; --truncate left drops the beginning"));
      request.index = index;
      return true;
    } catch (const UsageError&) {
      throw;
    } catch (const Error& e) {
      if (settings_.on_error != "skip") throw;
      warn(e.what());
      skipped_[index] = e.what();
      ++skipped_count_;
    }
  }
  return false;
}

Generator::Source TableRun::source() {
  return [this](GenerationRequest& request) { return next(request); };
}

/// What a column of the input is called in the output.
std::string TableRun::column(const std::string& name) const {
  static const char* const kOurs[] = {"index",    "sample", "response",     "finish_reason",
                                      "error",    "ids",    "logprobs",     "top_logprobs",
                                      "complete", "choice", "probabilities"};
  const bool ours = std::find(std::begin(kOurs), std::end(kOurs), name) != std::end(kOurs);
  return ours || (name == "prompt" && writer_->adds()) ? "input_" + name : name;
}

void TableRun::write(int64_t index, const Json& fields) {
  Json row = Json::object();
  const Json input = rows_[index];
  for (const auto& [name, value] : input.items()) row[column(name)] = value;
  row.update(fields);
  if (output_) return output_->append(row);
  if (!write_out(row.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n")) throw ReaderGone();
}

/// Those in front of row `before`. Their fields are the same as an answer's, for a CSV file has one heading.
void TableRun::write_skipped(int64_t before) {
  while (!skipped_.empty() && skipped_.begin()->first < before) {
    GenerationResult none;
    none.index = skipped_.begin()->first;
    none.finish_reason = "error";
    write(none.index, fields_of(none, skipped_.begin()->second));
    skipped_.erase(skipped_.begin());
  }
}

Json TableRun::fields_of(const GenerationResult& r, const std::string& error) const {
  Json fields = {{"index", r.index}, {"sample", r.sample}};
  if (writer_->adds()) fields["prompt"] = r.prompt;
  if (choices_) {
    add_choice(fields, error.empty());
  } else {
    fields["response"] = r.text;
    fields["finish_reason"] = r.finish_reason;
    if (options_.grammar) fields["complete"] = r.complete;
  }
  if (settings_.on_error == "skip") fields["error"] = error.empty() ? Json() : Json(error);
  if (details_ && !choices_) {
    const Json all = result_row(r, options_, nullptr);
    for (const char* name : {"ids", "logprobs", "top_logprobs"}) fields[name] = all[name];
  }
  return fields;
}

void TableRun::deliver(const GenerationResult& r) {
  write_skipped(r.index);
  write(r.index, fields_of(r, ""));
  tokens_ += static_cast<int64_t>(r.ids.size());
  if (r.sample + 1 == options_.num_samples) show_progress_of(r.index + 1);
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

/// The likeliest choice and what each has; nulls where the row could not be asked.
void TableRun::add_choice(Json& fields, bool scored) const {
  fields["choice"] = scored ? Json(choices_->choices[choice_->best]) : Json();
  Json probabilities = Json::object(), logprobs = Json::object();
  for (size_t i = 0; scored && i < choices_->choices.size(); ++i) {
    probabilities[choices_->choices[i]] = choice_->probabilities[i];
    logprobs[choices_->choices[i]] = choice_->logprobs[i];
  }
  fields["probabilities"] = std::move(probabilities);
  if (details_) fields["logprobs"] = std::move(logprobs);
  if (!scored) fields["finish_reason"] = "error";
}

/// Asks all rows and says how it went; the exit code.
int TableRun::go_through(const std::function<void(const Generator::Source&)>& ask) {
  began_ = now();
  try {
    ask(show_prompt_ ? shown_prompts(source()) : source());
    write_skipped(rows_.size());
  } catch (const ReaderGone&) {
    return 0;
  } catch (...) {
    if (output_) output_->sync();
    throw;
  }
  show_progress("");
  if (skipped_count_ > 0) warn(cat(skipped_count_, " rows have an error instead of an answer"));
  if (!output_) return code_;
  output_->sync();
  info(cat(settings_.output, ": ", rows_.size(), " rows answered, ", rows_.size() - first_,
           " of them now in ", human_time(now() - began_)));
  return code_;
}

int TableRun::answer(Generator& generator, Recorder* recorder) {
  return go_through([&](const Generator::Source& source) {
    generator.run(source, [&](const GenerationResult& r) {
      if (recorder) recorder->add(r, rows_[r.index]);
      report_cut(r, options_, code_);
      deliver(r);
    });
  });
}

int TableRun::choose(ChoiceScorer& scorer, const ChoiceOptions& options, Recorder* recorder) {
  choices_ = &options;
  return go_through([&](const Generator::Source& source) {
    GenerationRequest request;
    while (source(request)) {
      choice_ = scorer.score(request, request.index);
      const GenerationResult r = as_answer(*choice_, options);
      if (recorder) recorder->add(r, rows_[r.index]);
      deliver(r);
    }
  });
}

}  // namespace llmtool
