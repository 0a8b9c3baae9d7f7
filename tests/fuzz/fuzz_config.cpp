#include <filesystem>

#include "formats.h"
#include "fuzz.h"
#include "llmtool/core/error.h"
#include "llmtool/model/model_config.h"
#include "support.h"

namespace {
/// A model folder whose config.json is a file in memory.
struct Folder {
  Folder() { std::filesystem::create_symlink(config.path(), folder / "config.json"); }
  llmtool::test::TempFolder folder;
  llmtool::test::MemoryFile config;
};
}  // namespace

namespace llmtool::test {
std::vector<std::string> seed_corpus() {
  std::vector<std::string> seeds = {
      R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64,
"intermediate_size": 172, "num_hidden_layers": 5, "num_attention_heads": 8, "num_key_value_heads": 4,
"head_dim": 8, "vocab_size": 512, "max_position_embeddings": 512, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
"original_max_position_embeddings": 8192}, "hidden_act": "silu", "tie_word_embeddings": true,
"attention_bias": false, "bos_token_id": 1, "eos_token_id": [2, 3], "torch_dtype": "float32"})",
      R"({"model_type": "gpt2", "n_embd": 48, "n_layer": 3, "n_head": 3, "n_inner": null, "n_positions": 64,
"n_ctx": 64, "vocab_size": 11, "layer_norm_epsilon": 1e-05, "activation_function": "gelu_new",
"embd_pdrop": 0.1, "attn_pdrop": 0.1, "resid_pdrop": 0.1, "initializer_range": 0.02})",
      R"({"model_type": "llama", "dtype": "bfloat16", "hidden_size": 16, "num_hidden_layers": 1,
"num_attention_heads": 2, "vocab_size": 32, "rope_parameters": {"rope_type": "default", "rope_theta": 500000}})"};
  // Of every family and head.
  for (const auto& golden : std::filesystem::directory_iterator(source_file("tests/reference/goldens")))
    seeds.push_back(read_text(golden.path() / "config.json"));
  return seeds;
}
}  // namespace llmtool::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Folder place;
  place.config.set({reinterpret_cast<const char*>(data), size});
  try {
    llmtool::read_model_config(place.folder.path());
  } catch (const llmtool::Error&) {
  }
  return 0;
}
