// Verdicts by rule, the numbers made of them, and the comparison of two sides.

#include "llmtool/records/judge.h"

#include "llmtool/records/comparison.h"
#include "llmtool/records/statistics.h"
#include "record_fixture.h"

namespace llmtool {
namespace {

using Kind = JudgeRule::Kind;
using Outcome = Judge::Outcome;

TEST(Judges, SayWhatIsRight) {
  const std::string huge = "1" + std::string(400, '0');
  const struct {
    JudgeRule rule;
    const char *response, *expected;
    Outcome outcome;
  } rows[] = {
      {{Kind::exact, "", false}, " yes\n", "yes", Outcome::right},
      {{Kind::exact, "", true}, " yes\n", "yes", Outcome::wrong},
      {{Kind::exact, "", false}, "yes", "Yes", Outcome::wrong},
      {{Kind::exact, "", false}, "", "", Outcome::right},
      {{Kind::exact, "", false}, "yes", nullptr, Outcome::no_expected},
      {{Kind::regex, "a|ab", false}, "ab\n", nullptr, Outcome::right},
      {{Kind::regex, "a|ab", true}, "ab\n", nullptr, Outcome::wrong},
      {{Kind::regex, "a", false}, "ab", nullptr, Outcome::wrong},
      {{Kind::regex, "^a$", false}, "a\na", nullptr, Outcome::wrong},
      {{Kind::regex, "(?i)YES.*", false}, "yes, it is", "no", Outcome::right},
      {{Kind::regex, "", false}, "", nullptr, Outcome::right},
      {{Kind::json_equal, "", false},
       " {\"b\": [1, 2], \"a\": 1.0}",
       "{\"a\":1,\"b\":[1,2]}",
       Outcome::right},
      {{Kind::json_equal, "", false}, "{\"b\": [2, 1], \"a\": 1}", "{\"a\":1,\"b\":[1,2]}", Outcome::wrong},
      {{Kind::json_equal, "", false},
       "[12345678901234567890123]",
       "[12345678901234567890124]",
       Outcome::wrong},
      {{Kind::json_equal, "", false}, "9007199254740993.0", "9007199254740992", Outcome::wrong},
      {{Kind::json_equal, "", false}, "\xEF\xBB\xBF-0.0", "0e5 ", Outcome::right},
      {{Kind::json_equal, "", false}, "\"\\u0061\"", "\"a\"", Outcome::right},
      {{Kind::json_equal, "", false}, "{\"a\": 1", "{\"a\":1}", Outcome::wrong},
      {{Kind::json_equal, "", false}, "1", "one", Outcome::expected_not_json},
      {{Kind::json_equal, "", false}, "[10e399]", "[1e400]", Outcome::right},
      {{Kind::json_equal, "", false}, "[1e401]", "[1e400]", Outcome::wrong},
      {{Kind::json_equal, "", false}, "1e400", huge.c_str(), Outcome::right},
      {{Kind::json_equal, "", false}, "\"\\\"1e400\"", "\"\\\"1e401\"", Outcome::wrong},
      {{Kind::json_equal, "", false}, "[1e400]", "[1e400", Outcome::expected_not_json},
      {{Kind::json_equal, "", false}, "1e400", "01e400", Outcome::expected_not_json},
      {{Kind::json_equal, "", false}, "1", nullptr, Outcome::no_expected},
  };
  for (const auto& row : rows) {
    Record r;
    r.response = row.response;
    if (row.expected) r.expected = row.expected;
    EXPECT_EQ(Judge(row.rule).judge(r), row.outcome) << row.response << " / " << row.rule.pattern;
  }
  for (const char* bad : {"(", "a)(b", "[", "a\\"})
    EXPECT_THROW(Judge({Kind::regex, bad, false}), UsageError) << bad;
}

TEST(Statistics, WilsonsIntervalIsThePublishedOne) {
  // R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3, to its four digits; the others of
  // the formula in 40 digits.
  const struct {
    int64_t hits, total;
    double low, high, tolerance;
  } rows[] = {{81, 263, 0.2553, 0.3662, 5e-5},
              {15, 148, 0.0624, 0.1605, 5e-5},
              {0, 20, 0, 0.1611, 5e-5},
              {1, 29, 0.0061, 0.1718, 5e-5},
              {0, 0, 0, 1, 0},
              {0, 10, 0, 0.27753279986288926, 1e-15},
              {10, 10, 0.7224672001371107, 1, 1e-15},
              {7, 20, 0.18119182410108206, 0.5671457233147638, 1e-15}};
  for (const auto& row : rows) {
    const Interval i = wilson_interval(row.hits, row.total);
    EXPECT_NEAR(i.low, row.low, row.tolerance) << row.hits << " of " << row.total;
    EXPECT_NEAR(i.high, row.high, row.tolerance) << row.hits << " of " << row.total;
  }
}

TEST(Statistics, McNemarsPIsTheBinomialTail) {
  // 1 and 7: M. W. Fagerland and others, BMC Medical Research Methodology 13:91 (2013), table 3, 0.070; all
  // of sums of whole numbers. lgamma(n) is off by some 1e-16 of itself, which is below 1e5 here.
  const struct {
    int64_t a, b;
    double p;
  } rows[] = {{0, 0, 1},
              {0, 1, 1},
              {3, 3, 1},
              {1, 7, 0.0703125},
              {2, 9, 0.0654296875},
              {5, 12, 0.143463134765625},
              {0, 30, 1.862645149230957e-09},
              {101, 59, 0.001122905196234038},
              {480, 530, 0.12307327589621743},
              {5000, 5300, 0.003215819673645239}};
  for (const auto& row : rows) {
    EXPECT_NEAR(mcnemar_p(row.a, row.b), row.p, 1e-10 * row.p) << row.a << ", " << row.b;
    EXPECT_EQ(mcnemar_p(row.b, row.a), mcnemar_p(row.a, row.b));
  }
}

class ComparisonTest : public test::RecordsTest {};

TEST_F(ComparisonTest, JoinsByInput) {
  RecordStore store = open();
  const auto add = [&](const char* side, const char* input, std::optional<Verdict> verdict) {
    Record r = record(std::string(side) + input, "r");
    r.input = nlohmann::ordered_json::parse(input);
    r.template_id = {side, ""};
    r.verdict = verdict;
    store.add(r);
  };
  const auto right = Verdict::right, wrong = Verdict::wrong;
  add("a", R"({"n": 1, "m": 1})", right);
  add("b", R"({"m": 1, "n": 1})", right);
  add("a", R"({"n": 2})", right);
  add("b", R"({"n": 2})", wrong);
  add("a", R"({"n": 3})", wrong);
  add("b", R"({"n": 3})", right);
  add("a", R"({"n": 4})", wrong);
  add("b", R"({"n": 4})", wrong);
  add("a", R"({"n": 5})", right);
  add("b", R"({"n": 5})", {});
  add("a", R"({"n": 6})", right);
  add("b", R"({"n": 7})", right);
  add("b", R"({"n": 2})", right);  // a later answer takes the place of the one before
  add("b", R"({"n": 1})", {});
  add("b", R"({"n": 3})", {});  // but not one without a verdict
  const Comparison c = compare(store, {RecordFilter::Judged::any, {{"a", ""}}, {}, 0},
                               {RecordFilter::Judged::any, {{"b", ""}}, {}, 0});
  EXPECT_EQ(c.both, 2);
  EXPECT_EQ(c.only_first, 0);
  EXPECT_EQ(c.only_second, 1);
  EXPECT_EQ(c.neither, 1);
  EXPECT_EQ(c.unjudged, 1);
  EXPECT_EQ(c.unpaired_first, 1);
  EXPECT_EQ(c.unpaired_second, 2);
  EXPECT_EQ(c.repeated, 2);
  ASSERT_EQ(c.differing.size(), 1u);
  EXPECT_EQ(c.differing[0].input, R"({"n":3})");
  EXPECT_EQ(c.differing[0].first, 5);
  EXPECT_EQ(c.differing[0].second, 6);
  EXPECT_FALSE(c.differing[0].first_right);
}

TEST_F(ComparisonTest, JoinsByPromptWithoutInput) {
  RecordStore store = open();
  for (const char* model : {"x", "y"}) {
    Record r = record("same", model);
    r.model = {model, ""};
    r.verdict = model[0] == 'x' ? Verdict::right : Verdict::wrong;
    store.add(r);
  }
  const Comparison c = compare(store, {RecordFilter::Judged::any, {}, {{"x", ""}}, 0},
                               {RecordFilter::Judged::any, {}, {{"y", ""}}, 0});
  EXPECT_EQ(c.only_first, 1);
  EXPECT_EQ(c.compared(), 1);
}

}  // namespace
}  // namespace llmtool
