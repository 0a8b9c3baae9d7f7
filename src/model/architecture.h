#pragma once
// The table of architectures: what makes a family, its config keys and its weights' names.

#include <span>
#include <string_view>
#include <variant>
#include <vector>

#include "llmtool/kernels/norm.h"
#include "llmtool/model/model_config.h"

namespace llmtool {

/// One key of a family's config.json. `absent` is the value that the reference library takes where the key is
/// missing.
struct IntegerKey {
  const char* name;
  int64_t ModelConfig::*field;
  int64_t min, max;
  int64_t absent;
  const char* help;
};
struct NumberKey {
  const char* name;
  double ModelConfig::*field;
  double min, max;
  double absent;
  const char* help;
};
struct BooleanKey {
  const char* name;
  bool ModelConfig::*field;
  bool absent;
  const char* help;
};
struct ChoiceKey {
  const char* name;
  std::string ModelConfig::*field;
  std::vector<std::string> choices;
  const char* absent;
  const char* help;
};
using ConfigKey = std::variant<IntegerKey, NumberKey, BooleanKey, ChoiceKey>;

/// Tensor names; those of a layer stand behind `layers` and its number, without ".weight" and ".bias". Empty:
/// the family has none.
struct WeightNames {
  const char* prefix;  // of every name but the head's; some files leave it out
  const char *embedding, *positions, *final_norm, *head;
  const char *layers, *attention_norm, *mlp_norm;
  std::vector<const char*> qkv;  // one fused or q, k, v
  const char* out;
  std::vector<const char*> up;  // one, or gate and up
  const char* down;
};

struct Architecture {
  const char* model_type;
  const char* class_name;  // in `architectures` of config.json
  NormKind norm;
  bool norm_bias;
  bool learned_positions;  // else RoPE
  bool gated;
  bool transposed;       // linear weights are stored (in, out)
  bool always_biased;    // linear layers have biases whatever the config says
  bool scaled_residual;  // residual projections start with their deviation divided by sqrt(2 L)
  int64_t default_mlp_numerator, default_mlp_denominator;  // intermediate size from C, where not given
  std::vector<ConfigKey> keys;
  std::vector<const char*> refused_if_true;  // keys that would change the arithmetic
  std::vector<const char*> refused_if_false;
  WeightNames names;
};

/// Throws Error naming the families there are.
const Architecture& architecture(std::string_view model_type);
std::vector<std::string> architecture_names();

}  // namespace llmtool
