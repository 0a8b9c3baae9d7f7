// ModelConfig: config.json, in and out.

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "llmtool/core/error.h"
#include "llmtool/io/json.h"
#include "llmtool/model/model_config.h"
#include "model/architecture.h"

namespace llmtool {

namespace {
void read_key(const JsonObject& json, const ConfigKey& key, ModelConfig& c) {
  const auto is_null = [&](const auto& k) {
    return k.nullable && json.json().contains(k.name) && !json.has(k.name);
  };
  std::visit(
      Overloaded{[&](const IntegerKey& k) {
                   c.*k.field = is_null(k) ? 0 : json.integer(k.name, k.min, k.max, k.absent);
                 },
                 [&](const NumberKey& k) {
                   c.*k.field = is_null(k) ? 0 : json.number(k.name, k.absent);
                   if (c.*k.field < k.min || c.*k.field > k.max) {
                     throw Error(cat(json.origin(), ": ", k.name, ": expected a number from ", k.min, " to ",
                                     k.max, ", found ", c.*k.field));
                   }
                 },
                 [&](const BooleanKey& k) { c.*k.field = json.boolean(k.name, k.absent); },
                 [&](const ChoiceKey& k) {
                   c.*k.field = json.string(k.name, k.absent);
                   for (const std::string& choice : k.choices) {
                     if (choice == c.*k.field) return;
                   }
                   throw Error(cat(json.origin(), ": ", k.name, ": \"", c.*k.field, "\" is not supported"));
                 }},
      key);
}

constexpr std::pair<const char*, RopeScaling> kScalings[] = {
    {"default", RopeScaling::none},  {"linear", RopeScaling::linear}, {"dynamic", RopeScaling::dynamic},
    {"llama3", RopeScaling::llama3}, {"yarn", RopeScaling::yarn},     {"longrope", RopeScaling::longrope}};

double positive(const JsonObject& json, const char* key, double fallback) {
  const double value = json.number(key, fallback);
  if (!(value > 0 && std::isfinite(value)))
    throw Error(cat(json.origin(), ": ", key, ": expected a number above 0, found ", value));
  return value;
}

std::vector<float> positive_list(const JsonObject& json, const char* key) {
  if (!json.has(key))
    throw Error(cat(json.origin(), ": ", key, ": expected a list of numbers, found nothing"));
  const nlohmann::json& list = json.json().at(key);
  std::vector<float> values;
  for (const nlohmann::json& value : list.is_array() ? list : nlohmann::json::array()) {
    if (value.is_number()) values.push_back(value.get<float>());
  }
  const bool all = list.is_array() && values.size() == list.size() && !values.empty();
  if (!all || std::any_of(values.begin(), values.end(), [](float v) { return !(v > 1e-6f && v < 1e6f); }))
    throw Error(cat(json.origin(), ": ", key, ": expected a list of numbers between 1e-6 and 1e6, found ",
                    shown(list)));
  return values;
}

/// The trained context stands beside Phi-3's settings, and is that of the family where it does not; elsewhere
/// it stands in them.
void read_longrope(const JsonObject& json, const JsonObject& config, ModelConfig& c) {
  constexpr const char* kOriginal = "original_max_position_embeddings";
  RopeSettings& s = c.rope_scaling;
  const auto context = static_cast<double>(c.max_position_embeddings);
  const bool outside = architecture(c).longrope_only || config.has(kOriginal);
  s.original_positions = outside ? positive(config, kOriginal, 4096) : positive(json, kOriginal, context);
  if (!(s.original_positions >= 2 && s.original_positions <= 1 << 24))
    throw Error(cat(json.origin(), ": ", kOriginal, ": expected 2 to 2^24, found ", s.original_positions));
  s.factor = positive(json, "factor", context / s.original_positions);
  s.factors = positive_list(json, "short_factor");
  s.long_factors = positive_list(json, "long_factor");
  s.attention_factor =
      positive(json, "attention_factor",
               s.factor <= 1 ? 1 : std::sqrt(1 + std::log(s.factor) / std::log(s.original_positions)));
}

/// The longer context's settings, with the defaults of the reference library.
void read_scaling(const JsonObject& json, const JsonObject& config, ModelConfig& c) {
  RopeSettings& s = c.rope_scaling;
  std::string type = json.string("rope_type", json.string("type", "default"));
  const bool longrope_only = architecture(c).longrope_only;
  if (longrope_only && (type == "su" || type == "yarn")) type = "longrope";
  const auto* const known = std::find_if(std::begin(kScalings), std::end(kScalings),
                                         [&](const auto& scaling) { return type == scaling.first; });
  const bool other = longrope_only && type != "default" && type != "longrope";
  if (known == std::end(kScalings) || other)
    throw Error(cat(json.origin(), ": rope_type \"", type, "\" is not supported"));
  s.scaling = known->second;
  if (s.scaling == RopeScaling::none) return;
  if (s.scaling == RopeScaling::longrope) return read_longrope(json, config, c);
  const auto context = static_cast<double>(c.max_position_embeddings);
  const bool says_original = json.has("original_max_position_embeddings");
  s.original_positions = s.scaling == RopeScaling::dynamic
                             ? context
                             : positive(json, "original_max_position_embeddings", context);
  if (s.scaling == RopeScaling::yarn && says_original && !json.has("factor")) {
    s.factor = context / s.original_positions;
  } else {
    s.factor = json.number("factor");
  }
  if (!(s.factor >= 1)) throw Error(cat(json.origin(), ": factor: expected at least 1, found ", s.factor));
  if (s.scaling == RopeScaling::llama3) {
    s.low_freq_factor = positive(json, "low_freq_factor", 1);
    s.high_freq_factor = positive(json, "high_freq_factor", 4);
    if (s.high_freq_factor <= s.low_freq_factor) {
      throw Error(cat(json.origin(), ": high_freq_factor: expected above low_freq_factor, found ",
                      s.high_freq_factor));
    }
  }
  if (s.scaling != RopeScaling::yarn) return;
  s.beta_fast = positive(json, "beta_fast", 32);
  s.beta_slow = positive(json, "beta_slow", 1);
  s.truncate = json.boolean("truncate", true);
  const double a = json.number("mscale", 0), b = json.number("mscale_all_dim", 0);
  s.attention_factor = positive(json, "attention_factor",
                                a != 0 && b != 0 ? yarn_magnitude(s.factor, a) / yarn_magnitude(s.factor, b)
                                                 : yarn_magnitude(s.factor));
}

/// Rotary settings stand at the top (rope_theta, rope_scaling) or, in newer files, in rope_parameters, there
/// one for each kind of layer where these differ.
void read_rope(const JsonObject& json, const Architecture& row, ModelConfig& c) {
  // Spelt as Llama does, or as the family's own keys, which are read already.
  c.rope_theta = json.number("rope_theta", c.rope_theta);
  c.partial_rotary_factor = json.number("partial_rotary_factor", c.partial_rotary_factor);
  const auto read = [&](const nlohmann::json& value, const std::string& origin) {
    const JsonObject rope(value, origin);
    read_scaling(rope, json, c);
    c.rope_theta = rope.number("rope_theta", c.rope_theta);
    c.partial_rotary_factor = rope.number("partial_rotary_factor", c.partial_rotary_factor);
  };
  for (const char* name : {"rope_scaling", "rope_parameters"}) {
    if (!json.has(name)) continue;
    const nlohmann::json& value = json.json().at(name);
    const std::string origin = json.origin() + ": " + name;
    const JsonObject rope(value, origin);
    if (rope.has("sliding_attention")) {
      const JsonObject local(value.at("sliding_attention"), origin + ": sliding_attention");
      if (local.string("rope_type", "default") != "default")
        throw Error(cat(local.origin(), ": rope_type: expected \"default\""));
      c.local_rope_theta = local.number("rope_theta", c.local_rope_theta);
    }
    if (rope.has("full_attention")) {
      read(value.at("full_attention"), origin + ": full_attention");
    } else if (!rope.has("sliding_attention")) {
      read(value, origin);
    }
  }
  if (!(c.rope_theta >= 1 && c.local_rope_theta >= 1))
    throw Error(cat(json.origin(), ": rope_theta: expected at least 1"));
  if (!(c.partial_rotary_factor > 0 && c.partial_rotary_factor <= 1))
    throw Error(cat(json.origin(), ": partial_rotary_factor: expected above 0 and at most 1, found ",
                    c.partial_rotary_factor));
  if (row.positions != Positions::rope) c.rope_scaling = {};
}

void read_layer_types(const JsonObject& json, ModelConfig& c) {
  if (!json.has("layer_types")) return;
  const nlohmann::json& list = json.json().at("layer_types");
  const auto refuse = [&](const nlohmann::json& found) {
    throw Error(cat(json.origin(), ": layer_types: expected ", c.num_hidden_layers,
                    " of \"sliding_attention\" and \"full_attention\", found ", shown(found)));
  };
  if (!list.is_array() || static_cast<int64_t>(list.size()) != c.num_hidden_layers) refuse(list);
  for (const nlohmann::json& type : list) {
    if (type != "sliding_attention" && type != "full_attention") refuse(type);
    c.layer_types.push_back(type.get<std::string>());
  }
}

void read_experts(const JsonObject& json, ModelConfig& c) {
  constexpr int64_t kMaxLayer = 1 << 20;
  // Both names are about for the same.
  for (const char* name : {"num_local_experts", "num_experts"})
    c.num_experts = json.integer(name, 1, 4096, c.num_experts);
  std::set<int64_t> dense;
  for (const int64_t layer : json.integers("mlp_only_layers", -kMaxLayer, kMaxLayer)) {
    if (layer >= 0 && layer < c.num_hidden_layers) dense.insert(layer);
  }
  if (c.model_type != "mixtral") c.mlp_only_layers.assign(dense.begin(), dense.end());
}

/// What stands on top, by the class that the file names, and what a classification head needs.
void read_head(const JsonObject& json, const Architecture& row, ModelConfig& c) {
  std::string name;
  if (json.has("architectures")) {
    const nlohmann::json& list = json.json().at("architectures");
    if (!list.is_array() || (!list.empty() && !list[0].is_string()))
      throw Error(cat(json.origin(), ": architectures: expected a class's name, found ", shown(list)));
    if (!list.empty()) name = list[0].get<std::string>();
  }
  // A family's decoders go by several names, its other classes by one.
  const bool decoder = row.causal && (name.ends_with("ForCausalLM") || name.ends_with("LMHeadModel"));
  const bool masked = !row.causal && (name == class_of(c) || name == "BertForPreTraining");
  if (name == cat(row.class_stem, "ForSequenceClassification")) {
    c.head = HeadKind::classification;
  } else if (name == cat(row.class_stem, "Model")) {
    c.head = HeadKind::none;
  } else if (!name.empty() && !decoder && !masked) {
    throw Error(cat(json.origin(), ": architectures: ", name, " is not supported"));
  }
  c.pooler = *row.names.pooler != '\0' && c.head == HeadKind::classification;  // else as the weights say
  if (c.head != HeadKind::classification) return;
  constexpr int64_t kMaxLabels = 1 << 20;
  if (json.has("id2label")) {
    const JsonObject names(json.json().at("id2label"), json.origin() + ": id2label");
    const auto n = static_cast<int64_t>(names.json().size());
    if (n < 1 || n > kMaxLabels)
      throw Error(cat(names.origin(), ": expected 1 to ", kMaxLabels, " labels, found ", n));
    std::set<std::string> seen;
    for (int64_t id = 0; id < n; ++id) {
      const std::string key = std::to_string(id);
      const auto value = names.json().find(key);
      const bool scalar = value != names.json().end() && (value->is_number() || value->is_boolean());
      c.labels.push_back(scalar ? value->dump() : names.string(key.c_str()));
      if (!seen.insert(c.labels.back()).second)
        throw Error(
            cat(names.origin(), ": ", key, ": \"", c.labels.back(), "\" stands for another label, too"));
    }
  } else {
    const int64_t n = json.integer("num_labels", 1, kMaxLabels, 2);
    for (int64_t id = 0; id < n; ++id) c.labels.push_back(cat("LABEL_", id));
  }
  c.problem_type = json.string("problem_type", "");
  for (const char* known : {"", "regression", "single_label_classification", "multi_label_classification"}) {
    if (c.problem_type != known) continue;
    if (!row.causal) c.classifier_dropout = json.number("classifier_dropout", c.residual_dropout);
    if (c.classifier_dropout >= 0 && c.classifier_dropout <= 0.99) return;
    throw Error(cat(json.origin(), ": classifier_dropout: expected 0 to 0.99, found ", c.classifier_dropout));
  }
  throw Error(cat(json.origin(), ": problem_type: \"", c.problem_type, "\" is not supported"));
}

void read_token_ids(const JsonObject& json, ModelConfig& c) {
  const int64_t last = std::numeric_limits<int32_t>::max();
  // Some files write -1 for "none".
  const auto optional_id = [&](const char* key) -> std::optional<int64_t> {
    const std::vector<int64_t> ids = json.integers(key, -1, last);
    return ids.empty() || ids[0] < 0 ? std::nullopt : std::optional(ids[0]);
  };
  if (const auto id = optional_id("bos_token_id")) c.bos_token_id = id;
  if (const auto id = optional_id("pad_token_id")) c.pad_token_id = id;
  if (const auto id = optional_id("eos_token_id")) {
    c.stop_ids.clear();
    for (const int64_t stop : json.integers("eos_token_id", -1, last)) {
      if (stop >= 0) c.stop_ids.push_back(stop);
    }
    // Of several stop ids the one that config.json names stays the end of a text.
    const bool known = c.eos_token_id &&
                       std::find(c.stop_ids.begin(), c.stop_ids.end(), *c.eos_token_id) != c.stop_ids.end();
    if (!known) c.eos_token_id = id;
  }
}
}  // namespace

ModelConfig read_model_config(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "config.json";
  const nlohmann::json parsed = read_json(file);
  const JsonObject json(parsed, file.string());
  ModelConfig c;
  c.model_type = json.string("model_type");
  try {
    for (const ConfigKey& key : architecture(c.model_type).keys) read_key(json, key, c);
    const Architecture& row = architecture(c);
    if (row.gelu_means_tanh && c.hidden_act == "gelu") c.hidden_act = "gelu_pytorch_tanh";
    for (const char* key : row.refused_if_true) {
      if (json.boolean(key, false)) throw Error(cat(key, ": true is not supported"));
    }
    for (const char* key : row.refused_if_false) {
      if (!json.boolean(key, true)) throw Error(cat(key, ": false is not supported"));
    }
    if (row.positions == Positions::rope) read_rope(json, row, c);
    if (row.windows != Windows::none) read_layer_types(json, c);
    if (*row.names.experts.router) read_experts(json, c);
    read_head(json, row, c);
    read_token_ids(json, c);
    c.resolve();
  } catch (const Error& e) {
    const std::string message = e.what();
    throw Error(message.starts_with(file.string()) ? message : cat(file.string(), ": ", message));
  }
  if (const auto generation = folder / "generation_config.json"; std::filesystem::exists(generation)) {
    const nlohmann::json more = read_json(generation);
    read_token_ids(JsonObject(more, generation.string()), c);
  }
  return c;
}

namespace {
void write_rope(const ModelConfig& config, nlohmann::ordered_json& json) {
  const RopeSettings& s = config.rope_scaling;
  nlohmann::ordered_json rope;
  for (const auto& [name, scaling] : kScalings) {
    if (scaling == s.scaling) rope["rope_type"] = name;
  }
  if (s.scaling != RopeScaling::none) rope["factor"] = s.factor;
  if (s.scaling == RopeScaling::llama3 || s.scaling == RopeScaling::yarn)
    rope["original_max_position_embeddings"] = static_cast<int64_t>(s.original_positions);
  if (s.scaling == RopeScaling::llama3) {
    rope["low_freq_factor"] = s.low_freq_factor;
    rope["high_freq_factor"] = s.high_freq_factor;
  }
  if (s.scaling == RopeScaling::yarn) {
    rope["beta_fast"] = s.beta_fast;
    rope["beta_slow"] = s.beta_slow;
    rope["attention_factor"] = s.attention_factor;
    rope["truncate"] = s.truncate;
  }
  if (s.scaling == RopeScaling::longrope) {
    rope["original_max_position_embeddings"] = json["original_max_position_embeddings"] =
        static_cast<int64_t>(s.original_positions);
    rope["short_factor"] = s.factors;
    rope["long_factor"] = s.long_factors;
    rope["attention_factor"] = s.attention_factor;
  }
  // What transformers 4 reads, then what 5 does.
  json["rope_scaling"] = s.scaling == RopeScaling::none ? nlohmann::ordered_json(nullptr) : rope;
  rope["rope_theta"] = config.rope_theta;
  if (config.partial_rotary_factor != 1) rope["partial_rotary_factor"] = config.partial_rotary_factor;
  if (has_local_rope(config)) {
    json["rope_parameters"] = {
        {"full_attention", rope},
        {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", config.local_rope_theta}}}};
  } else {
    json["rope_parameters"] = rope;
  }
}

void write_labels(const ModelConfig& config, nlohmann::ordered_json& json) {
  json["id2label"] = json["label2id"] = nlohmann::ordered_json::object();
  for (size_t id = 0; id < config.labels.size(); ++id) {
    json["id2label"][std::to_string(id)] = config.labels[id];
    json["label2id"][config.labels[id]] = id;
  }
  if (!config.problem_type.empty()) json["problem_type"] = config.problem_type;
  if (!architecture(config).causal) json["classifier_dropout"] = config.classifier_dropout;
}
}  // namespace

nlohmann::ordered_json model_config_json(const ModelConfig& config, const std::string& dtype) {
  const Architecture& row = architecture(config);
  nlohmann::ordered_json json;
  json["architectures"] = {class_of(config)};
  json["model_type"] = config.model_type;
  for (const ConfigKey& key : row.keys) {
    std::visit(
        [&](const auto& k) {
          json[k.name] = config.*k.field;
          if constexpr (requires { k.nullable; }) {
            if (k.nullable && config.*k.field == 0) json[k.name] = nullptr;
          }
        },
        key);
  }
  if (row.positions == Positions::rope) write_rope(config, json);
  if (row.windows == Windows::later || row.windows == Windows::earlier ||
      row.windows == Windows::alternating) {
    json["layer_types"] = nlohmann::ordered_json::array();
    for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
      json["layer_types"].push_back(config.window_of(layer) ? "sliding_attention" : "full_attention");
    }
  }
  if (!config.mlp_only_layers.empty()) json["mlp_only_layers"] = config.mlp_only_layers;
  if (config.head == HeadKind::classification) write_labels(config, json);
  const auto id = [](const std::optional<int64_t>& value) {
    return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
  };
  json["bos_token_id"] = id(config.bos_token_id);
  json["eos_token_id"] = id(config.eos_token_id);
  json["pad_token_id"] = id(config.pad_token_id);
  json["torch_dtype"] = dtype;
  json["dtype"] = dtype;
  return json;
}

}  // namespace llmtool
