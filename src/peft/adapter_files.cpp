// Adapter: PEFT folders, and the state of a run.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "llmtool/core/error.h"
#include "llmtool/core/version.h"
#include "llmtool/io/files.h"
#include "llmtool/io/json.h"
#include "llmtool/kernels/convert.h"
#include "llmtool/nn/block.h"
#include "llmtool/peft/adapter.h"
#include "peft/adalora.h"
#include "peft/adapter_file.h"
#include "peft/old_experts.h"
#include "peft/targets.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;

/// A tensor of the file that is made when it is written.
struct Made {
  std::vector<float> values;
  Shape shape;
};

/// Keys of adapter_config.json by method, beside those that all have.
std::vector<const char*> keys_of(const std::string& type) {
  if (type == "ADAPTION_PROMPT") return {"adapter_layers", "adapter_len", "target_modules"};
  if (type == "IA3")
    return {"target_modules", "exclude_modules",  "feedforward_modules",
            "fan_in_fan_out", "init_ia3_weights", "modules_to_save"};
  if (type == "PROMPT_TUNING")
    return {"num_virtual_tokens", "prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_name_or_path",
            "modules_to_save"};
  if (type == "PREFIX_TUNING") return {"num_virtual_tokens", "modules_to_save"};
  std::vector<const char*> keys = {"r",
                                   "lora_alpha",
                                   "lora_dropout",
                                   "target_modules",
                                   "exclude_modules",
                                   "bias",
                                   "use_rslora",
                                   "use_dora",
                                   "fan_in_fan_out",
                                   "rank_pattern",
                                   "alpha_pattern",
                                   "modules_to_save",
                                   "layers_to_transform",
                                   "layers_pattern",
                                   "init_lora_weights",
                                   "ensure_weight_tying"};
  if (type == "ADALORA") {
    for (const char* key : {"init_r", "target_r", "tinit", "tfinal", "deltaT", "beta1", "beta2",
                            "orth_reg_weight", "total_step"})
      keys.push_back(key);
  }
  return keys;
}

}  // namespace

std::string Adapter::file_name(const Param& p) const {
  const std::string name = peft_name(model_.config(), p.name);
  const std::string prefix = config_.has_virtual_tokens() ? "base_model." : "base_model.model.";
  const size_t dot = name.rfind('.');
  const bool adapted = name.ends_with(".bias") &&
                       std::find(modules_.begin(), modules_.end(), name.substr(0, dot)) != modules_.end();
  return adapted ? cat(prefix, name.substr(0, dot), ".base_layer.bias") : prefix + name;
}

std::string Adapter::head_name() const {
  return "base_model.model." + peft_name(model_.config(), model_.head_name());
}

bool Adapter::doubles(const Param& p) const {
  return config_.ensure_weight_tying && model_.config().tie_word_embeddings && &p == &model_.embedding() &&
         saved_.contains(p.name) && model_.config().head == HeadKind::language_model;
}

void Adapter::write_config(const fs::path& folder, const std::string& base) const {
  AdapterConfig c = config_;
  c.inference_mode = true;
  c.base_model_name_or_path = base;
  const auto is_transposed = [&](const auto& named) {
    return named.second.site.linear->parts()[named.second.site.part].weight->transpose;
  };
  c.fan_in_fan_out = std::any_of(changes_.begin(), changes_.end(), is_transposed);
  for (const auto* scales : {&input_scales_, &output_scales_}) {
    for (const auto& [name, p] : *scales)
      c.fan_in_fan_out = c.fan_in_fan_out || model_.params().find(name)->transpose;
  }
  const bool usual = c.target_modules.empty() && c.target_parameters.empty();
  if (usual || is_all_linear(c.target_modules)) {
    std::set<std::string> ends;
    for (const std::string& module : modules_) ends.insert(last_part(module));
    // Ends of names say it where they match nothing else.
    size_t matched = 0;
    for (const LinearSite& site : model_.linear_sites())
      matched += ends.contains(last_part(peft_name(model_.config(), site.name)));
    const bool exact = matched == modules_.size() || !c.layers_to_transform.empty() ||
                       config_.peft_type == "ADAPTION_PROMPT";
    c.target_modules = {};
    c.target_modules.names = exact ? std::vector<std::string>(ends.begin(), ends.end()) : modules_;
  }
  if (c.peft_type == "IA3") {
    std::set<std::string> ends;
    for (const auto& [name, p] : input_scales_) {
      const std::string module = name.substr(0, name.size() - std::string_view(".weight").size());
      for (const std::string& target : c.target_modules.names) {
        if (("." + module).ends_with("." + target)) ends.insert(target);
      }
    }
    if (!c.feedforward_modules.expression) c.feedforward_modules.names.assign(ends.begin(), ends.end());
  }
  if (c.init_lora_weights.starts_with("pissa")) {  // as it is written, it changes the base as it is
    c.init_lora_weights = "true";
    c.r *= 2;
    c.lora_alpha *= c.use_rslora ? std::sqrt(2.0) : 2.0;
    for (auto& [name, rank] : c.rank_pattern.items()) rank = rank.get<int64_t>() * 2;
    for (auto& [name, alpha] : c.alpha_pattern.items())
      alpha = alpha.get<double>() * (c.use_rslora ? std::sqrt(2.0) : 2.0);
  }
  if (allocator_) {
    c.rank_pattern = nlohmann::json::object();
    for (const auto& [name, kept] : allocator_->kept()) c.rank_pattern[name + ".lora_E"] = kept;
  }
  const nlohmann::ordered_json all = llmtool::write_config([&](ConfigVisitor& v) { c.visit(v); });
  nlohmann::ordered_json json = {
      {"peft_type", c.peft_type},
      {"task_type", c.task_type.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(c.task_type)},
      {"base_model_name_or_path", base},
      {"auto_mapping", nullptr},
      {"revision", nullptr},
      {"inference_mode", true}};
  for (const char* key : keys_of(c.peft_type)) json[key] = all.at(key);
  if (!c.target_parameters.empty()) {
    json["target_parameters"] = c.target_parameters;
    if (c.target_modules.empty()) json["target_modules"] = nlohmann::ordered_json::array();
  }
  if (c.ensure_weight_tying)
    json["ensure_weight_tying"] = true;  // of IA3, too, though PEFT knows it for LoRA alone
  for (const char* key : {"modules_to_save", "layers_to_transform", "layers_pattern", "exclude_modules"}) {
    if (json.contains(key) && json[key].empty()) json[key] = nullptr;
  }
  if (allocator_ && allocator_->kept().empty()) json["rank_pattern"] = nullptr;
  if (c.peft_type == "ADAPTION_PROMPT") json["target_modules"] = modules_.at(0);
  if (json.contains("prompt_tuning_init_text")) {
    for (const char* key : {"prompt_tuning_init_text", "tokenizer_name_or_path"}) {
      if (json[key] == "") json[key] = nullptr;
    }
    if (c.prompt_tuning_init == "TEXT" && json["tokenizer_name_or_path"].is_null())
      json["tokenizer_name_or_path"] = base;
  }
  if (c.has_virtual_tokens()) {
    const ModelConfig& m = model_.config();
    const bool prefix = c.peft_type == "PREFIX_TUNING";
    json["num_attention_heads"] = prefix ? prefix_heads() : m.num_attention_heads;
    json["num_layers"] = m.num_hidden_layers;
    json["token_dim"] = prefix ? prefix_heads() * m.head_dim : m.hidden_size;
    json["num_transformer_submodules"] = 1;
    if (prefix) {
      json["encoder_hidden_size"] = m.hidden_size;
      json["prefix_projection"] = false;
    }
  }
  write_file(folder / "adapter_config.json", json.dump(2) + "\n");
}

void Adapter::save(const fs::path& folder, const std::string& base) const {
  fs::create_directories(folder);
  std::vector<NamedTensor> tensors;
  std::deque<Made> made;
  const auto add_made = [&](const Param& like, Made values) {
    made.push_back(std::move(values));
    tensors.push_back(
        {like.name, Tensor(made.back().values.data(), made.back().shape), DType::f32, false, like.file_rows});
  };
  std::set<const Param*> done;
  for (const auto& [name, c] : changes_) {
    if (!c.first_a) continue;  // [A; A0] and [B, -B0]
    const LowRank& l = change(c);
    const int64_t R = l.rank();
    RowMatrix a(2 * R, l.in()), b(l.out(), 2 * R);
    a << matrix(l.a.value()), matrix(c.first_a->value);
    b << matrix(l.b.value()), -matrix(c.first_b->value);
    add_made(*l.a.param, {{a.data(), a.data() + a.size()}, {2 * R, l.in()}});
    add_made(*l.b.param, {{b.data(), b.data() + b.size()}, {l.out(), 2 * R}});
    done.insert({l.a.param, l.b.param, c.first_a, c.first_b});
  }
  for (const Triplets& t : allocator_ ? allocator_->modules() : std::vector<Triplets>()) {
    const auto kept = allocator_->kept().find(t.name);
    if (kept == allocator_->kept().end()) continue;
    std::vector<int> rows;
    for (size_t r = 0; r < kept->second.size(); ++r) {
      if (kept->second[r]) rows.push_back(static_cast<int>(r));
    }
    const RowMatrix a = matrix(t.a->value)(rows, Eigen::all), e = matrix(t.e->value)(rows, Eigen::all),
                    b = matrix(t.b->value)(Eigen::all, rows);
    add_made(*t.a, {{a.data(), a.data() + a.size()}, {a.rows(), a.cols()}});
    add_made(*t.b, {{b.data(), b.data() + b.size()}, {b.rows(), b.cols()}});
    add_made(*t.e, {{e.data(), e.data() + e.size()}, {e.rows(), 1}});
    done.insert({t.a, t.e, t.b});
  }
  for (const Param& p : store_.list()) {
    if (p.file_shape.rank > 0) {
      const RowMatrix stored = matrix(p.value).transpose();
      add_made(p, {{stored.data(), stored.data() + stored.size()}, p.file_shape});
    } else if (!done.contains(&p)) {
      tensors.push_back({p.name, p.value, DType::f32, false, p.file_rows});
    }
  }
  for (const Param* p : trained_base()) {
    tensors.push_back({file_name(*p), p->value, DType::f32, p->transpose, p->file_rows});
    if (doubles(*p)) tensors.push_back({head_name(), p->value, DType::f32});
  }
  std::sort(tensors.begin(), tensors.end(),
            [](const NamedTensor& x, const NamedTensor& y) { return x.name < y.name; });
  write_safetensors(folder / "adapter_model.safetensors", tensors, {{"format", "pt"}});
  write_config(folder, base);
}

namespace {
const Tensor& tensor_named(const AdapterTensors& stored, const std::string& name, const fs::path& file) {
  const auto it = stored.tensors().find(name);
  if (it == stored.tensors().end())
    throw Error(cat(file.string(), ": ", name, ": not among the file's tensors"));
  return it->second;
}

/// The shape of p in files but for file_shape, which is that of the tensor found there.
Shape check_shape(const Tensor& stored, const Param& p, const std::string& where) {
  Shape expected = p.value.shape;
  if (p.transpose) std::swap(expected.dims[0], expected.dims[1]);
  const Shape& written = p.file_shape.rank > 0 ? p.file_shape : expected;
  if (stored.shape == written) return expected;
  throw Error(cat(where, ": expected ", written.text(), ", found ", stored.shape.text(),
                  "; is the adapter of another model?"));
}

/// The values of p as it is here, from a file's tensor.
void read_values(const Tensor& stored, const Param& p, const std::string& where) {
  const Shape expected = check_shape(stored, p, where);
  std::vector<float> values(static_cast<size_t>(p.value.size()));
  to_f32(stored.data, stored.dtype, values.data(), p.value.size());
  for (const float v : values) {
    if (!std::isfinite(v)) throw Error(cat(where, ": expected numbers, found ", v));
  }
  if (p.transpose) {
    matrix(p.value) = Eigen::Map<const RowMatrix>(values.data(), expected[0], expected[1]).transpose();
    return;
  }
  if (p.file_rows.empty()) {
    std::copy(values.begin(), values.end(), p.value.f32());
    return;
  }
  const auto cols = p.value.size() / static_cast<int64_t>(p.file_rows.size());
  for (size_t r = 0; r < p.file_rows.size(); ++r)
    std::copy_n(values.data() + p.file_rows[r] * cols, cols, p.value.f32() + static_cast<int64_t>(r) * cols);
}

/// rank_pattern of an AdaLoRA folder: "MODULE.lora_E" -> which of the init_r are there.
std::map<std::string, std::vector<bool>> kept_ranks(const nlohmann::json& pattern, int64_t init_r,
                                                    const fs::path& folder) {
  std::map<std::string, std::vector<bool>> kept;
  constexpr std::string_view kEnd = ".lora_E";
  for (const auto& [key, list] : pattern.items()) {
    const std::string where = cat((folder / "adapter_config.json").string(), ": rank_pattern.", key);
    if (!key.ends_with(kEnd) || !list.is_array() || static_cast<int64_t>(list.size()) != init_r)
      throw Error(cat(where, ": expected NAME.lora_E with a list of ", init_r, " booleans"));
    std::vector<bool>& own = kept[key.substr(0, key.size() - kEnd.size())];
    for (const auto& value : list) {
      if (!value.is_boolean()) throw Error(cat(where, ": expected booleans, found ", shown(value)));
      own.push_back(value.get<bool>());
    }
  }
  return kept;
}
}  // namespace

fs::path adapter_weights(const fs::path& folder) {
  const fs::path file = folder / "adapter_model.safetensors";
  if (fs::exists(file)) return file;
  const bool pickle = fs::exists(folder / "adapter_model.bin");
  throw Error(cat(file.string(),
                  pickle ? ": not there, and adapter_model.bin is a pickle, which runs code when it is read; "
                           "save the adapter as safetensors"
                         : ": not there"));
}

/// Before memory is taken for what the config says.
void Adapter::check_shapes(const fs::path& folder) const {
  const fs::path file = adapter_weights(folder);
  const AdapterTensors stored(file);
  std::set<std::string> cut;
  if (config_.peft_type == "ADALORA") {  // lists as long as the ranks are
    for (const auto& [module, kept] : kept_ranks(config_.rank_pattern, config_.init_r, folder)) {
      for (const char* part : {"A", "B", "E"}) cut.insert(cat("base_model.model.", module, ".lora_", part));
    }
  }
  for (const Param& p : store_.list()) {
    const bool of_file = p.trainable && !cut.contains(p.name);
    if (of_file) check_shape(tensor_named(stored, p.name, file), p, cat(file.string(), ": ", p.name));
  }
}

namespace {
/// PEFT writes some values twice, and does not read these again: whole what an embedding's change is beside,
/// and, where biases train, those of modules_to_save.
bool is_idle(const std::string& name, const AdapterTensors& stored, bool lora) {
  if (lora && name.ends_with(".base_layer.weight")) return true;
  for (const std::string inside : {".modules_to_save.", ".original_module."}) {
    const size_t at = name.find(inside);
    if (at == std::string::npos) continue;
    return stored.tensors().contains(std::string(name).replace(at, inside.size(), "."));
  }
  return false;
}
}  // namespace

void Adapter::read(const fs::path& folder) {
  const fs::path file = adapter_weights(folder);
  const AdapterTensors stored(file);
  std::set<std::string> used;
  const auto find = [&](const std::string& name) -> const Tensor& {
    used.insert(name);
    return tensor_named(stored, name, file);
  };
  std::set<const Param*> done;
  const auto kept = allocator_ ? kept_ranks(read_adapter_config(folder).rank_pattern, config_.init_r, folder)
                               : std::map<std::string, std::vector<bool>>();
  for (const Triplets& t : allocator_ ? allocator_->modules() : std::vector<Triplets>()) {
    const auto own = kept.find(t.name);
    if (own == kept.end()) continue;
    std::vector<int> rows;
    for (size_t r = 0; r < own->second.size(); ++r) {
      if (own->second[r]) rows.push_back(static_cast<int>(r));
    }
    const auto R = static_cast<int64_t>(rows.size());
    ParamStore cut;
    for (Param* p : {t.a, t.e, t.b}) {
      const int64_t other = p == t.b ? p->value.shape[0] : p->value.shape[1];
      Param* const part = cut.add(p->name, p == t.b ? Shape{other, R} : Shape{R, other}, false);
      part->file_rows = p->file_rows;
    }
    cut.allocate();
    auto part = cut.list().begin();
    for (Param* p : {t.a, t.e, t.b}) {
      read_values(find(p->name), *part, cat(file.string(), ": ", p->name));
      array(p->value).setZero();
      if (p == t.b) {
        matrix(p->value)(Eigen::all, rows) = matrix(part->value);
      } else {
        matrix(p->value)(rows, Eigen::all) = matrix(part->value);
      }
      done.insert(p);
      ++part;
    }
  }
  if (allocator_) allocator_->set_kept(kept);
  for (const auto& [name, c] : changes_) {
    if (c.first_a) done.insert({c.first_a, c.first_b});
  }
  for (const Param& p : store_.list()) {
    if (!done.contains(&p)) read_values(find(p.name), p, cat(file.string(), ": ", p.name));
  }
  for (const Param* p : trained_base())
    read_values(find(file_name(*p)), *p, cat(file.string(), ": ", file_name(*p)));
  if (doubles(model_.embedding())) used.insert(head_name());
  for (const auto& [name, tensor] : stored.tensors()) {
    if (!used.contains(name) && !is_idle(name, stored, config_.peft_type == "LORA"))
      throw Error(
          cat(file.string(), ": ", name, ": an adapter with this adapter_config.json has no such tensor"));
  }
  for (const auto& [name, type] : stored.unreadable())
    throw Error(cat(file.string(), ": ", name, ": tensors of type ", type, " cannot be read"));
  measure_magnitudes();
}

void Adapter::check_scalable() const {
  if (!config_.is_lora())
    throw UsageError(cat("a scale is for low-rank adapters; ", config_.peft_type, " has none"));
}

void Adapter::set_scale(double scale) {
  if (scale == 1) return;
  check_scalable();
  if (embedding_change_ != SIZE_MAX)
    model_.embedding_changes()[embedding_change_].scale *= static_cast<float>(scale);
  for (const auto& [name, c] : changes_) {
    auto& list = c.site.linear->parts()[c.site.part].changes;
    list[c.index].scale *= static_cast<float>(scale);
    if (c.first_a) list[c.index + 1].scale *= static_cast<float>(scale);
  }
  measure_magnitudes();
}

std::unique_ptr<Adapter> Adapter::load(Transformer& model, const fs::path& folder, double scale) {
  const AdapterConfig config = read_adapter_config(folder);
  if (config.init_lora_weights.starts_with("pissa_niter")) {
    throw Error(cat((folder / "adapter_config.json").string(),
                    ": init_lora_weights: ", config.init_lora_weights,
                    " changed the base at random; save the adapter converted "
                    "(path_initial_model_for_weight_conversion)"));
  }
  std::unique_ptr<Adapter> adapter;
  try {
    adapter.reset(new Adapter(model, config, folder));
  } catch (const UsageError& e) {
    throw UsageError(cat((folder / "adapter_config.json").string(), ": ", e.what()));
  }
  if (config.init_lora_weights == "pissa") adapter->initialize_pissa(0);
  adapter->read(folder);
  adapter->set_scale(scale);
  return adapter;
}

void Adapter::save_state(const fs::path& file) const {
  std::vector<NamedTensor> tensors;
  for (const Param& p : store_.list()) tensors.push_back({p.name, p.value, DType::f32});
  for (const Param* p : trained_base()) tensors.push_back({p->name, p->value, DType::f32});
  std::map<std::string, std::string> metadata;
  if (allocator_) {
    for (NamedTensor& t : allocator_->state()) tensors.push_back(std::move(t));
    metadata["kept"] = nlohmann::json(allocator_->kept()).dump();
  }
  write_safetensors(file, tensors, metadata);
}

void Adapter::load_state(const fs::path& file) {
  const SafetensorsFile stored(file);
  for (const Param& p : store_.list()) stored.copy_f32(p.name, p.value);
  for (const Param* p : trained_base()) stored.copy_f32(p->name, p->value);
  const size_t expected =
      store_.list().size() + trained_base().size() + (allocator_ ? allocator_->state().size() : 0);
  if (stored.tensors().size() != expected) {
    throw Error(cat(file.string(), ": expected ", expected, " tensors, found ", stored.tensors().size(),
                    "; is the checkpoint of another model or adapter?"));
  }
  measure_magnitudes();
  if (!allocator_) return;
  allocator_->load_state(stored);
  const nlohmann::json kept =
      parse_json(stored.metadata().contains("kept") ? stored.metadata().at("kept") : "{}", file.string());
  nlohmann::json pattern = nlohmann::json::object();
  for (const auto& [name, list] : kept.items()) pattern[name + ".lora_E"] = list;
  allocator_->set_kept(kept_ranks(pattern, config_.init_r, file.parent_path()));
}

}  // namespace llmtool
