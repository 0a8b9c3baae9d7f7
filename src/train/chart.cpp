#include "train/chart.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <sstream>

namespace llmtool {

namespace {
constexpr double kWidth = 720, kHeight = 300, kLeft = 64, kRight = 16, kTop = 36, kBottom = 44;

constexpr double kLargest = 1e300;  // beyond it differences overflow

struct Axis {
  double low, high, step;
  int64_t intervals() const { return std::llround((high - low) / step); }
  double tick(int64_t i) const { return low + static_cast<double>(i) * step; }
};

/// Round ticks (1, 2 or 5 times a power of ten) that enclose the values.
Axis axis_for(double low, double high, int ticks) {
  const double size = std::max(std::abs(low), std::abs(high));
  if (!(high - low > std::max(1e-9 * size, 1e-250))) {  // nothing to tell apart
    const double room = std::max(0.1 * size, 1e-9);
    low -= room;
    high += room;
  }
  const double raw = (high - low) / ticks, power = std::pow(10.0, std::floor(std::log10(raw)));
  const double step = power * (raw / power <= 1 ? 1 : raw / power <= 2 ? 2 : raw / power <= 5 ? 5 : 10);
  return {std::floor(low / step) * step, std::ceil(high / step) * step, step};
}

std::string number(double value, int digits = 4) {
  std::ostringstream out;
  out << std::setprecision(digits) << value;
  return out.str();
}

std::string tick_text(const Axis& axis, int64_t i) {
  const double value = axis.tick(i);
  if (std::abs(value) < axis.step * 1e-6) return "0";
  const double largest = std::max(std::abs(axis.low), std::abs(axis.high));
  if (largest < 1e4 || largest >= 1e12) return number(value);
  if (largest >= 1e9) return number(value / 1e9) + "G";
  return largest >= 1e6 ? number(value / 1e6) + "M" : number(value / 1e3) + "k";
}

/// At most two points (the lowest and the highest) for each of `columns` equal stretches.
std::vector<std::pair<double, double>> thinned(const std::vector<std::pair<double, double>>& points,
                                               size_t columns) {
  if (points.size() <= 2 * columns) return points;
  std::vector<std::pair<double, double>> kept;
  for (size_t c = 0; c < columns; ++c) {
    const auto first = points.begin() + static_cast<int64_t>(c * points.size() / columns);
    const auto last = points.begin() + static_cast<int64_t>((c + 1) * points.size() / columns);
    auto [low, high] = std::minmax_element(first, last, [](auto& a, auto& b) { return a.second < b.second; });
    if (low > high) std::swap(low, high);
    kept.push_back(*low);
    if (high != low) kept.push_back(*high);
  }
  return kept;
}

struct Frame {
  Axis x, y;
  double px(double value) const {
    return kLeft + (value - x.low) / (x.high - x.low) * (kWidth - kLeft - kRight);
  }
  double py(double value) const {
    return kHeight - kBottom - (value - y.low) / (y.high - y.low) * (kHeight - kTop - kBottom);
  }
};

void draw_grid(std::ostringstream& out, const Frame& f, const std::string& x_label) {
  for (int64_t i = 0; i <= f.y.intervals(); ++i) {
    const double v = f.y.tick(i);
    out << "<line class=grid x1=" << kLeft << " x2=" << kWidth - kRight << " y1=" << f.py(v)
        << " y2=" << f.py(v) << " /><text class=tick x=" << kLeft - 8 << " y=" << f.py(v) + 4
        << " text-anchor=end>" << tick_text(f.y, i) << "</text>";
  }
  for (int64_t i = 0; i <= f.x.intervals(); ++i) {
    const double v = f.x.tick(i);
    out << "<line class=grid x1=" << f.px(v) << " x2=" << f.px(v) << " y1=" << kTop
        << " y2=" << kHeight - kBottom << " /><text class=tick x=" << f.px(v)
        << " y=" << kHeight - kBottom + 18 << " text-anchor=middle>" << tick_text(f.x, i) << "</text>";
  }
  out << "<text class=tick x=" << (kLeft + kWidth - kRight) / 2 << " y=" << kHeight - 8
      << " text-anchor=middle>" << html_escape(x_label) << "</text>";
}
}  // namespace

std::string html_escape(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string line_chart(const std::string& title, const std::string& x_label, std::vector<Curve> curves) {
  double x0 = INFINITY, x1 = -INFINITY, y0 = INFINITY, y1 = -INFINITY;
  for (Curve& curve : curves) {
    std::erase_if(curve.points, [](const auto& p) {
      return !(std::abs(p.first) < kLargest && std::abs(p.second) < kLargest);  // nor what is no number
    });
    curve.points = thinned(curve.points, 700);
    for (const auto& [x, y] : curve.points) {
      x0 = std::min(x0, x), x1 = std::max(x1, x);
      y0 = std::min(y0, y), y1 = std::max(y1, y);
    }
  }
  if (!std::isfinite(x0)) return "";
  const Frame frame{axis_for(x0, x1, 8), axis_for(y0, y1, 5)};
  std::ostringstream out;
  out << std::setprecision(6) << "<svg viewBox=\"0 0 " << kWidth << " " << kHeight << "\" role=img><title>"
      << html_escape(title) << "</title><text class=title x=" << kLeft << " y=20>" << html_escape(title)
      << "</text>";
  draw_grid(out, frame, x_label);
  double legend = kWidth - kRight;
  for (auto curve = curves.rbegin(); curve != curves.rend(); ++curve) {
    if (curve->points.empty() || curve->name.empty()) continue;
    legend -= 7.0 * static_cast<double>(curve->name.size()) + 34;
    out << "<line class=\"" << curve->style << "\" x1=" << legend << " x2=" << legend + 18
        << " y1=16 y2=16 /><text "
        << "class=tick x=" << legend + 23 << " y=20>" << html_escape(curve->name) << "</text>";
  }
  for (const Curve& curve : curves) {
    if (curve.points.empty()) continue;
    out << "<polyline class=\"" << curve.style << "\" points=\"";
    for (const auto& [x, y] : curve.points) out << frame.px(x) << "," << frame.py(y) << " ";
    out << "\"/>";
    if (curve.points.size() <= 60) {
      for (const auto& [x, y] : curve.points) {
        out << "<circle class=\"" << curve.style << "\" cx=" << frame.px(x) << " cy=" << frame.py(y)
            << " r=2.5><title>" << number(x, 12) << ": " << number(y, 6) << "</title></circle>";
      }
    }
  }
  out << "</svg>";
  return out.str();
}

}  // namespace llmtool
