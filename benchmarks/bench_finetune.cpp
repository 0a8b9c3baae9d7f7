// Steps of LoRA on a Llama with random weights: forward, backward, clipping, AdamW; on random tokens or on
// rows of a file, over a base of any storage type.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "bench.h"
#include "llmtool/core/error.h"
#include "llmtool/model/model_source.h"
#include "llmtool/peft/adapter.h"
#include "llmtool/train/memory.h"
#include "llmtool/train/optimizer.h"

using namespace llmtool;
using namespace llmtool::bench;

namespace {

ModelConfig llama_134m() {
  ModelConfig c;
  c.model_type = "llama";
  c.vocab_size = 32000;
  c.hidden_size = 768;
  c.intermediate_size = 2048;
  c.num_hidden_layers = 12;
  c.num_attention_heads = 12;
  c.max_position_embeddings = 2048;
  c.tie_word_embeddings = false;
  c.resolve();
  return c;
}

/// Weights drawn when they are asked for, so that a base of few bits never is a whole one of f32.
class RandomSource : public ModelSource {
 public:
  RandomSource() : ModelSource("random", llama_134m()) {}
  const char* format() const override { return "random weights"; }
  StoredParam find(const Param& p) const override { return {p.name, {}}; }
  void check_all_used(const ParamStore&) const override {}
  void read(const Param& p, float* values) const override {
    Rng rng(std::hash<std::string>()(p.name));
    const bool vector = p.value.shape.rank == 1;
    for (int64_t i = 0; i < p.value.size(); ++i)
      values[i] = vector ? 1 : static_cast<float>(config_.initializer_range * rng.normal());
  }
};

struct Step {
  std::vector<int32_t> ids, targets;
  std::vector<int64_t> lengths;
  int64_t counted = 0;  // targets that train

  void add(const std::vector<int32_t>& row, const std::vector<int32_t>& row_targets) {
    ids.insert(ids.end(), row.begin(), row.end());
    targets.insert(targets.end(), row_targets.begin(), row_targets.end());
    lengths.push_back(static_cast<int64_t>(row.size()));
    counted += std::count_if(row_targets.begin(), row_targets.end(), [](int32_t t) { return t >= 0; });
  }
};

/// The same random tokens at every step, all of them targets.
std::vector<Step> random_steps(int64_t count, int64_t batch, int64_t length) {
  Rng rng(1);
  Step step;
  for (int64_t b = 0; b < batch; ++b) {
    std::vector<int32_t> ids(static_cast<size_t>(length)), targets(ids.size());
    for (auto* list : {&ids, &targets}) {
      for (int32_t& id : *list) id = static_cast<int32_t>(rng.below(32000));
    }
    step.add(ids, targets);
  }
  return std::vector<Step>(static_cast<size_t>(count), step);
}

/// Lines {"ids", "trained"} in their order, from the start again at the end.
std::vector<Step> row_steps(const std::string& path, int64_t count, int64_t batch) {
  std::vector<nlohmann::json> rows;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) rows.push_back(nlohmann::json::parse(line));
  if (rows.empty()) throw Error(cat(path, ": expected lines {\"ids\", \"trained\"}, found none"));
  std::vector<Step> steps(static_cast<size_t>(count));
  size_t next = 0;
  for (Step& step : steps) {
    for (int64_t b = 0; b < batch; ++b) {
      const nlohmann::json& row = rows[next++ % rows.size()];
      const auto ids = row.at("ids").get<std::vector<int32_t>>();
      const auto trained = row.at("trained").get<std::vector<int>>();
      std::vector<int32_t> targets(ids.size(), -1);
      for (size_t i = 0; i + 1 < ids.size(); ++i) {
        if (trained.at(i + 1)) targets[i] = ids[i + 1];
      }
      step.add(ids, targets);
    }
  }
  return steps;
}

LoadOptions load_options(const std::string& base) {
  LoadOptions options;
  for (const DType dtype : {DType::bf16, DType::q8_0, DType::q4_0, DType::nf4, DType::nf4_dq}) {
    if (base == dtype_name(dtype)) options.quantize = dtype;
  }
  return options;
}

class Bench {
 public:
  Bench(int threads, const std::string& base, bool checkpointing, const std::vector<Step>& steps)
      : pool_(threads),
        model_(std::make_shared<RandomSource>(), load_options(base)),
        adapter_(model_, lora()),
        checkpointing_(checkpointing) {
    adapter_.initialize(1);
    adapter_.params().allocate_gradients();
    optimizer_.emplace(ParamStores{&adapter_.params()}, AdamWConfig{});
    Arena saved, scratch;
    Exec dry{pool_, saved, scratch, Rng()};
    for (const Step& step : steps) gradients(dry, step);
    saved_.emplace(saved.peak());
    scratch_.emplace(scratch.peak());
  }

  /// The loss of a step.
  double run(const Step& step) {
    Exec exec{pool_, *saved_, *scratch_, Rng()};
    const ParamStores stores = {&adapter_.params()};
    zero_gradients(exec, stores);
    const LossSums sums = gradients(exec, step);
    optimizer_->step(exec, 1e-4, std::min(1.0, 1.0 / (gradient_norm(exec, stores) + 1e-6)));
    return sums.loss / static_cast<double>(sums.count);
  }

  /// What the report says of the model.
  nlohmann::ordered_json description() const {
    size_t bytes = 0;
    for (const Param& p : model_.params().list()) bytes += p.value.bytes();
    return {{"model", "llama-134m"},
            {"parameters", model_.params().count() + adapter_.params().count()},
            {"trained_parameters", adapter_.trained_count()},
            {"threads", pool_.size()},
            {"weights_mb", std::round(static_cast<double>(bytes) / 1e5) / 10}};
  }

 private:
  static AdapterConfig lora() {
    AdapterConfig config;
    config.peft_type = "LORA";
    config.target_modules.names = {"q_proj", "v_proj"};
    config.r = 8;
    config.lora_alpha = 16;
    return config;
  }

  LossSums gradients(Exec& exec, const Step& step) {
    return model_.train_step(exec, {step.ids, step.lengths}, step.targets,
                             {.scale = 1.0 / static_cast<double>(step.counted)}, checkpointing_);
  }

  ThreadPool pool_;
  Transformer model_;
  Adapter adapter_;
  bool checkpointing_;
  std::optional<AdamW> optimizer_;
  std::optional<Arena> saved_, scratch_;
};

/// Steps of two bases in turn, one of each at a time: what slows the machine for a while slows both. How many
/// times as fast as `other` it is, the median of the pairs.
double speed_against(Bench& bench, Bench& other, const std::vector<Step>& steps) {
  std::vector<double> ratios;
  for (size_t i = 0; i < steps.size(); ++i) {
    const double theirs = seconds([&] { other.run(steps[i]); }), ours = seconds([&] { bench.run(steps[i]); });
    if (i > 0) ratios.push_back(theirs / ours);  // the first step touches fresh memory
  }
  return median(ratios);
}

double rounded(double x, double digits) { return std::round(x * digits) / digits; }

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Steps of LoRA (r 8 on query and value) on a Llama of 134 M parameters");
  std::string base = "f32", against, rows;
  int threads = 0;
  int64_t batch = 4, length = 256, count = 5;
  bool checkpointing = false;
  app.add_option("--threads", threads);
  app.add_option("--batch-size", batch)->check(CLI::PositiveNumber);
  app.add_option("--sequence-length", length, "of random tokens")->check(CLI::PositiveNumber);
  app.add_option("--rows", rows, "lines of {\"ids\", \"trained\"} in place of random tokens");
  app.add_option("--steps", count)->check(CLI::PositiveNumber);
  const auto storages = CLI::IsMember({"f32", "bf16", "q8_0", "q4_0", "nf4", "nf4_dq"});
  app.add_option("--base", base, "how the frozen weights are kept")->check(storages);
  app.add_option("--against", against, "how those of a second model are, whose steps come in turn with these")
      ->check(storages);
  app.add_flag("--gradient-checkpointing", checkpointing);
  CLI11_PARSE(app, argc, argv);

  const std::vector<Step> steps =
      rows.empty() ? random_steps(count + 1, batch, length) : row_steps(rows, count + 1, batch);
  Bench bench(threads, base, checkpointing, steps);
  nlohmann::ordered_json report = bench.description();
  report["base"] = base;
  if (!against.empty()) {
    Bench other(threads, against, checkpointing, steps);
    report["against"] = against;
    report["times_as_fast"] = rounded(speed_against(bench, other, steps), 1e3);
    std::puts(report.dump().c_str());
    return 0;
  }
  std::vector<double> times;
  double loss = 0, total = 0, tokens = 0;
  for (size_t i = 0; i < steps.size(); ++i) {
    const double time = seconds([&] { loss = bench.run(steps[i]); });
    if (i == 0) continue;  // it touches fresh memory
    times.push_back(time);
    total += time;
    tokens += static_cast<double>(steps[i].ids.size());
  }
  const double speed = rows.empty() ? static_cast<double>(batch * length) / median(times) : tokens / total;
  report["tokens_per_second"] = rounded(speed, 10);
  report["peak_mb"] = rounded(static_cast<double>(peak_resident_bytes()) / 1e6, 10);
  report["loss"] = rounded(loss, 1e4);
  std::puts(report.dump().c_str());
}
