// Input: a tokenizer.json, a NUL byte, a text.

#include <filesystem>
#include <nlohmann/json.hpp>

#include "formats.h"
#include "fuzz.h"
#include "llmtool/core/error.h"
#include "llmtool/io/json.h"
#include "support.h"
#include "text/pipeline_tokenizer.h"

namespace llmtool::test {
std::vector<std::string> seed_corpus() {
  std::vector<std::string> seeds;
  const std::string text = std::string(1, '\0') + "It's  12 Größen\n<|endoftext|> \xF0\x9F\xA6\xA2 </s>";
  for (const auto& golden :
       std::filesystem::directory_iterator(source_file("tests/reference/goldens_tokenizers"))) {
    // With few tokens, so that what is changed is what decides.
    nlohmann::json document = nlohmann::json::parse(read_text(golden.path() / "tokenizer.json"));
    nlohmann::json& model = document["model"];
    if (model["vocab"].is_array()) {
      model["vocab"].erase(model["vocab"].begin() + 40, model["vocab"].end());
    } else {
      nlohmann::json merges = nlohmann::json::array(), vocab = nlohmann::json::object();
      for (const auto& [token, id] : model["vocab"].items()) {
        if (token.size() < 3 || id < 8) vocab[token] = id;
      }
      for (const auto& merge : model.value("merges", nlohmann::json::array())) {
        const std::string left = merge[0], right = merge[1];
        if (vocab.contains(left) && vocab.contains(right) && vocab.contains(left + right))
          merges.push_back(merge);
      }
      model["vocab"] = vocab;
      if (model.contains("merges")) model["merges"] = merges;
    }
    seeds.push_back(document.dump() + text);
  }
  return seeds;
}
}  // namespace llmtool::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace llmtool;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t cut = std::min(input.find('\0'), size);
  try {
    const PipelineTokenizer tokenizer(read_pipeline(parse_json(input.substr(0, cut), "input"), "input"), {},
                                      0);
    const std::string_view text = input.substr(std::min(cut + 1, size));
    const auto ids = tokenizer.encode(text, {.add_special_tokens = true});
    tokenizer.decode(ids);
    tokenizer.encode(text, {.parse_special = false, .continues = true});
  } catch (const Error&) {
  }
  return 0;
}
