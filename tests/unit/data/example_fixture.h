#pragma once
// Examples of a few rows over a tokenizer whose tokens are bytes, and <s> and </s>.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "llmtool/core/error.h"
#include "llmtool/data/examples.h"
#include "support.h"

namespace llmtool::test {

class ExampleTest : public testing::Test {
 protected:
  /// "#role:content", "</s>" behind an assistant's.
  static constexpr const char* kTurns =
      "{% for m in messages %}#{{ m.role }}:{{ m.content }}{% if m.role == 'assistant' %}</s>{% endif %}"
      "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}#assistant:{% endif %}";
  /// "role content", with what an assistant says in generation blocks.
  static constexpr const char* kMarked =
      "<s>{% for m in messages %}{{ m.role }}{% if m.role == 'assistant' %}{% generation %} {{ m.content "
      "}}</s>"
      "{% endgeneration %}{% else %} {{ m.content }}{% endif %}{{ '\n' }}{% endfor %}";

  ExampleTest() {
    nlohmann::json vocabulary = {{"<s>", 0}, {"</s>", 1}, {"Ġ", 2}, {"Ċ", 3}};
    for (char c = '!'; c <= '~'; ++c) vocabulary[std::string(1, c)] = vocabulary.size();
    nlohmann::json added = nlohmann::json::array();
    for (const int id : {0, 1}) {
      added.push_back({{"id", id},
                       {"content", id ? "</s>" : "<s>"},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", true}});
    }
    const auto around = nlohmann::json::parse(R"({"type": "TemplateProcessing",
"single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
"pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
"special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}})");
    const nlohmann::json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
    const nlohmann::json model = {
        {"type", "BPE"}, {"vocab", vocabulary}, {"merges", nlohmann::json::array()}};
    write_text(folder / "tokenizer.json", nlohmann::json{{"version", "1.0"},
                                                         {"added_tokens", added},
                                                         {"normalizer", nullptr},
                                                         {"pre_tokenizer", bytes},
                                                         {"post_processor", around},
                                                         {"decoder", bytes},
                                                         {"model", model}}
                                              .dump());
    tokenizer = load_tokenizer(folder / "tokenizer.json");
  }

  std::string path(const std::string& name) const { return (folder / name).string(); }

  void load(int threads = 2) {
    ThreadPool pool(threads);
    made = load_examples(pool, *tokenizer, options);
  }
  /// With these rows as the only ones.
  void load(const std::string& name, const std::string& rows, int threads = 2) {
    write_text(folder / name, rows);
    options.data.train = {{path(name), 0}};
    load(threads);
  }
  void expect_refusal(const std::string& rows, const std::string& message) {
    try {
      load("refused.jsonl", rows);
      ADD_FAILURE() << "expected: " << message;
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find(message), std::string::npos) << e.what();
    }
  }

  /// An example's tokens, the trained ones in brackets.
  std::string text(int64_t i) const {
    const Example example = made.train[i];
    std::string text;
    bool open = false;
    for (size_t t = 0; t < example.ids.size(); ++t) {
      if ((example.trained[t] != 0) != open) text += open ? "]" : "[";
      open = example.trained[t] != 0;
      const std::string surface = tokenizer->surface(example.ids[t], false);
      text += surface.empty() ? tokenizer->piece(example.ids[t]) : surface;
    }
    return text + (open ? "]" : "");
  }

  TempFolder folder;
  std::shared_ptr<const Tokenizer> tokenizer;
  ExampleOptions options;
  Examples made;
};

}  // namespace llmtool::test
