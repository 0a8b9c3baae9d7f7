// Files of JSON Schema.

#include "grammar/decimal.h"
#include "llmtool/core/error.h"
#include "llmtool/grammar/json_schema.h"
#include "llmtool/io/files.h"
#include "llmtool/io/json.h"

namespace llmtool {

namespace {
using nlohmann::json;

/// Follows the text of a document and refuses the numbers that a parsed one does not keep.
class ExactNumbers final : public nlohmann::json_sax<json> {
 public:
  explicit ExactNumbers(const std::string& origin) : origin_(origin) {}

  bool null() override { return scalar(); }
  bool boolean(bool) override { return scalar(); }
  bool number_integer(number_integer_t) override { return scalar(); }
  bool number_unsigned(number_unsigned_t) override { return scalar(); }
  bool number_float(number_float_t value, const string_t& text) override {
    begin();
    if (Decimal(text) != Decimal::of(json(value))) {
      throw UsageError(cat(origin_, " at #", path_.to_string(),
                           ": expected an integer of 64 bits or a number that a double holds, found ", text));
    }
    return end();
  }
  bool string(string_t&) override { return scalar(); }
  bool binary(binary_t&) override { return scalar(); }
  bool start_object(size_t) override { return enter(false); }
  bool start_array(size_t) override { return enter(true); }
  bool key(string_t& name) override {
    path_.push_back(name);
    return true;
  }
  bool end_object() override { return leave(); }
  bool end_array() override { return leave(); }
  bool parse_error(size_t, const std::string&, const json::exception&) override { return false; }

 private:
  struct Level {
    bool array;
    size_t items = 0;
  };
  bool begin() {
    if (!levels_.empty() && levels_.back().array) path_.push_back(std::to_string(levels_.back().items++));
    return true;
  }
  bool end() {
    if (!levels_.empty()) path_.pop_back();
    return true;
  }
  bool scalar() { return begin() && end(); }
  bool enter(bool array) {
    begin();
    levels_.push_back({array});
    return true;
  }
  bool leave() {
    levels_.pop_back();
    return end();
  }

  const std::string& origin_;
  json::json_pointer path_;
  std::vector<Level> levels_;
};
}  // namespace

std::shared_ptr<const Grammar> read_json_schema(const std::filesystem::path& file) {
  const std::string text = read_file(file), origin = file.string();
  const json schema = parse_json(text, origin);
  ExactNumbers numbers(origin);
  json::sax_parse(text, &numbers);
  return parse_json_schema(schema, origin);
}

}  // namespace llmtool
