#pragma once
// Adapter: a small change of a frozen model, and its PEFT folder.
// Format: https://huggingface.co/docs/peft/developer_guides/checkpoint

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "llmtool/model/transformer.h"
#include "llmtool/nn/param_store.h"
#include "llmtool/peft/adapter_config.h"

namespace llmtool {

class RankAllocator;
class Linear;
class Targets;
struct GatedMlp;
struct LowRank;

/// Parameters of its own beside the model's, attached to it, and those of the model that train with it. Must
/// live as long as the model is used.
class Adapter {
 public:
  /// Which of a model's parameters such an adapter trains whole (modules_to_save, biases): what LoadOptions
  /// wants to know before the model is there. Throws UsageError on settings that do not fit the model.
  static std::function<bool(const Param&)> base_parameters(const AdapterConfig& config,
                                                           const ModelConfig& model);

  /// Attaches an adapter whose values are not yet set. Throws UsageError naming the key where nothing would
  /// be changed.
  Adapter(Transformer& model, const AdapterConfig& config) : Adapter(model, config, {}) {}
  /// Attaches that of a PEFT folder; its low-rank changes are multiplied by `scale`, for what it brings whole
  /// see replace. Throws Error naming file and tensor.
  static std::unique_ptr<Adapter> load(Transformer& model, const std::filesystem::path& folder,
                                       double scale = 1);
  ~Adapter();
  Adapter(const Adapter&) = delete;
  Adapter& operator=(const Adapter&) = delete;

  const AdapterConfig& config() const { return config_; }
  ParamStore& params() { return store_; }
  const ParamStore& params() const { return store_; }
  int64_t trained_count() const;  // elements, the model's own among them

  /// Random values as PEFT draws them: at first the model does what it did without. `prompt_ids`: of a text
  /// that prompt tuning starts from. The model's values must be there.
  void initialize(uint64_t seed, std::span<const int32_t> prompt_ids = {});
  /// Values of a PEFT folder of the same kind and sizes.
  void read(const std::filesystem::path& folder);
  /// Writes the folder; `base` is the model's place.
  void save(const std::filesystem::path& folder, const std::string& base) const;
  /// Everything that a run needs to go on to the bit, into and from one file.
  void save_state(const std::filesystem::path& file) const;
  void load_state(const std::filesystem::path& file);

  /// AdaLoRA, 0 elsewhere: the orthogonal regularisation of a step, whose gradient times `scale` is added.
  double regularize(Exec& exec, double scale);
  /// AdaLoRA: allocates ranks after update `step` (from 1), from the gradients of that update, which
  /// `gradient_scale` was the factor of.
  void after_update(int64_t step, double gradient_scale);
  /// Where the config says none. Throws UsageError where its schedule does not fit.
  void set_total_steps(int64_t steps);
  /// AdaLoRA: module -> ranks that are left; empty before the first allocation.
  std::map<std::string, int64_t> ranks() const;

  /// Where the adapter brings the parameter whole (modules_to_save, biases): the base's values become
  /// base + weight * (its values - base).
  void replace(const Param& p, float* values, double weight) const;
  /// The parameter's values, which replace has seen, with the adapter's other changes in them, those of low
  /// rank times `weight`: inside the norm where there are magnitudes (DoRA), as PEFT has it. Throws
  /// UsageError as check_foldable does.
  void fold(const Param& p, float* values, double weight) const;
  /// The name of one of the model's own parameters in adapter_model.safetensors.
  std::string file_name(const Param& p) const;
  /// Throws UsageError where no weight can hold the adapter, or where it has no change to multiply.
  void check_foldable(double weight) const;
  /// Names of the model's own parameters that it brings whole.
  const std::set<std::string>& saved() const { return saved_; }
  /// The low-rank change of a parameter; nullptr where there is none.
  const LowRank* change_of(const std::string& parameter) const;
  /// That of the embedding; nullptr where there is none.
  const EmbeddingChange* embedding_change() const;

 private:
  /// `folder`: whose values are to come, empty where there is none; then each name of target_modules must be
  /// one of the model's.
  Adapter(Transformer& model, const AdapterConfig& config, const std::filesystem::path& folder);
  void check_shapes(const std::filesystem::path& folder) const;
  /// `name`: what patterns of ranks and alphas match.
  void attach_low_rank(const LinearSite& site, const std::string& name, const Targets& targets);
  /// `named`: each of target_parameters must be there.
  void attach_parameters(const Targets& targets, bool named);
  void attach_experts(std::vector<GatedMlp>& experts, Linear GatedMlp::*linear, const std::string& name,
                      const std::string& prefix, const Targets& targets);
  void check_parameters(const Targets& targets, bool named) const;
  void check_modules(bool named) const;
  void check_saved() const;
  void attach_embedding(const Targets& targets);
  void attach_scale(const LinearSite& site, const Targets& targets);
  void attach_prompts();
  void attach_virtual_tokens();
  /// Heads of prefix tuning's keys and values.
  int64_t prefix_heads() const;
  void attach_pissa(const LinearSite& site, const LowRank& change);
  void initialize_low_rank(uint64_t seed);
  void initialize_pissa(uint64_t seed);
  void measure_magnitudes();
  void check_scalable() const;
  void set_scale(double scale);
  void write_config(const std::filesystem::path& folder, const std::string& base) const;
  std::vector<Param*> trained_base() const;

  /// Files hold a tied head beside an embedding that trains with it.
  bool doubles(const Param& p) const;
  std::string head_name() const;

  struct Changed {  // a site's changes, by its parameter's name
    LinearSite site;
    size_t index;                                  // among the part's
    Param *first_a = nullptr, *first_b = nullptr;  // PiSSA: what A and B were at first
  };
  LowRank& change(const Changed& c) const;

  Transformer& model_;
  AdapterConfig config_;
  ParamStore store_;
  size_t embedding_change_ = SIZE_MAX;                          // among the model's
  std::vector<std::pair<std::string, Changed>> changes_;        // by the weight's name, in order
  std::map<std::string, Param*> input_scales_, output_scales_;  // IA3, by the weight's name
  std::set<std::string> saved_;                                 // the model's parameters that train with it
  std::vector<std::string> modules_;                            // adapted, for the config
  std::vector<std::string> parameters_;                         // of experts and routers, likewise
  MemoryBlock magnitudes_;
  std::unique_ptr<RankAllocator> allocator_;
};

}  // namespace llmtool
