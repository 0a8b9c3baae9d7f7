// Matrix products of a GPT-2 124M step as a share of the machine's peak of fused multiply-adds. The peak is
// measured on as many threads and beside every product, because the clock of a shared machine wanders.

#include <CLI/CLI.hpp>
#include <cstdio>

#include "bench.h"
#include "llmtool/core/exec.h"
#include "llmtool/core/rng.h"
#include "llmtool/kernels/matmul.h"

namespace {

using namespace llmtool;
using namespace llmtool::bench;

#ifdef __AVX512F__
constexpr int kVectorBytes = 64;
#else
constexpr int kVectorBytes = 32;
#endif
using Vector = float __attribute__((vector_size(kVectorBytes)));

/// Floating-point operations of independent multiply-add chains that stay in registers.
double run_chains(long iterations) {
  constexpr int kChains = 12;
  Vector sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = Vector{} + static_cast<float>(i);
  Vector x = Vector{} + 1.0000001f, y = Vector{} + 1e-9f;
  asm volatile("" : "+x"(x), "+x"(y));  // no constants to fold
  for (long n = 0; n < iterations; ++n) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = sums[i] * x + y;
  }
  for (int i = 0; i < kChains; ++i) asm volatile("" : : "x"(sums[i]));
  return 2.0 * static_cast<double>(iterations) * kChains * static_cast<double>(kVectorBytes / sizeof(float));
}

/// GFLOP/s of all threads together.
double peak(ThreadPool& pool) {
  std::vector<double> work(static_cast<size_t>(pool.size()));
  const double time = seconds([&] {
    pool.run(pool.size(), [&](int64_t i, int) { work[static_cast<size_t>(i)] = run_chains(1000000); });
  });
  double sum = 0;
  for (double w : work) sum += w;
  return sum / time / 1e9;
}

struct Case {
  const char* name;
  int64_t M, N, K;
  bool a_transposed, b_transposed;  // as they lie in memory
};

constexpr Case kCases[] = {
    {"forward (512x768)(768x768)", 512, 768, 768, false, true},
    {"forward (512x768)(768x3072)", 512, 3072, 768, false, true},
    {"forward (512x768)(768x50257)", 512, 50257, 768, false, true},
    {"input gradient (512x768)(768x768)", 512, 768, 768, false, false},
    {"input gradient (512x3072)(3072x768)", 512, 768, 3072, false, false},
    {"input gradient (512x50257)(50257x768)", 512, 768, 50257, false, false},
    {"weight gradient (768x512)(512x768)", 768, 768, 512, true, false},
    {"weight gradient (3072x512)(512x768)", 3072, 768, 512, true, false},
    {"weight gradient (50257x512)(512x768)", 50257, 768, 512, true, false},
};

void measure(const Case& c, Exec& exec, int repeats) {
  std::vector<float> a(static_cast<size_t>(c.M * c.K)), b(static_cast<size_t>(c.K * c.N)),
      out(static_cast<size_t>(c.M * c.N));
  const Rng rng(1);
  for (size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(rng.at(i) >> 40) * 0x1p-24f - 0.5f;
  for (size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(rng.at(i) >> 40) * 0x1p-24f - 0.5f;
  const MatrixView av = c.a_transposed ? MatrixView{a.data(), 1, c.M} : MatrixView{a.data(), c.K, 1};
  const MatrixView bv = c.b_transposed ? MatrixView{b.data(), 1, c.K} : MatrixView{b.data(), c.N, 1};
  const double work = 2e-9 * static_cast<double>(c.M) * static_cast<double>(c.N) * static_cast<double>(c.K);
  std::vector<double> shares, speeds;
  for (int r = 0; r <= repeats; ++r) {
    const double before = peak(exec.pool);
    const double time = seconds([&] { matmul(exec, c.M, c.N, c.K, av, bv, out.data(), c.N); });
    const double top = std::max(before, peak(exec.pool));
    if (r == 0) continue;  // the first touches fresh memory
    speeds.push_back(work / time);
    shares.push_back(work / time / top);
  }
  std::printf(
      "{\"threads\": %d, \"product\": \"%s\", \"gflops\": %.1f, \"share_of_peak\": %.3f, \"best\": %.3f}\n",
      exec.pool.size(), c.name, median(speeds), median(shares),
      *std::max_element(shares.begin(), shares.end()));
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Matrix products as a share of the peak of fused multiply-adds");
  int threads = 1, repeats = 15;
  app.add_option("--threads", threads)->check(CLI::PositiveNumber);
  app.add_option("--repeats", repeats)->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  ThreadPool pool(threads);
  Arena saved(64), scratch(size_t{512} << 20);
  Exec exec{pool, saved, scratch, Rng(1)};
  for (const Case& c : kCases) measure(c, exec, repeats);
}
