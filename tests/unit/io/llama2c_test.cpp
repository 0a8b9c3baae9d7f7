#include "llmtool/io/llama2c.h"

#include <gtest/gtest.h>

#include <cstring>

#include "formats.h"
#include "llmtool/core/error.h"
#include "llmtool/io/safetensors.h"
#include "support.h"

namespace llmtool {
namespace {

std::string message_of(const std::string& contents) {
  const test::MemoryFile file(contents);
  try {
    Llama2cFile opened(file.path());
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing thrown";
}
#define EXPECT_SAYS(message, part) EXPECT_NE(std::string(message).find(part), std::string::npos) << message

std::string with_number(std::string file, size_t index, int32_t value) {
  std::memcpy(file.data() + index * sizeof value, &value, sizeof value);
  return file;
}

TEST(Llama2c, NamesEveryTensor) {
  const test::MemoryFile memory(test::sample_llama2c());
  const Llama2cFile file(memory.path());
  const Llama2cHeader& h = file.header();
  EXPECT_EQ(h.hidden_size, 8);
  EXPECT_EQ(h.intermediate_size, 12);
  EXPECT_EQ(h.num_hidden_layers, 2);
  EXPECT_EQ(h.num_key_value_heads, 1);
  EXPECT_EQ(h.vocab_size, 11);
  EXPECT_EQ(h.max_position_embeddings, 4);
  EXPECT_FALSE(h.tie_word_embeddings);
  EXPECT_EQ(file.tensors().size(), 2u * 9 + 3);
  EXPECT_EQ(file.tensors().at("model.layers.1.self_attn.k_proj.weight").shape, Shape({4, 8}));
  EXPECT_EQ(file.tensors().at("model.layers.0.mlp.down_proj.weight").shape, Shape({8, 12}));
  const Tensor embedding = file.tensors().at("model.embed_tokens.weight");
  EXPECT_EQ(embedding.f32()[1], -1 + 1.0f / 16);
  // The head is the last thing in the file.
  const Tensor head = file.tensors().at("lm_head.weight");
  const auto size = std::filesystem::file_size(memory.path());
  EXPECT_EQ(static_cast<size_t>(head.f32() + head.size() - embedding.f32()) * sizeof(float) + 28, size);
}

/// The Hugging Face folder holds the same model; q_proj and k_proj have their rows in another order.
TEST(Llama2c, ReadsARealModel) {
  REQUIRE_REFERENCE(folder, "weights/stories260K");
  const Llama2cFile file(folder / "stories260K.bin");
  EXPECT_TRUE(file.header().tie_word_embeddings);
  EXPECT_EQ(file.header().vocab_size, 512);
  const SafetensorsFolder same(folder / "hf");
  int compared = 0;
  for (const auto& [name, tensor] : file.tensors()) {
    const Tensor expected = same.tensors().at(name);
    ASSERT_EQ(tensor.shape, expected.shape) << name;
    if (name.find("q_proj") != std::string::npos || name.find("k_proj") != std::string::npos) continue;
    EXPECT_EQ(std::memcmp(tensor.data, expected.data, tensor.bytes()), 0) << name;
    ++compared;
  }
  EXPECT_EQ(compared, 5 * 7 + 2);
}

TEST(Llama2c, SaysWhatIsWrong) {
  const std::string good = test::sample_llama2c();
  EXPECT_EQ(message_of(good), "nothing thrown");
  EXPECT_SAYS(message_of(""), "header: expected 28 bytes, found 0");
  EXPECT_SAYS(message_of(good.substr(0, good.size() - 1)), "bytes for the ");
  EXPECT_SAYS(message_of(good + "x"), "bytes for the ");
  EXPECT_SAYS(message_of(with_number(good, 0, -5)), "dim: at offset 0: expected a number from 1");
  EXPECT_SAYS(message_of(with_number(good, 2, 1 << 30)), "n_layers: at offset 8");
  EXPECT_SAYS(message_of(with_number(good, 3, 3)), "n_heads: at offset 12");
  EXPECT_SAYS(message_of(with_number(good, 4, 3)), "n_kv_heads: at offset 16");
  EXPECT_SAYS(message_of(with_number(good, 5, 0)), "vocab_size: at offset 20");
  EXPECT_SAYS(message_of(with_number(good, 5, INT32_MIN)), "vocab_size: at offset 20");
  EXPECT_SAYS(message_of(with_number(good, 0, 0x616b3432)), "a later format of llama2.c");
}

}  // namespace
}  // namespace llmtool
