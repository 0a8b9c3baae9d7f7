#include "llmtool/model/model_config.h"

#include <algorithm>
#include <set>

#include "llmtool/core/error.h"
#include "model/architecture.h"

namespace llmtool {

namespace {
using C = ModelConfig;

/// Choices left open become the family's own.
void settle_choices(const Architecture& row, ModelConfig& c) {
  for (const ConfigKey& key : row.keys) {
    if (const auto* k = std::get_if<ChoiceKey>(&key); k && (c.*k->field).empty()) c.*k->field = k->absent;
  }
}

/// The row of a family that the user names. Throws UsageError.
const Architecture& known_row(const std::string& model_type) {
  try {
    return architecture(model_type);
  } catch (const Error& e) {
    throw UsageError(e.what());
  }
}

/// The family's spelling of a field, for messages.
std::string key_of(const Architecture& row, int64_t ModelConfig::*field) {
  for (const ConfigKey& key : row.keys) {
    if (const auto* k = std::get_if<IntegerKey>(&key); k && k->field == field) return k->name;
  }
  return "?";
}

}  // namespace

std::vector<std::string> ModelConfig::families() {
  std::vector<std::string> names = architecture_names();
  std::erase_if(names, [](const std::string& name) { return !architecture(name).causal; });
  return names;
}

ModelConfig ModelConfig::of_family(const std::string& model_type) {
  // Sizes, dropout and tying stay those of this program's defaults; what makes the family is the family's.
  constexpr double C::*kNumbers[] = {&C::rope_theta, &C::local_rope_theta, &C::partial_rotary_factor,
                                     &C::attn_logit_softcapping, &C::final_logit_softcapping};
  constexpr int64_t C::*kIntegers[] = {&C::sliding_window_pattern, &C::max_window_layers};
  constexpr bool C::*kFree[] = {&C::tie_word_embeddings};
  const auto among = [](const auto& list, auto field) {
    return std::find(std::begin(list), std::end(list), field) != std::end(list);
  };
  ModelConfig c;
  c.model_type = model_type;
  for (const ConfigKey& key : known_row(model_type).keys) {
    std::visit(Overloaded{[&](const IntegerKey& k) {
                            if (among(kIntegers, k.field)) c.*k.field = k.absent;
                          },
                          [&](const NumberKey& k) {
                            if (among(kNumbers, k.field)) c.*k.field = k.absent;
                          },
                          [&](const BooleanKey& k) {
                            if (!among(kFree, k.field)) c.*k.field = k.absent;
                          },
                          [&](const ChoiceKey& k) { c.*k.field = k.absent; }},
               key);
  }
  return c;
}

void ModelConfig::resolve() {
  const Architecture& row = architecture(*this);
  settle_choices(row, *this);
  if (row.one_kv_head) num_key_value_heads = 1;
  const auto refuse = [&](int64_t ModelConfig::*field, const std::string& what) {
    throw UsageError(cat("model.", key_of(row, field), ": ", what));
  };
  if (vocab_size < 1) refuse(&ModelConfig::vocab_size, "expected at least 1, found 0");
  if (head_dim == 0) {
    if (hidden_size % num_attention_heads != 0) {
      refuse(&ModelConfig::num_attention_heads,
             cat("expected a divisor of ", hidden_size, ", found ", num_attention_heads));
    }
    head_dim = hidden_size / num_attention_heads;
  }
  if (num_key_value_heads == 0) num_key_value_heads = num_attention_heads;
  if (query_pre_attn_scalar == 0) query_pre_attn_scalar = head_dim;  // files must say it
  if (num_attention_heads % num_key_value_heads != 0) {
    refuse(&ModelConfig::num_key_value_heads,
           cat("expected a divisor of ", num_attention_heads, ", found ", num_key_value_heads));
  }
  if (row.positions == Positions::rope && (rotary_dim() % 2 != 0 || rotary_dim() == 0)) {
    throw UsageError(cat("model.head_dim: expected an even number of dimensions to rotate (in pairs), found ",
                         rotary_dim()));
  }
  for (const auto* factors : {&rope_scaling.factors, &rope_scaling.long_factors}) {
    if (!factors->empty() && static_cast<int64_t>(factors->size()) != rotary_dim() / 2) {
      throw UsageError(cat("model.rope_scaling: expected ", rotary_dim() / 2,
                           " factors, one for each pair of dimensions, found ", factors->size()));
    }
  }
  if (rope_scaling.scaling == RopeScaling::dynamic && rotary_dim() <= 2) {
    throw UsageError("model.head_dim: expected more than 2 dimensions to rotate with dynamic scaling");
  }
  constexpr int64_t kMaxExpertsInAll = 1 << 17;  // each has a memory of its own beside its weights
  if (*row.names.experts.router && num_experts * num_hidden_layers > kMaxExpertsInAll) {
    refuse(&ModelConfig::num_experts, cat("expected at most ", kMaxExpertsInAll, " in all layers, found ",
                                          num_experts * num_hidden_layers));
  }
  if (row.embedding_drops_like_residual) embedding_dropout = residual_dropout;
  if (intermediate_size == 0) {
    intermediate_size = (hidden_size * row.default_mlp_numerator + row.default_mlp_denominator - 1) /
                        row.default_mlp_denominator;
    if (row.default_mlp_denominator != 1) intermediate_size = (intermediate_size + 31) / 32 * 32;
  }
  if (moe_intermediate_size == 0) moe_intermediate_size = intermediate_size;
  if (shared_expert_intermediate_size == 0) shared_expert_intermediate_size = intermediate_size;
  if (*row.names.experts.router && num_experts_per_tok > num_experts) {
    refuse(&ModelConfig::num_experts_per_tok,
           cat("expected at most ", num_experts, ", the number of experts, found ", num_experts_per_tok));
  }
}

bool ModelConfig::generates() const { return head == HeadKind::language_model && architecture(*this).causal; }

bool ModelConfig::has_experts(int64_t layer) const {
  return *architecture(*this).names.experts.router && (layer + 1) % decoder_sparse_step == 0 &&
         std::find(mlp_only_layers.begin(), mlp_only_layers.end(), layer) == mlp_only_layers.end();
}

int64_t ModelConfig::rotary_dim() const {
  return static_cast<int64_t>(static_cast<double>(head_dim) * partial_rotary_factor);
}

int64_t ModelConfig::context() const {
  if (rope_scaling.scaling != RopeScaling::dynamic) return max_position_embeddings;
  return static_cast<int64_t>(static_cast<double>(max_position_embeddings) *
                              std::min(rope_scaling.factor, 1024.0));
}

int64_t ModelConfig::window_of(int64_t layer) const {
  if (!layer_types.empty())
    return layer_types[static_cast<size_t>(layer)] == "full_attention" ? 0 : sliding_window;
  switch (architecture(*this).windows) {
    case Windows::none:
      return 0;
    case Windows::all:
      return use_sliding_window ? sliding_window : 0;
    case Windows::later:
      return use_sliding_window && layer >= max_window_layers ? sliding_window : 0;
    case Windows::earlier:
      return use_sliding_window && layer < max_window_layers && layer % 2 == 0 ? sliding_window : 0;
    case Windows::alternating:
      return (layer + 1) % sliding_window_pattern != 0 ? sliding_window : 0;
  }
  return 0;
}

void ModelConfig::visit(ConfigVisitor& v) {
  v.choice("model_type", model_type, families(), "family; its keys are those of its config.json");
  const auto visit_key = [&](const ConfigKey& key) {
    std::visit(Overloaded{[&](const IntegerKey& k) {
                            v.integer(k.name, this->*k.field, {k.min, k.max}, k.help);
                          },
                          [&](const NumberKey& k) {
                            v.number(k.name, this->*k.field, {k.min, k.max}, k.help);
                          },
                          [&](const BooleanKey& k) { v.boolean(k.name, this->*k.field, k.help); },
                          [&](const ChoiceKey& k) { v.choice(k.name, this->*k.field, k.choices, k.help); }},
               key);
  };
  if (!model_type.empty()) {
    settle_choices(architecture(model_type), *this);
    for (const ConfigKey& key : architecture(model_type).keys) visit_key(key);
    return;
  }
  std::set<std::string> seen;  // every family's keys, each once: for the schema
  for (const std::string& name : families()) {
    for (const ConfigKey& key : architecture(name).keys) {
      if (std::visit([&](const auto& k) { return seen.insert(k.name).second; }, key)) visit_key(key);
    }
  }
}

}  // namespace llmtool
