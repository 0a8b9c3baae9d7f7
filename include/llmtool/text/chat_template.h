#pragma once
// Chat templates: the Jinja templates of Hugging Face models, which turn a conversation into a prompt.

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace llmtool {

/// A parsed template. It renders what transformers' apply_chat_template renders (Jinja's immutable sandbox
/// with trim_blocks, lstrip_blocks, loop controls and {% generation %}); a template that transformers refuses
/// is refused, too. Integers have 64 bits. What no chat template needs is not there, and refused by its name:
/// include, import, extends, block, autoescape, recursive loops, the filters pprint, random, striptags,
/// urlize, wordwrap and xmlattr.
///
/// Neither a template nor what it is given can crash, hang or fill the memory: sizes, depths and steps are
/// bounded. Immutable; several threads may render at once.
class ChatTemplate {
 public:
  static constexpr size_t kMaxSource = size_t{1} << 20;  // bytes

  /// Throws Error ("origin: line N: ...") naming what is wrong with the template.
  ChatTemplate(std::string source, std::string origin);

  /// `context`: an object with messages, tools, add_generation_prompt, bos_token, eos_token, ... As
  /// transformers does, `tools` and `documents` are none and `add_generation_prompt` is false where they are
  /// absent, and a message's reasoning is there as reasoning_content and thinking whichever of these (or
  /// reasoning) it came as. Throws Error ("origin: line N: ...") for raise_exception, with its message, for
  /// what Python would raise, and where a bound is passed.
  std::string render(const nlohmann::ordered_json& context) const;

  /// A rendering, and the bytes of it that {% generation %} blocks wrote: what an assistant says.
  struct Marked {
    std::string text;
    std::vector<std::pair<size_t, size_t>> generated;  // first byte, one behind the last
  };
  Marked render_marked(const nlohmann::ordered_json& context) const;
  /// Whether it has such blocks.
  bool marks_generation() const;

 private:
  struct Parsed;
  std::shared_ptr<const Parsed> parsed_;
};

}  // namespace llmtool
