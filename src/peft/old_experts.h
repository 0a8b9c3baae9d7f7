#pragma once
// Adapters made with transformers 4, where experts were linear layers, each with a change of its own: put
// together as PEFT does, but for what it gets wrong (rsLoRA's scale; Qwen 2's experts, which it leaves out).

#include <deque>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "llmtool/io/safetensors.h"
#include "llmtool/peft/adapter_config.h"

namespace llmtool {

/// The tensors of adapter_model.safetensors by the names of now, those of experts put together. Throws Error
/// naming file and tensor where they do not fit together.
class AdapterTensors {
 public:
  explicit AdapterTensors(const std::filesystem::path& file);
  const std::map<std::string, Tensor>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& unreadable() const { return file_.unreadable(); }

 private:
  void put_together(const std::string& module, const std::vector<std::string>& parts, const std::string& name,
                    const std::filesystem::path& file);

  SafetensorsFile file_;
  std::map<std::string, Tensor> tensors_;
  std::deque<RowMatrix> made_;
};

/// Where the folder's file has such experts, or their router, target_parameters name them in place of
/// target_modules; dropout, which experts have none of, becomes 0. Throws UsageError where PEFT refuses them,
/// of gate and up one being alone, and where a pattern gives some of them an alpha of their own.
void name_old_experts(AdapterConfig& config, const std::filesystem::path& folder);

}  // namespace llmtool
