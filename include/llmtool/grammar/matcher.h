#pragma once
// Matcher: reads a text byte by byte and knows whether it can still become one of a form.

#include <cstdint>
#include <memory>
#include <string>

namespace llmtool {

/// The state of reading one text. What was compiled (the form) is shared by all its matchers and immutable.
/// There are no dead ends: what push() accepted can always be completed.
class Matcher {
 public:
  virtual ~Matcher() = default;

  virtual std::unique_ptr<Matcher> clone() const = 0;
  /// Becomes a copy of `other`, a matcher of the same form, reusing its own memory.
  virtual void assign(const Matcher& other) = 0;
  /// Reads `byte` if some text of the form goes on with it; false, leaving the state in pieces, if none does.
  virtual bool push(uint8_t byte) = 0;
  /// Whether what was read is a whole text of the form; more may be possible.
  virtual bool complete() const = 0;
  /// Appends bytes that are equal only for states that accept the same continuations, as far as those are at
  /// most `reach` bytes long. The same state reached by other ways should give the same bytes, since what a
  /// state allows is remembered by them.
  virtual void append_key(std::string& key, int64_t reach) const = 0;
  static constexpr int64_t kAnyReach = int64_t{1} << 62;  // for all continuations
};

/// A form that texts are held to.
class Grammar {
 public:
  virtual ~Grammar() = default;
  /// A matcher that has read nothing. It keeps what it needs alive.
  virtual std::unique_ptr<Matcher> matcher() const = 0;
};

}  // namespace llmtool
