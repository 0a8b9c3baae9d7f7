#include "llmtool/model/model_config.h"

#include <nlohmann/json.hpp>
#include <set>

#include "llmtool/core/error.h"
#include "llmtool/io/json.h"
#include "model/architecture.h"

namespace llmtool {

namespace {
template <class... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};
template <class... Cases>
Overloaded(Cases...) -> Overloaded<Cases...>;

/// Choices left open become the family's own.
void settle_choices(const Architecture& row, ModelConfig& c) {
  for (const ConfigKey& key : row.keys) {
    if (const auto* k = std::get_if<ChoiceKey>(&key); k && (c.*k->field).empty()) c.*k->field = k->absent;
  }
}

/// The family's spelling of a field, for messages.
std::string key_of(const Architecture& row, int64_t ModelConfig::*field) {
  for (const ConfigKey& key : row.keys) {
    if (const auto* k = std::get_if<IntegerKey>(&key); k && k->field == field) return k->name;
  }
  return "?";
}

void read_key(const JsonObject& json, const ConfigKey& key, ModelConfig& c) {
  std::visit(
      Overloaded{[&](const IntegerKey& k) { c.*k.field = json.integer(k.name, k.min, k.max, k.absent); },
                 [&](const NumberKey& k) {
                   c.*k.field = json.number(k.name, k.absent);
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

/// Rotary settings stand at the top (rope_theta, rope_scaling) or, in newer files, in rope_parameters.
void read_rope(const JsonObject& json, ModelConfig& c) {
  for (const char* name : {"rope_scaling", "rope_parameters"}) {
    if (!json.has(name)) continue;
    const JsonObject rope(json.json().at(name), json.origin() + ": " + name);
    const std::string type = rope.string("rope_type", rope.string("type", "default"));
    if (type != "default") throw Error(cat(rope.origin(), ": rope_type \"", type, "\" is not supported yet"));
    c.rope_theta = rope.number("rope_theta", c.rope_theta);
  }
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
    c.eos_token_id = id;
    c.stop_ids.clear();
    for (const int64_t stop : json.integers("eos_token_id", -1, last)) {
      if (stop >= 0) c.stop_ids.push_back(stop);
    }
  }
}
}  // namespace

void ModelConfig::resolve() {
  const Architecture& row = architecture(model_type);
  settle_choices(row, *this);
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
  if (num_attention_heads % num_key_value_heads != 0) {
    refuse(&ModelConfig::num_key_value_heads,
           cat("expected a divisor of ", num_attention_heads, ", found ", num_key_value_heads));
  }
  if (!row.learned_positions && head_dim % 2 != 0) {
    throw UsageError(
        cat("model.head_dim: expected an even number (it is rotated in pairs), found ", head_dim));
  }
  if (intermediate_size == 0) {
    intermediate_size = (hidden_size * row.default_mlp_numerator + row.default_mlp_denominator - 1) /
                        row.default_mlp_denominator;
    if (row.default_mlp_denominator != 1) intermediate_size = (intermediate_size + 31) / 32 * 32;
  }
}

void ModelConfig::visit(ConfigVisitor& v) {
  v.choice("model_type", model_type, architecture_names(), "family; its keys are those of its config.json");
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
  for (const std::string& name : architecture_names()) {
    for (const ConfigKey& key : architecture(name).keys) {
      if (std::visit([&](const auto& k) { return seen.insert(k.name).second; }, key)) visit_key(key);
    }
  }
}

ModelConfig read_model_config(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "config.json";
  const nlohmann::json parsed = read_json(file);
  const JsonObject json(parsed, file.string());
  ModelConfig c;
  c.model_type = json.string("model_type");
  try {
    const Architecture& row = architecture(c.model_type);
    for (const ConfigKey& key : row.keys) read_key(json, key, c);
    for (const char* key : row.refused_if_true) {
      if (json.boolean(key, false)) throw Error(cat(key, ": true is not supported"));
    }
    for (const char* key : row.refused_if_false) {
      if (!json.boolean(key, true)) throw Error(cat(key, ": false is not supported"));
    }
    if (!row.learned_positions) read_rope(json, c);
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

nlohmann::ordered_json model_config_json(const ModelConfig& config, const std::string& dtype) {
  const Architecture& row = architecture(config.model_type);
  nlohmann::ordered_json json;
  json["architectures"] = {row.class_name};
  json["model_type"] = config.model_type;
  for (const ConfigKey& key : row.keys) {
    std::visit([&](const auto& k) { json[k.name] = config.*k.field; }, key);
  }
  if (!row.learned_positions) {
    json["rope_scaling"] = nullptr;
    json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", config.rope_theta}};
  }
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
