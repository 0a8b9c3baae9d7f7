// Every adapter against PEFT on tiny random models (tests/reference/make_peft_goldens.py).

#include <fstream>

#include "golden.h"
#include "llmtool/infer/generator.h"
#include "llmtool/io/json.h"
#include "llmtool/peft/merge.h"
#include "llmtool/train/optimizer.h"

namespace llmtool {
namespace {

namespace fs = std::filesystem;
using test::as_in_memory;
using test::difference;
using test::Machine;

fs::path adapter_goldens() {
  const char* const fresh = std::getenv("LLMTOOL_PEFT_GOLDENS");
  return fresh ? fs::path(fresh) : test::source_file("tests/reference/goldens_peft");
}

std::vector<std::string> adapter_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(adapter_goldens())) {
    if (fs::exists(entry.path() / "initial")) names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

struct Row {
  std::vector<int32_t> ids, targets;  // targets: of each id, or the one of the row
};

class PeftGolden : public ::testing::TestWithParam<std::string> {
 protected:
  PeftGolden() {
    std::ifstream lines(folder / json.at("examples").get<std::string>());
    for (std::string line; std::getline(lines, line);) {
      const auto row = nlohmann::json::parse(line);
      Row r{row.at("ids").get<std::vector<int32_t>>(), {}};
      if (row.contains("label")) {
        r.targets = {row.at("label").get<int32_t>()};
      } else {
        for (size_t i = 0; i < r.ids.size(); ++i) {
          const bool counts = i + 1 < r.ids.size() && row.at("trained")[i + 1] == 1;
          r.targets.push_back(counts ? r.ids[i + 1] : -1);
        }
      }
      rows.push_back(std::move(r));
    }
  }

  /// The base, its matrices where the file has them, with what is in `adapter_folder`.
  void open(const fs::path& adapter_folder) {
    adapter.reset();
    AdaptedModel adapted(ModelSource::open(folder / json.at("base").get<std::string>()),
                         {{adapter_folder, 1}});
    model = std::move(adapted.model);
    adapter = std::move(adapted.adapters[0]);
  }

  std::vector<int32_t> with_virtual(const std::vector<int32_t>& ids) const {
    std::vector<int32_t> all = model->virtual_ids();
    all.insert(all.end(), ids.begin(), ids.end());
    return all;
  }

  /// Of the golden's sequences, as the file holds them.
  std::vector<float> logits() {
    const auto ids = values<int32_t>("ids"), lengths = values<int32_t>("lengths");
    std::vector<float> all;
    size_t at = 0;
    for (const int32_t length : lengths) {
      const auto input = with_virtual({ids.begin() + static_cast<std::ptrdiff_t>(at),
                                       ids.begin() + static_cast<std::ptrdiff_t>(at) + length});
      const bool classifies = model->config().head == HeadKind::classification;
      const int64_t width =
          classifies ? static_cast<int64_t>(model->config().labels.size()) : model->config().vocab_size;
      std::vector<int64_t> wanted;
      for (size_t i = input.size() - static_cast<size_t>(length); i < input.size(); ++i)
        wanted.push_back(static_cast<int64_t>(i));
      const auto n = classifies ? int64_t{1} : static_cast<int64_t>(length);
      std::vector<float> out(static_cast<size_t>(n * width));
      if (classifies) {
        model->classify(machine->exec, Batch::of(input, 1), Tensor(out.data(), {1, width}));
      } else {
        model->token_logits(machine->exec, Batch::of(input, 1), wanted, Tensor(out.data(), {n, width}));
      }
      all.insert(all.end(), out.begin(), out.end());
      at += static_cast<size_t>(length);
    }
    return all;
  }

  template <class T>
  std::vector<T> values(const std::string& name) const {
    const Tensor t = golden.tensors().at(name);
    std::vector<T> list(static_cast<size_t>(t.size()));
    std::memcpy(list.data(), t.data, t.bytes());
    return list;
  }
  /// F64 tensors, which are no Tensor.
  std::vector<double> doubles(const std::string& name) const {
    return json.at(name).get<std::vector<double>>();
  }

  LossSums step_gradients(size_t step, bool checkpointing) {
    Batch batch;
    std::vector<int32_t> ids, targets;
    int64_t count = 0;
    const auto first_virtual = model->virtual_ids();
    for (size_t i = 2 * step; i < 2 * step + 2; ++i) {
      const auto input = with_virtual(rows[i].ids);
      ids.insert(ids.end(), input.begin(), input.end());
      if (rows[i].targets.size() > 1) targets.insert(targets.end(), first_virtual.size(), -1);
      targets.insert(targets.end(), rows[i].targets.begin(), rows[i].targets.end());
      batch.lengths.push_back(static_cast<int64_t>(input.size()));
    }
    count = std::count_if(targets.begin(), targets.end(), [](int32_t t) { return t >= 0; });
    batch.ids = ids;
    zero_gradients(machine->exec, stores());
    const LossSums sums = model->train_step(machine->exec, batch, targets,
                                            {.scale = 1.0 / static_cast<double>(count)}, checkpointing);
    regularization = adapter->regularize(machine->exec, 1);
    return sums;
  }
  ParamStores stores() { return {&model->params(), &adapter->params()}; }

  fs::path folder = adapter_goldens() / GetParam();
  nlohmann::json json = read_json(folder / "golden.json");
  SafetensorsFile golden{folder / "golden.safetensors"};
  std::vector<Row> rows;
  std::unique_ptr<Transformer> model;
  std::unique_ptr<Adapter> adapter;
  std::unique_ptr<Machine> machine = std::make_unique<Machine>();
  double regularization = 0;
};

TEST_P(PeftGolden, LogitsEqualPeftsBeforeAndAfterTraining) {
  open(folder / "initial");
  EXPECT_LT(difference(logits().data(), values<float>("logits")), 1e-4);
  open(folder / "trained");
  EXPECT_LT(difference(logits().data(), values<float>("logits_trained")), 1e-4);
}

TEST_P(PeftGolden, FoldersWrittenHereGiveTheSameLogits) {
  open(folder / "trained");
  test::TempFolder place;
  adapter->save(place.path(), "base");
  open(place.path());
  EXPECT_LT(difference(logits().data(), values<float>("logits_trained")), 1e-4);
}

TEST_P(PeftGolden, GradientsEqualPefts) {
  for (const bool checkpointing : {false, true}) {
    open(folder / "initial");
    for (ParamStore* store : stores()) store->allocate_gradients();
    step_gradients(0, checkpointing);
    const auto largest = [](const std::vector<float>& x) {
      float most = 0;
      for (const float v : x) most = std::max(most, std::abs(v));
      return most;
    };
    size_t compared = 0;
    float steepest = 0;
    for (const auto& [name, tensor] : golden.tensors()) {
      if (name.starts_with("grad.")) steepest = std::max(steepest, largest(values<float>(name)));
    }
    for (ParamStore* store : stores()) {
      for (const Param& p : store->list()) {
        if (!p.grad) continue;
        const std::string name = store == stores()[0] ? adapter->file_name(p) : p.name;
        if (!golden.tensors().contains("grad." + name)) continue;
        const auto expected = as_in_memory(p, values<float>("grad." + name));
        // A bias of keys moves no softmax: what is there is rounding.
        if (largest(expected) > 1e-6f * steepest) {
          EXPECT_LT(difference(p.grad.f32(), expected), 1e-4) << name;
        } else {
          EXPECT_LT(largest({p.grad.f32(), p.grad.f32() + p.grad.size()}), 1e-6f * steepest) << name;
        }
        ++compared;
      }
    }
    const auto count = std::count_if(golden.tensors().begin(), golden.tensors().end(),
                                     [](const auto& t) { return t.first.starts_with("grad."); });
    EXPECT_EQ(compared, static_cast<size_t>(count));
  }
}

TEST_P(PeftGolden, GradientsDoNotDependOnTheThreads) {
  std::vector<float> first;
  for (const int threads : {1, 2, 5}) {
    machine = std::make_unique<Machine>(threads);
    open(folder / "initial");
    for (ParamStore* store : stores()) store->allocate_gradients();
    step_gradients(0, false);
    const Tensor g = adapter->params().gradients();
    const std::vector<float> all(g.f32(), g.f32() + g.size());
    if (first.empty()) first = all;
    EXPECT_EQ(all, first) << threads;
  }
}

TEST_P(PeftGolden, ThirtyStepsOfAdamWEqualPefts) {
  open(folder / "initial");
  for (ParamStore* store : stores()) store->allocate_gradients();
  const auto expected = doubles("losses"), total = doubles("losses_total");
  adapter->set_total_steps(static_cast<int64_t>(expected.size()));
  const auto& o = json.at("optimizer");
  AdamW optimizer(stores(), {o.at("betas")[0], o.at("betas")[1], o.at("epsilon"), o.at("weight_decay")});
  for (size_t step = 0; step < expected.size(); ++step) {
    const LossSums sums = step_gradients(step, false);
    const double loss = sums.loss / static_cast<double>(sums.count);
    EXPECT_NEAR(loss, expected[step], 1e-4 * expected[step]) << step;
    EXPECT_NEAR(loss + regularization, total[step], 1e-4 * total[step]) << step;
    optimizer.step(machine->exec, o.at("learning_rate"), 1);
    adapter->after_update(static_cast<int64_t>(step) + 1, 1);
  }
  if (json.contains("ranks")) {
    std::vector<int64_t> ranks;
    for (const auto& [name, rank] : adapter->ranks()) ranks.push_back(rank);
    EXPECT_EQ(ranks, json.at("ranks").get<std::vector<int64_t>>());
  }
  model->refresh_adapters(machine->exec);
  EXPECT_LT(difference(logits().data(), values<float>("logits_trained")), 1e-3);
}

TEST_P(PeftGolden, FoldedWeightsGiveTheSameLogits) {
  open(folder / "trained");
  if (!adapter->config().is_lora() && adapter->config().peft_type != "IA3")
    GTEST_SKIP() << "no weight can hold it";
  const fs::path base_folder = folder / json.at("base").get<std::string>();
  const MergedSource merged(ModelSource::open(base_folder), {{folder / "trained", 1}});
  adapter.reset();
  model = std::make_unique<Transformer>(merged.config());
  load_weights(*model, merged);
  EXPECT_LT(difference(logits().data(), values<float>("logits_trained")), 1e-4);
}

TEST_P(PeftGolden, GeneratesWhatPeftDoes) {
  const nlohmann::json all = read_json(adapter_goldens() / "answers.json");
  const auto expected = all.at("answers").find(GetParam());
  if (expected == all.at("answers").end()) GTEST_SKIP() << "no language model";
  open(folder / "trained");
  GenerationOptions options;
  options.sampling.temperature = 0;
  options.max_new_tokens = 12;
  options.logprobs = 0;
  options.echo = true;
  ThreadPool pool(2);
  Generator generator(*model, nullptr, pool, options);
  const auto prompt = all.at("prompt").get<std::vector<TokenId>>();
  int left = 2;  // together
  generator.run(
      [&](GenerationRequest& request) {
        request = {"", prompt};
        return left-- > 0;
      },
      [&](const GenerationResult& r) {
        EXPECT_EQ(r.prompt_ids, prompt);
        EXPECT_EQ(r.prompt_logprobs.size(), prompt.size());
        EXPECT_EQ(r.ids, expected->at("ids").get<std::vector<TokenId>>());
        const auto logprobs = expected->at("logprobs").get<std::vector<double>>();
        for (size_t i = 0; i < logprobs.size(); ++i) EXPECT_NEAR(r.logprobs[i], logprobs[i], 1e-4) << i;
      });
}

INSTANTIATE_TEST_SUITE_P(Golden, PeftGolden, ::testing::ValuesIn(adapter_names()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace llmtool
