#include "data/example_encoder.h"

#include <algorithm>
#include <filesystem>

#include "llmtool/core/error.h"
#include "llmtool/io/files.h"
#include "text/common_prefix.h"
#include "text/utf8.h"

namespace llmtool {

namespace {
/// What data.chat_template gives: a template's text or the name of a file.
std::string given_template(const std::string& given) {
  if (given.empty() || given.find('{') != std::string::npos) return given;
  if (!std::filesystem::is_regular_file(given))
    throw UsageError(cat("data.chat_template: ", given, ": no such file, and no template either"));
  return read_file(given, ChatTemplate::kMaxSource);
}

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

bool is_blank(const std::string& text) { return std::all_of(text.begin(), text.end(), is_space); }

/// Each run of space as one.
uint64_t hash_of_words(const std::string& text) {
  std::string words;
  for (const char c : text) {
    if (!is_space(c)) {
      words += c;
    } else if (!words.empty() && words.back() != ' ') {
      words += ' ';
    }
  }
  if (words.ends_with(' ')) words.pop_back();
  return hash64(std::as_bytes(std::span(words)));
}

std::string first_words(const std::string& text) {
  constexpr size_t kBytes = 60;
  if (text.size() <= kBytes) return text;
  size_t end = kBytes;
  while (end > 0 && (static_cast<uint8_t>(text[end]) & 0xC0) == 0x80) --end;  // no half of a character
  return text.substr(0, end) + "...";
}

void flag(EncodedRow& row, ExampleFlaw flaw) { row.flaws |= static_cast<uint8_t>(flaw); }
}  // namespace

ExampleEncoder::ExampleEncoder(const Tokenizer& tokenizer, const ExampleOptions& options)
    : tokenizer_(tokenizer),
      options_(options),
      template_source_(given_template(options.data.chat_template)),
      shapes_(options.data, !template_source_.empty() || !tokenizer.chat_template(false).empty()),
      named_tokens_(tokenizer.named_tokens()) {
  std::string tools = template_source_;
  if (template_source_.empty()) {
    template_source_ = tokenizer.chat_template(false);
    tools = tokenizer.chat_template(true);
  }
  if (!template_source_.empty())
    plain_ = std::make_unique<const ChatTemplate>(template_source_, "chat template");
  if (!tools.empty() && tools != template_source_)
    with_tools_ = std::make_unique<const ChatTemplate>(tools, "chat template for tools");
  if (tokenizer.eos_id() >= 0) eos_ = tokenizer.piece(tokenizer.eos_id());
}

std::vector<TokenId> ExampleEncoder::encode_whole(const std::string& text) const {
  return tokenizer_.encode(text, {.add_special_tokens = true, .parse_special = true});
}

std::vector<TokenId> ExampleEncoder::encode_rendered(const std::string& text) const {
  return tokenizer_.encode(text, {.parse_special = true});
}

EncodedRow ExampleEncoder::encode(const Json& json, const std::string& origin) const {
  const Sample sample = shapes_.read(json, origin);
  EncodedRow row;
  row.label = sample.label;
  switch (sample.kind) {
    case Sample::Kind::text:
      encode_text(sample, row);
      break;
    case Sample::Kind::pair:
      encode_pair(sample, row);
      break;
    case Sample::Kind::chat:
      encode_chat(sample, origin, row);
      return row;
  }
  if (is_blank(sample.completion)) flag(row, ExampleFlaw::empty);
  finish(sample.prompt + sample.completion, origin, row);
  return row;
}

void ExampleEncoder::encode_text(const Sample& sample, EncodedRow& row) const {
  std::string text = sample.completion;
  if (!options_.data.classifies() && !text.ends_with(eos_)) text += eos_;
  row.ids = encode_whole(text);
  row.trained.assign(row.ids.size(), options_.data.classifies() ? 0 : 1);
}

void ExampleEncoder::encode_pair(const Sample& sample, EncodedRow& row) const {
  std::string completion = sample.completion;
  if (!completion.ends_with(eos_)) completion += eos_;
  row.ids = encode_whole(sample.prompt + completion);
  row.trained.assign(row.ids.size(), 1);
  if (options_.loss_on == LossOn::all) return;
  const size_t prompt = common_prefix(encode_whole(sample.prompt), row.ids);
  std::fill_n(row.trained.begin(), prompt, 0);
}

const ChatTemplate& ExampleEncoder::template_for(const Json& context, const std::string& origin) const {
  const bool tools = context.contains("tools") && !context["tools"].is_null();
  if (tools && with_tools_) return *with_tools_;
  if (!plain_)
    throw Error(origin +
                ": a conversation needs a chat template, which the model does not have; data.chat_template "
                "gives one");
  return *plain_;
}

ChatTemplate::Marked ExampleEncoder::render(const ChatTemplate& chat, const Json& given, size_t messages,
                                            bool prompt, const std::string& origin) const {
  Json context = Json::object();
  for (const auto& [name, token] : named_tokens_) context[name] = token;
  for (const auto& [key, value] : given.items()) {
    if (key != "messages") context[key] = value;
  }
  const Json& all = given["messages"];
  const auto end = all.begin() + static_cast<std::ptrdiff_t>(std::min(messages, all.size()));
  context["messages"] = Json(Json::array_t(all.begin(), end));
  context["add_generation_prompt"] = prompt;
  try {
    return chat.render_marked(context);
  } catch (const Error& e) {
    throw Error(cat(origin, ": ", e.what()));
  }
}

void ExampleEncoder::encode_chat(const Sample& sample, const std::string& origin, EncodedRow& row) const {
  const Json& messages = sample.context["messages"];
  if (messages.empty()) {  // which many templates cannot write
    flag(row, ExampleFlaw::empty);
    return;
  }
  const ChatTemplate& chat = template_for(sample.context, origin);
  const auto whole = render(chat, sample.context, messages.size(), false, origin);
  row.ids = encode_rendered(whole.text);
  row.trained.assign(row.ids.size(), 1);
  if (options_.loss_on != LossOn::all) mark_turns(sample, chat, whole, origin, row);
  for (const Json& message : messages) {
    if (message["role"] != "assistant") continue;
    const auto content = message.find("content");
    const bool silent = content == message.end() || content->is_null() ||
                        (content->is_string() && is_blank(content->get<std::string>()));
    if (silent && (!message.contains("tool_calls") || message["tool_calls"].empty()))
      flag(row, ExampleFlaw::empty);
  }
  flag(row, ExampleFlaw::chat);
  finish(whole.text, origin, row);
}

void ExampleEncoder::mark_turns(const Sample& sample, const ChatTemplate& chat,
                                const ChatTemplate::Marked& whole, const std::string& origin,
                                EncodedRow& row) const {
  const auto clear_prompt = [&] {
    if (sample.prompt_messages == 0) return;
    const auto prompt = render(chat, sample.context, sample.prompt_messages, true, origin);
    std::fill_n(row.trained.begin(), common_prefix(encode_rendered(prompt.text), row.ids), 0);
  };
  if (options_.loss_on == LossOn::completion && sample.prompt_messages > 0) return clear_prompt();
  ByteSpans turns =
      chat.marks_generation() ? whole.generated : turns_by_prefix(sample, chat, whole.text, origin);
  std::sort(turns.begin(), turns.end());
  if (options_.loss_on == LossOn::completion && turns.size() > 1) turns.erase(turns.begin(), turns.end() - 1);
  row.trained = covered_tokens(tokenizer_, whole.text, row.ids, turns);
  clear_prompt();
}

ByteSpans ExampleEncoder::turns_by_prefix(const Sample& sample, const ChatTemplate& chat,
                                          const std::string& whole, const std::string& origin) const {
  const Json& messages = sample.context["messages"];
  const auto up_to = [&](size_t count, bool prompt) {
    return render(chat, sample.context, count, prompt, origin).text;
  };
  ByteSpans turns;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i]["role"] != "assistant") continue;
    if (options_.loss_on == LossOn::completion &&
        std::any_of(messages.begin() + static_cast<std::ptrdiff_t>(i) + 1, messages.end(),
                    [](const Json& later) { return later["role"] == "assistant"; }))
      continue;
    std::string begun = i == 0 ? "" : up_to(i, true);
    if (!whole.starts_with(begun)) {
      // A prompt may say more than the conversation has there, such as an empty thought: the turn begins
      // where they part, if that is behind the message before it.
      const size_t before = up_to(i, false).size();
      const auto parted = std::mismatch(begun.begin(), begun.end(), whole.begin(), whole.end()).first;
      if (parted - begun.begin() > static_cast<std::ptrdiff_t>(before)) begun.erase(parted, begun.end());
    }
    std::string ended = i + 1 == messages.size() ? whole : up_to(i + 1, false);
    // Some templates put EOS behind the last message, whoever's it is.
    if (!whole.starts_with(ended) && ended.ends_with(eos_)) ended.resize(ended.size() - eos_.size());
    if (!whole.starts_with(begun) || !whole.starts_with(ended) || ended.size() < begun.size())
      throw Error(
          cat(origin, ": message ", i + 1,
              ": the chat template writes this turn otherwise when more follows, so that it cannot be "
              "told which tokens are the assistant's; mark them in the template by {% generation %} "
              "(data.chat_template), or take training.loss_on all"));
    turns.emplace_back(begun.size(), ended.size());
  }
  return turns;
}

bool ExampleEncoder::ends_turn(TokenId id) const {
  return id == tokenizer_.eos_id() || (tokenizer_.is_special(id) && id != tokenizer_.unk_id());
}

bool ExampleEncoder::is_closed(const EncodedRow& row) const {
  // Each run of trained tokens has to end with such a token, behind which only space may follow.
  for (size_t end = row.ids.size(); end > 0;) {
    if (!row.trained[end - 1]) {
      --end;
      continue;
    }
    size_t begin = end;
    while (begin > 0 && row.trained[begin - 1]) --begin;
    size_t last = end;
    while (last > begin && !ends_turn(row.ids[last - 1]) &&
           is_blank(tokenizer_.surface(row.ids[last - 1], false)))
      --last;
    if (last == begin || !ends_turn(row.ids[last - 1])) return false;
    end = begin;
  }
  return true;
}

void ExampleEncoder::cut(EncodedRow& row) const {
  const auto most = static_cast<size_t>(options_.max_length);
  if (most == 0 || row.ids.size() <= most) return;
  if (options_.data.classifies()) {  // what the tokenizer puts behind a text stays behind it
    const std::vector<TokenId> around = encode_whole("");
    size_t behind = 0;
    while (behind < std::min(around.size(), most) &&
           around[around.size() - 1 - behind] == row.ids[row.ids.size() - 1 - behind])
      ++behind;
    row.ids.erase(row.ids.begin() + static_cast<std::ptrdiff_t>(most - behind),
                  row.ids.end() - static_cast<std::ptrdiff_t>(behind));
  } else if (std::find(row.trained.begin() + static_cast<std::ptrdiff_t>(most), row.trained.end(), 1) !=
             row.trained.end()) {
    flag(row, ExampleFlaw::truncated);
  }
  row.ids.resize(most);
  row.trained.resize(most);
}

void ExampleEncoder::finish(const std::string& text, const std::string& origin, EncodedRow& row) const {
  if (row.ids.size() > INT32_MAX) throw Error(cat(origin, ": ", row.ids.size(), " tokens are too many"));
  row.text_hash = hash_of_words(text);
  row.full_length = static_cast<int64_t>(row.ids.size());
  const TokenId bos = tokenizer_.bos_id();
  if (row.ids.size() > 1 && bos >= 0 && row.ids[0] == bos && row.ids[1] == bos && bos != tokenizer_.eos_id())
    flag(row, ExampleFlaw::double_bos);
  if (!row.trained.empty()) row.trained[0] = 0;
  if (is_blank(text)) flag(row, ExampleFlaw::empty);
  if (!options_.data.classifies() && !is_closed(row)) flag(row, ExampleFlaw::open_end);
  cut(row);
  if (std::find(row.trained.begin(), row.trained.end(), 1) == row.trained.end())
    row.excerpt = first_words(text);
}

bool ExampleEncoder::template_ends_turns() const {
  static const std::string kAnswer = "Certainly";
  const Json turn = {
      {"messages",
       {{{"role", "user"}, {"content", "Hello"}}, {{"role", "assistant"}, {"content", kAnswer}}}}};
  if (!plain_) return true;
  try {
    const std::string text = render(*plain_, turn, 2, false, "").text;
    const size_t answer = text.rfind(kAnswer);
    if (answer == std::string::npos) return true;
    const auto behind = encode_rendered(text.substr(answer + kAnswer.size()));
    return std::any_of(behind.begin(), behind.end(), [&](TokenId id) { return ends_turn(id); });
  } catch (const Error&) {
    return true;
  }
}

}  // namespace llmtool
