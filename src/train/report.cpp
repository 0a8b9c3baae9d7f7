#include "llmtool/train/report.h"

#include <sstream>

#include "llmtool/io/files.h"
#include "train/chart.h"

namespace llmtool {

namespace {
using Points = std::vector<std::pair<double, double>>;

Points points_of(const std::vector<nlohmann::json>& rows, const char* key) {
  Points points;
  for (const nlohmann::json& row : rows) {
    const auto step = row.find("step"), value = row.find(key);
    if (step == row.end() || value == row.end() || !step->is_number() || !value->is_number()) continue;
    points.emplace_back(step->get<double>(), value->get<double>());
  }
  return points;
}

/// The mean over about a fiftieth of the curve around each point, over less towards the ends: it does not
/// lag.
Points smoothed(const Points& points) {
  const size_t n = points.size(), reach = n / 100;
  std::vector<double> sums(n + 1);
  for (size_t i = 0; i < n; ++i) sums[i + 1] = sums[i] + points[i].second;
  Points smooth;
  for (size_t i = 0; i < n; ++i) {
    const size_t side = std::min({reach, i, n - 1 - i});
    smooth.emplace_back(points[i].first,
                        (sums[i + side + 1] - sums[i - side]) / static_cast<double>(2 * side + 1));
  }
  return smooth;
}

constexpr const char* kStyle = R"(
:root{color-scheme:light dark;--ink:#1d2433;--soft:#667085;--line:#e4e7ec;--page:#fff;--box:#f7f8fa;--a:#2563eb;--b:#d9480f;--faint:#b9cdf7}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#98a2b3;--line:#2c3340;--page:#14171d;--box:#1b1f27;--a:#6ea0ff;--b:#ff9b63;--faint:#2f4470}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:860px;margin:32px auto;padding:0 20px}
h1{font-size:24px;margin:0 0 12px}h2{font-size:17px;margin:32px 0 8px}
table{border-collapse:collapse}td{padding:2px 20px 2px 0;vertical-align:top}td:first-child{color:var(--soft)}
svg{width:100%;height:auto;margin:8px 0}.title{font-weight:600;font-size:14px;fill:var(--ink)}.tick{font-size:11px;fill:var(--soft)}
.grid{stroke:var(--line)}polyline{fill:none;stroke-width:1.6}.raw{stroke:var(--faint);fill:none;stroke-width:1}
.main{stroke:var(--a)}.other{stroke:var(--b)}circle.main{fill:var(--a)}circle.other{fill:var(--b)}polyline.main,polyline.other{fill:none}
line.main,line.other,line.raw{stroke-width:2.5}
pre{background:var(--box);border:1px solid var(--line);border-radius:6px;padding:10px 12px;white-space:pre-wrap;overflow-wrap:anywhere;font:13px/1.5 ui-monospace,monospace}
.prompt{color:var(--soft)}
th{font-weight:600;font-size:13px;text-align:right;padding:2px 12px;color:var(--soft)}th:first-child{text-align:left;padding-left:0}
table.grid td{text-align:right;padding:2px 12px}table.grid td:first-child{text-align:left;padding-left:0}
.shade{background:color-mix(in srgb,var(--a) calc(var(--share)*60%),transparent)}
)";

void table(std::ostringstream& out, const std::vector<std::pair<std::string, std::string>>& rows) {
  out << "<table>";
  for (const auto& [name, value] : rows) {
    out << "<tr><td>" << html_escape(name) << "</td><td>" << html_escape(value) << "</td></tr>";
  }
  out << "</table>\n";
}

void tables(std::ostringstream& out, const RunReport& report) {
  for (const RunReport::Table& table : report.tables) {
    out << "<h2>" << html_escape(table.title) << "</h2>\n<table class=grid><tr>";
    for (const std::string& name : table.columns) out << "<th>" << html_escape(name) << "</th>";
    out << "</tr>\n";
    for (size_t r = 0; r < table.rows.size(); ++r) {
      out << "<tr>";
      for (size_t c = 0; c < table.rows[r].size(); ++c) {
        const bool shaded = c > 0 && r < table.shades.size() && c - 1 < table.shades[r].size();
        out << "<td";
        if (shaded) out << " style=\"--share:" << table.shades[r][c - 1] << "\" class=shade";
        out << '>' << html_escape(table.rows[r][c]) << "</td>";
      }
      out << "</tr>\n";
    }
    out << "</table>\n";
  }
}

void samples(std::ostringstream& out, const RunReport& report) {
  if (report.samples.empty()) return;
  out << "<h2>Samples</h2>\n";
  const int64_t newest = report.samples.back().step;
  for (auto s = report.samples.rbegin(); s != report.samples.rend(); ++s) {
    out << "<details" << (s->step == newest ? " open" : "") << "><summary>step " << s->step
        << "</summary><pre><span class=prompt>" << html_escape(s->prompt) << "</span>" << html_escape(s->text)
        << "</pre></details>\n";
  }
}
}  // namespace

void write_report(const std::filesystem::path& file, const RunReport& report) {
  const Points loss = points_of(report.metrics, "loss");
  const auto noisy = [&](const char* title, const char* key) {
    const Points points = points_of(report.metrics, key);
    return line_chart(title, "step", {{"each step", "raw", points}, {"smoothed", "main", smoothed(points)}});
  };
  const std::string config = report.config.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
  std::ostringstream out;
  out << "<!doctype html>\n<html lang=en><meta charset=utf-8><meta name=viewport "
         "content=\"width=device-width\"><title>"
      << html_escape(report.title) << "</title><style>" << kStyle << "</style>\n<h1>"
      << html_escape(report.title) << "</h1>\n";
  table(out, report.summary);
  out << "<h2>Curves</h2>\n"
      << line_chart("loss (nats per token)", "step",
                    {{"training", "raw", loss},
                     {"training, smoothed", "main", smoothed(loss)},
                     {"validation", "other", points_of(report.metrics, "val_loss")}})
      << line_chart("learning rate", "step", {{"", "main", points_of(report.metrics, "learning_rate")}})
      << noisy("gradient norm", "grad_norm") << noisy("tokens per second", "tokens_per_second")
      << line_chart("validation accuracy and macro F1", "step",
                    {{"accuracy", "main", points_of(report.metrics, "val_accuracy")},
                     {"macro F1", "other", points_of(report.metrics, "val_f1")}})
      << "\n";
  tables(out, report);
  samples(out, report);
  out << "<h2>Config</h2>\n<pre>" << html_escape(config) << "</pre>\n<h2>Environment</h2>\n";
  table(out, report.environment);
  write_file(file, out.str());
}

}  // namespace llmtool
