// Training steps of a model with random weights on random tokens: forward, backward, clipping, AdamW.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <vector>

#include "bench.h"
#include "llmtool/kernels/optimizer.h"
#include "llmtool/model/transformer.h"
#include "llmtool/train/memory.h"
#include "llmtool/train/optimizer.h"

using namespace llmtool;
using namespace llmtool::bench;

namespace {

ModelConfig model_config(const std::string& name) {
  ModelConfig c;
  c.model_type = name == "llama-6m" ? "llama" : "gpt2";
  if (name == "llama-6m") {  // 6 M parameters
    c.vocab_size = 4096;
    c.hidden_size = 256;
    c.num_hidden_layers = 6;
    c.num_attention_heads = 8;
    c.intermediate_size = 704;
  } else {  // GPT-2, 124 M
    c.vocab_size = 50257;
    c.hidden_size = 768;
    c.num_hidden_layers = 12;
    c.num_attention_heads = 12;
  }
  return c;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Training steps: forward, backward, clipping, AdamW");
  std::string name = "gpt2-124m";
  int threads = 0;
  int64_t batch = 4, length = 256, steps = 5;
  app.add_option("--model", name)->check(CLI::IsMember({"gpt2-124m", "llama-6m"}));
  app.add_option("--threads", threads);
  app.add_option("--batch-size", batch)->check(CLI::PositiveNumber);
  app.add_option("--sequence-length", length)->check(CLI::PositiveNumber);
  app.add_option("--steps", steps)->check(CLI::PositiveNumber);
  bool checkpointing = false;
  app.add_flag("--gradient-checkpointing", checkpointing);
  CLI11_PARSE(app, argc, argv);

  ThreadPool pool(threads);
  Transformer model(model_config(name));
  model.initialize(1);
  model.params().allocate_gradients();
  AdamW optimizer({&model.params()}, {});
  const Rng rng(1);
  std::vector<int32_t> inputs(static_cast<size_t>(batch * length)), targets(inputs.size());
  const auto vocabulary = static_cast<uint64_t>(model.config().vocab_size);
  for (size_t i = 0; i < inputs.size(); ++i) {
    inputs[i] = static_cast<int32_t>(rng.at(2 * i) % vocabulary);
    targets[i] = static_cast<int32_t>(rng.at(2 * i + 1) % vocabulary);
  }
  const LossOptions options{1.0 / static_cast<double>(batch * length), 0};
  const auto gradients = [&](Exec& exec) {
    return model.train_step(exec, Batch::of(inputs, batch), targets, options, checkpointing);
  };
  Arena saved_size, scratch_size;
  Exec dry{pool, saved_size, scratch_size, Rng()};
  gradients(dry);
  Arena saved(saved_size.peak()), scratch(scratch_size.peak());
  Exec exec{pool, saved, scratch, Rng()};

  std::vector<double> times;
  double loss = 0;
  for (int64_t step = 0; step <= steps; ++step) {
    const double time = seconds([&] {
      fill_zero(exec, model.params().gradients());
      const LossSums sums = gradients(exec);
      loss = sums.loss / static_cast<double>(sums.count);
      optimizer.step(exec, 1e-4, std::min(1.0, 1.0 / (gradient_norm(exec, {&model.params()}) + 1e-6)));
    });
    if (step > 0) times.push_back(time);  // the first touches fresh memory
  }
  std::printf(
      "{\"model\": \"%s\", \"parameters\": %lld, \"threads\": %d, \"tokens_per_second\": %.1f, \"peak_mb\": "
      "%.1f, "
      "\"loss\": %.4f}\n",
      name.c_str(), static_cast<long long>(model.params().count()), pool.size(),
      static_cast<double>(batch * length) / median(times), static_cast<double>(peak_resident_bytes()) / 1e6,
      loss);
}
