#pragma once
// JsonMatcher: reads JSON and follows every shape of a schema that it can still be.

#include "grammar/json_frame.h"
#include "grammar/schema_graph.h"
#include "llmtool/grammar/matcher.h"

namespace llmtool {

/// The characters of a JSON string as they come, escapes taken.
struct JsonStringLexer {
  enum class Part : uint8_t { text, escape, hex, second_escape, second_u };
  Part part = Part::text;
  uint8_t tail = 0, tail_low = 0x80,
          tail_high = 0xBF;  // bytes of a character to come, and the next one's range
  uint8_t digits = 0;        // of \u
  uint32_t code = 0;
  uint32_t high = 0;  // the first half of a pair of surrogates; 0: none
  friend bool operator==(const JsonStringLexer& a, const JsonStringLexer& b) = default;

  void append_key(std::string& key) const;
  bool plain() const { return part == Part::text && tail == 0; }
};

class JsonMatcher final : public Matcher {
 public:
  explicit JsonMatcher(std::shared_ptr<const SchemaGraph> graph);

  std::unique_ptr<Matcher> clone() const override { return std::make_unique<JsonMatcher>(*this); }
  void assign(const Matcher& other) override { *this = static_cast<const JsonMatcher&>(other); }
  bool push(uint8_t byte) override;
  bool complete() const override;
  void append_key(std::string& key, int64_t reach) const override;

 private:
  enum class At : uint8_t {
    value,         // a value must come
    array_begin,   // behind [
    object_begin,  // behind {
    next_item,     // behind , of an array
    next_key,      // behind , of an object
    colon,         // behind a key
    property,      // behind :
    after,         // behind a value in an array or object
    key,
    string,
    number,
    literal,
    done
  };
  enum class NumberPart : uint8_t { sign, zero, whole, point, fraction, e, e_sign, exponent };
  /// One way to read what was read so far. What `shape` is depends on where the text is.
  struct Thread {
    JsonFramePtr frame;  // around the value or key
    uint32_t shape = 0;  // a node (value, colon, property), or the shape of the string or number
    StringShape::Cursor string;
    ObjectShape::Cursor key;
  };

  // json_matcher.cpp: arrays, objects and what stands between values
  bool begin_value(uint8_t byte);
  bool begin_item(uint8_t byte);
  bool begin_key(uint8_t byte);
  void spawn(const JsonFramePtr& frame, uint32_t node, uint8_t byte);
  void spawn_container(const JsonFramePtr& around, uint32_t shape, bool array);
  bool take_space(uint8_t byte);
  bool read_after(uint8_t byte);
  bool close(uint8_t byte);
  bool may_close(const Thread& thread) const;
  bool may_go_on(const JsonFrame& frame) const;
  bool end_value(size_t end);
  bool end_key();
  void merge();
  void append_frames(std::string& key, const JsonFrame* frame, int64_t reach) const;
  // Of an item of an array with uniqueItems: what it may not be, if anything.
  const DistinctItems::Values* forbidden(const JsonFramePtr& frame) const;
  bool is_forbidden(const JsonFramePtr& frame, const std::string& canonical) const;

  // json_matcher_scalars.cpp: literals, numbers and strings
  bool read_literal(uint8_t byte);
  bool read_number(uint8_t byte);
  bool continues_number(uint8_t byte);
  bool number_viable(const Thread& thread) const;
  bool number_ends(const Thread& thread) const;
  bool read_string(uint8_t byte);
  bool read_escape(uint8_t byte);
  bool read_hex(uint8_t byte);
  bool feed(uint8_t byte);
  bool feed_code(uint32_t code);
  bool step(Thread& thread, uint8_t byte, std::string_view text) const;
  bool string_viable(const Thread& thread, std::string_view text) const;
  bool takes_any(const Thread& thread, uint32_t low, uint32_t high) const;
  bool takes_escape(const Thread& thread, uint32_t low, uint32_t high) const;
  bool end_string();

  template <class Keep>
  bool keep(const Keep& keep) {
    if (threads_.size() == 1) return keep(threads_[0]);
    std::erase_if(threads_, [&](Thread& thread) { return !keep(thread); });
    return !threads_.empty();
  }

  std::shared_ptr<const SchemaGraph> graph_;
  At at_ = At::value;
  NumberPart number_ = NumberPart::sign;
  uint8_t space_ = 0;  // 1: a space, 2: a line break and then space_count_ of them
  uint8_t space_count_ = 0;
  const char* literal_ = "";  // what is left of it
  JsonStringLexer lexer_;
  std::vector<Thread> threads_, spawned_;
  std::string token_;  // the key or number so far; also the string in a schema with uniqueItems
  std::string text_;   // all of it, in a schema with uniqueItems
};

}  // namespace llmtool
