#pragma once
// StringLanguages: the sets of texts that a schema speaks of, each made once.

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "grammar/byte_dfa.h"

namespace llmtool {

constexpr uint64_t kNoLimit = UINT64_MAX;

/// The texts that are in every one of `in`, in none of `not_in`, of so many code points.
struct StringPart {
  std::vector<uint32_t> in = {}, not_in = {};  // of StringLanguages, sorted
  uint64_t min = 0, max = kNoLimit;
  friend auto operator<=>(const StringPart& a, const StringPart& b) = default;
  void add(uint32_t language, bool negated);
};

/// Throws UsageError, opening with `origin`, on what is too large or, all in all, too much work.
class StringLanguages {
 public:
  using Id = uint32_t;
  static constexpr Id kAny = 0;

  StringLanguages();
  Id search(const std::string& regex, const std::string& origin);
  Id texts(std::vector<std::string> texts);
  /// The part without its lengths, or with them.
  Id of(const StringPart& part, bool with_lengths, const std::string& origin);
  Id unite(Id a, Id b, const std::string& origin);
  const ByteDfa& dfa(Id id) const { return dfas_[id]; }
  bool empty(const StringPart& part, const std::string& origin);

 private:
  Id add(ByteDfa dfa);

  /// Moves of automata that one schema may take to combine its languages: about a second.
  static constexpr size_t kMaxWork = size_t{1} << 23;

  size_t budget_ = kMaxWork;
  std::deque<ByteDfa> dfas_;
  std::map<std::string, Id> searches_;
  std::map<std::vector<std::string>, Id> texts_;
  std::map<StringPart, Id> parts_;
  std::map<std::pair<Id, Id>, Id> unions_;
};

}  // namespace llmtool
