#include "generate_io.h"

#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>

#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/io/json.h"

namespace llmtool {

namespace {
using Writer = std::shared_ptr<const PromptWriter>;

/// Prompts from a stream, a line or a row each.
class PromptReader {
 public:
  PromptReader(const PromptOptions& options, Writer writer, const Tokenizer* tokenizer)
      : options_(options), writer_(std::move(writer)), tokenizer_(tokenizer) {
    if (options.file.empty() || options.file == "-") {
      std::ios::sync_with_stdio(false);  // so that in_avail() knows what is read already
      return;
    }
    file_.open(options.file, std::ios::binary);
    if (!file_) throw UsageError(cat(options.file, ": cannot be opened"));
    origin_ = options.file;
  }

  /// Whether next() need not wait for somebody who is still writing.
  bool ready() const {
    if (file_.is_open() || std::cin.rdbuf()->in_avail() != 0) return true;
    pollfd in{STDIN_FILENO, POLLIN, 0};
    return ::poll(&in, 1, 0) != 0;
  }

  bool next(GenerationRequest& request) {
    std::string line;
    std::istream& in = file_.is_open() ? static_cast<std::istream&>(file_) : std::cin;
    while (std::getline(in, line, options_.nul_separated ? '\0' : '\n')) {
      ++row_;
      const std::string where = cat(origin_, ": ", options_.format == "jsonl" ? "row " : "prompt ", row_);
      if (options_.format != "jsonl") {
        if (!options_.nul_separated && line.ends_with('\r')) line.pop_back();
        if (options_.keep_inputs) inputs_[number_] = line;
        request = request_of(writer_->write_text(line, number_++, where));
        return true;
      }
      if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
      read_row(line, where, request);
      return true;
    }
    return false;
  }

  /// Those before it are forgotten.
  nlohmann::ordered_json input(int64_t index) {
    inputs_.erase(inputs_.begin(), inputs_.lower_bound(index));
    return inputs_.at(index);
  }

 private:
  void read_row(const std::string& line, const std::string& where, GenerationRequest& request) {
    const nlohmann::ordered_json given = parse_ordered_json(line, where);
    request = {};
    if (options_.keep_inputs) inputs_[number_] = given;
    if (!given.is_object() || given.contains("prompt_ids")) {
      ++number_;
      const nlohmann::json json(given);
      const JsonObject row(json, where);
      const std::vector<int64_t> ids = row.integers("prompt_ids", 0, INT32_MAX);
      request.ids.assign(ids.begin(), ids.end());
      const std::vector<int64_t> types = row.integers("token_type_ids", 0, INT32_MAX);
      request.token_types.assign(types.begin(), types.end());
      if (tokenizer_) {
        for (const TokenId id : request.ids) {
          if (id >= tokenizer_->vocab_size()) return;  // beyond the text, but perhaps not beyond the model
        }
        request.prompt = tokenizer_->decode(request.ids);
      }
      return;
    }
    request = request_of(writer_->write(given, number_++, where));
  }

  PromptOptions options_;
  Writer writer_;
  const Tokenizer* tokenizer_;
  std::ifstream file_;
  std::string origin_ = "standard input";
  int64_t row_ = 0, number_ = 0;
  std::map<int64_t, nlohmann::ordered_json> inputs_;  // of prompts that are not answered yet
};
}  // namespace

GenerationRequest request_of(Prompt&& prompt) {
  GenerationRequest request;
  request.prompt = std::move(prompt.text);
  request.ids = std::move(prompt.ids);
  return request;
}

Prompts open_prompts(const PromptOptions& options, std::shared_ptr<const PromptWriter> writer,
                     const Tokenizer* tokenizer) {
  if (options.prompts.empty()) {
    auto reader = std::make_shared<PromptReader>(options, std::move(writer), tokenizer);
    return {[reader](GenerationRequest& request) { return reader->next(request); },
            [reader] { return reader->ready(); }, [reader](int64_t index) { return reader->input(index); }};
  }
  if (!options.file.empty()) throw UsageError("--prompt-file: expected no prompts beside it, found some");
  return {[prompts = options.prompts, writer = std::move(writer),
           next = size_t{0}](GenerationRequest& request) mutable {
            if (next == prompts.size()) return false;
            const auto number = static_cast<int64_t>(next);
            request = request_of(writer->write_text(prompts[next++], number, cat("prompt ", number + 1)));
            return true;
          },
          {},
          [prompts = options.prompts](int64_t index) { return prompts[static_cast<size_t>(index)]; }};
}

Prompts open_prompts(const PromptOptions& options, const Tokenizer* tokenizer) {
  PromptSettings settings;
  settings.field = options.field;
  return open_prompts(options, std::make_shared<const PromptWriter>(settings, tokenizer), tokenizer);
}

nlohmann::ordered_json result_row(const GenerationResult& r, const GenerationOptions& options,
                                  const Tokenizer* tokenizer) {
  nlohmann::ordered_json row = {{"index", r.index},
                                {"sample", r.sample},
                                {"prompt", r.prompt},
                                {"prompt_ids", r.prompt_ids},
                                {"text", r.text},
                                {"ids", r.ids},
                                {"finish_reason", r.finish_reason}};
  if (options.grammar) row["complete"] = r.complete;
  if (r.score) row["score"] = *r.score;
  row["logprobs"] = r.logprobs;
  nlohmann::ordered_json top = nlohmann::ordered_json::array();
  for (const auto& list : r.top_logprobs) {
    nlohmann::ordered_json entry = nlohmann::ordered_json::array();
    for (const auto& [id, logprob] : list) {
      nlohmann::ordered_json one = {{"id", id}, {"logprob", logprob}};
      if (tokenizer && id < tokenizer->vocab_size()) one["piece"] = tokenizer->piece(id);
      entry.push_back(std::move(one));
    }
    top.push_back(std::move(entry));
  }
  row["top_logprobs"] = std::move(top);
  if (options.echo) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const auto& logprob : r.prompt_logprobs) {
      list.push_back(logprob ? nlohmann::ordered_json(*logprob) : nlohmann::ordered_json(nullptr));
    }
    row["prompt_logprobs"] = std::move(list);
  }
  const auto rate = [](size_t tokens, double seconds) {
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0.0;
  };
  row["timings"] = {{"prompt_tokens", r.prompt_ids.size()},
                    {"prompt_seconds", r.prompt_seconds},
                    {"new_tokens", r.ids.size()},
                    {"seconds", r.seconds},
                    {"tokens_per_second", rate(r.ids.size(), r.seconds)},
                    {"prompt_copied", r.prompt_copied},
                    {"kv_cache_bytes", r.kv_cache_bytes}};
  if (options.look_up || options.draft_model) {
    row["timings"]["drafted"] = r.drafted;
    row["timings"]["accepted"] = r.accepted;
  }
  return row;
}

Generator::Source shown_prompts(Generator::Source source) {
  return [source = std::move(source)](GenerationRequest& request) {
    if (!source(request)) return false;
    std::cerr << request.prompt << std::endl;
    return true;
  };
}

int print_prompts(const Generator::Source& source, bool json) {
  int64_t index = 0;
  for (GenerationRequest request; source(request); ++index) {
    if (request.index >= 0) index = request.index;
    const nlohmann::ordered_json row = {
        {"index", index}, {"prompt", request.prompt}, {"prompt_ids", request.ids}};
    const std::string text = json ? json_line(row) : request.prompt;
    if (!write_out(text + "\n")) return 0;  // nobody reads on
  }
  return 0;
}

const char* cause_of_cut(const GenerationResult& r, const GenerationOptions& options) {
  if (r.finish_reason == "stop") return "a stop text cut it";
  return static_cast<int64_t>(r.ids.size()) >= options.max_new_tokens
             ? "a larger --max-new-tokens gives it room"
             : "the context is full, a shorter prompt gives it room";
}

void report_cut(const GenerationResult& r, const GenerationOptions& options, int& code) {
  if (r.complete || r.finish_reason == "stopped") return;  // who stopped it knows
  code = kCutShort;
  warn(cat("prompt ", r.index + 1, options.num_samples > 1 ? cat(", answer ", r.sample + 1) : "",
           ": the answer ended before it was whole, after ", r.ids.size(), " tokens; ",
           cause_of_cut(r, options)));
}

void print_out(const std::string& text) {
  if (!write_out(text)) throw ReaderGone();
}

bool write_out(const std::string& text) {
  return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
}

}  // namespace llmtool
