// Models whose frozen matrices are kept in fewer bits.

#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "llmtool/core/error.h"
#include "llmtool/io/gguf.h"
#include "llmtool/io/safetensors.h"
#include "llmtool/kernels/convert.h"
#include "llmtool/model/model_source.h"
#include "llmtool/model/transformer.h"
#include "reference.h"
#include "support.h"

namespace llmtool {
namespace {

using reference::Machine;

/// Rows of 64, but for what the feed-forward part's output reads.
Transformer small_model(const std::string& family) {
  ModelConfig c;
  c.model_type = family;
  c.vocab_size = 50;
  c.hidden_size = 64;
  c.intermediate_size = family == "gpt2" ? 256 : 96;
  c.moe_intermediate_size = c.shared_expert_intermediate_size = 64;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 4;
  c.num_experts = 3;
  c.num_experts_per_tok = 2;
  c.initializer_range = 0.3;  // far from uniform
  Transformer model(c);
  model.initialize(1);
  return model;
}

bool is_norm(const Param& p) { return p.value.shape.rank == 1 && p.name.ends_with("weight"); }

struct Case {
  const char* family;
  DType dtype;
};

class Quantized : public ::testing::TestWithParam<Case> {
 protected:
  Quantized() : plain(small_model(GetParam().family)) {
    save_transformer(plain, place / "m", DType::f32);
    quantized.emplace(std::shared_ptr<const ModelSource>(ModelSource::open(place / "m")),
                      LoadOptions{.trains = is_norm, .quantize = GetParam().dtype});
    // The plain model gets the values that the types hold.
    for (const Param& p : quantized->params().list()) {
      Param& same = *plain.params().find(p.name);
      same.trainable = p.trainable;
      to_f32(p.value.data, p.value.dtype, same.value.f32(), p.value.size());
    }
  }

  test::TempFolder place;
  Transformer plain;
  std::optional<Transformer> quantized;
  Machine machine;
};

TEST_P(Quantized, LinearPartsHaveTheTypeAndTheRestHasNot) {
  const DType dtype = GetParam().dtype;
  const bool whole_blocks = 96 % dtype_block(dtype).elements == 0;
  int64_t matrices = 0, kept = 0;
  size_t bytes = 0;
  for (const Param& p : quantized->params().list()) {
    const auto has = [&](const char* part) { return p.name.find(part) != std::string::npos; };
    const bool outer = has("embed_tokens") || has("wte") || has("lm_head");
    const bool other =
        p.value.shape.rank == 1 || has("wpe") || has("gate.weight") || has("expert_gate.weight");
    const bool fits = p.value.cols() % dtype_block(dtype).elements == 0;
    const DType expected = other   ? DType::f32
                           : outer ? (dtype == DType::bf16 ? dtype : DType::q8_0)
                           : fits  ? dtype
                                   : DType::f32;
    EXPECT_EQ(p.value.dtype, expected) << p.name;
    if (!other) ++(expected == DType::f32 ? kept : matrices);
    if (expected != DType::f32) bytes += p.value.bytes();
  }
  const bool narrow = std::string(GetParam().family) == "llama" && !whole_blocks;
  EXPECT_EQ(kept, narrow ? 2 : 0);
  EXPECT_EQ(quantized->quantized().matrices, matrices);
  EXPECT_EQ(quantized->quantized().kept, kept);
  EXPECT_EQ(quantized->quantized().bytes, bytes);
}

TEST_P(Quantized, RunsAndLearnsAsItsValuesInF32) {
  const std::vector<int32_t> ids = {1, 5, 9, 33, 2, 17, 49, 0}, targets = {5, 9, 33, 2, 17, 49, 0, 3};
  const auto results_of = [&](Transformer& model) {
    std::vector<float> all(50 + 50);
    KvCache cache(model.config(), 20);
    KvCache* caches[] = {&cache};
    const int32_t next = 3;
    model.forward(machine.exec, ids, cache, Tensor(all.data(), {1, 50}));
    model.decode(machine.exec, {&next, 1}, caches, Tensor(all.data() + 50, {1, 50}));
    model.params().allocate_gradients();
    const LossSums sums = model.train_step(machine.exec, Batch::of(ids, 2), targets, {}, false);
    all.push_back(static_cast<float>(sums.loss));
    const Tensor gradients = model.params().gradients();
    all.insert(all.end(), gradients.f32(), gradients.f32() + gradients.size());
    return all;
  };
  const auto found = results_of(*quantized), expected = results_of(plain);
  ASSERT_GT(found.size(), 101u + 2 * 64);
  EXPECT_EQ(found, expected);
}

INSTANTIATE_TEST_SUITE_P(Types, Quantized,
                         ::testing::Values(Case{"llama", DType::nf4}, Case{"llama", DType::q4_0},
                                           Case{"llama", DType::q8_0}, Case{"llama", DType::bf16},
                                           Case{"gpt2", DType::nf4}, Case{"gpt2", DType::q8_0},
                                           Case{"qwen2_moe", DType::nf4}),
                         [](const auto& info) {
                           return cat(info.param.family, "_", dtype_name(info.param.dtype));
                         });

TEST(QuantizedFiles, WhatAFileHasInFewerBitsStaysThere) {
  test::TempFolder place;
  const Transformer plain = small_model("llama");
  save_transformer(plain, place / "m", DType::bf16);
  const std::shared_ptr<const ModelSource> source = ModelSource::open(place / "m");
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Transformer model(source, {.quantize = dtype});
    EXPECT_EQ(model.quantized().matrices, 0);
    EXPECT_EQ(model.quantized().kept, 0);
  }
  EXPECT_GT(Transformer(source, {.quantize = DType::q8_0}).quantized().matrices, 0);
}

TEST(QuantizedFiles, AWeightThatIsNoNumberIsNamed) {
  test::TempFolder place;
  Transformer plain = small_model("llama");
  const char* const name = "model.layers.1.self_attn.v_proj.weight";
  plain.params().find(name)->value.f32()[70] = std::numeric_limits<float>::quiet_NaN();
  save_transformer(plain, place / "m", DType::f32);
  try {
    const Transformer model(ModelSource::open(place / "m"), {.quantize = DType::nf4});
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find(name), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("nf4: expected finite values, found nan"), std::string::npos)
        << e.what();
  }
}

TEST(QuantizedFiles, NoFormatHoldsNormalFloats) {
  test::TempFolder place;
  std::vector<std::byte> blocks(dtype_bytes(DType::nf4, 64));
  const auto said = [](auto act) {
    try {
      act();
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("nothing");
  };
  const Tensor tensor(blocks.data(), DType::nf4, {1, 64});
  const auto safetensors = said(
      [&] { write_safetensors(place / "f", {{.name = "w", .tensor = tensor, .stored = DType::nf4}}, {}); });
  EXPECT_NE(safetensors.find("safetensors have no type nf4"), std::string::npos) << safetensors;
  const auto gguf = said([&] { GgufWriter(place / "g", {}, {{"w", {1, 64}, DType::nf4_dq}}); });
  EXPECT_NE(gguf.find("GGUF has no type nf4_dq"), std::string::npos) << gguf;
}

}  // namespace
}  // namespace llmtool
