// tokenize: from text to a tokenizer, from text to ids, and back.

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "support.h"

namespace llmtool {
namespace {

using nlohmann::json;
using test::read_text;
using test::run_program;
using test::RunResult;
using test::TempFolder;
using test::write_text;
using Arguments = std::vector<std::string>;

#define EXPECT_SAYS(message, part) EXPECT_NE((message).find(part), std::string::npos) << (message)

/// A text with enough different words for every kind of tokenizer.
std::string sample_text() {
  const char* const words[] = {"the",   "river", "runs", "under", "an",    "old",   "stone", "bridge",
                               "where", "seven", "grey", "geese", "sleep", "until", "light", "comes"};
  std::string text;
  uint32_t state = 7;
  for (int i = 0; i < 4000; ++i) {
    state = state * 1664525 + 1013904223;
    text += words[state >> 28];
    text += state % 11 == 0 ? ".\n" : " ";
  }
  return text;
}

class Tokenize : public ::testing::Test {
 protected:
  void SetUp() override { write_text(place / "text.txt", sample_text()); }

  std::string path(const std::string& name) const { return (place / name).string(); }
  /// Trains into folder `name`; the bytes of its tokenizer.model.
  std::string train(const std::string& name, Arguments arguments, const std::string& input = "") {
    arguments.insert(arguments.begin(), {"train", "--output", path(name), "--quiet"});
    const RunResult r = run_program("tokenize", arguments, input);
    EXPECT_EQ(r.code, 0) << r.err;
    return read_text(place / name / "tokenizer.model");
  }
  RunResult run(const Arguments& arguments, const std::string& input = "") {
    return run_program("tokenize", arguments, input);
  }

  TempFolder place;
};

TEST_F(Tokenize, EveryKindGivesTheTextBack) {
  const std::string text =
      "the river\truns  under \n\n an old — bridge,\tnaïve 日本 🦢 \\n <s> </s> <0x0A>   \n geese\n";
  for (const char* type : {"unigram", "bpe", "word", "char"}) {
    const std::string vocabulary = std::string(type) == "char"   ? "0"
                                   : std::string(type) == "word" ? "30"
                                                                 : "330";
    const std::string corpus = sample_text() + (std::string(type) == "char" ? text + "/" : "");
    write_text(place / "corpus.txt", corpus);
    train(type, {"--input", path("corpus.txt"), "--model-type", type, "--vocab-size", vocabulary});
    const bool whole = std::string(type) != "word";  // words that it has not seen are unknown to it
    const std::string probe = whole ? text : "the river runs\nthe bridge";
    const RunResult ids = run({"encode", "--model", path(type)}, probe);
    ASSERT_EQ(ids.code, 0) << ids.err;
    const RunResult back = run({"decode", "--model", path(type)}, ids.out);
    EXPECT_EQ(back.code, 0) << back.err;
    EXPECT_EQ(back.out, probe) << type;
  }
}

TEST_F(Tokenize, TheSameTextGivesTheSameTokenizerHoweverItComes) {
  const std::string text = sample_text();
  const Arguments settings = {"--model-type", "bpe", "--vocab-size", "320", "--byte-fallback", "true"};
  const auto with_input = [&](const std::string& input) {
    Arguments arguments = settings;
    arguments.insert(arguments.end(), {"--input", input});
    return arguments;
  };
  const std::string expected = train("file", with_input(path("text.txt")));
  ASSERT_FALSE(expected.empty());
  EXPECT_EQ(train("stdin", with_input("-"), text), expected);
  ::mkdir(path("folder").c_str(), 0700);
  write_text(place / "folder" / "a.txt", text);
  write_text(place / "folder" / "ignored.bin", "xyz");
  EXPECT_EQ(train("from-folder", with_input(path("folder"))), expected);
  EXPECT_EQ(train("glob", with_input(path("te*.txt"))), expected);
  std::string rows;
  for (size_t at = 0, end; at < text.size(); at = end) {
    end = text.find('\n', at);
    end = end == std::string::npos ? text.size() : end + 1;
    rows += json{{"body", text.substr(at, end - at)}}.dump() + "\n";
  }
  write_text(place / "rows.jsonl", rows);
  Arguments of_rows = with_input(path("rows.jsonl"));
  of_rows.insert(of_rows.end(), {"--field", "body"});
  EXPECT_EQ(train("rows", of_rows), expected);
  ASSERT_EQ(std::system(("gzip -k " + path("text.txt")).c_str()), 0);
  EXPECT_EQ(train("gz", with_input(path("text.txt.gz"))), expected);
}

TEST_F(Tokenize, ConfigAndFlagsSayTheSame) {
  const std::string by_flags =
      train("a", {"--input", path("text.txt"), "--model-type", "unigram", "--vocab-size", "300"});
  write_text(place / "c.json",
             run({"train", "--model-type", "unigram", "--vocab-size", "300", "--print-config"}).out);
  EXPECT_EQ(train("b", {"--config", path("c.json"), "--input", path("text.txt")}), by_flags);
}

TEST_F(Tokenize, RowsCarryIdsAndPieces) {
  train("t", {"--input", path("text.txt"), "--model-type", "bpe", "--vocab-size", "320"});
  const std::string rows = "{\"text\": \"the river\"}\n{\"text\": \"\"}\n{\"text\": \"old\\nstone\"}\n";
  const RunResult r = run({"encode", "--model", path("t"), "--input-format", "jsonl", "--json"}, rows);
  ASSERT_EQ(r.code, 0) << r.err;
  std::istringstream lines(r.out);
  std::vector<json> found;
  for (std::string line; std::getline(lines, line);) found.push_back(json::parse(line));
  ASSERT_EQ(found.size(), 3u);
  EXPECT_TRUE(found[1]["ids"].empty());
  for (const json& row : found) EXPECT_EQ(row["ids"].size(), row["pieces"].size());
  std::string spelled;
  for (const json& piece : found[0]["pieces"]) spelled += piece.get<std::string>();
  EXPECT_EQ(spelled, "the▁river");
  const RunResult back = run({"decode", "--model", path("t"), "--input-format", "jsonl", "--json"}, r.out);
  EXPECT_EQ(back.out, "{\"text\":\"the river\"}\n{\"text\":\"\"}\n{\"text\":\"old\\nstone\"}\n") << back.err;
}

TEST_F(Tokenize, TheIdsDoNotDependOnTheThreads) {
  train("t", {"--input", path("text.txt"), "--vocab-size", "320"});
  std::string text;
  for (int i = 0; i < 20; ++i) text += sample_text();
  const RunResult one = run({"encode", "--model", path("t"), "--threads", "1"}, text);
  EXPECT_EQ(one.code, 0) << one.err;
  EXPECT_EQ(run({"encode", "--model", path("t"), "--threads", "5"}, text).out, one.out);
}

TEST_F(Tokenize, AShardIsWhatItsDescriptionSays) {
  train("t", {"--input", path("text.txt"), "--model-type", "bpe", "--vocab-size", "320"});
  const std::string rows = "{\"text\": \"the river\"}\n{\"text\": \"old\"}\n";
  const RunResult r =
      run({"encode", "--model", path("t"), "--input-format", "jsonl", "--output", path("s.bin")}, rows);
  ASSERT_EQ(r.code, 0) << r.err;
  std::vector<int> expected;
  for (const char* text : {"the river", "old"}) {
    std::istringstream ids(run({"encode", "--model", path("t")}, text).out);
    for (int id; ids >> id;) expected.push_back(id);
    expected.push_back(1);  // EOS ends a document
  }
  const std::string bytes = read_text(place / "s.bin");
  ASSERT_EQ(bytes.size(), 64 + 2 * expected.size());
  EXPECT_EQ(bytes.substr(0, 8), "llmtoks\n");
  const auto number = [&](size_t at, size_t width) {
    uint64_t value = 0;
    for (size_t i = width; i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
    return value;
  };
  EXPECT_EQ(number(8, 4), 1u);
  EXPECT_EQ(number(12, 4), 2u);
  EXPECT_EQ(number(16, 8), expected.size());
  const json about = json::parse(run({"inspect", "--model", path("t"), "--json"}).out);
  char hash[17];
  std::snprintf(hash, sizeof hash, "%016llx", static_cast<unsigned long long>(number(24, 8)));
  EXPECT_EQ(about["hash"], hash);
  EXPECT_EQ(number(32, 4), 1u);
  for (size_t i = 36; i < 64; ++i) EXPECT_EQ(bytes[i], 0);
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_EQ(number(64 + 2 * i, 2), static_cast<uint64_t>(expected[i]));
}

TEST_F(Tokenize, WhatIsRepairedIsSaidAndRefusedWhenStrict) {
  std::string text = sample_text();
  text.insert(100, std::string("\xff\xfe\0", 3));
  write_text(place / "bad.txt", text);
  const Arguments base = {"train", "--input",  path("bad.txt"), "--vocab-size",
                          "320",   "--output", path("bad")};
  const RunResult repaired = run(base);
  EXPECT_EQ(repaired.code, 0);
  EXPECT_SAYS(repaired.err, "2 bytes that are not UTF-8 replaced by U+FFFD, 1 NUL bytes left out");
  Arguments strict = base;
  strict.push_back("--strict");
  const RunResult refused = run(strict);
  EXPECT_EQ(refused.code, 1);
  EXPECT_SAYS(refused.err, "bad.txt");
}

TEST_F(Tokenize, ALongLineIsSplitNotDropped) {
  std::string text = sample_text();
  for (char& c : text) c = c == '\n' ? ' ' : c;
  for (int i = 0; i < 200; ++i) text += " zebra";
  write_text(place / "long.txt", text);
  const RunResult r = run({"train", "--input", path("long.txt"), "--vocab-size", "30", "--model-type", "word",
                           "--output", path("long")});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_SAYS(r.err, "lines longer than 4096 bytes were split");
  const json row = json::parse(run({"encode", "--model", path("long"), "--json"}, " zebra").out);
  EXPECT_EQ(row["pieces"], json::array({"▁zebra"}));
}

TEST_F(Tokenize, AUserSymbolStaysWhole) {
  train("t", {"--input", path("text.txt"), "--vocab-size", "330", "--user-symbol", "<|user|>",
              "--user-symbol", "a,\"b"});
  const json row = json::parse(run({"encode", "--model", path("t"), "--json"}, "x<|user|>y a,\"b").out);
  for (const char* symbol : {"<|user|>", "a,\"b"}) {
    EXPECT_NE(std::find(row["pieces"].begin(), row["pieces"].end(), symbol), row["pieces"].end()) << row;
  }
}

TEST_F(Tokenize, InspectCounts) {
  train("t", {"--input", path("text.txt"), "--model-type", "char", "--vocab-size", "0"});
  const RunResult r = run({"inspect", "--model", path("t"), "--json", "-"}, "the öld~");
  const json about = json::parse(r.out);
  EXPECT_EQ(about["special_tokens"], (json{{"<unk>", 0}, {"</s>", 1}}));
  EXPECT_EQ(about["bytes"], 9);
  EXPECT_EQ(about["characters"], 8);
  EXPECT_EQ(about["tokens"], 8);
  EXPECT_DOUBLE_EQ(about["unknown_rate"], 2.0 / 8);  // ö and ~
  EXPECT_DOUBLE_EQ(about["characters_per_token"], 1.0);
  EXPECT_DOUBLE_EQ(about["bytes_per_token"], 9.0 / 8);
}

TEST_F(Tokenize, MistakesAreNamed) {
  train("t", {"--input", path("text.txt"), "--vocab-size", "320"});
  write_text(place / "empty.txt", "");
  write_text(place / "broken.jsonl", "{\"text\": \"a\"}\n{\"text\": 3}\n");
  write_text(place / "broken.model", "not a model");
  struct Case {
    Arguments arguments;
    int code;
    std::string said;
  };
  const Case cases[] = {
      {{"train", "--input", path("none.txt"), "--output", path("x")}, 2, "none.txt"},
      {{"train", "--input", path("empty.txt"), "--output", path("x")}, 1, "expected text to train on"},
      {{"train", "--input", path("text.txt"), "--vocab-size", "20", "--output", path("x")}, 2, "vocab_size"},
      {{"train", "--input", path("text.txt"), "--vocab-size", "300"}, 2, "--output"},
      {{"train", "--input", path("text.txt"), "--model-type", "trie", "--output", path("x")},
       2,
       "--model-type"},
      {{"train", "--input", path("text.txt"), "--character-coverage", "2", "--output", path("x")},
       2,
       "character_coverage"},
      {{"train", "--input", path("text.txt"), "--vocab-size", "300", "--output", path("text.txt")},
       1,
       "text.txt"},
      {{"encode", "--model", path("t"), path("broken.jsonl")}, 1, "broken.jsonl: row 2"},
      {{"encode", "--model", path("nowhere")}, 2, "nowhere"},
      {{"encode", "--model", path("broken.model")}, 1, "broken.model"},
      {{"decode", "--model", path("t"), path("text.txt")}, 1, "line 1: expected ids"}};
  for (const Case& c : cases) {
    const RunResult r = run(c.arguments);
    EXPECT_EQ(r.code, c.code) << r.err;
    EXPECT_SAYS(r.err, c.said);
    EXPECT_EQ(r.out, "");
  }
  const RunResult beyond = run({"decode", "--model", path("t")}, "5 99999\n");
  EXPECT_EQ(beyond.code, 1);
  EXPECT_SAYS(beyond.err, "99999");
}

TEST_F(Tokenize, ByteLevelBpeIsTrainedSavedAndRead) {
  const RunResult trained = run({"train", "--model-type", "byte-bpe", "--vocab-size", "300", "--input",
                                 path("text.txt"), "--output", path("gpt"), "--json"});
  ASSERT_EQ(trained.code, 0) << trained.err;
  EXPECT_EQ(json::parse(trained.out).at("vocab_size"), 300);
  EXPECT_FALSE(std::filesystem::exists(place / "gpt" / "tokenizer.model"));
  EXPECT_EQ(json::parse(read_text(place / "gpt" / "tokenizer.json")).at("model").at("type"), "BPE");
  const std::string text = "the river\truns  <|endoftext|> na\xC3\xAFve \xF0\x9F\xA6\xA2\n\n";
  const RunResult encoded = run({"encode", "--model", path("gpt"), "--no-parse-special"}, text);
  ASSERT_EQ(encoded.code, 0) << encoded.err;
  EXPECT_EQ(run({"decode", "--model", path("gpt")}, encoded.out).out, text);
  const RunResult parsed = run({"encode", "--model", path("gpt")}, "<|endoftext|>");
  EXPECT_EQ(parsed.out, "0\n");
}

TEST_F(Tokenize, CheckNamesTheRowsThatDiffer) {
  const std::string model =
      test::source_file("tests/reference/goldens_tokenizers/bert/tokenizer.json").string();
  const std::string rows =
      test::source_file("tests/reference/goldens_tokenizers/bert/with_special.jsonl").string();
  const RunResult same = run({"check", model, "--against", rows});
  EXPECT_EQ(same.code, 0) << same.err;
  EXPECT_SAYS(same.out, "40 of 40 rows agree");
  write_text(place / "rows.jsonl", "{\"text\": \"a\", \"ids\": [1, 2]}\n");
  const RunResult other = run({"check", model, "--against", path("rows.jsonl")});
  EXPECT_EQ(other.code, 1);
  EXPECT_SAYS(other.out, "rows.jsonl: row 1: \"a\": at 0: expected 1 \"[UNK]\", found 2 \"[CLS]\"");
  EXPECT_SAYS(other.out, "0 of 1 rows agree");
  const RunResult table = run({"check", model, "--against", path("rows.jsonl"), "--json"});
  EXPECT_EQ(json::parse(table.out).at("agree"), 0);
  write_text(place / "rows.jsonl", "{\"text\": \"a\"}\n");
  EXPECT_SAYS(run({"check", model, "--against", path("rows.jsonl")}).err, "row 1: ids: expected a list");
}

TEST_F(Tokenize, TemplateRendersConversationsAndTheirIds) {
  std::filesystem::create_directories(place / "chat");
  std::filesystem::copy_file(
      test::source_file("tests/reference/goldens_tokenizers/byte_level_bpe/tokenizer.json"),
      place / "chat" / "tokenizer.json");
  write_text(place / "chat" / "tokenizer_config.json",
             json{{"eos_token", "<|endoftext|>"},
                  {"chat_template",
                   "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
                   "{% if add_generation_prompt %}assistant:{% endif %}{% if tools %}{{ tools | tojson }}{% "
                   "endif %}"}}
                 .dump());
  const std::string row = R"({"messages": [{"role": "user", "content": "Hi"}], "add_generation_prompt": true,
 "tools": [{"name": "f", "a": 1}]})";
  std::string line = row;
  line.erase(line.find('\n'), 1);
  const RunResult r =
      run({"template", "--model", path("chat"), "--input-format", "jsonl", "--json"}, line + "\n");
  ASSERT_EQ(r.code, 0) << r.err;
  const json answer = json::parse(r.out);
  EXPECT_EQ(answer.at("text"), "user: Hi<|endoftext|>assistant:[{\"name\": \"f\", \"a\": 1}]");
  const auto ids = answer.at("ids").get<std::vector<int>>();
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 0), 1);
  EXPECT_EQ(run({"template", "--model", path("chat")}, line + "\n").out,
            answer.at("text").get<std::string>() + "\n");
  const RunResult bad = run({"template", "--model", path("chat")}, "{\"messages\": 3}\n");
  EXPECT_EQ(bad.code, 1);
  EXPECT_SAYS(bad.err, "standard input: row 1: messages: expected a list, found 3");
}

}  // namespace
}  // namespace llmtool
