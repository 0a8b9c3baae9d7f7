#include "grammar/json_matcher.h"

#include <algorithm>

#include "grammar/canonical_json.h"
#include "llmtool/grammar/json_schema.h"

namespace llmtool {
namespace {

constexpr uint8_t kMaxIndent = 32;

class JsonSchemaGrammar final : public Grammar {
 public:
  JsonSchemaGrammar(const nlohmann::json& schema, const std::string& origin)
      : graph_(std::make_shared<SchemaGraph>(schema, origin)) {}
  std::unique_ptr<Matcher> matcher() const override { return std::make_unique<JsonMatcher>(graph_); }

 private:
  std::shared_ptr<const SchemaGraph> graph_;
};

template <class Number>
void append_number(std::string& key, Number value) {
  for (size_t i = 0; i < sizeof(Number); ++i) key.push_back(char(uint64_t(value) >> (8 * i)));
}

}  // namespace

std::shared_ptr<const Grammar> parse_json_schema(const nlohmann::json& schema, const std::string& origin) {
  return std::make_shared<JsonSchemaGrammar>(schema, origin);
}

JsonMatcher::JsonMatcher(std::shared_ptr<const SchemaGraph> graph) : graph_(std::move(graph)) {
  threads_.push_back({.frame = {}, .shape = graph_->root(), .string = {}, .key = {}});
}

bool JsonMatcher::push(uint8_t byte) {
  if (graph_->any_unique()) text_ += char(byte);
  switch (at_) {
    case At::string:
    case At::key:
      return read_string(byte);
    case At::number:
      return read_number(byte);
    case At::literal:
      return read_literal(byte);
    case At::value:
      return begin_value(byte);
    case At::property:
      if (byte != ' ' || space_ != 0) return begin_value(byte);
      space_ = 1;
      return true;
    case At::array_begin:
      return take_space(byte) || (byte == ']' ? close(byte) : begin_item(byte));
    case At::next_item:
      return take_space(byte) || begin_item(byte);
    case At::object_begin:
      return take_space(byte) || (byte == '}' ? close(byte) : begin_key(byte));
    case At::next_key:
      return take_space(byte) || begin_key(byte);
    case At::colon:
      at_ = At::property;
      space_ = 0;
      return byte == ':';
    case At::after:
      return read_after(byte);
    case At::done:
      return false;
  }
  return false;
}

bool JsonMatcher::complete() const {
  if (at_ == At::done) return true;
  if (at_ != At::number || threads_[0].frame) return false;
  return std::any_of(threads_.begin(), threads_.end(), [&](const Thread& t) { return number_ends(t); });
}

bool JsonMatcher::take_space(uint8_t byte) {
  if (space_ == 2) {
    if (byte != ' ' && byte != '\t') return false;
    return space_count_ < kMaxIndent && ++space_count_;
  }
  if (space_ != 0 || (byte != ' ' && byte != '\n')) return false;
  space_ = byte == ' ' ? 1 : 2;
  space_count_ = 0;
  return true;
}

bool JsonMatcher::begin_value(uint8_t byte) {
  spawned_.clear();
  token_.assign(1, char(byte));
  for (const Thread& thread : threads_) spawn(thread.frame, thread.shape, byte);
  threads_.swap(spawned_);
  spawned_.clear();
  merge();
  return !threads_.empty();
}

bool JsonMatcher::begin_item(uint8_t byte) {
  spawned_.clear();
  token_.assign(1, char(byte));
  for (const Thread& thread : threads_) {
    const JsonFrame& frame = *thread.frame;
    const ArrayShape& shape = graph_->array(frame.shape);
    for (const ArrayShape::Choice& choice : shape.choices(frame.items)) {
      if (!shape.allowed(frame.items, choice)) continue;
      ArrayShape::State after = shape.state_after(frame.items, choice);
      if (after == frame.items && !frame.unique) {
        spawn(thread.frame, choice.node, byte);
        continue;
      }
      JsonFramePtr next = frame.copy();
      next.edit().items = std::move(after);
      if (frame.unique) next.edit().item_begin = text_.size() - 1;
      ++next.edit().index;
      spawn(next, choice.node, byte);
    }
  }
  threads_.swap(spawned_);
  spawned_.clear();
  merge();
  return !threads_.empty();
}

/// The ways to read a value of the node that begins with the byte.
void JsonMatcher::spawn(const JsonFramePtr& frame, uint32_t id, uint8_t byte) {
  const SchemaGraph::Node& node = graph_->node(id);
  const auto literal = [&](uint8_t type, const char* text) {
    at_ = At::literal;
    literal_ = text + 1;
    if ((node.literals & type) && !is_forbidden(frame, text)) spawned_.push_back({frame, 0, {}, {}});
  };
  if (byte == '"') {
    at_ = At::string;
    token_.clear();
    lexer_ = {};
    for (const uint32_t shape : node.strings) {
      Thread thread{frame, shape, graph_->string(shape).start(), {}};
      if (string_viable(thread, "")) spawned_.push_back(std::move(thread));
    }
  } else if (byte == '{') {
    at_ = At::object_begin;
    for (const uint32_t shape : node.objects) spawn_container(frame, shape, false);
  } else if (byte == '[') {
    at_ = At::array_begin;
    for (const uint32_t shape : node.arrays) spawn_container(frame, shape, true);
  } else if (byte == 't') {
    literal(kTrue, "true");
  } else if (byte == 'f') {
    literal(kFalse, "false");
  } else if (byte == 'n') {
    literal(kNull, "null");
  } else if (byte == '-' || (byte >= '0' && byte <= '9')) {
    at_ = At::number;
    number_ = byte == '-' ? NumberPart::sign : byte == '0' ? NumberPart::zero : NumberPart::whole;
    for (const uint32_t shape : node.numbers) {
      Thread thread{frame, shape, {}, {}};
      if (number_viable(thread)) spawned_.push_back(std::move(thread));
    }
  }
}

void JsonMatcher::spawn_container(const JsonFramePtr& around, uint32_t shape, bool array) {
  space_ = 0;
  const std::string& only = array ? graph_->only_array(shape) : graph_->only_object(shape);
  if (!only.empty() && is_forbidden(around, only)) return;
  auto* frame = new JsonFrame;
  const JsonFramePtr owner(frame);
  frame->around = around;
  frame->array = array;
  frame->shape = shape;
  if (array) {
    frame->items = graph_->array(shape).start();
    frame->unique = graph_->array(shape).unique();
    if (frame->unique) frame->forbidden = graph_->distinct(shape).forbidden(0, {});
  } else {
    frame->properties = graph_->object(shape).start();
  }
  spawned_.push_back({owner, 0, {}, {}});
}

const DistinctItems::Values* JsonMatcher::forbidden(const JsonFramePtr& frame) const {
  return frame && frame->unique && !frame->forbidden.empty() ? &frame->forbidden : nullptr;
}

bool JsonMatcher::is_forbidden(const JsonFramePtr& frame, const std::string& canonical) const {
  const DistinctItems::Values* values = forbidden(frame);
  return values && std::binary_search(values->begin(), values->end(), canonical);
}

bool JsonMatcher::may_go_on(const JsonFrame& frame) const {
  if (!frame.array) return frame.properties.may_go_on;
  if (frame.unique && !graph_->distinct(frame.shape).may_have_item(frame.index, frame.forbidden))
    return false;
  return graph_->array(frame.shape).may_go_on(frame.items);
}

/// Before the byte that was read last. An array or object within a list of different items may end only where
/// it differs from the others.
bool JsonMatcher::may_close(const Thread& thread) const {
  const JsonFrame& frame = *thread.frame;
  if (!(frame.array ? graph_->array(frame.shape).may_close(frame.items) : frame.properties.may_close))
    return false;
  if (!forbidden(frame.around)) return true;
  const std::string text =
      text_.substr(frame.around->item_begin, text_.size() - 1 - frame.around->item_begin);
  return !is_forbidden(frame.around, canonical_json(text + (frame.array ? ']' : '}')));
}

bool JsonMatcher::begin_key(uint8_t byte) {
  if (byte != '"') return false;
  at_ = At::key;
  lexer_ = {};
  token_.clear();
  return keep([&](Thread& thread) {
    thread.key = graph_->object(thread.frame->shape).first();
    return thread.frame->properties.may_go_on;
  });
}

bool JsonMatcher::end_key() {
  spawned_.clear();
  std::vector<ObjectShape::Choice> choices;
  for (const Thread& thread : threads_) {
    const JsonFrame& frame = *thread.frame;
    const ObjectShape& shape = graph_->object(frame.shape);
    choices.clear();
    shape.choices(frame.properties, thread.key, token_, choices);
    for (const ObjectShape::Choice& choice : choices) {
      JsonFramePtr next = frame.copy();
      next.edit().properties = shape.state_after(frame.properties, thread.key, token_, choice);
      spawned_.push_back({std::move(next), choice.node, {}, {}});
    }
  }
  at_ = At::colon;
  threads_.swap(spawned_);
  spawned_.clear();
  merge();
  return !threads_.empty();
}

bool JsonMatcher::read_after(uint8_t byte) {
  if (byte == ']' || byte == '}') return close(byte);
  if (byte == ',' && space_ == 0) {
    at_ = threads_[0].frame->array ? At::next_item : At::next_key;
    return keep([&](const Thread& thread) { return may_go_on(*thread.frame); });
  }
  // Space stands before an end only.
  return take_space(byte) && keep([&](const Thread& thread) { return may_close(thread); });
}

bool JsonMatcher::close(uint8_t byte) {
  if (threads_[0].frame->array != (byte == ']')) return false;
  if (!keep([&](const Thread& thread) { return may_close(thread); })) return false;
  for (Thread& thread : threads_) thread.frame = JsonFramePtr(thread.frame->around);
  return end_value(text_.size());
}

/// The value of all threads ended where the text was `end` bytes long.
bool JsonMatcher::end_value(size_t end) {
  if (!threads_[0].frame) {
    at_ = At::done;
    threads_.resize(1);
    return true;
  }
  at_ = At::after;
  space_ = 0;
  const bool alive = keep([&](Thread& thread) {
    thread.shape = 0;
    thread.string = {};
    thread.key = {};
    if (!thread.frame->unique) return true;
    const JsonFrame& frame = *thread.frame;
    const std::string item =
        canonical_json(std::string_view(text_).substr(frame.item_begin, end - frame.item_begin));
    if (is_forbidden(thread.frame, item)) return false;
    JsonFramePtr next = frame.copy();
    DistinctItems::Values& used = next.edit().used;
    used.insert(std::lower_bound(used.begin(), used.end(), item), item);
    next.edit().forbidden = graph_->distinct(frame.shape).forbidden(frame.index, used);
    thread.frame = std::move(next);
    return true;
  });
  if (alive) merge();
  return alive;
}

/// Of threads in the same state one is enough.
void JsonMatcher::merge() {
  for (size_t i = 1; i < threads_.size(); ++i) {
    const Thread& one = threads_[i];
    const bool again = std::any_of(threads_.begin(), threads_.begin() + int64_t(i), [&](const Thread& other) {
      return one.shape == other.shape && one.string == other.string && one.key == other.key &&
             same_frames(one.frame.get(), other.frame.get());
    });
    if (!again) continue;
    threads_.erase(threads_.begin() + int64_t(i));
    --i;
  }
}

void JsonMatcher::append_key(std::string& key, int64_t reach) const {
  append_number(key, at_);
  if (at_ == At::literal) key += literal_;
  if (at_ == At::number) append_number(key, number_);
  const bool spaced = at_ == At::array_begin || at_ == At::object_begin || at_ == At::next_item ||
                      at_ == At::next_key || at_ == At::property || at_ == At::after;
  if (spaced) append_number(key, space_);
  if (spaced && space_ == 2) append_number(key, std::max<int64_t>(0, space_count_ - kMaxIndent + reach));
  if (at_ == At::string || at_ == At::key) lexer_.append_key(key);
  bool token = graph_->any_unique() && at_ == At::string;
  for (const Thread& thread : threads_) {
    append_number(key, thread.shape);
    if (at_ == At::string) graph_->string(thread.shape).append_key(key, thread.string, reach);
    if (at_ == At::number) {
      token |= forbidden(thread.frame) || !graph_->number(thread.shape).any_digits_from(token_);
    }
    if (at_ == At::key) {
      append_number(key, thread.key.branch);
      append_number(key, thread.key.labels);
      // What stands in the way of the same key later, or is in the way of this one.
      const ObjectShape::State& state = thread.frame->properties;
      const bool again = int64_t(token_.size()) < reach ||
                         std::any_of(state.others.begin(), state.others.end(),
                                     [&](const std::string& other) { return other.starts_with(token_); });
      token |= state.open_labels != 0 && again;
    }
    append_frames(key, thread.frame.get(), reach);
  }
  if (!token) return;
  append_number(key, token_.size());
  key += token_;
}

void JsonMatcher::append_frames(std::string& key, const JsonFrame* frame, int64_t reach) const {
  // Each level takes a byte to leave.
  for (int64_t left = reach; frame && left > 0; frame = frame->around.get(), --left) {
    append_number(key, frame->shape);
    key.push_back(frame->array ? '[' : '{');
    if (!frame->array) {
      graph_->object(frame->shape).append_key(key, frame->properties, left);
      continue;
    }
    graph_->array(frame->shape).append_key(key, frame->items, left);
    if (!frame->unique) continue;
    append_number(key, frame->index);
    for (const std::string& value : frame->forbidden) key += value + ',';
    for (const std::string& value : frame->used) key += value + ',';
    key += text_.substr(std::min(frame->item_begin, text_.size()));
  }
  key.push_back(frame ? '+' : '.');
}

}  // namespace llmtool
