#include "llmtool/infer/choices.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "llmtool/core/clock.h"
#include "llmtool/core/error.h"
#include "llmtool/core/workspace.h"
#include "llmtool/infer/prompt_cache.h"
#include "text/common_prefix.h"
#include "text/unicode.h"

namespace llmtool {

namespace {
using Ids = std::vector<TokenId>;
constexpr int64_t kRows = 64;  // positions whose logits exist at a time

/// A row of logits, of which log-probabilities are asked.
struct Scores {
  std::vector<float> logits;
  double log_z;

  explicit Scores(std::vector<float> row) : logits(std::move(row)), log_z(log_sum_exp(logits)) {}
  double of(TokenId id) const { return logits[static_cast<size_t>(id)] - log_z; }
};

void check(const std::vector<std::string>& choices) {
  if (choices.size() < 2)
    throw UsageError(cat("choices: expected at least two texts, found ", choices.size()));
  std::set<std::string> seen;
  for (const std::string& choice : choices) {
    if (choice.empty()) throw UsageError("choices: expected texts, found an empty one");
    if (!unicode::is_well_formed(choice))
      throw UsageError(
          cat("choices: expected UTF-8, found other bytes in text ", &choice - choices.data() + 1));
    if (!seen.insert(choice).second) throw UsageError(cat("choices: \"", choice, "\" stands there twice"));
  }
}
}  // namespace

struct ChoiceScorer::Impl {
  const Transformer& model;
  const Tokenizer& tokenizer;
  ChoiceOptions options;
  Workspace workspace;
  PromptMemory memory;
  std::optional<PromptCacheFile> file;

  std::vector<Ids> whole_texts(const GenerationRequest& request) const;
  void cut_to_context(ChoiceTexts& fitted, const std::string& name) const;
  void score_tails(const std::vector<Ids>& texts, size_t shared, ChoiceResult& result);
  void read_on(KvCache& cache, std::span<const TokenId> ids, std::vector<Scores>& after);
};

ChoiceScorer::ChoiceScorer(const Transformer& model, const Tokenizer& tokenizer, ThreadPool& pool,
                           ChoiceOptions options) {
  check(options.choices);
  const DType type = options.kv_cache_type;
  impl_.reset(new Impl{model, tokenizer, std::move(options), Workspace(pool), PromptMemory(model, type, true),
                       std::nullopt});
  if (impl_->options.prompt_cache.empty()) return;
  impl_->file.emplace(impl_->options.prompt_cache, model, &tokenizer, pool, type);
  impl_->memory.keep_for_good(impl_->file->read(true));
}
ChoiceScorer::~ChoiceScorer() = default;

/// The ids of the prompt with each choice.
std::vector<Ids> ChoiceScorer::Impl::whole_texts(const GenerationRequest& request) const {
  const Ids prompt = tokenizer.encode(request.prompt, {.add_special_tokens = true});
  std::vector<Ids> texts;
  if (!prompt.empty() && prompt == request.ids) {
    bool alike = true;
    for (const std::string& choice : options.choices) {
      texts.push_back(tokenizer.encode(request.prompt + choice, {.add_special_tokens = true}));
      alike = alike && !texts.back().empty() && texts.back()[0] == prompt[0];
    }
    if (alike) return texts;
    texts.clear();
  }
  for (const std::string& choice : options.choices) {
    const Ids more = tokenizer.encode(choice, {.continues = !request.prompt.empty()});
    texts.push_back(request.ids);
    texts.back().insert(texts.back().end(), more.begin(), more.end());
  }
  return texts;
}

/// Drops as much behind BOS as lets the longest text fit.
void ChoiceScorer::Impl::cut_to_context(ChoiceTexts& fitted, const std::string& name) const {
  int64_t longest = 0;
  for (const Ids& text : fitted.texts) longest = std::max(longest, static_cast<int64_t>(text.size()));
  // The last token of a text is scored, but not read.
  const int64_t context = text_context(model, options.context), over = longest - 1 - context;
  if (over <= 0) return;
  const bool has_bos = tokenizer.bos_id() >= 0 && fitted.prompt[0] == tokenizer.bos_id();
  if (!options.truncate_left || over + has_bos >= static_cast<int64_t>(fitted.shared)) {
    throw Error(cat(name, ": ", longest, " tokens with the longest choice do not fit the context of ",
                    context, options.truncate_left ? "" : "; --truncate left drops the beginning"));
  }
  const auto cut = [&](Ids& ids) { ids.erase(ids.begin() + has_bos, ids.begin() + has_bos + over); };
  std::for_each(fitted.texts.begin(), fitted.texts.end(), cut);
  cut(fitted.prompt);
  fitted.shared -= static_cast<size_t>(over);
}

/// Reads ids behind the cache's; `after` gets the scores behind each of them.
void ChoiceScorer::Impl::read_on(KvCache& cache, std::span<const TokenId> ids, std::vector<Scores>& after) {
  const auto n = static_cast<int64_t>(ids.size()), V = model.config().vocab_size;
  std::vector<float> logits(static_cast<size_t>(std::min(n, kRows) * V));
  for (int64_t first = 0; first < n; first += kRows) {
    const int64_t rows = std::min(kRows, n - first);
    workspace.run([&](Exec& exec) {
      model.forward(exec, ids.subspan(static_cast<size_t>(first), static_cast<size_t>(rows)), cache,
                    Tensor(logits.data(), {rows, V}));
    });
    for (int64_t r = 0; r < rows; ++r)
      after.emplace_back(std::vector(logits.data() + r * V, logits.data() + (r + 1) * V));
  }
}

/// One choice after another in the order of their ids, so that neighbours share the most.
void ChoiceScorer::Impl::score_tails(const std::vector<Ids>& texts, size_t shared, ChoiceResult& result) {
  const std::span<const TokenId> prompt = std::span(texts[0]).first(shared);
  std::vector<float> logits(static_cast<size_t>(model.config().vocab_size));
  size_t longest = 0;
  for (const Ids& text : texts) longest = std::max(longest, text.size() - shared);
  PromptMemory::Reading reading;
  workspace.run(
      [&](Exec& exec) { reading = memory.read(exec, prompt, static_cast<int64_t>(longest) - 1, logits); });
  KvCache& cache = *reading.cache;
  const int64_t prompt_length = cache.length;
  std::vector<size_t> order(texts.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return texts[a] < texts[b]; });
  std::vector<Scores> after;  // each id of the path, beginning with the prompt's last
  after.emplace_back(std::move(logits));
  std::span<const TokenId> path;  // the ids behind the prompt that the cache holds
  for (const size_t i : order) {
    const auto tail = std::span(texts[i]).subspan(shared), read = tail.first(tail.size() - 1);
    const auto common = common_prefix(path, read);
    cache.cut(prompt_length + static_cast<int64_t>(common));
    after.erase(after.begin() + static_cast<std::ptrdiff_t>(common) + 1, after.end());
    read_on(cache, read.subspan(common), after);
    path = read;
    for (size_t t = 0; t < tail.size(); ++t) result.logprobs[i] += after[t].of(tail[t]);
    result.tokens[i] = static_cast<int64_t>(tail.size());
  }
  cache.cut(prompt_length);
  ReadText read{Ids(prompt.begin(), prompt.end()), reading.cache};
  if (file) file->offer(read);
  memory.keep(std::move(read));
}

ChoiceTexts ChoiceScorer::fit(const GenerationRequest& request, int64_t index) const {
  const std::string name = name_of(request, index);
  if (request.ids.empty()) throw UsageError(cat(name, ": expected at least one token, found none"));
  ChoiceTexts fitted{request.ids, impl_->whole_texts(request), request.ids.size()};
  for (const Ids& text : fitted.texts)
    fitted.shared = std::min(fitted.shared, common_prefix(text, request.ids));
  for (size_t i = 0; i < fitted.texts.size(); ++i) {
    if (fitted.texts[i].size() > fitted.shared) continue;
    throw Error(cat(name, ": the choice \"", impl_->options.choices[i], "\" adds no token to it"));
  }
  impl_->cut_to_context(fitted, name);
  return fitted;
}

ChoiceResult ChoiceScorer::score(const GenerationRequest& request, int64_t index, const ChoiceTexts& fitted) {
  const double began = now();
  const size_t n = fitted.texts.size();
  ChoiceResult r;
  r.index = index;
  r.prompt = request.prompt;
  r.logprobs.assign(n, 0);
  r.tokens.assign(n, 0);
  impl_->score_tails(fitted.texts, fitted.shared, r);
  const ChoiceOptions& o = impl_->options;
  std::vector<double> scores = r.logprobs;
  for (size_t i = 0; i < n; ++i) {
    if (o.normalize == ChoiceOptions::Normalize::tokens) scores[i] /= static_cast<double>(r.tokens[i]);
    if (o.normalize == ChoiceOptions::Normalize::bytes) scores[i] /= static_cast<double>(o.choices[i].size());
  }
  r.best = static_cast<size_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
  double total = 0;
  for (const double score : scores) {
    r.probabilities.push_back(std::exp(score - scores[r.best]));
    total += r.probabilities.back();
  }
  for (double& p : r.probabilities) p /= total;
  r.seconds = now() - began;
  return r;
}

}  // namespace llmtool
