// Rows as ids and masks: every shape, splits, labels, order, packs.

#include "llmtool/data/examples.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "example_fixture.h"
#include "llmtool/core/error.h"
#include "llmtool/data/example_order.h"

namespace llmtool {
namespace {

using test::ExampleTest;

TEST_F(ExampleTest, MasksThePromptAndEndsTheCompletion) {
  load("rows.jsonl", R"({"prompt": "Q: one", "completion": " two"}
{"text": "all of it"}
{"prompt": "Q:", "completion": "done</s>"})");
  ASSERT_EQ(made.train.size(), 3);
  EXPECT_EQ(text(0), "<s>Q: one[ two</s>]");
  EXPECT_EQ(text(1), "<s>[all of it</s>]");
  EXPECT_EQ(text(2), "<s>Q:[done</s>]") << "EOS that stands there is not put there again";
  EXPECT_EQ(made.train.origin(1), path("rows.jsonl") + ": row 2");
  options.loss_on = LossOn::all;
  load("rows.jsonl", R"({"prompt": "Q: one", "completion": " two"})");
  EXPECT_EQ(text(0), "<s>[Q: one two</s>]");
}

TEST_F(ExampleTest, WritesAlpacaAsItWasPublished) {
  load("rows.json", R"([{"instruction": "Add.", "input": "1 2", "output": "3"},
{"instruction": "Go.", "input": "", "output": "Gone", "system": "Be brief.", "history": [["a", "b"]]}])");
  EXPECT_EQ(
      text(0),
      "<s>Below is an instruction that describes a task, paired with an input that provides further "
      "context. Write a response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n"
      "### Input:\n1 2\n\n### Response:[3</s>]");
  EXPECT_EQ(text(1),
            "<s>Be brief.\n\n### Instruction:\na\n\n### Response:b\n\n### Instruction:\nGo.\n\n### "
            "Response:[Gone</s>]");
  options.data.chat_template = kTurns;
  load("rows.json", R"([{"instruction": "Add.", "input": "1 2", "output": "3", "system": "S",
"history": [["a", "b"]]}])");
  EXPECT_EQ(text(0), "#system:S\n#user:a\n#assistant:b</s>\n#user:Add.\n1 2\n#assistant:[3</s>\n]");
}

TEST_F(ExampleTest, MarksAssistantsTurns) {
  const std::string row =
      R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
{"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]})";
  std::string line = row;
  line.erase(std::remove(line.begin(), line.end(), '\n'), line.end());
  options.data.chat_template = kTurns;
  load("rows.jsonl", line);
  EXPECT_EQ(text(0), "#user:a\n#assistant:b</s>\n#user:c\n#assistant:[d</s>\n]");
  options.loss_on = LossOn::assistant;
  load("rows.jsonl", line);
  EXPECT_EQ(text(0), "#user:a\n#assistant:[b</s>\n]#user:c\n#assistant:[d</s>\n]");
  options.data.chat_template = kMarked;
  load("rows.jsonl", line);
  EXPECT_EQ(text(0), "<s>user a\nassistant[ b</s>]\nuser c\nassistant[ d</s>]\n");
  // A prompt that says more than the conversation has there.
  options.data.chat_template = std::string(kTurns) + "{% if add_generation_prompt %}<think>{% endif %}";
  load("rows.jsonl", line);
  EXPECT_EQ(text(0), "#user:a\n#assistant:[b</s>\n]#user:c\n#assistant:[d</s>\n]");
  options.data.chat_template = kMarked;
  options.loss_on = LossOn::completion;
  load("rows.jsonl", line);
  EXPECT_EQ(text(0), "<s>user a\nassistant b</s>\nuser c\nassistant[ d</s>]\n");
  options.loss_on = LossOn::all;
  load("rows.jsonl", line);
  EXPECT_EQ(text(0), "<s>[user a\nassistant b</s>\nuser c\nassistant d</s>\n]");
}

TEST_F(ExampleTest, ReadsShareGptAndTools) {
  options.data.chat_template =
      "{% for t in tools or [] %}T{{ t.name }};{% endfor %}{% for m in messages %}{{ m.role }}:{% if "
      "m.tool_calls %}{% generation %}{{ m.tool_calls[0].function.arguments.x }}</s>{% endgeneration %}{% "
      "elif "
      "m.role == 'assistant' %}{% generation %}{{ m.content }}</s>{% endgeneration %}{% else %}{{ m.content "
      "}}{% "
      "endif %};{% endfor %}";
  options.loss_on = LossOn::assistant;
  load(
      "rows.jsonl",
      R"({"conversations": [{"from": "Human", "value": "q"}, {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"x\": 7}}"}, {"from": "observation", "value": "o"}, {"from": "gpt", "value": "a"}], "system": "S", "tools": "[{\"name\": \"f\"}]"})");
  EXPECT_EQ(text(0), "Tf;system:S;user:q;assistant:[7</s>];tool:o;assistant:[a</s>];");
}

TEST_F(ExampleTest, TellsPromptMessagesFromCompletionMessages) {
  options.data.chat_template = kTurns;
  load(
      "rows.jsonl",
      R"({"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]})");
  EXPECT_EQ(text(0), "#user:a\n#assistant:[b</s>\n#user:c\n#assistant:d</s>\n]");
  options.loss_on = LossOn::assistant;
  load(
      "rows.jsonl",
      R"({"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "x"}, {"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]})");
  EXPECT_EQ(text(0), "#user:a\n#assistant:x</s>\n#user:a\n#assistant:[b</s>\n]");
}

TEST_F(ExampleTest, RefusesATemplateThatRewritesTurns) {
  options.data.chat_template =
      "{% for m in messages %}{{ m.role }}:{% if loop.last %}!{% endif %}{{ m.content }}</s>{% endfor %}";
  options.loss_on = LossOn::assistant;
  expect_refusal(R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},)"
                 R"({"role": "user", "content": "c"}]})",
                 "row 1: message 2: the chat template writes this turn otherwise");
}

TEST_F(ExampleTest, FillsAPromptTemplate) {
  options.data.prompt_template = "{{{question}}} ({n}):";
  options.data.fields.completion = "answer";
  load("rows.jsonl", R"({"question": "why", "answer": " so", "n": 3})");
  EXPECT_EQ(text(0), "<s>{why} (3):[ so</s>]");
  expect_refusal(R"({"q": "why", "answer": "so", "n": 3})",
                 "the prompt template's {question} is no column of this row, which has q, answer, n");
  options.data.prompt_template = "{question";
  EXPECT_THROW(load("rows.jsonl", "{}"), UsageError);
}

TEST_F(ExampleTest, NamesTheColumnsOfAnUnknownRow) {
  expect_refusal(R"({"question": "a", "answer": "b"})",
                 "a row with question, answer is of no known shape: expected text; prompt and completion;");
  options.data.fields.prompt = "question";
  options.data.fields.completion = "answer";
  load("rows.jsonl", R"({"question": "a", "answer": "b"})");
  EXPECT_EQ(text(0), "<s>a[b</s>]");
}

TEST_F(ExampleTest, LearnsClassesByNameOrNumber) {
  options.data.label_column = "y";
  load("rows.tsv", "sentence\ty\ngood\t10\nbad\t9\nfine\t10\n");
  EXPECT_EQ(made.labels, (std::vector<std::string>{"9", "10"}));
  EXPECT_EQ(made.train[0].label, 1);
  EXPECT_EQ(made.train[1].label, 0);
  EXPECT_EQ(text(0), "<s>good");
  options.data.labels = {"no", "yes"};
  load("rows.jsonl", R"({"text": "a", "y": 1}
{"text": "b", "y": "no"}
{"text": "c", "y": "yes"})");
  EXPECT_EQ(made.train[0].label, 1);
  EXPECT_EQ(made.train[1].label, 0);
  EXPECT_EQ(made.train[2].label, 1);
  expect_refusal(R"({"text": "a", "y": 2})",
                 "label 2 is none of the 2 labels (of data.labels or else the model's own)");
  options.data.label_as = "completion";
  options.data.prompt_template = "{text}:";
  load("rows.jsonl", R"({"text": "a", "y": 1})");
  EXPECT_EQ(text(0), "<s>a:[yes</s>]");
  options.data.prompt_template = "";
  EXPECT_THROW(load("rows.jsonl", R"({"text": "a", "y": 1})"), UsageError);
  options.data.fields.prompt = "text";
  load("rows.jsonl", R"({"text": "a", "y": 1})");
  EXPECT_EQ(text(0), "<s>a[yes</s>]");
  expect_refusal(R"({"q": "a", "y": 1})",
                 "expected a column text, which data.fields.prompt names, found q, y");
}

TEST_F(ExampleTest, RefusesALabelThatIsNotTrained) {
  options.data.label_column = "y";
  test::write_text(folder / "val.jsonl", R"({"text": "a", "y": "new"})");
  options.data.validation = {path("val.jsonl")};
  expect_refusal("{\"text\": \"a\", \"y\": \"old\"}\n{\"text\": \"b\", \"y\": \"other\"}",
                 "val.jsonl: row 1: label new stands in no training row");
}

TEST_F(ExampleTest, CutsTheEnd) {
  options.max_length = 4;
  load("rows.jsonl", R"({"prompt": "a", "completion": "bcd"}
{"prompt": "abcdefgh", "completion": "x"}
{"prompt": "a", "completion": "b"})");
  ASSERT_EQ(made.train.size(), 2) << "nothing of the second is trained";
  EXPECT_EQ(made.train.untrained().count, 1);
  EXPECT_EQ(made.train.untrained().rows[0].origin, path("rows.jsonl") + ": row 2");
  EXPECT_EQ(text(0), "<s>a[bc]");
  EXPECT_EQ(made.train[0].full_length, 6);
  EXPECT_TRUE(made.train.has(0, ExampleFlaw::truncated));
  EXPECT_FALSE(made.train.has(1, ExampleFlaw::truncated));
  EXPECT_EQ(made.train.statistics().lengths[6], 6);
}

TEST_F(ExampleTest, HoldsOutEqualRowsTogether) {
  std::string rows;
  for (int i = 0; i < 100; ++i) rows += "{\"text\": \"row " + std::to_string(i % 50) + "\"}\n";
  options.data.validation_fraction = 0.1;
  load("rows.jsonl", rows);
  EXPECT_EQ(made.validation.size(), 10);
  EXPECT_EQ(made.train.size(), 90);
  std::set<uint64_t> held_out;
  for (int64_t i = 0; i < made.validation.size(); ++i) held_out.insert(made.validation.text_hash(i));
  EXPECT_EQ(held_out.size(), 5u);
  for (int64_t i = 0; i < made.train.size(); ++i) EXPECT_FALSE(held_out.contains(made.train.text_hash(i)));
  const uint64_t before = made.train.hash();
  options.seed = 2;
  load("rows.jsonl", rows);
  EXPECT_NE(made.train.hash(), before);
}

TEST_F(ExampleTest, GivesTheSameForAnyNumberOfThreads) {
  std::string rows;
  for (int i = 0; i < 3000; ++i) rows += "{\"text\": \"row " + std::to_string(i * i) + "\"}\n";
  load("rows.jsonl", rows, 1);
  const uint64_t one = made.train.hash();
  load("rows.jsonl", rows, 3);
  EXPECT_EQ(made.train.hash(), one);
  rows += "{\"text\": 1, \"text\": 2}\n{}\n";
  expect_refusal(rows, "row 3001: ");
}

TEST_F(ExampleTest, ReadsRealRows) {
  REQUIRE_REFERENCE(alpaca, "datasets/alpaca_en_demo.json");
  REQUIRE_REFERENCE(questions, "datasets/gsm8k-test.jsonl");
  REQUIRE_REFERENCE(sentences, "datasets/sst2/train.tsv");
  options.data.train = {{alpaca.string(), 0}};
  load();
  EXPECT_EQ(made.train.size(), 999);
  options.data.train = {{questions.string(), 0}};
  options.data.fields.prompt = "question";
  options.data.fields.completion = "answer";
  load();
  EXPECT_EQ(made.train.size(), 1319);
  options.data.train = {{sentences.string(), 0}};
  options.data.columns = {"text", "label"};
  options.data.label_column = "label";
  load();
  EXPECT_EQ(made.train.size(), 6920);
  EXPECT_EQ(made.labels, (std::vector<std::string>{"0", "1"}));
}

TEST_F(ExampleTest, OrdersEpochs) {
  std::string rows;
  for (int i = 0; i < 20; ++i) rows += "{\"text\": \"" + std::to_string(i) + "\"}\n";
  load("rows.jsonl", rows);
  const auto epoch = [&](const ExampleOrder& order, int64_t e) {
    std::vector<int64_t> places;
    for (int64_t i = 0; i < order.size(); ++i) places.push_back(order.at(e, i));
    return places;
  };
  std::vector<int64_t> sorted(20);
  for (size_t i = 0; i < 20; ++i) sorted[i] = static_cast<int64_t>(i);
  EXPECT_EQ(epoch(ExampleOrder(made.train, options.data.train, false, 1), 3), sorted);
  const ExampleOrder order(made.train, options.data.train, true, 1);
  auto first = epoch(order, 0), second = epoch(order, 1);
  EXPECT_NE(first, second);
  EXPECT_NE(first, epoch(ExampleOrder(made.train, options.data.train, true, 2), 0));
  std::sort(first.begin(), first.end());
  std::sort(second.begin(), second.end());
  EXPECT_EQ(first, sorted);
  EXPECT_EQ(second, sorted);
}

TEST_F(ExampleTest, DrawsFromSourcesByWeight) {
  std::string many, few;
  for (int i = 0; i < 30; ++i) many += "{\"text\": \"" + std::to_string(i) + "\"}\n";
  for (int i = 0; i < 10; ++i) few += "{\"text\": \"few " + std::to_string(i) + "\"}\n";
  test::write_text(folder / "many.jsonl", many);
  test::write_text(folder / "few.jsonl", few);
  options.data.train = {{path("many.jsonl"), 1}, {path("few.jsonl"), 3}};
  load();
  const ExampleOrder order(made.train, options.data.train, true, 1);
  ASSERT_EQ(order.size(), 40);
  std::map<int64_t, int> times;
  for (int64_t e = 0; e < 3; ++e) {
    int of_few = 0;
    for (int64_t i = 0; i < 40; ++i) {
      const int64_t example = order.at(e, i);
      of_few += made.train.source(example) == 1;
      ++times[example];
    }
    EXPECT_EQ(of_few, 30);
  }
  for (int64_t i = 0; i < 40; ++i) EXPECT_EQ(times[i], i < 30 ? 1 : 9) << i;
}

TEST(PackExamples, FillsInOrder) {
  const std::vector<int64_t> lengths = {3, 4, 2, 8, 1, 9, 7};
  std::vector<std::pair<int64_t, int64_t>> found;
  for (const Pack& pack : pack_examples(lengths, 8)) found.emplace_back(pack.first, pack.end);
  EXPECT_EQ(found,
            (std::vector<std::pair<int64_t, int64_t>>{{0, 2}, {2, 3}, {3, 4}, {4, 5}, {5, 6}, {6, 7}}));
  EXPECT_TRUE(pack_examples({}, 8).empty());
}

}  // namespace
}  // namespace llmtool
