#pragma once
// A line chart as SVG.

#include <string>
#include <utility>
#include <vector>

namespace llmtool {

struct Curve {
  std::string name, style;                        // name: for the legend, or ""; style: a CSS class
  std::vector<std::pair<double, double>> points;  // x rising
};

/// An <svg> element with axes, ticks, grid and a legend; "" without points. Long curves are thinned to their
/// extremes.
std::string line_chart(const std::string& title, const std::string& x_label, std::vector<Curve> curves);

std::string html_escape(const std::string& text);

}  // namespace llmtool
