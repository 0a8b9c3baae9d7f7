#pragma once
// Experts: a feed-forward part of many, of which each position uses a few (Shazeer et al. 2017; Jiang et al.
// 2024).

#include <vector>

#include "llmtool/kernels/activation.h"
#include "llmtool/nn/linear.h"

namespace llmtool {

/// A gated feed-forward part: down(f(gate) * up).
struct GatedMlp {
  Linear up;  // gate and up side by side
  Linear down;

  int64_t width() const { return down.in(); }
};

/// Which experts a batch's rows go to: k of them each.
struct Routing {
  std::vector<int64_t> starts;  // (E + 1): expert e has places [starts[e], starts[e + 1])
  std::vector<int64_t> rows;    // (N k): the row at each place
  std::vector<int64_t> places;  // (N k): where choice j of row r went, at r k + j
};

/// What backward needs of a forward pass.
struct ExpertsSaved {
  Routing routing;
  Tensor probabilities;  // (N, E): the router's
  Tensor weights;        // (N, k): of the chosen, the likeliest first
  Tensor experts;        // (N, k; i32): the chosen
  Tensor x;              // (N k, C): the rows that each expert got
  Tensor h;              // (N k, 2 F): before the activation
  Tensor shared_h;       // (N, 2 F of the shared expert)
  Tensor shared_gate;    // (N, 1): behind the sigmoid
  Tensor shared_y;       // (N, C): before the gate
};

class Experts {
 public:
  int64_t chosen = 0;      // k
  bool normalized = true;  // the weights of the chosen sum to 1
  Activation activation = Activation::silu;
  Linear router;  // E scores
  std::vector<GatedMlp> experts;
  GatedMlp shared;     // whom every position uses, too, where its width is not 0
  Linear shared_gate;  // by how much

  explicit operator bool() const { return !experts.empty(); }
  bool trains() const;  // whether some parameter has a gradient
  /// x (N, C), y (N, C); with an empty y only `saved` is made. What backward needs comes from `kept`.
  void forward(Exec& exec, Arena& kept, Tensor x, Tensor y, ExpertsSaved& saved,
               const LinearMode& mode) const;
  /// dx (N, C) is overwritten.
  void backward(Exec& exec, Tensor x, const ExpertsSaved& saved, Tensor dy, Tensor dx);

 private:
  void route(Exec& exec, Arena& kept, Tensor x, ExpertsSaved& saved, const LinearMode& mode) const;
  void router_backward(Exec& exec, Tensor x, const ExpertsSaved& saved, Tensor dweights, Tensor dx);
  void shared_forward(Exec& exec, Arena& kept, Tensor x, Tensor y, ExpertsSaved& saved,
                      const LinearMode& mode) const;
  void shared_backward(Exec& exec, Tensor x, const ExpertsSaved& saved, Tensor dy, Tensor dx);
  template <class Call>
  void for_experts(Exec& exec, const Routing& routing, int64_t places, Call call) const;
};

}  // namespace llmtool
