// What reads whole texts: embed, classify, fill-mask.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "command.h"
#include "generate_io.h"
#include "llmtool/core/error.h"
#include "llmtool/core/workspace.h"
#include "model_files.h"

namespace llmtool {

namespace {
using Json = nlohmann::ordered_json;

struct EncodeFlags {
  CommonFlags common;
  std::string model, tokenizer, pooling, truncate = "none";
  std::vector<std::string> adapters;
  PromptOptions prompts;
  bool normalize = false;
  int64_t batch_size = 32, top_k = 5;
  std::optional<int64_t> mask_id;
};

/// A model that is open, and the texts that go through it together.
struct Texts {
  const Transformer& model;
  const Tokenizer* tokenizer;
  const EncodeFlags& flags;
  Workspace workspace;
  std::vector<TokenId> virtual_ids;  // in front of every text
  int64_t first = 0;                 // the number of the first of them
  std::vector<GenerationRequest> requests = {};
  std::vector<TokenId> ids = {};
  std::vector<int32_t> types = {};
  Batch batch = {};
  int64_t virtual_count() const { return static_cast<int64_t>(virtual_ids.size()); }
  int64_t size() const { return static_cast<int64_t>(requests.size()); }
};

/// Writes the results of a batch; throws ReaderGone when nobody reads them.
using Answer = std::function<void(Texts&)>;

void out(const Json& row) { print_out(json_line(row) + "\n"); }
void out(const std::string& line) { print_out(line + "\n"); }

void add(Texts& texts, GenerationRequest request) {
  const int64_t context = texts.model.config().context() - texts.virtual_count();
  const auto n = static_cast<int64_t>(request.ids.size());
  const int64_t number = texts.first + texts.size() + 1;
  if (n == 0) throw Error(cat("text ", number, ": expected at least one token, found none"));
  if (!request.token_types.empty() && request.token_types.size() != request.ids.size()) {
    throw Error(
        cat("text ", number, ": token_type_ids: expected ", n, ", found ", request.token_types.size()));
  }
  if (n > context) {
    if (texts.flags.truncate != "right") {
      throw Error(cat("text ", number, ": expected at most ", context, " tokens, found ", n,
                      "; --truncate right reads its beginning"));
    }
    request.ids.resize(static_cast<size_t>(context));
  }
  const auto check = [&](const std::vector<int32_t>& list, int64_t limit, const char* what) {
    for (const int32_t id : list) {
      if (id >= limit)
        throw Error(cat("text ", number, ": ", what, ": expected below ", limit, ", found ", id));
    }
  };
  check(request.ids, texts.model.config().vocab_size, "token ids");
  const int64_t types = texts.model.config().type_vocab_size;
  if (types == 0) request.token_types.clear();  // the family has none
  check(request.token_types, types, "token_type_ids");
  request.token_types.resize(request.ids.size());
  texts.ids.insert(texts.ids.end(), texts.virtual_ids.begin(), texts.virtual_ids.end());
  texts.ids.insert(texts.ids.end(), request.ids.begin(), request.ids.end());
  texts.types.resize(texts.types.size() + texts.virtual_ids.size());
  texts.types.insert(texts.types.end(), request.token_types.begin(), request.token_types.end());
  texts.batch.lengths.push_back(texts.virtual_count() + static_cast<int64_t>(request.ids.size()));
  texts.requests.push_back(std::move(request));
}

void answer_batch(Texts& texts, const Answer& answer) {
  if (texts.requests.empty()) return;
  texts.batch.ids = texts.ids;
  if (texts.model.config().type_vocab_size > 0) texts.batch.token_types = texts.types;
  answer(texts);
  texts.first += texts.size();
  texts.requests.clear();
  texts.ids.clear();
  texts.types.clear();
  texts.batch = {};
}

int run_texts(const EncodeFlags& flags, const Transformer& model, const Tokenizer* tokenizer,
              ThreadPool& pool, const Answer& answer) {
  constexpr size_t kTokens =
      8192;  // of a batch, so that long texts do not cost more memory than many short ones
  const Prompts prompts = open_prompts(flags.prompts, tokenizer);
  Texts texts{model, tokenizer, flags, Workspace(pool), model.virtual_ids()};
  try {
    GenerationRequest request;
    const auto next = [&] {
      try {
        if (!prompts.source(request)) return false;
        if (!texts.requests.empty() && texts.ids.size() + request.ids.size() > kTokens)
          answer_batch(texts, answer);
        add(texts, std::move(request));
        return true;
      } catch (const Error&) {
        answer_batch(texts, answer);  // those before the text that cannot be
        throw;
      }
    };
    while (next()) {
      const bool waits = prompts.ready && !prompts.ready();
      if (waits || texts.size() == flags.batch_size) answer_batch(texts, answer);
    }
    answer_batch(texts, answer);
  } catch (const ReaderGone&) {
  }
  return 0;
}

struct OpenModel {
  std::shared_ptr<const ModelSource> files;
  std::shared_ptr<const Tokenizer> tokenizer;
  AdaptedModel adapted;
  const Transformer& model = *adapted.model;
};

OpenModel open_model(const EncodeFlags& flags) {
  if (flags.model.empty()) throw UsageError("--model: expected a model folder or a run folder");
  const std::shared_ptr<const ModelSource> files = ModelSource::open(flags.model);
  const WeightedAdapters adapters = adapters_named(flags.adapters);
  return {files, tokenizer_of(*files, flags.tokenizer, adapters), {files, adapters}};
}

/// What the user says, else what the model's files do, else what the family is used with.
EmbeddingSettings embedding_of(const EncodeFlags& flags, const ModelSource& files) {
  const std::pair<const char*, Pooling> names[] = {
      {"cls", Pooling::first}, {"mean", Pooling::mean}, {"last", Pooling::last}, {"pooler", Pooling::pooler}};
  EmbeddingSettings settings;
  if (flags.pooling.empty()) settings = files.embedding();
  for (const auto& [name, pooling] : names) {
    if (flags.pooling == name) settings.pooling = pooling;
  }
  if (!settings.pooling)
    settings.pooling = files.config().type_vocab_size > 0 ? Pooling::mean : Pooling::last;
  settings.normalize = settings.normalize || flags.normalize;
  return settings;
}

/// Throws Error where a result is no number.
void check_finite(const Texts& texts, std::span<const float> values) {
  const auto bad = std::find_if(values.begin(), values.end(), [](float v) { return !std::isfinite(v); });
  if (bad == values.end()) return;
  throw Error(cat("texts ", texts.first + 1, " to ", texts.first + texts.size(),
                  ": the model gives what is no number; are its weights whole?"));
}

int run_embed(const EncodeFlags& flags) {
  ThreadPool pool(flags.common.threads);
  const OpenModel open = open_model(flags);
  const Transformer& model = open.model;
  const EmbeddingSettings settings = embedding_of(flags, *open.files);
  if (settings.pooling == Pooling::pooler && !model.config().pooler)
    throw UsageError("--pooling pooler: the model has no pooler");
  return run_texts(flags, model, open.tokenizer.get(), pool, [&](Texts& texts) {
    const int64_t C = model.config().hidden_size;
    std::vector<float> values(static_cast<size_t>(texts.size() * C));
    texts.workspace.run([&](Exec& exec) {
      model.embed_sequences(exec, texts.batch, *settings.pooling, {values.data(), {texts.size(), C}});
    });
    check_finite(texts, values);
    for (int64_t b = 0; b < texts.size(); ++b) {
      float* const vector = values.data() + b * C;
      double square = 0;
      for (int64_t i = 0; i < C; ++i) square += static_cast<double>(vector[i]) * vector[i];
      const auto factor = static_cast<float>(settings.normalize && square > 0 ? 1 / std::sqrt(square) : 1);
      Json embedding = Json::array();
      for (int64_t i = 0; i < C; ++i) embedding.push_back(vector[i] * factor);
      out(Json{{"index", texts.first + b},
               {"tokens", texts.requests[static_cast<size_t>(b)].ids.size()},
               {"embedding", std::move(embedding)}});
    }
  });
}

std::vector<double> softmax(std::span<const float> logits) {
  const double most = *std::max_element(logits.begin(), logits.end());
  std::vector<double> p;
  double total = 0;
  for (const float logit : logits) total += p.emplace_back(std::exp(logit - most));
  for (double& value : p) value /= total;
  return p;
}

/// The numbers of a classification head as its problem wants them read: probabilities that sum to one, one of
/// each label, or the values themselves.
std::vector<double> scores_of(const ModelConfig& c, std::span<const float> logits) {
  const bool one = c.labels.size() == 1;
  if (c.problem_type == "regression" || (c.problem_type.empty() && one))
    return {logits.begin(), logits.end()};
  if (c.problem_type != "multi_label_classification") return softmax(logits);
  std::vector<double> p;
  for (const float logit : logits) p.push_back(1 / (1 + std::exp(-static_cast<double>(logit))));
  return p;
}

int run_classify(const EncodeFlags& flags) {
  ThreadPool pool(flags.common.threads);
  const OpenModel open = open_model(flags);
  const ModelConfig& c = open.model.config();
  if (c.head != HeadKind::classification)
    throw UsageError(cat(flags.model, ": expected a model with a classification head, found none"));
  return run_texts(flags, open.model, open.tokenizer.get(), pool, [&](Texts& texts) {
    const auto labels = static_cast<int64_t>(c.labels.size());
    std::vector<float> logits(static_cast<size_t>(texts.size() * labels));
    texts.workspace.run([&](Exec& exec) {
      open.model.classify(exec, texts.batch, {logits.data(), {texts.size(), labels}});
    });
    check_finite(texts, logits);
    for (int64_t b = 0; b < texts.size(); ++b) {
      const auto own =
          std::span(logits).subspan(static_cast<size_t>(b * labels), static_cast<size_t>(labels));
      const std::vector<double> scores = scores_of(c, own);
      const auto best = static_cast<size_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
      if (!flags.common.json) {
        out(cat(c.labels[best], "\t", scores[best]));
        continue;
      }
      Json all = Json::object();
      for (size_t i = 0; i < scores.size(); ++i) all[c.labels[i]] = scores[i];
      out(Json{{"index", texts.first + b},
               {"label", c.labels[best]},
               {"scores", std::move(all)},
               {"logits", std::vector<float>(own.begin(), own.end())}});
    }
  });
}

/// The k likeliest tokens.
Json likeliest(std::span<const float> logits, int64_t k, const Tokenizer* tokenizer) {
  const std::vector<double> p = softmax(logits);
  std::vector<TokenId> order(p.size());
  std::iota(order.begin(), order.end(), 0);
  const auto n = std::min<size_t>(static_cast<size_t>(k), order.size());
  const auto likelier = [&](TokenId a, TokenId b) {
    return std::pair(-p[static_cast<size_t>(a)], a) < std::pair(-p[static_cast<size_t>(b)], b);
  };
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(n), order.end(), likelier);
  Json list = Json::array();
  for (size_t i = 0; i < n; ++i) {
    Json one = {{"id", order[i]}, {"probability", p[static_cast<size_t>(order[i])]}};
    if (tokenizer && order[i] < tokenizer->vocab_size()) one["piece"] = tokenizer->piece(order[i]);
    list.push_back(std::move(one));
  }
  return list;
}

/// The id that the user names, else the tokenizer's; -1: neither does.
TokenId mask_id_of(const EncodeFlags& flags, const Tokenizer* tokenizer) {
  if (flags.mask_id) return static_cast<TokenId>(std::clamp<int64_t>(*flags.mask_id, -1, INT32_MAX));
  if (!tokenizer) return -1;
  const auto named = tokenizer->named_tokens();
  const auto mask = named.find("mask_token");
  return tokenizer->find(mask == named.end() ? "[MASK]" : mask->second);
}

int run_fill_mask(const EncodeFlags& flags) {
  ThreadPool pool(flags.common.threads);
  const OpenModel open = open_model(flags);
  const Tokenizer* const tokenizer = open.tokenizer.get();
  const ModelConfig& c = open.model.config();
  const TokenId mask_id = mask_id_of(flags, tokenizer);
  if (c.head != HeadKind::language_model || c.generates())
    throw UsageError(cat(flags.model, ": expected a model with a masked-LM head, found none"));
  if (mask_id < 0 || mask_id >= c.vocab_size)
    throw UsageError(cat("--mask-id: expected the id of the mask token, below ", c.vocab_size));
  return run_texts(flags, open.model, tokenizer, pool, [&](Texts& texts) {
    std::vector<int64_t> rows;
    for (size_t i = 0; i < texts.ids.size(); ++i) {
      if (texts.ids[i] == mask_id) rows.push_back(static_cast<int64_t>(i));
    }
    const auto V = static_cast<size_t>(c.vocab_size);
    std::vector<float> logits(rows.size() * V);
    if (!rows.empty()) {
      texts.workspace.run([&](Exec& exec) {
        open.model.token_logits(exec, texts.batch, rows,
                                {logits.data(), {static_cast<int64_t>(rows.size()), c.vocab_size}});
      });
    }
    check_finite(texts, logits);
    int64_t start = 0;
    size_t row = 0;
    for (int64_t b = 0; b < texts.size(); ++b) {
      const int64_t end = start + texts.batch.lengths[static_cast<size_t>(b)];
      Json masks = Json::array();
      for (; row < rows.size() && rows[row] < end; ++row) {
        masks.push_back(
            {{"position", rows[row] - start - texts.virtual_count()},
             {"tokens", likeliest(std::span(logits).subspan(row * V, V), flags.top_k, tokenizer)}});
      }
      out(Json{{"index", texts.first + b}, {"masks", std::move(masks)}});
      start = end;
    }
  });
}

std::shared_ptr<EncodeFlags> encode_flags(CLI::App& app) {
  auto f = std::make_shared<EncodeFlags>();
  app.add_option("--model,-m", f->model, "Model folder (Hugging Face), run folder, checkpoint, .gguf");
  add_adapter_flag(app, f->adapters);
  app.add_option("--tokenizer", f->tokenizer, "Tokenizer (default: the model's)");
  app.add_option("TEXT", f->prompts.prompts, "Texts (default: a line each from standard input)");
  app.add_option("--prompt-file,-f", f->prompts.file, "File of texts");
  app.add_option("--input-format", f->prompts.format, "text (default): one per line; jsonl")
      ->check(CLI::IsMember({"text", "jsonl"}));
  app.add_option("--field", f->prompts.field,
                 "Field of .jsonl rows (default: prompt; or prompt_ids, token_type_ids)");
  app.add_option("--batch-size", f->batch_size, "Texts read together (default: 32)")
      ->check(CLI::Range(1, 4096).description(""));
  app.add_option("--truncate", f->truncate, "right: too long a text loses its end (default: none)")
      ->check(CLI::IsMember({"none", "right"}));
  return f;
}
}  // namespace

std::function<int()> embed_command(CLI::App& app) {
  const auto f = encode_flags(app);
  app.footer("Prints a JSON row for each text: index, tokens, embedding.");
  app.add_option("--pooling", f->pooling,
                 "cls, mean, last, pooler (default: as the model says; mean for BERT, last for decoders)")
      ->check(CLI::IsMember({"cls", "mean", "last", "pooler"}));
  app.add_flag("--normalize", f->normalize, "Vectors of length 1");
  add_plain_flags(app, f->common);
  return [f] { return run_embed(*f); };
}

std::function<int()> classify_command(CLI::App& app) {
  const auto f = encode_flags(app);
  add_plain_flags(app, f->common);
  return [f] { return run_classify(*f); };
}

std::function<int()> fill_mask_command(CLI::App& app) {
  const auto f = encode_flags(app);
  app.footer("Prints a JSON row for each text: index, and for each mask its position and tokens.");
  app.add_option("--mask-id", f->mask_id, "Id of the mask token (default: the tokenizer's)");
  app.add_option("--top-k", f->top_k, "Tokens named for each mask (default: 5)")
      ->check(CLI::Range(1, 1 << 20).description(""));
  add_plain_flags(app, f->common);
  return [f] { return run_fill_mask(*f); };
}

}  // namespace llmtool
