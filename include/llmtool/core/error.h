#pragma once
// Errors and the one way to build their messages.

#include <sstream>
#include <stdexcept>
#include <string>

namespace llmtool {

/// What could not be done, in words for the user: the thing, what was expected, what was found, what to do.
/// Programs end with exit code 1.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The user asked for something that cannot be: a wrong flag, key or value. Programs end with exit code 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

/// The arguments written one after another.
template <class... Parts>
std::string cat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// The candidate with the smallest edit distance to `word`, or "" when none is near (more than half its
/// letters).
std::string nearest(const std::string& word, const std::string* candidates, size_t count);

}  // namespace llmtool
