// Decoding at batch 1 as a share of the bandwidth that a plain read of the same weights reaches, in turn.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <vector>

#include "bench.h"
#include "llmtool/model/transformer.h"

using namespace llmtool;
using namespace llmtool::bench;

namespace {

/// Sums the floats with all threads, in pieces as large as the product takes: as plain as a read can be.
double read_all(ThreadPool& pool, const float* data, int64_t count) {
  constexpr int64_t kPiece = 1 << 16;
  const int64_t pieces = (count + kPiece - 1) / kPiece;
  std::vector<float> sums(static_cast<size_t>(pieces));
  pool.run(pieces, [&](int64_t piece, int) {
    constexpr int kLanes = 64;  // eight AVX2 registers: more would spill
    float lanes[kLanes] = {};
    const float* from = data + piece * kPiece;
    const int64_t n = std::min(kPiece, count - piece * kPiece) / kLanes * kLanes;
    for (int64_t i = 0; i < n; i += kLanes) {
      for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += from[i + lane];
    }
    float sum = 0;
    for (float lane : lanes) sum += lane;
    sums[static_cast<size_t>(piece)] = sum;
  });
  double total = 0;
  for (float sum : sums) total += sum;
  return total;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Decoding at batch 1 against a plain read of the weights");
  int threads = 0, rounds = 7;
  int64_t tokens = 16, hidden = 1024, layers = 12;
  app.add_option("--threads", threads);
  app.add_option("--rounds", rounds)->check(CLI::PositiveNumber);
  app.add_option("--tokens", tokens)->check(CLI::PositiveNumber);
  app.add_option("--hidden-size", hidden)->check(CLI::PositiveNumber);
  app.add_option("--layers", layers)->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);

  ThreadPool pool(threads);
  ModelConfig config;
  config.vocab_size = 32000;
  config.hidden_size = hidden;
  config.num_hidden_layers = layers;
  config.num_attention_heads = hidden / 64;
  Transformer model(config);
  model.initialize(1);
  KvCache cache(model.config(), 1024);
  KvCache* caches[] = {&cache};
  std::vector<float> logits(static_cast<size_t>(config.vocab_size));
  const Tensor row(logits.data(), Shape{1, config.vocab_size});
  int32_t id = 1;
  Arena saved_size, scratch_size;
  Exec dry{pool, saved_size, scratch_size, Rng()};
  model.decode(dry, {&id, 1}, caches, row);
  Arena saved(saved_size.peak()), scratch(scratch_size.peak());
  Exec exec{pool, saved, scratch, Rng()};

  const Tensor weights = model.params().values();
  const double bytes = static_cast<double>(weights.size()) * sizeof(float);
  std::vector<double> reads, decodes, shares;
  volatile double sink = 0;
  for (int round = 0; round <= rounds; ++round) {
    double read = 0, decode = 0;
    for (int64_t t = 0; t < tokens; ++t) {
      read += seconds([&] { sink = read_all(pool, weights.f32(), weights.size()); });
      decode += seconds([&] { model.decode(exec, {&id, 1}, caches, row); });
      id = (id * 31 + 7) % 32000;
    }
    if (round == 0) continue;
    const double scale = bytes * static_cast<double>(tokens) / 1e9;
    reads.push_back(scale / read);
    decodes.push_back(scale / decode);
    shares.push_back(read / decode);
  }
  std::printf(
      "{\"threads\": %d, \"weights_mb\": %.1f, \"tokens_per_second\": %.2f, \"decode_gb_per_s\": %.2f, "
      "\"read_gb_per_s\": %.2f, \"share_of_read\": %.3f}\n",
      pool.size(), bytes / 1e6, median(decodes) * 1e9 / bytes, median(decodes), median(reads),
      median(shares));
}
