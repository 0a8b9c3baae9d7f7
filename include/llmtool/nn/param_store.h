#pragma once
// ParamStore: the parameters of a model, their values and gradients in flat arenas.

#include <deque>
#include <string>
#include <vector>

#include "llmtool/core/arena.h"
#include "llmtool/core/tensor.h"

namespace llmtool {

struct Param {
  std::string name;  // Hugging Face's
  Tensor value;
  Tensor grad;  // empty until allocate_gradients(), and where trainable is false
  bool trainable = true;
  bool mapped = false;                  // the value is of any type, not the store's (a file's, say), and is read only
  bool decay = true;                    // weight decay applies: matrices, not norms and biases
  bool transpose = false;               // files hold it as (cols, rows): GPT-2's Conv1D
  std::vector<int64_t> file_rows = {};  // row r is row file_rows[r] in files; empty: the same
  double initial = 0;                   // of vectors: norm weights
  double rate_scale = 1;                // factor on the learning rate
  Shape file_shape = {};                // files hold the numbers, transposed, by this shape; none: their own
};

/// Parameters are added first, then allocated once; their addresses never change.
class ParamStore {
 public:
  Param* add(std::string name, Shape shape, bool decay, bool transpose = false);
  void allocate();            // values that are not mapped, zeroed
  void allocate_gradients();  // of the trainable ones, zeroed

  std::deque<Param>& list() { return params_; }
  const std::deque<Param>& list() const { return params_; }
  Param* find(const std::string& name);
  int64_t count() const;            // elements
  int64_t trainable_count() const;  // elements

  Tensor values() const { return values_; }        // all values as one vector, in the order of list()
  Tensor gradients() const { return gradients_; }  // all gradients as one vector, trainable ones in order

 private:
  std::deque<Param> params_;
  MemoryBlock value_block_, gradient_block_;
  Tensor values_, gradients_;
};

}  // namespace llmtool
