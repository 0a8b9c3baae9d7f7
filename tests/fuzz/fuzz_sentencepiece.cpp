// Input: the bytes of a tokenizer.model.

#include "fuzz.h"
#include "llmtool/core/error.h"
#include "llmtool/text/train_tokenizer.h"
#include "text/sentencepiece_tokenizer.h"

namespace llmtool::test {
std::vector<std::string> seed_corpus() {
  std::vector<std::string> seeds;
  for (const char* type : {"unigram", "bpe", "word", "char"}) {
    TokenizerTraining settings;
    settings.model_type = type;
    settings.vocab_size = 40;
    settings.byte_fallback = false;
    bool given = false;
    seeds.push_back(train_tokenizer(settings, [&](std::string_view& text) {
                      text =
                          "the old river runs under an old bridge where grey geese sleep until light comes\n"
                          "seven geese and a river, the bridge and the light\n";
                      return !std::exchange(given, true);
                    }).model);
  }
  return seeds;
}
}  // namespace llmtool::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace llmtool;
  try {
    const SentencePieceTokenizer tokenizer({reinterpret_cast<const char*>(data), size}, "input", {});
    for (const bool continues : {false, true}) {
      const auto ids =
          tokenizer.encode("the  gr\xC3\xBCne river\n runs \xF0\x9F\xA6\xA2 </s>",
                           {.add_special_tokens = true, .parse_special = true, .continues = continues});
      tokenizer.decode(ids);
    }
    for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) tokenizer.surface(id, id % 2 == 0);
    tokenizer_json(tokenizer.model());
  } catch (const Error&) {
  }
  return 0;
}
