#pragma once
// What a SentencePiece model file says, read with bounds before libsentencepiece sees it.
// Format: sentencepiece_model.proto of https://github.com/google/sentencepiece

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace llmtool {

struct SentencePieceModel {
  enum class Type { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };
  enum class Algorithm { unigram = 1, bpe = 2, word = 3, character = 4 };
  struct Piece {
    std::string text;
    float score = 0;
    Type type = Type::normal;
  };

  std::vector<Piece> pieces;
  Algorithm algorithm = Algorithm::unigram;
  bool byte_fallback = false;
  bool treat_whitespace_as_suffix = false;
  int64_t unk_id = 0, bos_id = 1, eos_id = 2, pad_id = -1;
  std::string unk_surface = " \xE2\x81\x87 ";
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
  bool has_character_map = false;
};

/// Throws Error, opening with `origin`, on what is malformed and on what libsentencepiece is known not to
/// survive: huge pieces, NUL or broken UTF-8 in one, duplicates, odd byte pieces, character maps that lead
/// out of their table.
SentencePieceModel read_sentencepiece_model(std::string_view bytes, const std::string& origin);

}  // namespace llmtool
