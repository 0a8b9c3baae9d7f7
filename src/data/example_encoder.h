#pragma once
// ExampleEncoder: a row as ids and mask.

#include <memory>

#include "data/row_shape.h"
#include "data/token_spans.h"
#include "llmtool/data/examples.h"
#include "llmtool/text/chat_template.h"

namespace llmtool {

struct EncodedRow {
  std::vector<TokenId> ids;
  std::vector<uint8_t> trained;
  std::optional<std::string> label;
  std::string excerpt;  // of the text, where no token is trained
  int64_t full_length = 0;
  uint64_t text_hash = 0;
  uint8_t flaws = 0;
};

/// Several threads may encode at once. What it is given must outlive it.
class ExampleEncoder {
 public:
  ExampleEncoder(const Tokenizer& tokenizer, const ExampleOptions& options);

  EncodedRow encode(const nlohmann::ordered_json& row, const std::string& origin) const;
  /// Whether the template puts a token that ends a turn behind an assistant's answer; true where it refuses
  /// the conversation that is tried.
  bool template_ends_turns() const;
  const std::string& template_source() const { return template_source_; }

 private:
  using Json = nlohmann::ordered_json;
  void encode_text(const Sample& sample, EncodedRow& row) const;
  void encode_pair(const Sample& sample, EncodedRow& row) const;
  void encode_chat(const Sample& sample, const std::string& origin, EncodedRow& row) const;
  void mark_turns(const Sample& sample, const ChatTemplate& chat, const ChatTemplate::Marked& whole,
                  const std::string& origin, EncodedRow& row) const;
  ByteSpans turns_by_prefix(const Sample& sample, const ChatTemplate& chat, const std::string& whole,
                            const std::string& origin) const;
  std::vector<TokenId> encode_whole(const std::string& text) const;
  std::vector<TokenId> encode_rendered(const std::string& text) const;
  ChatTemplate::Marked render(const ChatTemplate& chat, const Json& context, size_t messages, bool prompt,
                              const std::string& origin) const;
  const ChatTemplate& template_for(const Json& context, const std::string& origin) const;
  void finish(const std::string& text, const std::string& origin, EncodedRow& row) const;
  void cut(EncodedRow& row) const;
  bool ends_turn(TokenId id) const;
  bool is_closed(const EncodedRow& row) const;

  const Tokenizer& tokenizer_;
  const ExampleOptions& options_;
  std::string template_source_;
  std::unique_ptr<const ChatTemplate> plain_, with_tools_;
  RowShapes shapes_;
  std::map<std::string, std::string> named_tokens_;
  std::string eos_;  // as it is written
};

}  // namespace llmtool
