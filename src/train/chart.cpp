#include "train/chart.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <sstream>

namespace llmtool {

namespace {
constexpr double kWidth = 720, kHeight = 300, kLeft = 64, kRight = 16, kTop = 36, kBottom = 44;

struct Axis {
  double low, high, step;
};

/// Round ticks (1, 2 or 5 times a power of ten) that enclose the values.
Axis axis_for(double low, double high, int ticks) {
  if (!(high > low)) {
    const double room = std::max(std::abs(low) * 0.1, 1e-9);
    low -= room;
    high += room;
  }
  const double raw = (high - low) / ticks, power = std::pow(10.0, std::floor(std::log10(raw)));
  const double step = power * (raw / power <= 1 ? 1 : raw / power <= 2 ? 2 : raw / power <= 5 ? 5 : 10);
  return {std::floor(low / step) * step, std::ceil(high / step) * step, step};
}

std::string number(double value) {
  if (std::abs(value) < 1e-12) return "0";
  std::ostringstream out;
  if (std::abs(value) >= 10000) {
    out << std::setprecision(4) << value / 1000 << "k";
  } else {
    out << std::setprecision(4) << value;
  }
  return out.str();
}

/// At most two points (the lowest and the highest) for each of `columns` equal stretches.
std::vector<std::pair<double, double>> thinned(const std::vector<std::pair<double, double>>& points, size_t columns) {
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
  double px(double value) const { return kLeft + (value - x.low) / (x.high - x.low) * (kWidth - kLeft - kRight); }
  double py(double value) const {
    return kHeight - kBottom - (value - y.low) / (y.high - y.low) * (kHeight - kTop - kBottom);
  }
};

void draw_grid(std::ostringstream& out, const Frame& f, const std::string& x_label) {
  for (double v = f.y.low; v <= f.y.high + f.y.step / 2; v += f.y.step) {
    out << "<line class=grid x1=" << kLeft << " x2=" << kWidth - kRight << " y1=" << f.py(v) << " y2=" << f.py(v)
        << " /><text class=tick x=" << kLeft - 8 << " y=" << f.py(v) + 4 << " text-anchor=end>" << number(v)
        << "</text>";
  }
  for (double v = f.x.low; v <= f.x.high + f.x.step / 2; v += f.x.step) {
    out << "<line class=grid x1=" << f.px(v) << " x2=" << f.px(v) << " y1=" << kTop << " y2=" << kHeight - kBottom
        << " /><text class=tick x=" << f.px(v) << " y=" << kHeight - kBottom + 18 << " text-anchor=middle>" << number(v)
        << "</text>";
  }
  out << "<text class=tick x=" << (kLeft + kWidth - kRight) / 2 << " y=" << kHeight - 8 << " text-anchor=middle>"
      << html_escape(x_label) << "</text>";
}
}  // namespace

std::string html_escape(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      default: out += c;
    }
  }
  return out;
}

std::string line_chart(const std::string& title, const std::string& x_label, std::vector<Curve> curves) {
  double x0 = INFINITY, x1 = -INFINITY, y0 = INFINITY, y1 = -INFINITY;
  for (Curve& curve : curves) {
    std::erase_if(curve.points, [](const auto& p) { return !std::isfinite(p.first) || !std::isfinite(p.second); });
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
      << html_escape(title) << "</title><text class=title x=" << kLeft << " y=20>" << html_escape(title) << "</text>";
  draw_grid(out, frame, x_label);
  double legend = kWidth - kRight;
  for (auto curve = curves.rbegin(); curve != curves.rend(); ++curve) {
    if (curve->points.empty()) continue;
    legend -= 7.0 * static_cast<double>(curve->name.size()) + 34;
    out << "<line class=\"" << curve->style << "\" x1=" << legend << " x2=" << legend + 18 << " y1=16 y2=16 /><text "
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
            << " r=2.5><title>" << number(x) << ": " << number(y) << "</title></circle>";
      }
    }
  }
  out << "</svg>";
  return out.str();
}

}  // namespace llmtool
