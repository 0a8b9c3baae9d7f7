// Every adapter on every decoder family, PEFT's and others: fresh ones change nothing, gradients are those of
// the loss.

#include "golden.h"
#include "llmtool/peft/adapter.h"
#include "llmtool/peft/merge.h"
#include "llmtool/train/optimizer.h"

namespace llmtool {
namespace {

using test::Machine;

/// EXPERTS: LoRA of the last layer's, behind which no choice of experts follows.
const char* const kMethods[] = {"LORA", "ADALORA",       "ADAPTION_PROMPT", "IA3",
                                "DORA", "PROMPT_TUNING", "PREFIX_TUNING",   "EXPERTS"};

class AdapterOfFamily : public ::testing::TestWithParam<std::string> {
 protected:
  /// Whether the model has what the method changes.
  bool open(const std::string& method) {
    const std::shared_ptr<const ModelSource> base = ModelSource::open(test::goldens() / GetParam());
    const int64_t last = base->config().num_hidden_layers - 1;
    AdapterConfig config;
    config.use_dora = method == "DORA";
    config.peft_type = config.use_dora || method == "EXPERTS" ? "LORA" : method;
    config.r = 3;
    config.init_r = 4;
    config.target_r = 2;
    config.adapter_len = config.num_virtual_tokens = 3;
    if (method == "EXPERTS") {
      if (!base->config().has_experts(last)) return false;
      for (const char* name : {"gate_up_proj", "down_proj"})
        config.target_parameters.push_back(cat("layers.", last, ".mlp.experts.", name));
    } else if (config.is_lora()) {
      config.target_modules.expression = "all-linear";
    }
    adapter.reset();
    model =
        std::make_unique<Transformer>(base, LoadOptions{Adapter::base_parameters(config, base->config())});
    adapter = std::make_unique<Adapter>(*model, config);
    adapter->initialize(5);
    adapter->params().allocate_gradients();
    return true;
  }

  LossSums step() {
    std::vector<int32_t> ids = model->virtual_ids(), targets(ids.size(), -1);
    for (int32_t i = 0; i < 11; ++i) {
      ids.push_back((i * 7 + 3) % 50);
      targets.push_back(i < 3 ? -1 : (i * 5 + 1) % 50);
    }
    zero_gradients(machine.exec, {&adapter->params()});
    return model->train_step(machine.exec, Batch::of(ids, 1), targets, {}, false);
  }

  Machine machine;
  std::unique_ptr<Transformer> model;
  std::unique_ptr<Adapter> adapter;
};

TEST_P(AdapterOfFamily, FreshOnesChangeNothing) {
  for (const char* method : kMethods) {
    if (!open(method) || adapter->config().has_virtual_tokens()) continue;
    if (model->config().attention_bias && std::string(method) == "ADAPTION_PROMPT" &&
        model->config().model_type == "llama")
      continue;  // PEFT adds the bias twice
    const double with = step().loss;
    Transformer plain(ModelSource::open(test::goldens() / GetParam()));
    std::vector<int32_t> ids, targets;
    for (int32_t i = 0; i < 11; ++i) {
      ids.push_back((i * 7 + 3) % 50);
      targets.push_back(i < 3 ? -1 : (i * 5 + 1) % 50);
    }
    EXPECT_NEAR(plain.evaluate(machine.exec, Batch::of(ids, 1), targets).loss, with, 1e-5 * with) << method;
  }
}

/// The loss, of some 40, is good to about 1e-6 of itself in f32: 4e-5 over a step that moves it by 2e-2 is
/// 2e-3 of the slope; the fifth derivative, which the difference leaves, is allowed ten times that.
TEST_P(AdapterOfFamily, GradientsAreThoseOfTheLoss) {
  for (const char* method : kMethods) {
    if (!open(method)) continue;
    const bool jumps = model->config().has_experts(0) || model->config().has_experts(1);  // their choice
    if (jumps && std::string(method) != "EXPERTS") continue;
    Rng rng(9);
    std::vector<std::vector<float>> values, directions;
    for (Param& p : adapter->params().list()) {
      for (int64_t i = 0; i < p.value.size(); ++i) p.value.f32()[i] += static_cast<float>(0.1 * rng.normal());
    }
    step();
    double length = 0, slope = 0;
    for (const Param& p : adapter->params().list()) {
      const float* const g = p.grad.f32();
      for (int64_t i = 0; i < p.value.size(); ++i) length += static_cast<double>(g[i]) * g[i];
    }
    slope = std::sqrt(length);  // along the gradient itself
    ASSERT_GT(slope, 1e-4) << method;
    for (const Param& p : adapter->params().list()) {
      values.emplace_back(p.value.f32(), p.value.f32() + p.value.size());
      directions.emplace_back(p.grad.f32(), p.grad.f32() + p.grad.size());
    }
    const auto loss_at = [&](double distance) {
      size_t k = 0;
      for (Param& p : adapter->params().list()) {
        for (size_t i = 0; i < values[k].size(); ++i)
          p.value.f32()[i] = values[k][i] + static_cast<float>(distance / slope) * directions[k][i];
        ++k;
      }
      return step().loss;
    };
    const double step_size = 2e-2 / std::max(1.0, slope);
    const double found = (8 * (loss_at(step_size) - loss_at(-step_size)) -
                          (loss_at(2 * step_size) - loss_at(-2 * step_size))) /
                         (12 * step_size);
    // DoRA's norms count as constants: its gradient is not that of the loss, but near it.
    EXPECT_NEAR(found, slope, (std::string(method) == "DORA" ? 0.5 : 0.02) * slope) << method;
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, AdapterOfFamily, ::testing::ValuesIn(test::golden_names(true)),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace llmtool
