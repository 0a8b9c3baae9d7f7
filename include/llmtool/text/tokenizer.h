#pragma once
// Tokenizer: text to token ids and back, whatever the file it came from.

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace llmtool {

using TokenId = int32_t;

struct EncodeOptions {
  bool add_special_tokens = false;  // those that the tokenizer puts around a text: BOS, [CLS] and [SEP], ...
  /// Special tokens that are written in the text become their ids. Not set: as the library does that the
  /// tokenizer comes from: not with a SentencePiece model, else yes.
  std::optional<bool> parse_special = std::nullopt;
  bool continues = false;   // a text's later part: nothing is put in front as at the start of a text
  bool unfinished = false;  // more of the text follows: no special tokens behind it
};

/// Immutable after loading; every method may be called from several threads at once.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// The ids of `text`. Invalid UTF-8 is replaced by U+FFFD.
  virtual std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options) const = 0;
  std::vector<TokenId> encode(std::string_view text) const { return encode(text, EncodeOptions{}); }
  /// The ids of a text's later part, cut off where cuts_at_words() says.
  std::vector<TokenId> encode_rest(std::string_view text) const {
    return encode(text, EncodeOptions{.continues = true});
  }
  /// The text of `ids`; special (control) tokens give nothing. Throws Error on an id outside the vocabulary.
  std::string decode(std::span<const TokenId> ids) const;
  /// The bytes that `id` adds to a text that has none yet (`at_start`) or some; a byte piece gives its byte.
  virtual std::string surface(TokenId id, bool at_start) const = 0;
  /// Whether `id` stands for bytes, of which several may make a character.
  virtual bool is_byte(TokenId id) const = 0;
  /// What becomes of bytes that are no UTF-8.
  enum class Repair {
    each_byte,   // each of them becomes U+FFFD
    byte_run,    // each byte of a run of byte pieces does that is not UTF-8 as a whole
    subsequence  // what could have begun a character becomes one (Unicode 15, 3.9)
  };
  virtual Repair repair() const = 0;
  /// The piece as the vocabulary spells it ("▁the", "<0x0A>"). Throws Error on an id outside the vocabulary.
  virtual std::string piece(TokenId id) const = 0;
  /// The id of a piece; -1: there is none.
  virtual TokenId find(std::string_view piece) const = 0;

  virtual std::string kind() const = 0;  // "SentencePiece BPE", "WordPiece", ...
  virtual int64_t vocab_size() const = 0;
  virtual bool is_special(TokenId id) const = 0;  // control or unknown
  virtual TokenId bos_id() const = 0;             // -1: the vocabulary has none; likewise below
  virtual TokenId eos_id() const = 0;
  virtual TokenId unk_id() const = 0;
  virtual TokenId pad_id() const = 0;
  /// Whether the model's prompts start with BOS.
  virtual bool adds_bos() const = 0;
  /// Whether the library that the tokenizer comes from puts special tokens around a text unless told not to.
  virtual bool adds_special_by_default() const = 0;
  /// Whether a long text may be cut only between two words (else behind line breaks, too).
  virtual bool cuts_at_words() const = 0;
  /// The chat template of the folder or file, or the one of its own for conversations with tools; "" where it
  /// has none.
  virtual const std::string& chat_template(bool with_tools) const = 0;
  /// The special tokens by the names that chat templates use: "bos_token", ...
  virtual std::map<std::string, std::string> named_tokens() const = 0;
  /// XXH3-64 of the file that it was read from: says whether token shards were made with this tokenizer.
  virtual uint64_t hash() const = 0;
  /// The tokenizer's files (tokenizer.json, tokenizer_config.json, tokenizer.model, ...) into a model folder.
  virtual void save(const std::filesystem::path& folder) const = 0;
};

/// Opens a folder that holds a tokenizer (tokenizer.json, tokenizer.model, vocab.json with merges.txt,
/// vocab.txt, a .tiktoken file), or such a file, or a .gguf file. Throws Error naming the file and what is
/// wrong with it.
std::shared_ptr<const Tokenizer> load_tokenizer(const std::filesystem::path& path);
/// The same with more tokens, found in a text as they are written; ids behind the vocabulary's. Those that it
/// has are left alone. Throws UsageError on an empty one.
std::shared_ptr<const Tokenizer> with_tokens(const std::shared_ptr<const Tokenizer>& tokenizer,
                                             const std::vector<std::string>& tokens);
/// Whether load_tokenizer would find files of a tokenizer there.
bool has_tokenizer(const std::filesystem::path& path);

/// Turns ids into text as they come; holds back the bytes of an unfinished character.
class StreamDecoder {
 public:
  /// `at_start`: no text stands before; else what a tokenizer leaves out at a text's start is kept.
  explicit StreamDecoder(const Tokenizer& tokenizer, bool at_start = true)
      : tokenizer_(&tokenizer), at_start_(at_start) {}
  /// What `id` adds to the text: whole characters only. All pushes and finish() joined equal decode(ids).
  /// Bytes that are no UTF-8 become U+FFFD; an id beyond the vocabulary, which padded models have, nothing.
  std::string push(TokenId id);
  std::string finish();

 private:
  std::string take_characters(bool last);

  const Tokenizer* tokenizer_;
  std::string bytes_;  // of byte pieces, not yet handed out
  bool at_start_;
};

}  // namespace llmtool
