#include <fstream>
#include <iostream>

#include "llmtool/core/error.h"
#include "llmtool/io/json.h"
#include "tokenize_text.h"

namespace llmtool {

namespace {
constexpr size_t kShown = 10;  // differences that are printed

/// An id with its piece, for a message.
std::string named(const Tokenizer& tokenizer, const std::vector<TokenId>& ids, size_t at) {
  if (at >= ids.size()) return "the end";
  std::string piece;
  try {
    piece = tokenizer.piece(ids[at]);
  } catch (const Error&) {
    return cat(ids[at], " (no token)");
  }
  return cat(ids[at], " ",
             nlohmann::json(piece).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

std::string difference(const Tokenizer& tokenizer, const std::vector<TokenId>& expected,
                       const std::vector<TokenId>& found) {
  size_t at = 0;
  while (at < expected.size() && at < found.size() && expected[at] == found[at]) ++at;
  return cat("at ", at, ": expected ", named(tokenizer, expected, at), ", found ",
             named(tokenizer, found, at));
}
}  // namespace

int check_tokenizer(const Tokenizer& tokenizer, const std::string& rows, const EncodeOptions& options,
                    bool json) {
  std::ifstream in(rows, std::ios::binary);
  if (!in) throw UsageError(rows + ": cannot be opened");
  int64_t total = 0, differ = 0;
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  const auto report = [&](int64_t row, const nlohmann::json& text, const std::string& what) {
    if (list.size() >= kShown) return;
    list.push_back({{"row", row}, {"difference", what}});
    if (!json) std::cout << rows << ": row " << row << ": " << shown(text) << ": " << what << "\n";
  };
  std::string line;
  for (int64_t row = 1; std::getline(in, line); ++row) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string where = cat(rows, ": row ", row);
    const nlohmann::json content = parse_json(line, where);
    const JsonObject object(content, where);
    const std::string text = object.string("text");
    if (!object.has("ids")) throw Error(where + ": ids: expected a list of integers, found nothing");
    const std::vector<int64_t> list_of_ids = object.integers("ids", 0, INT32_MAX);
    const std::vector<TokenId> expected(list_of_ids.begin(), list_of_ids.end());
    const std::vector<TokenId> found = tokenizer.encode(text, options);
    ++total;
    std::string what;
    if (found != expected) what = difference(tokenizer, expected, found);
    if (what.empty() && object.has("decoded")) {
      const std::string decoded = tokenizer.decode(expected);
      if (decoded != object.string("decoded"))
        what = cat("expected the text ", shown(object.string("decoded")), ", found ", shown(decoded));
    }
    if (what.empty()) continue;
    ++differ;
    report(row, text, what);
  }
  if (json) {
    std::cout
        << nlohmann::ordered_json{{"rows", total}, {"agree", total - differ}, {"differences", list}}.dump()
        << "\n";
  } else {
    std::cout << total - differ << " of " << total << " rows agree\n";
  }
  return differ == 0 ? 0 : 1;
}

}  // namespace llmtool
