// Greedy answers with and without speculation, and with each type of cache, in turn: tokens a second. Without
// --model a random one of 110 M parameters, whose greedy text soon repeats itself.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <vector>

#include "bench.h"
#include "llmtool/infer/generator.h"

using namespace llmtool;
using namespace llmtool::bench;

namespace {
struct Mode {
  const char* name;
  bool look_up;
  DType type;
};

struct Run {
  double tokens_per_second;
  GenerationResult result;
};

Run generate(const Transformer& model, ThreadPool& pool, const Mode& mode, const GenerationOptions& base,
             const std::vector<TokenId>& prompt) {
  GenerationOptions options = base;
  options.look_up = mode.look_up;
  options.kv_cache_type = mode.type;
  Generator generator(model, nullptr, pool, options);
  bool given = false;
  Run run{};
  generator.run(
      [&](GenerationRequest& request) {
        request = {"", prompt};
        return !std::exchange(given, true);
      },
      [&](const GenerationResult& r) { run.result = r; });
  run.tokens_per_second = static_cast<double>(run.result.ids.size()) / run.result.seconds;
  return run;
}
}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Answers with and without speculation, and with each type of cache");
  std::string path;
  int threads = 0, rounds = 3;
  int64_t prompt_tokens = 64;
  GenerationOptions options;
  options.sampling.temperature = 0;
  options.batch_size = 1;
  app.add_option("--model", path, "Model folder or file (default: random weights)");
  app.add_option("--threads", threads);
  app.add_option("--rounds", rounds)->check(CLI::PositiveNumber);
  app.add_option("--prompt-tokens", prompt_tokens, "A prompt that says a phrase of 16 tokens again and again")
      ->check(CLI::PositiveNumber);
  app.add_option("--max-new-tokens", options.max_new_tokens)->check(CLI::PositiveNumber);
  app.add_option("--draft-tokens", options.draft_tokens)->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);

  ThreadPool pool(threads);
  std::unique_ptr<Transformer> model;
  if (path.empty()) {
    ModelConfig config;
    config.vocab_size = 32000;
    config.hidden_size = 768;
    config.num_hidden_layers = 12;
    config.num_attention_heads = 12;
    config.max_position_embeddings = 4096;
    model = std::make_unique<Transformer>(config);
    model->initialize(1);
  } else {
    model = std::make_unique<Transformer>(load_transformer(path));
  }
  std::vector<TokenId> prompt;
  for (int64_t i = 0; i < prompt_tokens; ++i)
    prompt.push_back(static_cast<TokenId>((i % 16 * 977 + 5) % model->config().vocab_size));
  std::vector<Mode> modes = {{"plain", false, DType::f32},
                             {"lookup", true, DType::f32},
                             {"plain f16", false, DType::f16},
                             {"lookup f16", true, DType::f16}};
  if (model->config().head_dim % 32 == 0) modes.push_back({"plain q8_0", false, DType::q8_0});
  std::vector<std::vector<double>> rates(modes.size());
  std::vector<GenerationResult> last(modes.size());
  for (int round = 0; round <= rounds; ++round) {
    for (size_t i = 0; i < modes.size(); ++i) {
      Run run = generate(*model, pool, modes[i], options, prompt);
      if (round > 0) rates[i].push_back(run.tokens_per_second);
      last[i] = std::move(run.result);
    }
  }
  for (size_t i = 0; i < modes.size(); ++i) {
    const GenerationResult& r = last[i];
    std::printf(
        "{\"mode\": \"%s\", \"tokens_per_second\": %.2f, \"of_plain\": %.2f, \"drafted\": %ld, \"accepted\": "
        "%ld, \"kv_cache_mb\": %.1f, \"same_ids\": %s}\n",
        modes[i].name, median(rates[i]), median(rates[i]) / median(rates[0]), static_cast<long>(r.drafted),
        static_cast<long>(r.accepted), static_cast<double>(r.kv_cache_bytes) / 1e6,
        r.ids == last[0].ids ? "true" : "false");
  }
}
