// FinetuneRun: what it saves and reports.

#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/io/files.h"
#include "llmtool/io/json.h"
#include "train/finetune_run.h"
#include "train/trained_params.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;

constexpr const char* kAdapterState = "adapter_state.safetensors";
}  // namespace

void FinetuneRun::write_model(const fs::path& folder, DType stored) const {
  save_model(folder, stored);
  // The base's own says more than a config of ours.
  const char* const settings = "generation_config.json";
  if (model_->config().generates() && fs::is_regular_file(base_->path() / settings))
    write_file(folder / settings, read_file(base_->path() / settings));
  if (end_ >= 0) {
    nlohmann::json json = read_json(folder / settings);
    json["eos_token_id"] = model_->config().stop_ids;
    write_file(folder / settings, json.dump(2) + "\n");
  }
  // Who uses the model must write conversations as it has learnt them.
  if (!config_.data.chat_template.empty())
    write_file(folder / "chat_template.jinja", data_.examples.template_source);
}

fs::path FinetuneRun::write_adapter(const fs::path& folder) const {
  adapter_->save(folder, config_.model);
  if (!config_.add_tokens.empty()) tokenizer_->save(folder);
  if (end_ >= 0)
    write_file(folder / "generation_config.json",
               nlohmann::json({{"eos_token_id", model_->config().stop_ids}}).dump(2) + "\n");
  if (classifies()) write_file(folder / "labels.json", nlohmann::json(data_.examples.labels).dump() + "\n");
  return folder;
}

void FinetuneRun::save_weights(const fs::path& checkpoint) const {
  if (!adapter_) {
    const ParamStore& params = model_->params();
    if (params.trainable_count() < params.count()) return save_trained(params, checkpoint / kTrainedWeights);
    return write_model(checkpoint / "model", DType::f32);
  }
  write_adapter(checkpoint / "adapter");
  adapter_->save_state(checkpoint / kAdapterState);
}

void FinetuneRun::load_weights_of(const fs::path& checkpoint) {
  if (!adapter_) {
    if (const fs::path trained = checkpoint / kTrainedWeights; fs::exists(trained))
      return load_trained(model_->params(), trained);
    return load_weights(*model_, checkpoint / "model");  // all are trained, or an older version wrote it
  }
  adapter_->load_state(checkpoint / kAdapterState);
}

fs::path FinetuneRun::save_result() const {
  if (adapter_) {
    for (const auto& [module, rank] : adapter_->ranks())
      info(cat("rank ", rank, " of ", config_.adapter.init_r, ": ", module));
    return write_adapter(folder_.path() / "adapter");
  }
  write_model(folder_.path() / "model", training().save_dtype == "bfloat16" ? DType::bf16 : DType::f32);
  return folder_.path() / "model";
}

void FinetuneRun::describe(RunReport& report) const {
  const auto percentage = [](double q) {
    return q == 0 ? std::string("shortest") : q == 1 ? std::string("longest") : cat(100 * q, " %");
  };
  RunReport::Table lengths{"Lengths of the examples, in tokens", {"examples"}, {}};
  for (const double q : LengthStatistics::kQuantiles) lengths.columns.push_back(percentage(q));
  for (const char* more : {"count", "tokens", "trained"}) lengths.columns.emplace_back(more);
  std::vector<std::pair<const char*, const ExampleSet*>> sets = {{"training", &data_.examples.train}};
  if (data_.examples.validation.size() > 0) sets.emplace_back("validation", &data_.examples.validation);
  for (const auto& [name, set] : sets) {
    const LengthStatistics s = set->statistics();
    std::vector<std::string> row = {name};
    for (const int64_t length : s.lengths) row.push_back(std::to_string(length));
    for (const int64_t count : {s.examples, s.tokens, s.trained}) row.push_back(std::to_string(count));
    lengths.rows.push_back(row);
  }
  report.tables.push_back(lengths);
  if (adapter_ && !adapter_->ranks().empty()) {
    RunReport::Table ranks{"Ranks that are left (AdaLoRA)", {"module", "rank"}, {}};
    for (const auto& [module, rank] : adapter_->ranks()) ranks.rows.push_back({module, std::to_string(rank)});
    report.tables.push_back(ranks);
  }
  if (!classifies()) return;
  RunReport::Table labels{"Examples of each label", {"label"}, {}};
  for (const auto& [name, set] : sets) labels.columns.emplace_back(name);
  for (size_t k = 0; k < data_.examples.labels.size(); ++k) {
    std::vector<std::string> row = {data_.examples.labels[k]};
    for (const auto& [name, set] : sets) {
      int64_t count = 0;
      for (int64_t i = 0; i < set->size(); ++i) count += (*set)[i].label == static_cast<int32_t>(k);
      row.push_back(std::to_string(count));
    }
    labels.rows.push_back(row);
  }
  report.tables.push_back(labels);
  if (confusion_) report.tables.push_back(confusion_->table());
}

}  // namespace llmtool
