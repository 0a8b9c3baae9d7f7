#pragma once
// Block: attention and a feed-forward part, each behind a norm and beside a residual path.

#include <functional>
#include <span>

#include "llmtool/kernels/activation.h"
#include "llmtool/kernels/elementwise.h"
#include "llmtool/kernels/norm.h"
#include "llmtool/kernels/rope.h"
#include "llmtool/nn/linear.h"

namespace llmtool {

/// A norm's parameters; bias may be nullptr.
struct Norm {
  NormKind kind = NormKind::rms;
  double eps = 1e-5;
  Param* weight = nullptr;
  Param* bias = nullptr;

  NormWeights weights() const { return {kind, eps, weight->value, bias ? bias->value : Tensor()}; }
  void forward(Exec& exec, Tensor x, Tensor y) const { norm(exec, weights(), x, y); }
  /// Adds to dx.
  void backward(Exec& exec, Tensor x, Tensor dy, Tensor dx) {
    norm_backward(exec, weights(), x, dy, dx, weight->grad, bias ? bias->grad : Tensor());
  }
};

/// The keys and values that one layer keeps of one sequence: (capacity, K * D) each, `past` rows filled.
struct KvRows {
  float* keys;
  float* values;
  int64_t past;
};

/// Called with the name of each intermediate result and its value.
using Observer = std::function<void(const char* name, Tensor value)>;

/// B sequences of T positions.
struct Sequences {
  int64_t B, T;
  const int32_t* positions;  // (B * T)
  Tensor rope = {};          // table (n, D) of rope_table, where the family rotates; row r % n for row r
  std::span<const KvRows> past = {};  // one per sequence when generating, else empty; B == 1 or T == 1 then
  bool training = false;              // dropout is on
  const Observer* observer = nullptr;
};

/// What backward needs of a forward pass.
struct BlockSaved {
  Tensor x;          // (B, T, C): the block's input
  Tensor qkv;        // (B, T, (H + 2 K) D): after rotation
  Tensor attention;  // (B, T, H D)
  Tensor lse;        // (B, H, T)
  Tensor r;          // (B, T, C): after the attention's residual
  Tensor h;          // (B, T, F or 2 F): before the activation
};

class Block {
 public:
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  double attention_dropout = 0, residual_dropout = 0;
  Activation activation = Activation::silu;
  bool gated = true;
  Norm attention_norm, mlp_norm;
  Linear qkv, out, up, down;  // `up` is gate and up side by side where gated

  /// x, y (B, T, C). With saved == nullptr nothing is kept; with an empty y only `saved` is made, for less
  /// than the whole price. `rng` is the layer's own stream for dropout.
  void forward(Exec& exec, const Sequences& s, const Rng& rng, Tensor x, Tensor y, BlockSaved* saved) const;
  /// d (B, T, C) holds the gradient with respect to y and then that with respect to x.
  void backward(Exec& exec, const Sequences& s, const Rng& rng, const BlockSaved& saved, Tensor d);

 private:
  void attend(Exec& exec, const Sequences& s, const Rng& rng, Tensor qkv_rows, Tensor result,
              Tensor lse) const;
  void mlp_backward(Exec& exec, const Sequences& s, const Rng& rng, const BlockSaved& saved, Tensor d);
  void attention_part_backward(Exec& exec, const Sequences& s, const Rng& rng, const BlockSaved& saved,
                               Tensor d);
  int64_t activated() const { return gated ? up.out() / 2 : up.out(); }
};

}  // namespace llmtool
