// Output held to a form: what compiling it takes, and what the masks of tokens take, new ones and known ones.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "bench.h"
#include "llmtool/core/rng.h"
#include "llmtool/grammar/gbnf.h"
#include "llmtool/grammar/held_text.h"
#include "llmtool/grammar/json_schema.h"
#include "llmtool/io/files.h"
#include "llmtool/io/json.h"

using namespace llmtool;
using namespace llmtool::bench;

namespace {
const char* const kJson = R"GBNF(
root   ::= value
value  ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" ws (member ("," ws member)*)? "}"
member ::= string ":" ws value
array  ::= "[" ws (value ("," ws value)*)? "]"
string ::= "\"" ([^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}))* "\""
number ::= "-"? ("0" | [1-9] [0-9]{0,15}) ("." [0-9]+)? ([eE] [-+]? [0-9]+)?
ws     ::= "" | " " | "\n" [ \t]{0,20}
)GBNF";

TokenId random_token(const TokenMask& mask, Rng& rng) {
  auto left = rng.below(static_cast<uint64_t>(mask.count));
  for (TokenId id = 0;; ++id) {
    if (mask.allows(id) && left-- == 0) return id;
  }
}

struct Tally {
  int64_t tokens = 0, made = 0;
  double time = 0, time_of_made = 0;
};

/// Writes random answers; only what holds them to the form is timed.
Tally write(const Grammar& grammar, TokenMasks& masks, size_t vocab_size, int answers, int length,
            TokenId end, uint64_t seed) {
  Tally tally;
  Rng rng(seed);
  const std::vector<float> logits(vocab_size);
  for (int answer = 0; answer < answers; ++answer) {
    HeldText held(grammar, masks, false);
    for (int i = 0; i < length && !held.ended(); ++i) {
      const TokenId id = random_token(held.mask(), rng);
      if (id == end) break;
      const int64_t made = masks.misses();
      const double time = seconds([&] {
        held.push(id);
        held.masked(logits);
      });
      const bool is_new = masks.misses() != made;
      (is_new ? tally.time_of_made : tally.time) += time;
      ++(is_new ? tally.made : tally.tokens);
    }
  }
  return tally;
}
}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Output held to a form");
  std::string model, file, schema;
  int answers = 200, length = 100;
  double step = 25;
  app.add_option("--tokenizer", model, "Tokenizer")->required();
  app.add_option("--grammar", file, "GBNF file (default: JSON)");
  app.add_option("--json-schema", schema, "JSON Schema file, in place of a grammar");
  app.add_option("--answers", answers)->check(CLI::PositiveNumber);
  app.add_option("--length", length, "Tokens of an answer")->check(CLI::PositiveNumber);
  app.add_option("--step-ms", step, "A decoding step of the model that shares are of")
      ->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);

  const auto tokenizer = load_tokenizer(model);
  const auto vocab_size = static_cast<size_t>(tokenizer->vocab_size());
  const TokenId end = tokenizer->eos_id();
  const std::string source = file.empty() ? kJson : read_file(file);
  std::shared_ptr<const Grammar> grammar;
  const nlohmann::json rules = schema.empty() ? nlohmann::json() : read_json(schema);
  const double compile = seconds(
      [&] { grammar = schema.empty() ? parse_gbnf(source, "grammar") : parse_json_schema(rules, schema); });
  std::unique_ptr<TokenMasks> masks;
  const double trie = seconds([&] {
    masks = std::make_unique<TokenMasks>(*tokenizer, tokenizer->vocab_size(), std::vector<TokenId>{end});
  });
  const Tally first = write(*grammar, *masks, vocab_size, answers, length, end, 1);
  const Tally later = write(*grammar, *masks, vocab_size, answers, length, end, 2);
  const auto mean = [](double time, int64_t n) { return n > 0 ? 1e3 * time / static_cast<double>(n) : 0; };
  const double warm = mean(later.time + later.time_of_made, later.tokens + later.made);
  std::printf(
      "{\"vocabulary\": %zu, \"compile_ms\": %.3f, \"trie_ms\": %.1f, \"new_masks\": %lld, \"new_mask_ms\": "
      "%.3f, \"known_mask_ms\": %.4f, \"tokens_later\": %lld, \"new_masks_later\": %lld, \"mean_ms_later\": "
      "%.4f, \"share_of_step\": %.4f}\n",
      vocab_size, 1e3 * compile, 1e3 * trie, static_cast<long long>(first.made),
      mean(first.time_of_made, first.made), mean(later.time, later.tokens),
      static_cast<long long>(later.tokens + later.made), static_cast<long long>(later.made), warm,
      warm / step);
}
