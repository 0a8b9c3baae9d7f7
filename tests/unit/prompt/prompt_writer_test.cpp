// From rows to prompts, with a real tokenizer.

#include "llmtool/prompt/prompt_writer.h"

#include <gtest/gtest.h>

#include "llmtool/core/error.h"
#include "support.h"

namespace llmtool {
namespace {

using Json = nlohmann::ordered_json;
using test::write_text;
namespace fs = std::filesystem;

constexpr const char* kTemplate =
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}";

class Writer : public ::testing::Test {
 protected:
  void SetUp() override {
    const fs::path model = test::reference_data("weights/stories260K/hf/tokenizer.model");
    if (model.empty()) GTEST_SKIP() << "no reference data";
    fs::copy(model, place / "tokenizer.model");
    write_text(place / "tokenizer_config.json", Json{{"chat_template", kTemplate}}.dump());
    tokenizer = load_tokenizer(place.path());
    write_text(place / "t.txt", "Q: {q} {{x}}\nA:\n");
    write_text(place / "shots.jsonl",
               "{\"q\": \"one\", \"answer\": \"1\"}\n{\"q\": \"two\", \"answer\": 2}\n{\"q\": \"six\", "
               "\"answer\": \"6\"}\n");
  }
  PromptSettings with_template() const {
    PromptSettings s;
    s.template_file = (place / "t.txt").string();
    return s;
  }
  std::string text(const PromptSettings& s, const Json& row) const {
    return PromptWriter(s, tokenizer.get()).write(row, 0, "row 1").text;
  }
  std::string complaint(const PromptSettings& s, const Json& row) const {
    try {
      text(s, row);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }

  test::TempFolder place;
  std::shared_ptr<const Tokenizer> tokenizer;
};

TEST_F(Writer, ARowIsItsTemplateFilledIn) {
  const Json row = {{"q", "three"}, {"prompt", "as it is"}};
  EXPECT_EQ(text({}, row), "as it is");
  EXPECT_EQ(text(with_template(), row), "Q: three {x}\nA:");
  const Prompt prompt = PromptWriter(with_template(), tokenizer.get()).write(row, 0, "row 1");
  EXPECT_EQ(prompt.ids, tokenizer->encode(prompt.text, {.add_special_tokens = true}));
  PromptSettings field;
  field.field = "q";
  EXPECT_EQ(text(field, row), "three");
  EXPECT_EQ(PromptWriter(field, tokenizer.get()).write_text("x", 0, "prompt 1").text, "x");
}

TEST_F(Writer, ExamplesStandInFront) {
  PromptSettings s = with_template();
  s.shots = (place / "shots.jsonl").string();
  s.num_shots = 2;
  EXPECT_EQ(text(s, {{"q", "three"}}), "Q: one {x}\nA: 1\n\nQ: two {x}\nA: 2\n\nQ: three {x}\nA:");
  EXPECT_EQ(text(s, {{"q", "one"}}), "Q: two {x}\nA: 2\n\nQ: six {x}\nA: 6\n\nQ: one {x}\nA:");
  s.chat = true;
  s.system = "Be brief.";
  EXPECT_EQ(text(s, {{"q", "three"}}),
            "<system>Be brief.\n<user>Q: one {x}\nA:\n<assistant>1\n<user>Q: two {x}\nA:\n<assistant>2\n"
            "<user>Q: three {x}\nA:\n<assistant>");
  s.chat = false;
  s.system = "";
  s.shot_answer = "q";
  s.shot_separator = "|";
  s.num_shots = 1;
  EXPECT_EQ(text(s, {{"q", "three"}}), "Q: one {x}\nA: one|Q: three {x}\nA:");
}

TEST_F(Writer, MessagesAreAConversation) {
  PromptSettings s;
  s.chat = true;
  s.system = "Ours.";
  const Json turn = {{"role", "user"}, {"content", "Hi"}};
  EXPECT_EQ(text(s, {{"messages", Json::array({turn})}}), "<system>Ours.\n<user>Hi\n<assistant>");
  const Json system = {{"role", "system"}, {"content", "Its own."}};
  EXPECT_EQ(text(s, {{"messages", Json::array({system, turn})}}), "<system>Its own.\n<user>Hi\n<assistant>");
  EXPECT_EQ(text(s, {{"prompt", "Hi"}}), "<system>Ours.\n<user>Hi\n<assistant>");
}

TEST_F(Writer, MistakesAreNamed) {
  const auto says = [](const std::string& message, const char* part) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  says(complaint({}, {{"q", "x"}}), "row 1: prompt: expected a string, found the columns q");
  says(complaint(with_template(), {{"z", "x"}}), "{q}");
  PromptSettings s;
  s.template_file = "nowhere.txt";
  says(complaint(s, {}), "nowhere.txt");
  write_text(place / "bad.txt", "a {b");
  s.template_file = (place / "bad.txt").string();
  says(complaint(s, {}), "bad.txt: character 3");
  s = {};
  s.system = "x";
  says(complaint(s, {}), "--chat");
  s = with_template();
  s.shots = (place / "shots.jsonl").string();
  s.shot_answer = "none";
  says(complaint(s, {{"q", "x"}}), "shots.jsonl: row 1: expected an answer in the column none");
  s.shot_answer = "";
  s.num_shots = 4;
  says(complaint(s, {{"q", "x"}}), "expected 1 to 3");
  s.num_shots.reset();
  EXPECT_EQ(text(s, {{"q", "x"}}).find("Q: one"), 0u) << "three where four are usual";
  s.shots = (place / "odd.jsonl").string();
  const auto with = [&](const char* rows) {
    write_text(place / "odd.jsonl", rows);
    return complaint(s, {{"q", "x"}});
  };
  says(with(R"({"q": "a", "label": "1", "response": "2"})"), "found response and label; --shot-answer");
  says(with(R"({"q": "a", "answer": null})"), "odd.jsonl: row 1: answer: expected an example's answer");
  says(with("{\"q\": \"a\", \"answer\": \"1\"}\n{\"q\": \"b\", \"answer\": \" \"}\n"), "row 2: answer");
  says(with(""), "odd.jsonl: expected examples, found none");
  write_text(place / "latin.txt", "caf\xE9 {q}");
  s = {};
  s.template_file = (place / "latin.txt").string();
  says(complaint(s, {{"q", "x"}}), "latin.txt: expected UTF-8, found other bytes at byte 4");
}

TEST_F(Writer, ALongConversationLosesItsOldestTurns) {
  const ChatWriter writer(*tokenizer);
  Conversation chat(writer, "S");
  chat.say("one");
  chat.answer("two");
  chat.say("three");
  int64_t dropped = 0;
  const Prompt whole = chat.prompt(1000, dropped);
  EXPECT_EQ(whole.text, "<system>S\n<user>one\n<assistant>two\n<user>three\n<assistant>");
  EXPECT_EQ(dropped, 0);
  EXPECT_EQ(whole.ids, tokenizer->encode(whole.text, {.parse_special = true}));
  // A message that fits nowhere takes nothing else with it.
  EXPECT_THROW(chat.prompt(3, dropped), Error);
  EXPECT_EQ(chat.messages().size(), 4u);
  const Prompt shorter = chat.prompt(static_cast<int64_t>(whole.ids.size()) - 1, dropped);
  EXPECT_EQ(shorter.text, "<system>S\n<user>three\n<assistant>");
  EXPECT_EQ(dropped, 1);
  EXPECT_THROW(chat.prompt(3, dropped), Error);
  // Without an answer the turns that were left out are there again.
  chat.unsay();
  EXPECT_EQ(chat.messages().size(), 3u);
  chat.unsay();
  EXPECT_EQ(chat.messages().size(), 3u);
  chat.say("x");
  chat.reset();
  EXPECT_EQ(chat.messages().size(), 1u);
}

}  // namespace
}  // namespace llmtool
