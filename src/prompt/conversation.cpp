#include "llmtool/prompt/conversation.h"

#include <utility>

#include "llmtool/core/error.h"

namespace llmtool {

namespace {
using Json = nlohmann::ordered_json;
constexpr const char* kOrigin = "chat template";
}  // namespace

ChatWriter::ChatWriter(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {
  const std::string& plain = tokenizer.chat_template(false);
  const std::string& with_tools = tokenizer.chat_template(true);
  if (plain.empty())
    throw UsageError(
        "--chat: expected a model with a chat template (chat_template.jinja, or chat_template of "
        "tokenizer_config.json), found none; write the prompts with --template instead");
  plain_ = std::make_unique<const ChatTemplate>(plain, kOrigin);
  if (with_tools != plain && !with_tools.empty())
    with_tools_ = std::make_unique<const ChatTemplate>(with_tools, kOrigin);
}

Prompt ChatWriter::write(Json context, const std::string& origin) const {
  for (const auto& [name, token] : tokenizer_.named_tokens()) {
    if (!context.contains(name)) context[name] = token;
  }
  context["add_generation_prompt"] = true;
  const bool tools = context.contains("tools") && context["tools"].is_array();
  Prompt prompt;
  try {
    prompt.text = (tools && with_tools_ ? *with_tools_ : *plain_).render(context);
  } catch (const Error& e) {
    throw Error(cat(origin, ": ", e.what()));
  }
  prompt.ids = tokenizer_.encode(prompt.text, {.parse_special = true});
  return prompt;
}

Conversation::Conversation(const ChatWriter& writer, std::string system)
    : writer_(writer), system_(std::move(system)) {
  reset();
}

void Conversation::reset() {
  whole_ = nullptr;
  messages_ = Json::array();
  if (!system_.empty()) messages_.push_back({{"role", "system"}, {"content", system_}});
}

void Conversation::say(const std::string& user_text) {
  messages_.push_back({{"role", "user"}, {"content", user_text}});
}

void Conversation::answer(const std::string& assistant_text) {
  whole_ = nullptr;
  messages_.push_back({{"role", "assistant"}, {"content", assistant_text}});
}

void Conversation::unsay() {
  if (!whole_.is_null()) messages_ = std::exchange(whole_, nullptr);
  if (messages_.size() > first_turn() && messages_.back()["role"] == "user")
    messages_.erase(messages_.size() - 1);
}

Prompt Conversation::prompt(int64_t room, int64_t& dropped) {
  Json kept = messages_;  // one message too long costs no turn
  for (dropped = 0;; ++dropped) {
    Json context = Json::object();
    context["messages"] = kept;
    Prompt prompt = writer_.write(std::move(context), "conversation");
    const auto length = static_cast<int64_t>(prompt.ids.size());
    if (length <= room) {
      whole_ = std::exchange(messages_, std::move(kept));
      return prompt;
    }
    size_t next = first_turn() + 1;  // where the second turn begins
    while (next < kept.size() && kept[next]["role"] != "user") ++next;
    if (next >= kept.size())
      throw Error(cat("the message is too long: expected at most ", room,
                      " tokens with what its template adds, found ", length));
    kept.erase(kept.begin() + static_cast<std::ptrdiff_t>(first_turn()),
               kept.begin() + static_cast<std::ptrdiff_t>(next));
  }
}

}  // namespace llmtool
