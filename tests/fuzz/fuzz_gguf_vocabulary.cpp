// Input: a GGUF file with a vocabulary.

#include "formats.h"
#include "fuzz.h"
#include "llmtool/core/error.h"
#include "llmtool/io/gguf.h"
#include "llmtool/text/gguf_vocabulary.h"
#include "support.h"

namespace llmtool::test {
namespace {
using Strings = std::vector<std::string>;

std::string file_of(const std::vector<GgufEntry>& metadata) {
  const TempFolder place;
  GgufWriter(place / "vocabulary.gguf", metadata, {}).commit();
  return read_text(place / "vocabulary.gguf");
}
std::vector<int32_t> types(size_t count, std::vector<int32_t> last) {
  std::vector<int32_t> list(count - last.size(), 1);
  list.insert(list.end(), last.begin(), last.end());
  return list;
}
}  // namespace

std::vector<std::string> seed_corpus() {
  const std::string key = "tokenizer.ggml.";
  const Strings bytes = {"h", "e", "l", "o", "Ġ", "w", "ll", "he", "hell", "hello", "Ġw", "<|end|>", "xx"};
  const Strings words = {"[PAD]",         "[UNK]", "[CLS]", "[SEP]", "\xE2\x96\x81hello",
                         "\xE2\x96\x81w", "ld",    "[MASK]"};
  const Strings pieces = {"<unk>", "<s>", "</s>",          "\xE2\x96\x81", "h",     "e",
                          "l",     "o",   "\xE2\x96\x81h", "ll",           "<0x0A>"};
  std::vector<std::string> seeds;
  for (const char* pre : {"gpt-2", "llama-bpe", "falcon", "deepseek-llm", "default"}) {
    seeds.push_back(file_of({{"general.architecture", std::string("gpt2")},
                             {key + "model", std::string("gpt2")},
                             {key + "pre", std::string(pre)},
                             {key + "tokens", bytes},
                             {key + "token_type", types(bytes.size(), {3, 4})},
                             {key + "merges", Strings{"l l", "h e", "he ll", "hell o", "Ġ w"}},
                             {key + "bos_token_id", uint32_t{11}},
                             {key + "eos_token_id", uint32_t{11}},
                             {"tokenizer.chat_template", std::string("{{ messages }}")}}));
  }
  seeds.push_back(file_of({{"general.architecture", std::string("bert")},
                           {key + "model", std::string("bert")},
                           {key + "tokens", words},
                           {key + "token_type", types(words.size(), {3})},
                           {key + "unknown_token_id", uint32_t{1}},
                           {key + "cls_token_id", uint32_t{2}},
                           {key + "seperator_token_id", uint32_t{3}}}));
  for (const char* model : {"llama", "t5"}) {
    std::vector<int32_t> kinds(pieces.size(), 1);
    kinds[0] = 2;
    kinds[1] = kinds[2] = 3;
    kinds.back() = 6;
    std::vector<float> scores;
    for (size_t i = 0; i < pieces.size(); ++i) scores.push_back(-static_cast<float>(i));
    seeds.push_back(file_of({{"general.architecture", std::string("llama")},
                             {key + "model", std::string(model)},
                             {key + "tokens", pieces},
                             {key + "scores", scores},
                             {key + "token_type", kinds}}));
  }
  return seeds;
}
}  // namespace llmtool::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace llmtool;
  static test::MemoryFile file;
  file.set({reinterpret_cast<const char*>(data), size});
  try {
    const GgufFile gguf(file.path());
    const auto tokenizer = tokenizer_of_gguf(gguf.metadata());
    const auto ids =
        tokenizer->encode("hello  world\n<|end|> 123 \xF0\x9F\xA6\xA2", {.add_special_tokens = true});
    tokenizer->decode(ids);
    gguf_vocabulary(*tokenizer);
  } catch (const Error&) {
  }
  return 0;
}
