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
/// missing. `nullable`: null, which the file may say, stands for 0.
struct IntegerKey {
  const char* name;
  int64_t ModelConfig::*field;
  int64_t min, max;
  int64_t absent;
  const char* help;
  bool nullable = false;
};
struct NumberKey {
  const char* name;
  double ModelConfig::*field;
  double min, max;
  double absent;
  const char* help;
  bool nullable = false;
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

/// For std::visit: one function object of several, a case each.
template <class... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};
template <class... Cases>
Overloaded(Cases...) -> Overloaded<Cases...>;

/// Always, never, or as a field of the config says.
using Flag = std::variant<bool, bool ModelConfig::*>;
inline bool on(const Flag& flag, const ModelConfig& c) {
  if (const bool* constant = std::get_if<bool>(&flag)) return *constant;
  return c.*std::get<bool ModelConfig::*>(flag);
}

/// How the rows of a fused query-key-value weight lie in files.
enum class QkvLayout {
  plain,   // all queries, all keys, all values
  grouped  // per key-value head its queries, its key, its value
};

enum class Positions { rope, learned, alibi, alibi_bf16 };

/// Which layers see a window of sliding_window positions, where layer_types does not say.
enum class Windows {
  none,
  all,         // unless use_sliding_window is false
  later,       // those from max_window_layers on, where use_sliding_window
  earlier,     // every other of those before max_window_layers, where use_sliding_window
  alternating  // all but every sliding_window_pattern-th
};

/// Of a layer with sparse experts, in place of its feed-forward part's.
struct ExpertNames {
  const char *router = "", *prefix = "";  // an expert's weights stand behind `prefix` and its number
  std::vector<const char*> up = {};
  const char* down = "";
  std::vector<const char*> shared_up = {};  // empty: there is no shared expert
  const char *shared_down = "", *shared_gate = "";
};

/// Tensor names; those of a layer stand behind `layers` and its number, without ".weight" and ".bias". Empty:
/// the family has none; so the names say which of the block's norms there are.
struct WeightNames {
  const char* prefix = "";  // of every name but the head's; some files leave it out
  const char *embedding = "", *positions = "", *token_types = "", *embedding_norm = "", *final_norm = "";
  const char *head = "", *head_bias = "", *head_transform = "", *head_norm = "";  // a language model's
  const char *pooler = "", *classifier = "score";
  const char *layers = "", *attention_norm = "", *attention_out_norm = "", *after_attention_norm = "";
  const char *mlp_norm = "", *mlp_out_norm = "", *after_mlp_norm = "";
  const char *q_norm = "", *k_norm = "";
  std::vector<const char*> qkv = {};  // one fused or q, k, v
  const char* out = "";
  std::vector<const char*> up = {};  // one (fused where gated), or gate and up
  const char* down = "";
  ExpertNames experts = {};
};

/// A field's value that tells one layout of a family from another.
struct Condition {
  std::variant<bool ModelConfig::*, int64_t ModelConfig::*> field;
  int64_t value;
  bool holds(const ModelConfig& c) const {
    return std::visit([&](auto member) { return static_cast<int64_t>(c.*member) == value; }, field);
  }
};

struct Architecture {
  const char* model_type = "";
  std::vector<Condition> when = {};  // of several rows with one model_type the first whose conditions hold
  const char* class_stem = "";       // in `architectures` of config.json, before what the head gives
  const char* language_model = "";   // that class, where it is not class_stem and "ForCausalLM"
  NormKind norm = NormKind::rms;
  bool norm_bias = false;
  float norm_offset = 0;      // added to every norm's weight
  bool norm_per_head = true;  // q_norm and k_norm have a head's size, not the row's
  bool causal = true;
  Positions positions = Positions::rope;
  double rope_theta = 10000, rotary_factor = 1;  // where the file does not say
  bool longrope_only = false;                    // as rotary scaling; "su" and "yarn" are older names of it
  Windows windows = Windows::none;
  bool gated = true;
  Flag parallel = false;          // attention and feed-forward part read the same x
  Flag shared_norm = false;       // and the same norm of it
  bool scaled_embedding = false;  // by sqrt(C)
  bool transposed = false;        // linear weights are stored (in, out)
  QkvLayout qkv_layout = QkvLayout::plain;
  Flag qkv_bias = false, out_bias = false, mlp_bias = false;
  bool classifier_bias = false;
  bool embedding_drops_like_residual = false;
  bool one_kv_head = false;      // whatever the config says
  bool scaled_residual = false;  // residual projections start with their deviation divided by sqrt(2 L)
  bool gelu_means_tanh = false;  // hidden_act "gelu" is a legacy spelling of its approximation
  int64_t default_mlp_numerator = 4,
          default_mlp_denominator = 1;  // intermediate size from C, where not given
  std::vector<ConfigKey> keys = {};
  std::vector<const char*> refused_if_true = {};  // keys that would change the arithmetic
  std::vector<const char*> refused_if_false = {};
  std::vector<const char*> ignored = {};  // tensors that files of the family carry, beginnings of their names
  WeightNames names = {};
};

/// The row of a family, or of the layout that the config's fields choose. Throws Error naming the families
/// there are.
const Architecture& architecture(std::string_view model_type);
const Architecture& architecture(const ModelConfig& config);
std::vector<std::string> architecture_names();
/// The class that config.json names: LlamaForCausalLM, BertModel, ...
std::string class_of(const ModelConfig& config);

/// By how much YaRN lengthens rotated vectors where the file does not say (Peng et al. 2023, eq. 22).
double yarn_magnitude(double factor, double weight = 1);

/// Whether window layers rotate by a theta of their own: the family has a key for it.
bool has_local_rope(const ModelConfig& config);

}  // namespace llmtool
