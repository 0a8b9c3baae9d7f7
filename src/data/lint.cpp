#include "llmtool/data/lint.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <unordered_map>

#include "llmtool/core/error.h"

namespace llmtool {

namespace {
struct Kind {
  const char* name;
  const char* meaning;
};
constexpr Kind kUntrained = {
    "no-trained-token",
    "no token of these rows is trained (the mask or the greatest length leaves none): "
    "they teach nothing and are left out"};
constexpr Kind kTruncated = {"truncated",
                             "the answer is cut off at the greatest length: the model learns to break off; "
                             "raise training.sequence_length"};
constexpr Kind kEndToken = {
    "end-token",
    "no token that ends a turn or a text is trained behind the answer: the model does "
    "not learn to stop"};
constexpr Kind kTemplateEnd = {"template-end",
                               "the chat template puts no special token behind an assistant's answer: the "
                               "model does not learn to stop; give another by data.chat_template"};
constexpr Kind kDoubleBos = {"double-bos",
                             "the text begins with BOS, and the tokenizer puts another in front: the model "
                             "never sees that when it is used"};
constexpr Kind kEmpty = {"empty",
                         "there is no text, or an answer without any: the model learns to say nothing; rows "
                         "that leave no token to train are left out"};
constexpr Kind kDuplicate = {"duplicate",
                             "the same text stands in an earlier row: it weighs more than the others"};
constexpr Kind kLeak = {"leak",
                        "the same text stands in the validation set: its loss says nothing about new texts"};
constexpr Kind kOutside = {"out-of-vocabulary",
                           "the model's embedding has no row for some ids: is this the model's tokenizer?"};
constexpr const Kind* kKinds[] = {&kUntrained, &kTruncated, &kEndToken,  &kTemplateEnd,
                                  &kDoubleBos, &kEmpty,     &kDuplicate, &kLeak};

std::string excerpt(const Tokenizer& tokenizer, const Example& example) {
  constexpr size_t kTokens = 16;
  std::string text;
  StreamDecoder decoder(tokenizer);
  for (const TokenId id : example.ids.first(std::min(kTokens, example.ids.size()))) text += decoder.push(id);
  text += decoder.finish();
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text + (example.ids.size() > kTokens ? "..." : "");
}

class Linter {
 public:
  Linter(const Tokenizer& tokenizer, LintReport& report) : tokenizer_(tokenizer), report_(report) {}

  void find(const Kind& kind, const ExampleSet& set, const std::function<bool(int64_t)>& wrong) {
    LintFinding* finding = nullptr;
    for (int64_t i = 0; i < set.size(); ++i) {
      if (!wrong(i)) continue;
      if (!finding) finding = &finding_of(kind);
      ++finding->count;
      if (finding->rows.size() < kShown)
        finding->rows.push_back({set.origin(i), excerpt(tokenizer_, set[i])});
    }
  }
  void add(const Kind& kind, const ExampleSet::LeftOut& left_out) {
    if (left_out.count == 0) return;
    LintFinding& finding = finding_of(kind);
    finding.count += left_out.count;
    for (const auto& row : left_out.rows) {
      if (finding.rows.size() < kShown) finding.rows.push_back({row.origin, row.excerpt});
    }
  }

 private:
  static constexpr size_t kShown = 3;
  LintFinding& finding_of(const Kind& kind) {
    auto& all = report_.findings;
    const auto at = std::find_if(all.begin(), all.end(), [&](const auto& f) { return f.kind == kind.name; });
    if (at != all.end()) return *at;
    LintFinding made;
    made.kind = kind.name;
    made.meaning = kind.meaning;
    made.acceptable = &kind != &kOutside;
    all.push_back(made);
    return all.back();
  }

  const Tokenizer& tokenizer_;
  LintReport& report_;
};

/// The number of the first example with each text.
using Texts = std::unordered_map<uint64_t, int64_t>;
Texts texts_of(const ExampleSet& set) {
  Texts texts;
  for (int64_t i = 0; i < set.size(); ++i) texts.try_emplace(set.text_hash(i), i);
  return texts;
}

std::string percent(int64_t part, int64_t whole) {
  return cat(std::lround(100.0 * static_cast<double>(part) / static_cast<double>(whole)), " %");
}
}  // namespace

const std::vector<std::string>& lint_kinds() {
  static const std::vector<std::string> kNames = [] {
    std::vector<std::string> names;
    for (const Kind* kind : kKinds) names.push_back(kind->name);
    return names;
  }();
  return kNames;
}

LintReport lint(const Tokenizer& tokenizer, const Examples& examples, int64_t vocabulary) {
  LintReport report;
  Linter linter(tokenizer, report);
  const ExampleSet &train = examples.train, &validation = examples.validation;
  for (const ExampleSet* set : {&train, &validation}) {
    linter.find(kOutside, *set, [&](int64_t i) {
      const auto ids = (*set)[i].ids;
      return std::any_of(ids.begin(), ids.end(), [&](TokenId id) { return id < 0 || id >= vocabulary; });
    });
    linter.add(kUntrained, set->untrained());
    linter.add(kEmpty, set->empty());
  }
  const auto has = [&](ExampleFlaw flaw) { return [&train, flaw](int64_t i) { return train.has(i, flaw); }; };
  linter.find(kTruncated, train, has(ExampleFlaw::truncated));
  // Where the template ends no turn, that is what to mend, not the rows.
  const bool open = !examples.template_ends_turns;
  const auto is_chat = has(ExampleFlaw::chat), is_open = has(ExampleFlaw::open_end);
  linter.find(kTemplateEnd, train, [&](int64_t i) { return open && is_chat(i); });
  linter.find(kEndToken, train, [&](int64_t i) { return is_open(i) && !(open && is_chat(i)); });
  linter.find(kDoubleBos, train, has(ExampleFlaw::double_bos));
  linter.find(kEmpty, train, has(ExampleFlaw::empty));
  const Texts first = texts_of(train), held_out = texts_of(validation);
  linter.find(kDuplicate, train, [&](int64_t i) { return first.at(train.text_hash(i)) != i; });
  linter.find(kLeak, train, [&](int64_t i) { return held_out.contains(train.text_hash(i)); });
  report.train = train.statistics();
  report.validation = validation.statistics();
  return report;
}

std::string describe_lengths(const LengthStatistics& s) {
  std::string text;
  for (size_t q = 0; q < s.lengths.size(); ++q) {
    const double share = LengthStatistics::kQuantiles[q];
    const std::string name = share == 0 ? "min" : share == 1 ? "max" : cat(100 * share, " %");
    text += cat(q ? ", " : "", name, " ", s.lengths[q]);
  }
  return text;
}

std::string LintReport::text() const {
  std::string text;
  for (const auto& [name, s] : {std::pair("train", &train), std::pair("validation", &validation)}) {
    if (s->examples == 0) continue;
    text += cat(name, ": ", s->examples, " examples, ", s->tokens, " tokens");
    if (s->trained > 0)
      text += cat(", ", s->trained, " of them trained (", percent(s->trained, s->tokens), ")");
    text += cat("\n  lengths: ", describe_lengths(*s), "\n");
  }
  for (const LintFinding& finding : findings) {
    text += cat(finding.kind, ": ", finding.count, finding.count == 1 ? " row: " : " rows: ", finding.meaning,
                "\n");
    for (const auto& row : finding.rows) text += cat("  ", row.origin, ": ", row.excerpt, "\n");
    if (finding.acceptable) text += cat("  --allow ", finding.kind, " trains all the same\n");
  }
  return text;
}

void LintReport::require(const std::vector<std::string>& allowed) const {
  const auto contains = [](const std::vector<std::string>& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  for (const std::string& name : allowed) {
    if (contains(lint_kinds(), name)) continue;
    std::string names;
    for (const std::string& kind : lint_kinds()) names += (names.empty() ? "" : ", ") + kind;
    throw UsageError(cat("--allow: expected one of ", names, ", found ", name));
  }
  std::string refused, flags;
  for (const LintFinding& finding : findings) {
    if (contains(allowed, finding.kind)) continue;
    refused += cat(refused.empty() ? "" : ", ", finding.kind, " (", finding.count, ")");
    if (finding.acceptable) flags += " --allow " + finding.kind;
  }
  if (refused.empty()) return;
  throw Error(cat("the data would ruin the training: ", refused, "; mend the rows named above",
                  flags.empty() ? "" : ", or accept them by", flags));
}

}  // namespace llmtool
