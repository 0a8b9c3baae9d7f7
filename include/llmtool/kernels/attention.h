#pragma once
// Attention (Vaswani et al. 2017) with grouped key-value heads (Ainslie et al. 2023), tiled with a running
// maximum so that no T x T matrix exists (Dao et al. 2022).

#include <span>

#include "llmtool/core/exec.h"
#include "llmtool/kernels/elementwise.h"

namespace llmtool {

/// Keys and values that stand in place of those of every sequence's first `count` positions, a head of them
/// for each query head (prefix tuning of Falcon): rows (2, H, D), `stride` floats apart, keys before values.
struct AttentionPrefix {
  const float* rows = nullptr;
  int64_t count = 0, stride = 0;
};

/// How a score comes from the product of a query and a key, and which keys a query sees.
struct AttentionRules {
  float scale = 1;     // factor of the product: 1 / sqrt(D)
  bool causal = true;  // a query sees the keys up to its own position, else all
  int64_t window = 0;  // of those only the last so many, its own among them; 0: all
  float softcap = 0;   // the score becomes softcap * tanh(score / softcap) (Gemma 2); 0: it stays
  Tensor alibi = {};  // (H, n >= S), added to the score: a bias per head and key position (Press et al. 2022)
  AttentionPrefix prefix = {};
};

/// table (H, n) for AttentionRules::alibi: `scale` times head h's slope times the key's position. `bf16`
/// rounds the slope, the position and their product to bf16, as Falcon was trained.
void alibi_table(Exec& exec, float scale, bool bf16, Tensor table);

/// Keys and values of one sequence in a cache: rows (K, D) of any type that from_f32 writes, whole blocks to
/// a head. Position p lies in row p % slots, so that of a sequence longer than that the last positions are
/// left.
struct KvRows {
  std::byte *keys, *values;
  DType type;
  int64_t slots;  // a multiple of 128, or no position lies beyond them
  int64_t past;   // positions before those that come
};

/// Writes a position's key and value (K * D each).
void store_kv(const KvRows& cache, int64_t position, const float* key, const float* value, int64_t width);

/// Queries (N, H, D), keys and values (N + past, K, D) of sequences that lie one behind the other and do not
/// see each other. Heads lie side by side in a row; strides are floats from row to row.
struct AttentionInput {
  std::span<const int64_t> starts;  // (B + 1): sequence b is rows [starts[b], starts[b + 1])
  int64_t past;                     // keys before the queries' own: of one sequence alone, else 0
  int64_t H, K, D;
  const float* q;
  int64_t q_stride;
  const float* k;
  const float* v;
  int64_t kv_stride;
  AttentionRules rules;
  Dropout dropout;                // of the probabilities
  const KvRows* cache = nullptr;  // of one sequence, where keys and values lie there and not in k and v

  int64_t group() const { return H / K; }
  int64_t sequences() const { return static_cast<int64_t>(starts.size()) - 1; }
};

/// out (N, H, D). lse (N * H), where not null, receives log(sum(exp(scores))), which backward needs: of each
/// sequence (H, T).
void attention(Exec& exec, const AttentionInput& in, float* out, float* lse);

/// Gradients where there is no past: dq, dk and dv (strides as in `in`) are overwritten. That of the prefix
/// (rows as its own), where not null, is added to.
void attention_backward(Exec& exec, const AttentionInput& in, const float* out, const float* lse,
                        const float* dout, float* dq, float* dk, float* dv, float* dprefix = nullptr);

/// Single queries, each against its own cache: q (B, H, D), rows q_stride apart; query b stands at position
/// caches[b].past, whose key is there already; out (B, H, D). The bits of a row do not depend on the others.
void attention_decode(Exec& exec, int64_t H, int64_t K, int64_t D, const float* q, int64_t q_stride,
                      std::span<const KvRows> caches, const AttentionRules& rules, float* out);

}  // namespace llmtool
