#pragma once
// What a mixture of experts does beside its products.

#include "llmtool/core/exec.h"

namespace llmtool {

/// scores (N, E) become probabilities; weights (N, k) those of the k largest, in descending order (of equals
/// the first), and experts (N, k; i32) whose they are. `normalized`: a row's weights are divided by their
/// sum.
void choose_experts(Exec& exec, Tensor scores, bool normalized, Tensor weights, Tensor experts);
/// dscores (N, E) from the probabilities and what choose_experts gave.
void choose_experts_backward(Exec& exec, Tensor probabilities, bool normalized, Tensor weights,
                             Tensor experts, Tensor dweights, Tensor dscores);

/// y (N, C) = the sum over j of factors[r, j] (1 where there are none) times row places[r k + j] of x.
void combine_rows(Exec& exec, Tensor x, const int64_t* places, Tensor factors, int64_t k, Tensor y);
/// y (R, C): row r = factors[r] times row rows[r] of x, or its row r where there are no `rows`.
void spread_rows(Exec& exec, Tensor x, const int64_t* rows, const float* factors, Tensor y);
/// sums (R) = the dot product of the rows of a and b (R, C).
void row_dots(Exec& exec, Tensor a, Tensor b, float* sums);
/// gate (N) becomes its sigmoid.
void sigmoid(Exec& exec, Tensor gate);

}  // namespace llmtool
