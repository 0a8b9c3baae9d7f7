#include <algorithm>
#include <unordered_map>

#include "llmtool/core/error.h"
#include "text/template_eval.h"
#include "text/template_unicode.h"

namespace llmtool::jinja {

namespace {
/// What `attribute='a.b.0'` takes from an item, as the filters look it up.
class Getter {
 public:
  Getter(Heap& heap, const Value* attribute, bool fold_case, const Value* fallback = nullptr)
      : fold_(fold_case), fallback_(fallback ? *fallback : Value::none()) {
    if (!attribute || attribute->is(Kind::kNone)) return;
    if (!attribute->is(Kind::kString)) {
      parts_.push_back(*attribute);
      return;
    }
    std::string_view rest = attribute->text();
    for (bool more = true; more;) {
      const size_t dot = rest.find('.');
      more = dot != rest.npos;
      const std::string part(rest.substr(0, dot));
      const bool number = !part.empty() && part.find_first_not_of("0123456789") == part.npos;
      parts_.push_back(number ? Value(parse_integer(part, 10).value_or(0)) : heap.string(part));
      if (more) rest.remove_prefix(dot + 1);
    }
  }

  Value operator()(Heap& heap, Value value) const {
    for (const Value& part : parts_) {
      value = item(heap, value, part);
      if (value.is(Kind::kUndefined) && !fallback_.is(Kind::kNone)) value = fallback_;
    }
    if (!fold_ || !value.is(Kind::kString)) return value;
    heap.work(32 * value.text().size());
    heap.room(3 * value.text().size());
    return heap.string(mapped(value.text(), Case::kLower));
  }
  int depth() const { return fallback_.depth(); }

 private:
  Values parts_;
  bool fold_;
  Value fallback_;
};

struct Keyed {
  Value key, item;
};
void sort_keyed(Heap& heap, std::vector<Keyed>& items, bool reverse) {
  heap.room(2 * items.size() * sizeof(Keyed));
  std::stable_sort(items.begin(), items.end(), [&](const Keyed& a, const Keyed& b) {
    return reverse ? less(heap, b.key, a.key) : less(heap, a.key, b.key);
  });
}
Value items_of(Heap& heap, std::vector<Keyed>& items) {
  Values out;
  for (Keyed& keyed : items) out.push_back(std::move(keyed.item));
  return heap.list(std::move(out));
}

const Value* optional(const Bound& bound, size_t i) { return bound.has(i) ? &bound[i] : nullptr; }

Value sort(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "sort", {"reverse", "case_sensitive", "attribute"});
  const bool fold = !bound.truth(heap, 1);
  std::vector<Getter> getters;
  if (bound.has(2) && bound[2].is(Kind::kString)) {
    std::string_view rest = bound[2].text();
    for (bool more = true; more;) {
      const size_t comma = rest.find(',');
      more = comma != rest.npos;
      const Value part = heap.string(std::string(rest.substr(0, comma)));
      getters.emplace_back(heap, &part, fold);
      if (more) rest.remove_prefix(comma + 1);
    }
  } else {
    getters.emplace_back(heap, optional(bound, 2), fold);
  }
  std::vector<Keyed> items;
  for (const Value& each : to_values(heap, value)) {
    Values keys;
    for (const Getter& getter : getters) keys.push_back(getter(heap, each));
    items.push_back({heap.list(std::move(keys)), each});
  }
  sort_keyed(heap, items, bound.truth(heap, 0));
  return items_of(heap, items);
}

Value dictsort(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "dictsort", {"case_sensitive", "by", "reverse"});
  const std::string by = bound.has(1) ? bound.text(1) : "key";
  if (by != "key" && by != "value") fail("You can only sort by either \"key\" or \"value\"");
  if (value.is(Kind::kUndefined)) fail_undefined(value);
  if (!value.is(Kind::kDict)) fail(cat("'", type_name(value), "' object has no attribute 'items'"));
  const Getter key(heap, nullptr, !bound.truth(heap, 0));
  std::vector<Keyed> items;
  for (const auto& [k, v] : value.dict().items)
    items.push_back({key(heap, by == "key" ? k : v), heap.pair(k, v)});
  sort_keyed(heap, items, bound.truth(heap, 2));
  return items_of(heap, items);
}

Value groupby(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "groupby", {"attribute", "default", "case_sensitive"}, 1);
  const bool fold = !bound.truth(heap, 2);
  const Getter key(heap, &bound[0], fold, optional(bound, 1)),
      shown(heap, &bound[0], false, optional(bound, 1));
  std::vector<Keyed> items;
  for (const Value& each : to_values(heap, value)) items.push_back({key(heap, each), each});
  sort_keyed(heap, items, false);
  Values groups;
  for (size_t from = 0, to = 0; from < items.size(); from = to) {
    Values members;
    for (; to < items.size() && equal(heap, items[from].key, items[to].key); ++to)
      members.push_back(items[to].item);
    if (to == from) members.push_back(items[to++].item);  // a key that does not equal itself
    const Value grouper = fold ? shown(heap, members.front()) : items[from].key;
    const Value group = heap.pair(grouper, heap.list(std::move(members)));
    group.as<ListObject>().group = true;
    groups.push_back(group);
  }
  return heap.list(std::move(groups));
}

Value unique(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "unique", {"case_sensitive", "attribute"});
  const Getter key(heap, optional(bound, 1), !bound.truth(heap, 0));
  auto seen = heap.make<DictObject>();
  return heap.generator(value.depth(), [&heap, value, key, seen, source = Value()](Value& out) mutable {
    if (source.is(Kind::kUndefined)) source = required_iterator(heap, value);
    while (next(heap, source, out)) {
      const Value k = key(heap, out);
      require_hashable(heap, k);
      if (seen->find(k)) continue;
      heap.charge(*seen, 200);
      seen->set(k, Value::none());
      return true;
    }
    return false;
  });
}

template <bool kMax>
Value extreme(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, kMax ? "max" : "min", {"case_sensitive", "attribute"});
  const Getter key(heap, optional(bound, 1), !bound.truth(heap, 0));
  const Value source = required_iterator(heap, value);
  Value best;
  if (!next(heap, source, best)) return heap.undefined("No aggregated item, sequence was empty.");
  Value best_key = key(heap, best);
  for (Value candidate; next(heap, source, candidate);) {
    const Value k = key(heap, candidate);
    if (!(kMax ? less(heap, best_key, k) : less(heap, k, best_key))) continue;
    best = candidate;
    best_key = k;
  }
  return best;
}

Value sum(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "sum", {"attribute", "start"});
  const Getter key(heap, optional(bound, 0), false);
  Value total = bound.has(1) ? bound[1] : Value(int64_t{0});
  if (total.is(Kind::kString)) fail("sum() can't sum strings");
  const Value source = required_iterator(heap, value);
  for (Value each; next(heap, source, each);)
    total = arithmetic(heap, Operator::kAdd, total, key(heap, each));
  return total;
}

Value join(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "join", {"d", "attribute"});
  const Getter key(heap, optional(bound, 1), false);
  const std::string separator = bound.has(0) ? printed(heap, bound[0]) : "";
  Builder out(heap);
  bool first = true;
  const Value source = required_iterator(heap, value);
  for (Value each; next(heap, source, each);) {
    if (!std::exchange(first, false)) out.add(separator);
    print(out, key(heap, each));
  }
  return out.value();
}

Value first(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "first", {});
  Value out;
  return next(heap, required_iterator(heap, value), out)
             ? out
             : heap.undefined("No first item, sequence was empty.");
}

Value last(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "last", {});
  if (!length(value)) fail(cat("'", type_name(value), "' object is not reversible"));
  if (value.is(Kind::kString) && !value.text().empty()) return item(heap, value, Value(int64_t{-1}));
  const Values all = to_values(heap, value);
  return all.empty() ? heap.undefined("No last item, sequence was empty.") : all.back();
}

Value length_filter(Heap&, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "length", {});
  return Value(required_length(value));
}

Value list(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "list", {});
  return heap.list(to_values(heap, value));
}

Value items(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "items", {});
  size_t at = 0;
  return heap.generator(value.depth(), [&heap, value, at](Value& out) mutable {
    if (value.is(Kind::kUndefined)) return false;
    if (!value.is(Kind::kDict)) fail("Can only get item pairs from a mapping.");
    const auto& entries = value.dict().items;
    if (at >= entries.size()) return false;
    out = heap.pair(entries[at].first, entries[at].second);
    ++at;
    return true;
  });
}

Value reverse(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "reverse", {});
  if (value.is(Kind::kString)) return slice(heap, value, Value::none(), Value::none(), Value(int64_t{-1}));
  if (!iterate(heap, value)) fail("reverse: argument must be iterable");
  Values all = to_values(heap, value);
  std::reverse(all.begin(), all.end());
  const Value reversed = heap.list(std::move(all));
  return value.is(Kind::kGenerator) ? reversed : *iterate(heap, reversed);
}

Value batch(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "batch", {"linecount", "fill_with"}, 1);
  const int64_t count = bound.integer(0, 0);
  const Value fill = bound.has(1) ? bound[1] : Value::none();
  struct State {
    Value source;
    Values row;
    bool done = false;
  };
  auto state = std::make_shared<State>();
  return heap.generator(
      std::max(value.depth(), fill.depth()), [&heap, value, fill, count, state](Value& out) {
        if (state->done) return false;
        if (state->source.is(Kind::kUndefined)) state->source = required_iterator(heap, value);
        for (Value each; next(heap, state->source, each);) {
          const bool full = static_cast<int64_t>(state->row.size()) == count;
          if (full) out = heap.list(std::exchange(state->row, {}));
          state->row.push_back(each);
          if (full) return true;
        }
        state->done = true;
        if (state->row.empty()) return false;
        if (!fill.is(Kind::kNone) && static_cast<int64_t>(state->row.size()) < count) {
          heap.room(std::min<size_t>(static_cast<size_t>(count), Heap::kMaxBytes) * sizeof(Value));
          state->row.resize(static_cast<size_t>(count), fill);
        }
        out = heap.list(std::exchange(state->row, {}));
        return true;
      });
}

Value slice_filter(Heap& heap, const Value& value, Arguments& arguments) {
  const Bound bound(arguments, "slice", {"slices", "fill_with"}, 1);
  const int64_t slices = bound.integer(0, 0);
  const Value fill = bound.has(1) ? bound[1] : Value::none();
  if (!iterate(heap, value)) required_iterator(heap, value);
  auto all = std::make_shared<Value>();
  int64_t i = 0, offset = 0;
  const int depth = std::max(value.depth() + 1, fill.depth());
  return heap.generator(depth, [&heap, value, fill, slices, all, i, offset](Value& out) mutable {
    if (all->is(Kind::kUndefined)) *all = heap.list(to_values(heap, value));
    if (slices == 0) fail("integer division or modulo by zero");
    if (i >= slices) return false;
    const Values& items = all->items();
    const auto size = static_cast<int64_t>(items.size());
    const int64_t each = size / slices, extra = size % slices;
    const int64_t start = offset + i * each;
    if (i < extra) ++offset;
    const int64_t end = offset + (i + 1) * each;
    Values part(items.begin() + start, items.begin() + end);
    if (!fill.is(Kind::kNone) && i >= extra) part.push_back(fill);
    out = heap.list(std::move(part));
    ++i;
    return true;
  });
}

/// A generator over what `make` turns the items of a value into; nothing of a value that is false.
template <class Make>
Value lazily(Heap& heap, const Value& value, int depth, Make make) {
  return heap.generator(std::max(value.depth(), depth),
                        [&heap, value, make, source = Value()](Value& out) mutable {
                          if (source.is(Kind::kUndefined)) {
                            if (!truth(heap, value)) return false;
                            source = required_iterator(heap, value);
                          }
                          for (Value each; next(heap, source, each);) {
                            if (make(each, out)) return true;
                          }
                          return false;
                        });
}

int depth_of(const Arguments& arguments) {
  int depth = 0;
  for (const Value& v : arguments.positional) depth = std::max(depth, v.depth());
  for (const auto& [name, v] : arguments.named) depth = std::max(depth, v.depth());
  return depth;
}

Value map(Heap& heap, const Value& value, Arguments& arguments) {
  auto given = std::make_shared<Arguments>(arguments);
  const bool by_attribute = given->positional.empty() && !given->named.empty() &&
                            std::any_of(given->named.begin(), given->named.end(),
                                        [](const auto& named) { return named.first == "attribute"; });
  if (!by_attribute) {
    return lazily(heap, value, depth_of(arguments), [&heap, given](const Value& each, Value& out) {
      if (given->positional.empty()) fail("map requires a filter argument");
      Arguments rest{{given->positional.begin() + 1, given->positional.end()}, given->named};
      out = call_filter(heap, required_text(given->positional[0], "map"), each, rest);
      return true;
    });
  }
  return lazily(heap, value, depth_of(arguments), [&heap, given](const Value& each, Value& out) {
    const Bound bound(*given, "map", {"attribute", "default"});
    out = Getter(heap, &bound[0], false, optional(bound, 1))(heap, each);
    return true;
  });
}

template <bool kKeep, bool kAttribute>
Value select(Heap& heap, const Value& value, Arguments& arguments) {
  auto given = std::make_shared<Arguments>(arguments);
  return lazily(heap, value, depth_of(arguments), [&heap, given](const Value& each, Value& out) {
    const size_t skipped = kAttribute ? 1 : 0;
    const Values& positional = given->positional;
    if (positional.size() < skipped) fail("Missing parameter for attribute name");
    const Value looked = kAttribute ? Getter(heap, &positional[0], false)(heap, each) : each;
    bool keep = false;
    if (positional.size() > skipped) {
      const auto rest = positional.begin() + static_cast<std::ptrdiff_t>(skipped) + 1;
      Arguments others{{rest, positional.end()}, given->named};
      keep = call_test(heap, required_text(positional[skipped], "select"), looked, others);
    } else {
      keep = truth(heap, looked);
    }
    out = each;
    return keep == kKeep;
  });
}

const std::unordered_map<std::string, FilterFunction> kSequenceFilters = {
    {"batch", batch},
    {"count", length_filter},
    {"dictsort", dictsort},
    {"first", first},
    {"groupby", groupby},
    {"items", items},
    {"join", join},
    {"last", last},
    {"length", length_filter},
    {"list", list},
    {"map", map},
    {"max", extreme<true>},
    {"min", extreme<false>},
    {"reject", select<false, false>},
    {"rejectattr", select<false, true>},
    {"reverse", reverse},
    {"select", select<true, false>},
    {"selectattr", select<true, true>},
    {"slice", slice_filter},
    {"sort", sort},
    {"sum", sum},
    {"unique", unique},
};
}  // namespace

const FilterFunction* find_sequence_filter(const std::string& name) {
  const auto found = kSequenceFilters.find(name);
  return found == kSequenceFilters.end() ? nullptr : &found->second;
}

}  // namespace llmtool::jinja
