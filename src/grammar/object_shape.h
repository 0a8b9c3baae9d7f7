#pragma once
// ObjectShape: objects whose properties come in any order, read key by key.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/key_labels.h"
#include "grammar/schema_alternative.h"

namespace llmtool {

class ObjectShape {
 public:
  static constexpr uint32_t kNoNode = UINT32_MAX;
  using Bits = std::vector<uint64_t>;

  /// What has been read of an object, and what that leaves open.
  struct State {
    Bits seen;                        // names, by number
    uint64_t count = 0;               // properties
    uint32_t wanted = 0;              // which of `some` have no property yet
    std::vector<std::string> others;  // keys that are no names; sorted
    // By settle():
    Bits open;                 // names that may come next
    uint64_t open_labels = 0;  // labels of other keys that may
    bool may_close = false;
    bool may_go_on = false;
  };
  /// A key half read.
  struct Cursor {
    int32_t branch = 0;  // of the tree of names; -1 beside it
    KeyLabels::State labels = 0;
    friend bool operator==(const Cursor& a, const Cursor& b) = default;
  };
  /// A value that may follow a key: a node, and the `some` that it serves.
  struct Choice {
    uint32_t node;
    uint32_t serves;
  };

  /// `node` gives the number of a formula's node. Throws UsageError on what cannot be enforced.
  ObjectShape(const ObjectPart& part, SchemaFormulas& formulas, const StringLanguages& languages,
              const std::function<uint32_t(SchemaFormulas::Id)>& node);

  /// Learns which nodes have values. Says whether the shape then has one.
  bool update(const std::vector<bool>& satisfiable);
  /// Whether it has endlessly many however far one is read, short of its end.
  bool always_open() const;

  State start() const;
  Cursor first() const { return {0, labels_.start()}; }
  /// Whether no key need be read, each being as good as another.
  bool free() const { return names_.empty() && labels_.trivial(); }
  /// Whether some key that may come next goes on so; `key` ends with the byte.
  bool step(const State& state, Cursor& cursor, uint8_t byte, std::string_view key) const;
  /// The values that may follow `key`, which ended at the cursor; the state behind each is state_after().
  void choices(const State& state, const Cursor& cursor, std::string_view key,
               std::vector<Choice>& out) const;
  State state_after(const State& state, const Cursor& cursor, std::string_view key,
                    const Choice& choice) const;
  void append_key(std::string& text, const State& state, int64_t reach) const;

 private:
  struct Branch {  // of the tree of names
    std::vector<std::pair<uint8_t, uint32_t>> next;
    uint32_t first = 0, last = 0;  // the names below
    int32_t name = -1;             // the one that ends here
  };

  void collect_names(const ObjectPart& part, const StringLanguages& languages);
  void make_children(const ObjectPart& part, SchemaFormulas& formulas, const StringLanguages& languages,
                     const std::function<uint32_t(SchemaFormulas::Id)>& node);
  void make_tree();
  void settle(State& state) const;
  bool viable(const State& state, const Cursor& cursor, std::string_view key) const;
  uint64_t keys_left(const State& state, const Cursor& cursor, std::string_view key, uint32_t label) const;
  /// How many more properties it takes at least; kNoLimit: no number of them will do.
  uint64_t needed(const Bits& seen, uint32_t wanted) const;
  uint64_t needed_to_serve(Bits& seen, uint32_t wanted) const;
  bool may_take(const State& state, size_t key, uint32_t serves) const;
  bool may_take_any(const State& state, size_t key) const;
  int64_t key_at(const State& state, const Cursor& cursor, std::string_view key) const;

  std::vector<std::string> names_;  // sorted
  std::vector<Branch> tree_;
  KeyLabels labels_{std::vector<const ByteDfa*>{}};
  std::vector<uint32_t> languages_;  // of labels_
  Bits required_;
  uint64_t min_, max_;
  uint32_t some_ = 0;                            // how many
  std::vector<std::vector<uint32_t>> children_;  // by key (names, then labels), by the set it serves
  std::vector<uint32_t> usable_;                 // by key: those sets, as bits
  std::vector<uint64_t> named_in_label_;         // by label: how many names it has
};

}  // namespace llmtool
