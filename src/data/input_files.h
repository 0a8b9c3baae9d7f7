#pragma once
// Which files the user means.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace llmtool {

/// The files behind `inputs` (files, folders, globs; "-": standard input), sorted within each. Of a folder
/// the files that are `wanted`; the others are counted in `skipped`. `kinds` names those wanted in messages.
/// Throws UsageError where an input is nothing.
std::vector<std::string> list_files(const std::vector<std::string>& inputs,
                                    const std::function<bool(const std::string& path)>& wanted,
                                    const char* kinds, int64_t& skipped);

/// The name without the ending that says how it is packed (.gz, .zst).
std::string unpacked_name(std::string path);

}  // namespace llmtool
