#include "text/sentencepiece_model.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <unordered_set>

#include "llmtool/core/error.h"
#include "text/character_map.h"
#include "text/utf8.h"

namespace llmtool {

namespace {
constexpr size_t kMaxPieces = size_t{1} << 22, kMaxPieceBytes = 2048;

/// The fields of one protobuf message.
class Message {
 public:
  Message(std::string_view bytes, std::string origin) : bytes_(bytes), origin_(std::move(origin)) {}

  /// Steps to the next field; false at the end.
  bool next() {
    if (at_ == bytes_.size()) return false;
    const uint64_t key = varint();
    field = static_cast<uint32_t>(key >> 3);
    wire = static_cast<uint32_t>(key & 7);
    if (key >> 3 == 0 || key >> 32 != 0) refuse("a field number that is none");
    switch (wire) {
      case 0:
        number = varint();
        break;
      case 1:
        bytes = take(8);
        break;
      case 2:
        bytes = take(varint());
        break;
      case 5:
        bytes = take(4);
        break;
      default:
        refuse(cat("wire type ", wire));
    }
    return true;
  }

  std::string_view text() {
    if (wire != 2) refuse(cat("wire type ", wire, " where bytes belong"));
    return bytes;
  }
  int64_t integer() {
    if (wire != 0) refuse(cat("wire type ", wire, " where an integer belongs"));
    return static_cast<int64_t>(number);
  }
  float real() {
    if (wire != 5) refuse(cat("wire type ", wire, " where a float belongs"));
    float value;
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  }
  [[noreturn]] void refuse(const std::string& what) const {
    throw Error(cat(origin_, ": no SentencePiece model: byte ", at_, ": field ", field, ": found ", what));
  }

  uint32_t field = 0, wire = 0;
  uint64_t number = 0;
  std::string_view bytes;

 private:
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at_ == bytes_.size()) refuse("the end of the data within a number");
      const auto byte = static_cast<uint8_t>(bytes_[at_++]);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    refuse("a number of more than ten bytes");
  }
  std::string_view take(uint64_t n) {
    if (n > bytes_.size() - at_) refuse(cat(n, " bytes where ", bytes_.size() - at_, " are left"));
    const std::string_view part = bytes_.substr(at_, n);
    at_ += n;
    return part;
  }

  std::string_view bytes_;
  std::string origin_;
  size_t at_ = 0;
};

bool well_formed(std::string_view text) {
  while (!text.empty()) {
    const int n = utf8_length(text);
    if (n == 0 || text[0] == '\0') return false;
    text.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

SentencePieceModel::Piece read_piece(std::string_view bytes, const std::string& origin) {
  Message m(bytes, origin);
  SentencePieceModel::Piece piece;
  while (m.next()) {
    if (m.field == 1) piece.text = m.text();
    if (m.field == 2) piece.score = m.real();
    if (m.field == 3) {
      const int64_t type = m.integer();
      if (type < 1 || type > 6) m.refuse(cat("type ", type));
      piece.type = static_cast<SentencePieceModel::Type>(type);
    }
  }
  if (piece.text.empty()) throw Error(origin + ": an empty piece");
  if (piece.text.size() > kMaxPieceBytes) {
    throw Error(cat(origin, ": expected at most ", kMaxPieceBytes, " bytes, found ", piece.text.size()));
  }
  if (!well_formed(piece.text)) throw Error(origin + ": not UTF-8, or a NUL in it");
  if (!std::isfinite(piece.score)) throw Error(origin + ": its score is no finite number");
  return piece;
}

void read_trainer(std::string_view bytes, const std::string& origin, SentencePieceModel& model) {
  Message m(bytes, origin + ": trainer_spec");
  while (m.next()) {
    switch (m.field) {
      case 3: {
        const int64_t type = m.integer();
        if (type < 1 || type > 4) m.refuse(cat("model type ", type));
        model.algorithm = static_cast<SentencePieceModel::Algorithm>(type);
        break;
      }
      case 24:
        model.treat_whitespace_as_suffix = m.integer() != 0;
        break;
      case 35:
        model.byte_fallback = m.integer() != 0;
        break;
      case 40:
        model.unk_id = static_cast<int32_t>(m.integer());
        break;
      case 41:
        model.bos_id = static_cast<int32_t>(m.integer());
        break;
      case 42:
        model.eos_id = static_cast<int32_t>(m.integer());
        break;
      case 43:
        model.pad_id = static_cast<int32_t>(m.integer());
        break;
      case 44:
        model.unk_surface = m.text();
        break;
      default:
        break;
    }
  }
}

void read_normalizer(std::string_view bytes, const std::string& origin, SentencePieceModel& model) {
  Message m(bytes, origin + ": normalizer_spec");
  while (m.next()) {
    switch (m.field) {
      case 2:
        if (!m.text().empty()) {
          CharacterMap(m.bytes, origin + ": precompiled_charsmap");
          model.has_character_map = true;
        }
        break;
      case 3:
        model.add_dummy_prefix = m.integer() != 0;
        break;
      case 4:
        model.remove_extra_whitespaces = m.integer() != 0;
        break;
      case 5:
        model.escape_whitespaces = m.integer() != 0;
        break;
      default:
        break;
    }
  }
}

void check_denormalizer(std::string_view bytes, const std::string& origin) {
  Message m(bytes, origin + ": denormalizer_spec");
  while (m.next()) {
    if (m.field == 2 && !m.text().empty())
      throw Error(origin + ": denormalizer_spec: character maps are not supported");
  }
}

void check_pieces(const SentencePieceModel& model, const std::string& origin) {
  std::unordered_set<std::string_view> seen;
  size_t unknown = 0, bytes = 0;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const auto& piece = model.pieces[id];
    if (!seen.insert(piece.text).second)
      throw Error(cat(origin, ": piece ", id, ": \"", piece.text, "\" stands twice"));
    unknown += piece.type == SentencePieceModel::Type::unknown;
    if (piece.type != SentencePieceModel::Type::byte) continue;
    ++bytes;
    unsigned value = 0;
    char expected[8] = {};
    if (std::sscanf(piece.text.c_str(), "<0x%2X>", &value) == 1)
      std::snprintf(expected, sizeof expected, "<0x%02X>", value);
    if (piece.text != expected)
      throw Error(cat(origin, ": piece ", id, ": \"", piece.text, "\" is no byte piece"));
  }
  if (model.pieces.empty()) throw Error(origin + ": expected pieces, found none");
  if (unknown != 1) throw Error(cat(origin, ": expected one unknown piece, found ", unknown));
  if (model.byte_fallback && bytes != 256)
    throw Error(cat(origin, ": expected 256 byte pieces, found ", bytes));
  if (!model.byte_fallback && bytes != 0) throw Error(cat(origin, ": byte pieces without byte_fallback"));
}
}  // namespace

SentencePieceModel read_sentencepiece_model(std::string_view bytes, const std::string& origin) {
  SentencePieceModel model;
  Message m(bytes, origin);
  while (m.next()) {
    switch (m.field) {
      case 1:
        if (model.pieces.size() == kMaxPieces) m.refuse(cat("more than ", kMaxPieces, " pieces"));
        model.pieces.push_back(read_piece(m.text(), cat(origin, ": piece ", model.pieces.size())));
        break;
      case 2:
        read_trainer(m.text(), origin, model);
        break;
      case 3:
        read_normalizer(m.text(), origin, model);
        break;
      case 5:
        check_denormalizer(m.text(), origin);
        break;
      default:
        break;
    }
  }
  check_pieces(model, origin);
  return model;
}

}  // namespace llmtool
