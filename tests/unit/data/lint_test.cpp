// What the linter finds, and what previews show.

#include "llmtool/data/lint.h"

#include <algorithm>

#include "example_fixture.h"
#include "llmtool/data/preview.h"

namespace llmtool {
namespace {

class Lint : public test::ExampleTest {
 protected:
  LintReport report() { return lint(*tokenizer, made, tokenizer->vocab_size()); }
  /// "kind count, ..." of what is found in these rows.
  std::string found(const std::string& rows) {
    load("rows.jsonl", rows);
    std::string text;
    for (const LintFinding& finding : report().findings)
      text += (text.empty() ? "" : ", ") + finding.kind + " " + std::to_string(finding.count);
    return text;
  }
};

TEST_F(Lint, FindsWhatRuinsATraining) {
  EXPECT_EQ(found(R"({"prompt": "a", "completion": "b"})"), "");
  EXPECT_EQ(found(R"({"prompt": "a", "completion": " "})"), "empty 1");
  EXPECT_EQ(found(R"({"text": ""})"), "empty 1");
  EXPECT_EQ(found(R"({"messages": []})"), "empty 1");
  EXPECT_EQ(found(R"({"prompt": "<s>a", "completion": "b"})"), "double-bos 1");
  EXPECT_EQ(found("{\"text\": \"a b\"}\n{\"text\": \"c\"}\n{\"text\": \" a  b\\n\"}"), "duplicate 1");
  options.max_length = 3;
  EXPECT_EQ(found(R"({"prompt": "abc", "completion": "d"})"), "no-trained-token 1");
  EXPECT_EQ(found(R"({"prompt": "a", "completion": "bcd"})"), "truncated 1");
}

TEST_F(Lint, FindsTrainingRowsInTheValidationSet) {
  test::write_text(folder / "val.jsonl", "{\"prompt\": \"a\", \"completion\": \" b\"}");
  options.data.validation = {path("val.jsonl")};
  EXPECT_EQ(found("{\"text\": \"a  b\"}\n{\"text\": \"ab\"}"), "leak 1");
}

TEST_F(Lint, FindsTurnsWithoutAnEnd) {
  const std::string row =
      R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})";
  options.data.chat_template = kTurns;
  EXPECT_EQ(found(row), "");
  options.data.chat_template =
      "{% for m in messages %}{{ m.role }}{{ m.content }}{% endfor %}{% if "
      "add_generation_prompt %}assistant{% endif %}";
  EXPECT_EQ(found(row), "template-end 1");
  // The end stands there, but outside of what is marked.
  options.data.chat_template =
      "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}</s>{% endfor %}";
  EXPECT_EQ(found(row), "end-token 1");
  options.loss_on = LossOn::assistant;
  EXPECT_EQ(found(row), "end-token 1");
}

TEST_F(Lint, FindsIdsOutsideTheEmbedding) {
  load("rows.jsonl", R"({"text": "~"})");
  const LintReport found = lint(*tokenizer, made, tokenizer->vocab_size() - 1);
  ASSERT_EQ(found.findings.size(), 1u);
  EXPECT_EQ(found.findings[0].kind, "out-of-vocabulary");
  EXPECT_THROW(found.require(lint_kinds()), Error);
}

TEST_F(Lint, IsAcceptedByKind) {
  EXPECT_EQ(found("{\"text\": \"\"}\n{\"text\": \"\"}"), "empty 2, duplicate 1");
  const LintReport both = report();
  EXPECT_NO_THROW(both.require({"empty", "duplicate"}));
  EXPECT_THROW(both.require({"emtpy"}), UsageError);
  try {
    both.require({"empty"});
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("duplicate (1)"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("--allow duplicate"), std::string::npos) << e.what();
  }
  EXPECT_NE(both.text().find("empty: 2 rows: "), std::string::npos) << both.text();
  EXPECT_NE(both.text().find(path("rows.jsonl") + ": row 2: "), std::string::npos) << both.text();
}

TEST_F(Lint, CountsLengths) {
  std::string rows;
  for (int i = 1; i <= 101; ++i) rows += "{\"text\": \"" + std::string(static_cast<size_t>(i), 'x') + "\"}\n";
  load("rows.jsonl", rows);
  EXPECT_EQ(describe_lengths(report().train), "min 3, 25 % 28, 50 % 53, 75 % 78, 90 % 93, 99 % 102, max 103");
  EXPECT_EQ(report().train.trained, report().train.tokens - 101);
}

TEST_F(Lint, PreviewsWhatIsTrained) {
  options.max_length = 6;
  load("rows.jsonl", R"({"prompt": "Q\n", "completion": "a b and more"})");
  const std::string plain = preview(*tokenizer, made, made.train, 0, false);
  EXPECT_EQ(plain, "--- " + path("rows.jsonl") +
                       ": row 1: 6 tokens of 16 (the rest is cut off), 3 trained\n"
                       "⟨<s>⟩Q\n[[a b]]\nids: 0 52 3 [[68 2 69]]\n");
}

}  // namespace
}  // namespace llmtool
