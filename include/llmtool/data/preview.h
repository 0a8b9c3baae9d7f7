#pragma once
// Preview: an example as it will be trained, for people.

#include <string>

#include "llmtool/data/examples.h"

namespace llmtool {

/// Example `i` of the set: where it comes from, how long it is, its tokens and their ids. With `colour`
/// masked tokens are grey, trained ones green and special ones inverted; without it trained ones stand in [[
/// ]] and special ones are shown by their names, as <|...|> or in ⟨ ⟩.
std::string preview(const Tokenizer& tokenizer, const Examples& examples, const ExampleSet& set, int64_t i,
                    bool colour);

/// The templates that examples are written with, and what the marks mean; printed once, before previews.
std::string preview_legend(const Examples& examples, bool colour);

}  // namespace llmtool
