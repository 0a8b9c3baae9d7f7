// Input: the name of a format, a line break, and a file of it, whose rows are encoded in every way.

#include <cstring>
#include <nlohmann/json.hpp>

#include "data/example_encoder.h"
#include "data/row_reader.h"
#include "formats.h"
#include "fuzz.h"
#include "llmtool/core/error.h"
#include "support.h"

namespace {
using namespace llmtool;

class Bytes : public ByteSource {
 public:
  explicit Bytes(std::string_view text) : text_(text) {}
  size_t read(char* data, size_t size) override {
    const size_t n = std::min(size, text_.size());
    std::memcpy(data, text_.data(), n);
    text_.remove_prefix(n);
    return n;
  }

 private:
  std::string_view text_;
};

constexpr const char* kPlain =
    "{% for m in messages %}{{ m.role }}: {{ m.content }}</s>{% endfor %}{% if add_generation_prompt "
    "%}assistant: {% endif %}";
constexpr const char* kMarked =
    "{% for m in messages %}{{ m.role }}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}";

/// The ways in which rows are read: what is masked, by which template, as what.
std::vector<ExampleOptions> ways() {
  std::vector<ExampleOptions> made;
  for (const char* chat : {"", kPlain, kMarked}) {
    ExampleOptions options;
    options.data.chat_template = chat;
    options.loss_on = *chat ? LossOn::assistant : LossOn::completion;
    options.max_length = 8;
    made.push_back(options);
  }
  made[2].data.prompt_template = "{prompt}: ";
  made.push_back(made[0]);
  made[3].data.label_column = "label";
  return made;
}
}  // namespace

namespace llmtool::test {
std::vector<std::string> seed_corpus() {
  const std::string rows[] = {
      R"({"text": "a b"})",
      R"({"prompt": "a", "completion": " b", "label": 1})",
      R"({"instruction": "a", "input": "", "output": "b", "system": "s", "history": [["q", "a"]]})",
      R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "tools": []})",
      R"({"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]})",
      R"({"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": "{\"name\": 1}"}]})"};
  std::string lines = "jsonl\n", list = "json\n[";
  std::vector<std::string> seeds = {"csv\ntext,label\n\"a, \"\"b\"\"\n\",1\n",
                                    "tsv\nprompt\tcompletion\na\tb\r\n"};
  for (const std::string& row : rows) {
    lines += row + "\n";
    list += (list.back() == '[' ? "" : ", ") + row;
    seeds.push_back("json\n{\"rows\": [" + row + "]}");
  }
  seeds.push_back(lines);
  seeds.push_back(list + "]");
  return seeds;
}
}  // namespace llmtool::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto tokenizer =
      load_tokenizer(test::source_file("tests/reference/goldens_tokenizers/metaspace_bpe/tokenizer.json"));
  static const std::vector<ExampleOptions> options = ways();
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t line = std::min(input.find('\n'), size);
  for (const ExampleOptions& way : options) {
    try {
      const ExampleEncoder encoder(*tokenizer, way);
      Bytes bytes(input.substr(std::min(line + 1, size)));
      read_rows(bytes, "input", {std::string(input.substr(0, line)), {}}, [&](RawRow&& row) {
        try {
          encoder.encode(parse_row(row, "row"), "row");
        } catch (const Error&) {
        }
      });
    } catch (const Error&) {
    }
  }
  return 0;
}
