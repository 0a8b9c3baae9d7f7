#pragma once
// What tests of forms share: reading texts, walks over what may follow.

#include <gtest/gtest.h>

#include <deque>
#include <set>
#include <string>

#include "llmtool/core/rng.h"
#include "llmtool/grammar/held_text.h"

namespace llmtool::test {

/// Whether some text of the form begins with `text`.
inline bool goes_on(const Grammar& grammar, const std::string& text) {
  const auto matcher = grammar.matcher();
  for (const char c : text) {
    if (!matcher->push(static_cast<uint8_t>(c))) return false;
  }
  return true;
}

inline std::string bytes_after(const Matcher& matcher) {
  std::string allowed;
  const auto next = matcher.clone();
  for (int b = 0; b < 256; ++b) {
    next->assign(matcher);
    if (next->push(static_cast<uint8_t>(b))) allowed += static_cast<char>(b);
  }
  return allowed;
}

/// A shortest way to a whole text, found by looking at `states` states at most; false where none is.
inline bool complete(const Matcher& from, std::string& text, size_t states = 20000) {
  struct Place {
    std::unique_ptr<Matcher> matcher;
    std::string added;
  };
  std::deque<Place> queue;
  std::set<std::string> seen;
  queue.push_back({from.clone(), ""});
  while (!queue.empty() && seen.size() < states) {
    const Place place = std::move(queue.front());
    queue.pop_front();
    if (place.matcher->complete()) {
      text += place.added;
      return true;
    }
    for (const char b : bytes_after(*place.matcher)) {
      auto next = place.matcher->clone();
      next->push(static_cast<uint8_t>(b));
      std::string key;
      next->append_key(key, 1000);
      if (seen.insert(key).second) queue.push_back({std::move(next), place.added + b});
    }
  }
  return false;
}

/// Walks at random, then to the nearest end: there must be one. The text.
inline std::string random_text(const Grammar& grammar, Rng& rng, size_t length) {
  const auto matcher = grammar.matcher();
  std::string text;
  while (text.size() < length) {
    const std::string allowed = bytes_after(*matcher);
    if (allowed.empty()) {
      EXPECT_TRUE(matcher->complete()) << "a dead end behind " << text;
      return text;
    }
    const char next = allowed[rng.below(allowed.size())];
    EXPECT_TRUE(matcher->push(static_cast<uint8_t>(next)));
    text += next;
  }
  EXPECT_TRUE(complete(*matcher, text)) << "no end was found behind " << text;
  EXPECT_TRUE(accepts(grammar, text)) << text;
  return text;
}

}  // namespace llmtool::test
