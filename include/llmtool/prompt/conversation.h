#pragma once
// Conversations, written as a model's chat template says.

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "llmtool/text/chat_template.h"
#include "llmtool/text/tokenizer.h"

namespace llmtool {

/// A text for a model, and its ids.
struct Prompt {
  std::string text;
  std::vector<TokenId> ids;
};

/// The chat template of a tokenizer, which outlives it.
class ChatWriter {
 public:
  /// Throws UsageError where the tokenizer has no template.
  explicit ChatWriter(const Tokenizer& tokenizer);

  /// `context`: an object with messages and what else the template shall see (tools, ...). The prompt ends
  /// where the assistant begins to speak; special tokens in it are tokens. Throws Error opening with
  /// `origin`.
  Prompt write(nlohmann::ordered_json context, const std::string& origin) const;

 private:
  const Tokenizer& tokenizer_;
  std::unique_ptr<const ChatTemplate> plain_, with_tools_;
};

/// A conversation that grows turn by turn.
class Conversation {
 public:
  /// `system`: "" for none.
  Conversation(const ChatWriter& writer, std::string system);

  void say(const std::string& user_text);
  void answer(const std::string& assistant_text);
  /// Takes back what the user said last, where it is not answered, and the turns that its prompt left out are
  /// there again.
  void unsay();
  /// Forgets all turns; the system message stays.
  void reset();

  /// The prompt for the next answer, at most `room` tokens long: the oldest turns are left out, for good
  /// once it is answered, where it would be longer. `dropped`: how many turns of the user were. Throws Error,
  /// and leaves out none, where the last one alone is too long.
  Prompt prompt(int64_t room, int64_t& dropped);

  const nlohmann::ordered_json& messages() const { return messages_; }

 private:
  size_t first_turn() const { return system_.empty() ? 0 : 1; }

  const ChatWriter& writer_;
  std::string system_;
  nlohmann::ordered_json messages_;
  nlohmann::ordered_json whole_;  // with what the prompt has left out, until it is answered
};

}  // namespace llmtool
