#include "llmtool/data/preview.h"

#include "llmtool/core/error.h"

namespace llmtool {

namespace {
enum class Look { masked, trained, special_masked, special_trained };

const char* escape_of(Look look) {
  switch (look) {
    case Look::masked:
      return "\x1b[90m";
    case Look::trained:
      return "\x1b[32m";
    case Look::special_masked:
      return "\x1b[7;90m";
    default:
      return "\x1b[7;32m";
  }
}
constexpr const char* kPlain = "\x1b[0m";

Look look_of(bool trained, bool special) {
  if (special) return trained ? Look::special_trained : Look::special_masked;
  return trained ? Look::trained : Look::masked;
}

/// A special token by its name, in brackets of its own.
std::string name_of(const Tokenizer& tokenizer, TokenId id) {
  if (id < 0 || id >= tokenizer.vocab_size()) return cat("⟨", id, "⟩");
  return cat("⟨", tokenizer.piece(id), "⟩");
}

bool is_special(const Tokenizer& tokenizer, TokenId id) {
  return id < 0 || id >= tokenizer.vocab_size() || tokenizer.is_special(id);
}

/// Terminals must not be steered by what a data set holds.
std::string harmless(const std::string& text) {
  std::string shown;
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7F) {
      shown += "�";
    } else {
      shown += c;
    }
  }
  return shown;
}

std::string marked_text(const Tokenizer& tokenizer, const Example& example, bool colour) {
  std::string text;
  StreamDecoder decoder(tokenizer);
  Look look = Look::masked;
  bool open = false;  // within [[ ]]
  for (size_t i = 0; i < example.ids.size(); ++i) {
    const bool special = is_special(tokenizer, example.ids[i]), trained = example.trained[i] != 0;
    const Look next = look_of(trained, special);
    if (colour && (i == 0 || next != look)) text += cat(harmless(decoder.finish()), kPlain, escape_of(next));
    if (!colour && trained != open) text += cat(harmless(decoder.finish()), trained ? "[[" : "]]");
    look = next;
    open = trained;
    if (special) text += harmless(decoder.finish());  // bytes that wait for more
    const std::string decoded = decoder.push(example.ids[i]);
    text += special ? name_of(tokenizer, example.ids[i]) : harmless(decoded);
  }
  text += harmless(decoder.finish());
  return text + (colour ? kPlain : open ? "]]" : "");
}

std::string marked_ids(const Example& example, bool colour) {
  std::string text;
  for (size_t i = 0; i < example.ids.size(); ++i) {
    const bool trained = example.trained[i] != 0;
    if (i > 0) text += ' ';
    if (colour) {
      text += cat(escape_of(look_of(trained, false)), example.ids[i], kPlain);
    } else {
      const bool opens = trained && (i == 0 || !example.trained[i - 1]);
      const bool closes = trained && (i + 1 == example.ids.size() || !example.trained[i + 1]);
      text += cat(opens ? "[[" : "", example.ids[i], closes ? "]]" : "");
    }
  }
  return text;
}
}  // namespace

std::string preview(const Tokenizer& tokenizer, const Examples& examples, const ExampleSet& set, int64_t i,
                    bool colour) {
  const Example example = set[i];
  std::string text = cat("--- ", set.origin(i), ": ", example.ids.size(), " tokens");
  if (example.full_length > static_cast<int64_t>(example.ids.size()))
    text += cat(" of ", example.full_length, " (the rest is cut off)");
  if (example.label >= 0) {
    text += cat(", class ", example.label, " (", examples.labels[static_cast<size_t>(example.label)], ")");
  } else {
    text += cat(", ", example.trained_tokens(), " trained");
  }
  return cat(text, "\n", marked_text(tokenizer, example, colour), "\nids: ", marked_ids(example, colour),
             "\n");
}

std::string preview_legend(const Examples& examples, bool colour) {
  std::string text;
  if (!examples.template_source.empty()) text += cat("chat template:\n", examples.template_source, "\n");
  if (!examples.prompt_template.empty()) text += cat("prompt template:\n", examples.prompt_template, "\n");
  if (colour) {
    return cat(text, escape_of(Look::masked), "masked", kPlain, " ", escape_of(Look::trained), "trained",
               kPlain, " ", escape_of(Look::special_masked), "special, masked", kPlain, " ",
               escape_of(Look::special_trained), "special, trained", kPlain, "\n");
  }
  return text + "[[trained]] masked ⟨special⟩\n";
}

}  // namespace llmtool
