#include "llmtool/train/report.h"

#include <gtest/gtest.h>

#include <cmath>
#include <regex>
#include <sstream>

#include "support.h"
#include "train/chart.h"

namespace llmtool {
namespace {

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++n;
  return n;
}

RunReport sample_report(int steps) {
  RunReport report;
  report.title = "run <b>";
  report.summary = {{"model", "llama & co"}};
  for (int step = 1; step <= steps; ++step) {
    report.metrics.push_back({{"step", step},
                              {"loss", 2 + std::exp(-step / 50.0)},
                              {"learning_rate", 1e-3},
                              {"grad_norm", 1.5},
                              {"tokens_per_second", 12000 + step},
                              {"seconds", step * 0.1}});
    if (step % 10 == 0) report.metrics.push_back({{"step", step}, {"val_loss", 2.5}});
  }
  report.samples = {{10, "In the ", "<script>alert(1)</script>"}, {20, "", "second \"quoted\" & more"}};
  report.config = {{"training", {{"max_steps", steps}}}};
  report.environment = {{"processor", "a > b"}};
  return report;
}

std::string page_of(const RunReport& report) {
  test::TempFolder folder;
  write_report(folder / "report.html", report);
  return test::read_text(folder / "report.html");
}

TEST(Report, HoldsEveryCurveAndPart) {
  const std::string page = page_of(sample_report(100));
  EXPECT_EQ(count(page, "<svg"), 4u);
  for (const char* part : {"loss", "validation", "smoothed", "learning rate", "gradient norm",
                           "tokens per second", "Samples", "step 20", "max_steps", "processor"}) {
    EXPECT_NE(page.find(part), std::string::npos) << part;
  }
}

TEST(Report, NeedsNothingFromOutsideAndRunsNothing) {
  const std::string page = page_of(sample_report(100));
  for (const char* part : {"http://", "https://", "src=", "href=", "<script", "@import", "url("}) {
    EXPECT_EQ(page.find(part), std::string::npos) << part;
  }
}

TEST(Report, EscapesWhatItIsGiven) {
  const std::string page = page_of(sample_report(10));
  EXPECT_NE(page.find("&lt;script&gt;alert(1)&lt;/script&gt;"), std::string::npos);
  EXPECT_NE(page.find("run &lt;b&gt;"), std::string::npos);
  EXPECT_NE(page.find("llama &amp; co"), std::string::npos);
  EXPECT_EQ(html_escape("<a href='x' class=\"y\">&"), "&lt;a href=&#39;x&#39; class=&quot;y&quot;&gt;&amp;");
}

TEST(Report, StandsWithoutMetrics) {
  const std::string page = page_of(RunReport());
  EXPECT_EQ(count(page, "<svg"), 0u);
  EXPECT_EQ(page.find("nan"), std::string::npos);
}

TEST(Report, TakesRowsOfAnyKind) {
  RunReport report = sample_report(10);
  for (const char* row :
       {"5", "null", "[1]", "{}", R"({"step": "x", "loss": 1})", R"({"step": 3, "loss": null})",
        R"({"step": 4, "loss": 1e308})", R"({"step": 5, "loss": -1e308})"}) {
    report.metrics.push_back(nlohmann::json::parse(row));
  }
  report.samples.push_back({30, "\xff", std::string("\0\x01", 2)});
  report.config["bad"] = "\xff";
  const std::string page = page_of(report);
  const std::regex not_a_number("[ =\",](-?nan|-?inf)[ \",>]");
  EXPECT_FALSE(std::regex_search(page, not_a_number));
}

/// The points of the page's first curve of a style, in the chart's units.
std::vector<std::pair<double, double>> drawn(const std::string& page, const std::string& style) {
  const std::string start = "<polyline class=\"" + style + "\" points=\"";
  const size_t from = page.find(start) + start.size();
  std::istringstream in(page.substr(from, page.find('"', from) - from));
  std::vector<std::pair<double, double>> points;
  double x, y;
  for (char comma; in >> x >> comma >> y;) points.emplace_back(x, y);
  return points;
}

/// On a straight line the mean around a point is the point: smoothing must neither lag nor bend the ends.
TEST(Report, TheSmoothedCurveDoesNotLag) {
  RunReport report;
  for (int step = 1; step <= 600; ++step)
    report.metrics.push_back({{"step", step}, {"loss", 10 - step * 0.01}});
  const std::string page = page_of(report);
  const auto raw = drawn(page, "raw"), smooth = drawn(page, "main");
  ASSERT_EQ(raw.size(), 600u);
  ASSERT_EQ(smooth.size(), 600u);
  for (size_t i = 0; i < raw.size(); ++i) ASSERT_NEAR(raw[i].second, smooth[i].second, 0.01) << i;
}

TEST(Report, SmoothingTakesAwayNoise) {
  RunReport report;
  for (int step = 1; step <= 1000; ++step)
    report.metrics.push_back({{"step", step}, {"loss", step % 2 ? 4 : 2}});
  const auto smooth = drawn(page_of(report), "main");
  const auto raw = drawn(page_of(report), "raw");
  const double height = std::abs(raw[500].second - raw[501].second);
  EXPECT_LT(std::abs(smooth[500].second - smooth[501].second), 0.2 * height);
}

TEST(Chart, ThinsLongCurvesToTheirExtremes) {
  Curve curve{"loss", "main", {}};
  for (int i = 0; i < 100'000; ++i) curve.points.emplace_back(i, std::sin(i * 0.01));
  curve.points[54'321].second = 50;  // a spike must not be lost
  const std::string svg = line_chart("loss", "step", {curve});
  const size_t from = svg.find("points=\"") + 8;
  const std::string points = svg.substr(from, svg.find('"', from) - from);
  EXPECT_LE(count(points, " "), 1500u);
  EXPECT_GE(count(points, " "), 500u);
  double highest = 1e9;
  for (size_t at = 0; (at = points.find(',', at)) != std::string::npos; ++at) {
    highest = std::min(highest, std::stod(points.substr(at + 1)));
  }
  EXPECT_LT(highest, 100) << "the spike, near the top";
}

/// Values so close that a double cannot hold the ticks between them: the chart must still end.
TEST(Chart, EndsWhateverTheRange) {
  using Points = std::vector<std::pair<double, double>>;
  for (const Points& points :
       {Points{{1, 1e17}, {2, 1e17 + 16}}, Points{{1, -1e308}, {2, 1e308}}, Points{{1, 5}},
        Points{{1, 0}, {2, 0}}, Points{{1, 5e-324}, {2, 0}}, Points{{1e17, 1}, {1e17 + 16, 2}},
        Points{{1, NAN}, {2, INFINITY}}, Points{}}) {
    const std::string svg = line_chart("x", "step", {{"x", "main", points}});
    EXPECT_LT(svg.size(), 20'000u);
    EXPECT_EQ(svg.find("=nan"), std::string::npos);
    EXPECT_EQ(svg.find("=inf"), std::string::npos);
  }
}

/// The texts of the y axis.
std::vector<std::string> y_ticks(const std::string& svg) {
  std::vector<std::string> ticks;
  const std::regex kTick("text-anchor=end>([^<]*)<");
  for (std::sregex_iterator it(svg.begin(), svg.end(), kTick), end; it != end; ++it)
    ticks.push_back((*it)[1]);
  return ticks;
}

std::vector<std::string> ticks_of(double low, double high) {
  return y_ticks(line_chart("x", "step", {{"x", "main", {{0, low}, {1, high}}}}));
}

TEST(Chart, TicksAreRoundNumbers) {
  EXPECT_EQ(ticks_of(0, 10), (std::vector<std::string>{"0", "2", "4", "6", "8", "10"}));
  EXPECT_EQ(ticks_of(1.61, 4.18), (std::vector<std::string>{"1", "2", "3", "4", "5"}));
  EXPECT_EQ(ticks_of(0, 1e-3),
            (std::vector<std::string>{"0", "0.0002", "0.0004", "0.0006", "0.0008", "0.001"}));
  EXPECT_EQ(ticks_of(0, 50'000), (std::vector<std::string>{"0", "10k", "20k", "30k", "40k", "50k"}));
  EXPECT_EQ(ticks_of(0, 2e7), (std::vector<std::string>{"0", "5M", "10M", "15M", "20M"}));
}

}  // namespace
}  // namespace llmtool
