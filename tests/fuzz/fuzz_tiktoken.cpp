// Input: ranks as tiktoken writes them.

#include "fuzz.h"
#include "llmtool/core/error.h"
#include "text/tokenizer_documents.h"

namespace llmtool::test {
std::vector<std::string> seed_corpus() {
  return {"aA== 0\nZQ== 1\nbA== 2\nbw== 3\nIA== 4\nbGw= 5\naGU= 6\naGVsbA== 7\naGVsbG8= 8\nIGg= 9\n",
          "YQ== 0\r\nYWE= 1\r\nYWFh 2\r\n8J+m 3\r\n"};
}
}  // namespace llmtool::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace llmtool;
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    looks_like_tiktoken(text);
    const PipelineTokenizer tokenizer(pipeline_of_tiktoken(text, "r50k_base", "input"), {}, 0);
    const auto ids = tokenizer.encode(
        "hello hell aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa \xF0\x9F\xA6\xA2");
    tokenizer.decode(ids);
    tokenizer.json();
  } catch (const Error&) {
  }
  return 0;
}
