#pragma once
// SchemaGraph: a JSON Schema as nodes, each a list of shapes of one type; none of them is empty.

#include <functional>

#include "grammar/array_shape.h"
#include "grammar/distinct_items.h"
#include "grammar/object_shape.h"
#include "grammar/schema_expander.h"
#include "grammar/string_shape.h"

namespace llmtool {

class SchemaGraph {
 public:
  struct Node {
    uint8_t literals = 0;  // of kNull, kTrue, kFalse
    std::vector<uint32_t> numbers, strings, arrays, objects;
  };

  /// Throws UsageError, naming `origin` and the JSON pointer, on what cannot be enforced, and where no
  /// instance is valid.
  SchemaGraph(const nlohmann::json& schema, const std::string& origin);

  uint32_t root() const { return root_; }
  const Node& node(uint32_t id) const { return nodes_[id]; }
  const NumberSet& number(uint32_t id) const { return numbers_[id]; }
  const StringShape& string(uint32_t id) const { return strings_[id]; }
  const ArrayShape& array(uint32_t id) const { return arrays_[id]; }
  const ObjectShape& object(uint32_t id) const { return objects_[id]; }
  /// Of an array shape that is unique().
  const DistinctItems& distinct(uint32_t array) const { return distinct_[array]; }
  /// The one value of an array or object shape, as a canonical text; "" if it has more.
  const std::string& only_array(uint32_t id) const { return only_arrays_[id]; }
  const std::string& only_object(uint32_t id) const { return only_objects_[id]; }
  bool any_unique() const { return any_unique_; }

 private:
  uint32_t node_of(SchemaFormulas::Id formula);
  void fill(uint32_t id);
  void add_strings(uint32_t id, std::vector<StringPart> parts);
  void find_satisfiable();
  bool update(Node& node);
  void drop_empty();
  void list_only_values(SchemaFormulas::Id formula);
  bool check_unique();
  bool always_open(uint32_t array) const;
  void check_unique_item(uint32_t array, uint32_t node) const;
  std::optional<DistinctItems::Values> values(uint32_t node) const;
  SchemaDocument::Location place_of(SchemaFormulas::Id formula) const;

  SchemaDocument document_;
  SchemaFormulas formulas_;
  StringLanguages languages_;
  SchemaExpander expander_;
  std::map<SchemaFormulas::Id, uint32_t> ids_;
  std::vector<SchemaFormulas::Id> node_formulas_;
  std::vector<Node> nodes_;
  std::vector<bool> satisfiable_;
  std::deque<NumberSet> numbers_;
  std::deque<StringShape> strings_;
  std::deque<ArrayShape> arrays_;
  std::deque<ObjectShape> objects_;
  std::vector<bool> array_possible_, object_possible_, array_banned_;
  std::vector<std::string> only_arrays_, only_objects_;
  std::vector<SchemaDocument::Location> unique_at_;
  std::vector<DistinctItems> distinct_;
  bool any_unique_ = false;
  uint32_t root_ = 0;
};

}  // namespace llmtool
