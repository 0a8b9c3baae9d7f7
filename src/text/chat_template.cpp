#include "llmtool/text/chat_template.h"

#include <algorithm>

#include "llmtool/core/error.h"
#include "text/template_interpreter.h"
#include "text/template_parser.h"
#include "text/template_unicode.h"

namespace llmtool {

struct ChatTemplate::Parsed {
  jinja::Template made;
  std::string origin;
};

ChatTemplate::ChatTemplate(std::string source, std::string origin) {
  if (source.size() > kMaxSource)
    throw Error(cat(origin, ": the template has ", source.size(), " bytes, more than ", kMaxSource));
  if (!unicode::is_well_formed(source)) throw Error(cat(origin, ": the template is not UTF-8"));
  auto parsed = std::make_shared<Parsed>();
  parsed->origin = std::move(origin);
  int line = 1;
  try {
    parsed->made = jinja::parse_template(source, line);
  } catch (const jinja::Fault& fault) {
    throw Error(cat(parsed->origin, ": line ", line, ": ", fault.what()));
  }
  parsed_ = std::move(parsed);
}

namespace {
using jinja::Heap;
using jinja::Value;
using Json = nlohmann::ordered_json;

Value value_of(Heap& heap, const Json& json) {
  const jinja::Deeper deeper(heap);
  switch (json.type()) {
    case Json::value_t::null:
      return Value::none();
    case Json::value_t::boolean:
      return Value(json.get<bool>());
    case Json::value_t::number_integer:
      return Value(json.get<int64_t>());
    case Json::value_t::number_unsigned:
      if (json.get<uint64_t>() > INT64_MAX)
        jinja::fail(cat("the number ", json.get<uint64_t>(), " does not fit 64 bits"));
      return Value(json.get<int64_t>());
    case Json::value_t::number_float:
      return Value(json.get<double>());
    case Json::value_t::string: {
      const auto& text = json.get_ref<const std::string&>();
      if (!unicode::is_well_formed(text)) jinja::fail("a string of the context is not UTF-8");
      return heap.string(text);
    }
    case Json::value_t::array: {
      jinja::Values items;
      for (const Json& item : json) items.push_back(value_of(heap, item));
      return heap.list(std::move(items));
    }
    case Json::value_t::object: {
      std::vector<std::pair<Value, Value>> items;
      for (const auto& [key, item] : json.items()) {
        if (!unicode::is_well_formed(key)) jinja::fail("a key of the context is not UTF-8");
        items.emplace_back(heap.string(key), value_of(heap, item));
      }
      return heap.dict(std::move(items));
    }
    default:
      jinja::fail("the context holds bytes");
  }
}

/// A message with its reasoning under the names that templates read.
Value with_reasoning(Heap& heap, const Value& message) {
  if (!message.is(jinja::Kind::kDict)) return message;
  const auto& fields = message.dict();
  for (const std::string_view name : {"reasoning_content", "thinking", "reasoning"}) {
    const Value* reasoning = fields.find(name);
    if (!reasoning || reasoning->is(jinja::Kind::kNone)) continue;
    std::vector<std::pair<Value, Value>> items = {{heap.string("thinking"), *reasoning}};
    items.insert(items.end(), fields.items.begin(), fields.items.end());
    items.emplace_back(heap.string("reasoning_content"), *reasoning);
    return heap.dict(std::move(items));
  }
  return message;
}

Value context_of(Heap& heap, const Json& json) {
  if (!json.is_object()) jinja::fail("the context is not an object");
  std::vector<std::pair<Value, Value>> items = {{heap.string("tools"), Value::none()},
                                                {heap.string("documents"), Value::none()},
                                                {heap.string("add_generation_prompt"), Value(false)}};
  const Value given = value_of(heap, json);
  for (const auto& [key, value] : given.dict().items) {
    if (key.text() != "messages" || !value.is(jinja::Kind::kList)) {
      items.emplace_back(key, value);
      continue;
    }
    jinja::Values messages;
    for (const Value& message : value.items()) messages.push_back(with_reasoning(heap, message));
    items.emplace_back(key, heap.list(std::move(messages)));
  }
  return heap.dict(std::move(items));
}

bool has_scope(const jinja::Body& body) {
  return std::any_of(body.begin(), body.end(), [](const jinja::Statement& statement) {
    return statement.kind == jinja::StatementKind::kScope ||
           std::any_of(statement.bodies.begin(), statement.bodies.end(), has_scope);
  });
}
}  // namespace

std::string ChatTemplate::render(const nlohmann::ordered_json& context) const {
  return render_marked(context).text;
}

bool ChatTemplate::marks_generation() const { return has_scope(parsed_->made.body); }

ChatTemplate::Marked ChatTemplate::render_marked(const nlohmann::ordered_json& context) const {
  Heap heap;
  int line = 0;
  try {
    jinja::Interpreter interpreter(heap, context_of(heap, context));
    try {
      Marked made;
      made.text = interpreter.run(parsed_->made);
      made.generated = interpreter.generated();
      return made;
    } catch (const jinja::Fault&) {
      line = interpreter.line();
      throw;
    }
  } catch (const jinja::Fault& fault) {
    const std::string place = line > 0 ? cat("line ", line, ": ") : "";
    throw Error(cat(parsed_->origin, ": ", place, fault.what()));
  }
}

}  // namespace llmtool
