// tiktoken's rank files: https://github.com/openai/tiktoken

#include <algorithm>

#include "llmtool/core/error.h"
#include "llmtool/io/base64.h"
#include "text/bpe_model.h"
#include "text/byte_level.h"
#include "text/pre_tokenizer_names.h"
#include "text/tokenizer_documents.h"

namespace llmtool {

namespace {
using nlohmann::json;

/// What the file does not say of an encoding.
struct Encoding {
  std::vector<std::string_view> names;
  int64_t ranks;
  std::string_view words;
  std::vector<std::pair<int64_t, std::string>> special;
};

std::vector<std::pair<int64_t, std::string>> llama3_special() {
  std::vector<std::pair<int64_t, std::string>> list = {{128000, "<|begin_of_text|>"},
                                                       {128001, "<|end_of_text|>"},
                                                       {128006, "<|start_header_id|>"},
                                                       {128007, "<|end_header_id|>"},
                                                       {128009, "<|eot_id|>"}};
  int64_t reserved = 0;
  for (int64_t id = 128002; id < 128256; ++id) {
    if (id == 128006 || id == 128007 || id == 128009) continue;
    list.emplace_back(id, cat("<|reserved_special_token_", reserved++, "|>"));
  }
  return list;
}

const std::vector<Encoding>& encodings() {
  static const std::vector<Encoding> rows = {
      {{"r50k_base", "gpt2"}, 50256, kGpt2Words, {{50256, "<|endoftext|>"}}},
      {{"p50k_base"}, 50280, kGpt2Words, {{50256, "<|endoftext|>"}}},
      {{"p50k_edit"},
       -1,
       kGpt2Words,
       {{50256, "<|endoftext|>"},
        {50281, "<|fim_prefix|>"},
        {50282, "<|fim_middle|>"},
        {50283, "<|fim_suffix|>"}}},
      {{"cl100k_base"},
       100256,
       kCl100kWords,
       {{100257, "<|endoftext|>"},
        {100258, "<|fim_prefix|>"},
        {100259, "<|fim_middle|>"},
        {100260, "<|fim_suffix|>"},
        {100276, "<|endofprompt|>"}}},
      {{"o200k_base"}, 199998, kO200kWords, {{199999, "<|endoftext|>"}, {200018, "<|endofprompt|>"}}},
      {{"llama3"}, 128000, kLlama3Words, llama3_special()},
      {{"qwen"},
       151643,
       kQwen2Words,
       {{151643, "<|endoftext|>"}, {151644, "<|im_start|>"}, {151645, "<|im_end|>"}}}};
  return rows;
}

const Encoding& encoding_of(const std::string& name, int64_t ranks, const std::string& origin) {
  for (const Encoding& e : encodings()) {
    if (std::find(e.names.begin(), e.names.end(), name) != e.names.end()) return e;
  }
  for (const Encoding& e : encodings()) {
    if (e.ranks == ranks) return e;
  }
  throw Error(cat(origin, ": ", ranks,
                  " ranks, and a name that is no encoding's: which expression cuts the text "
                  "into words is not known (r50k_base, p50k_base, cl100k_base, o200k_base, "
                  "Llama 3 and Qwen are)"));
}

/// "IQ== 0": the token and its rank.
std::pair<std::string, int64_t> rank_of(std::string_view line, const std::string& where) {
  const size_t space = line.find(' ');
  const std::string_view digits = space == std::string_view::npos ? "" : line.substr(space + 1);
  if (digits.empty() || digits.size() > 9 || digits.find_first_not_of("0123456789") != std::string_view::npos)
    throw Error(where + ": expected base64 and a rank");
  return {base64_decoded(line.substr(0, space), where), std::stoll(std::string(digits))};
}
}  // namespace

bool looks_like_tiktoken(std::string_view text) {
  const std::string_view line = text.substr(0, text.find('\n'));
  try {
    return line.size() < 256 &&
           !rank_of(line.ends_with('\r') ? line.substr(0, line.size() - 1) : line, "").first.empty();
  } catch (const Error&) {
    return false;
  }
}

namespace {
Vocabulary pieces_of(const std::string& text, const std::string& origin) {
  Vocabulary pieces;
  int64_t line = 0;
  for (size_t from = 0; from < text.size();) {
    const size_t end = std::min(text.find('\n', from), text.size());
    std::string_view content = std::string_view(text).substr(from, end - from);
    if (content.ends_with('\r')) content.remove_suffix(1);
    const std::string where = cat(origin, ": line ", ++line);
    from = end + 1;
    if (content.empty()) continue;
    const auto [token, rank] = rank_of(content, where);
    if (token.empty()) throw Error(where + ": expected a token, found none");
    pieces.add(token, rank, where);
  }
  return pieces;
}

json document_of(const Vocabulary& pieces, const Encoding& encoding, const std::vector<BpeRule>& rules) {
  const auto spelled = [&](TokenId id) { return characters_of_bytes(pieces.token(id)); };
  json vocab = json::object(), merges = json::array();
  for (TokenId id = 0; id < pieces.size(); ++id) {
    if (pieces.has(id)) vocab[spelled(id)] = id;
  }
  for (const BpeRule& rule : rules) merges.push_back({spelled(rule.left), spelled(rule.right)});
  json document = empty_document();
  document["model"] = {{"type", "BPE"}, {"vocab", std::move(vocab)}, {"merges", std::move(merges)}};
  document["pre_tokenizer"] = sequence_step(
      "pretokenizers", {split_step(std::string(encoding.words)), byte_level_step(false, false)});
  document["decoder"] = byte_level_step(true, true);
  for (const auto& [id, content] : encoding.special)
    document["added_tokens"].push_back(added_token(id, content, true));
  return document;
}
}  // namespace

Pipeline pipeline_of_tiktoken(const std::string& text, const std::string& name, const std::string& origin) {
  Vocabulary pieces = pieces_of(text, origin);
  const Encoding& encoding = encoding_of(name, pieces.size(), origin);
  Pipeline pipeline = read_pipeline(document_of(pieces, encoding, {}), origin);
  // By ranks: where two ways give one token they are equal, which a list of merges cannot say.
  const std::vector<BpeRule> rules = rules_of_ranks(pieces);
  pipeline.model =
      std::make_unique<BpeModel>(std::move(pieces), rules, BpeOptions{.ignore_merges = true}, true);
  pipeline.json = [text, origin, &encoding] {
    const Vocabulary again = pieces_of(text, origin);
    return text_of_document(document_of(again, encoding, rules_of_ranks(again)));
  };
  return pipeline;
}

}  // namespace llmtool
