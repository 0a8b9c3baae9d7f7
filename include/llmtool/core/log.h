#pragma once
// Everything that is said to the user beside the result: on stderr.

#include <string>
#include <string_view>

namespace llmtool {

/// Silences info() and progress; warnings and errors stay.
void set_quiet(bool quiet);
bool quiet();

void info(std::string_view line);
void warn(std::string_view line);  // "warning: ..."

/// True where stderr is a terminal that can redraw a line.
bool progress_on_terminal();
/// Redraws the progress line (on a terminal only); an empty line removes it. info() and warn() keep it below.
void show_progress(const std::string& line);

std::string human_bytes(double bytes);   // "412 MB" (powers of ten)
std::string human_count(double count);   // "124.4M"
std::string human_time(double seconds);  // "2m 05s"

}  // namespace llmtool
