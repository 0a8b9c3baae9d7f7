// `generate --choices`: which of some texts continues a prompt best.

#include "generate_config.h"
#include "llmtool/core/error.h"

namespace llmtool {

std::vector<std::string> split_choices(const std::string& list) {
  std::vector<std::string> choices(1);
  for (size_t i = 0; i < list.size(); ++i) {
    if (list[i] == '\\' && i + 1 < list.size() && list[i + 1] == ',') {
      choices.back() += list[++i];
    } else if (list[i] == ',') {
      choices.emplace_back();
    } else {
      choices.back() += list[i];
    }
  }
  return choices;
}

void add_choice(nlohmann::ordered_json& row, const ChoiceResult* r, const ChoiceOptions& options,
                bool logprobs) {
  using Json = nlohmann::ordered_json;
  row["choice"] = r ? Json(options.choices[r->best]) : Json();
  const auto add = [&](const char* name, const auto& values) {
    Json each = Json::object();
    for (size_t i = 0; r && i < options.choices.size(); ++i) each[options.choices[i]] = values[i];
    row[name] = std::move(each);
  };
  const ChoiceResult none;
  const ChoiceResult& scored = r ? *r : none;
  add("probabilities", scored.probabilities);
  if (logprobs) add("logprobs", scored.logprobs);
  add("tokens", scored.tokens);
}

namespace {
nlohmann::ordered_json choice_row(const ChoiceResult& r, const ChoiceOptions& options) {
  nlohmann::ordered_json row = {{"index", r.index}, {"prompt", r.prompt}};
  add_choice(row, &r, options, true);
  row["finish_reason"] = "stop";
  row["timings"] = {{"seconds", r.seconds}};
  return row;
}
}  // namespace

GenerationResult as_answer(const ChoiceResult& choice, const ChoiceOptions& options) {
  GenerationResult r;
  r.index = choice.index;
  r.prompt = choice.prompt;
  r.text = options.choices[choice.best];
  r.finish_reason = "stop";
  r.seconds = choice.seconds;
  return r;
}

int run_choices(ChoiceScorer& scorer, const Prompts& prompts, const ChoiceOptions& options, bool json,
                Recorder* recorder) {
  GenerationRequest request;
  for (int64_t index = 0; prompts.source(request); ++index) {
    const ChoiceResult r = scorer.score(request, index);
    if (recorder) recorder->add(as_answer(r, options), prompts.input(index));
    const std::string line = json ? json_line(choice_row(r, options))
                                  : cat(options.choices[r.best], "\t", r.probabilities[r.best]);
    if (!write_out(line + "\n")) return 0;  // the reader has gone
  }
  return 0;
}

}  // namespace llmtool
