#include "llmtool/train/pretrain_data.h"

#include <algorithm>
#include <deque>

#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/core/rng.h"
#include "llmtool/data/corpus.h"
#include "llmtool/model/model_source.h"

namespace llmtool {

namespace {
namespace fs = std::filesystem;

CorpusOptions corpus_of(const DataConfig& data, std::vector<std::string> inputs) {
  return {std::move(inputs), data.field, data.input_format, data.strict};
}

/// Names, sizes and times of the files behind a source.
std::string files_of(const DataConfig& data, const std::string& path) {
  CorpusCounts counts;
  std::string text;
  for (const std::string& file : list_inputs(corpus_of(data, {path}), counts)) {
    text +=
        cat("\n", file, " ", fs::file_size(file), " ", fs::last_write_time(file).time_since_epoch().count());
  }
  return text;
}

/// What a tokenizer that is trained here depends on.
std::string tokenizer_identity(const PretrainConfig& config, const std::vector<std::string>& texts) {
  const TokenizerTraining& t = config.tokenizer.training;
  std::string text =
      cat(t.model_type, " ", t.vocab_size, " ", t.character_coverage, " ", t.byte_fallback, " ", t.max_lines,
          " ", config.training.seed, " ", config.data.field, " ", config.data.input_format);
  if (t.min_frequency > 0) text += cat(" ", t.min_frequency);
  for (const std::string& symbol : t.user_symbols) text += cat(" ", symbol.size(), " ", symbol);
  for (const std::string& path : texts) text += files_of(config.data, path);
  return text + "\n";
}

std::shared_ptr<const Tokenizer> find_or_train_tokenizer(const PretrainConfig& config, const fs::path& work) {
  std::vector<std::string> texts;
  for (const DataSource& source : config.data.train) {
    if (!TokenShard::looks_like_one(source.path)) texts.push_back(source.path);
  }
  if (!config.tokenizer.path.empty()) return load_tokenizer(config.tokenizer.path);
  if (const std::string& from = config.init_from; !from.empty()) {
    const bool has_none = fs::path(from).extension() == ".bin" || !has_tokenizer(from);
    if (has_none && !texts.empty())
      throw UsageError(cat(from, ": has no tokenizer for the training text; give a tokenizer.path"));
    return has_none ? nullptr : load_tokenizer(from);
  }
  const fs::path folder = work / "tokenizer";
  const std::string identity = texts.empty() ? "" : tokenizer_identity(config, texts);
  if (has_tokenizer(folder)) {
    // One that was put there, or that a run has begun with, stays; ours goes with the settings and texts it
    // came from.
    const fs::path made_from = folder / "trained_from";
    const bool begun = fs::exists(work / "checkpoints") && !fs::is_empty(work / "checkpoints");
    if (begun || !fs::exists(made_from) || read_file(made_from) == identity) return load_tokenizer(folder);
    info("the tokenizer here was trained from other settings or texts");
    fs::remove_all(folder);
  }
  if (texts.empty()) return nullptr;
  info("training a tokenizer on the training text");
  CorpusCounts counts;
  TokenizerTraining training = config.tokenizer.training;
  training.seed = static_cast<uint64_t>(config.training.seed);
  const TokenizerTrainingResult result = train_tokenizer_on(training, corpus_of(config.data, texts), counts);
  save_trained_tokenizer(training, result, folder);
  const auto tokenizer = load_tokenizer(folder);
  write_file(folder / "trained_from", identity);
  info(cat("tokenizer of ", tokenizer->vocab_size(), " pieces: ", folder.string()));
  return tokenizer;
}

/// A name that changes with the files behind a source, the tokenizer, and how they are read.
std::string cache_name(const DataConfig& data, const std::string& path, const Tokenizer& tokenizer) {
  const std::string identity =
      cat(hex(tokenizer.hash()), " ", data.field, " ", data.input_format, files_of(data, path));
  return hex(hash64(std::as_bytes(std::span(identity)))) + ".bin";
}

std::shared_ptr<const TokenShard> encode_source(ThreadPool& pool, const DataConfig& data,
                                                const std::string& path, const Tokenizer& tokenizer,
                                                const fs::path& work) {
  if (path == "-") throw UsageError("data: standard input cannot be read twice; save it to a file first");
  const fs::path shard = work / "data" / cache_name(data, path, tokenizer);
  if (!fs::exists(shard)) {
    fs::create_directories(shard.parent_path());
    TokenShardWriter writer(shard, tokenizer);
    int64_t documents = 0;
    // EOS stands between documents, not behind the last: a single text is what it is.
    bool pending = false;
    const CorpusCounts counts =
        encode_corpus(pool, tokenizer, corpus_of(data, {path}), [&](std::vector<TokenId>&& ids, bool ends) {
          if (pending && tokenizer.eos_id() >= 0) ids.insert(ids.begin(), tokenizer.eos_id());
          pending = ends;
          documents += ends;
          writer.write(ids);
          show_progress(
              cat("encoding ", path, ": ", human_count(static_cast<double>(writer.count())), " tokens"));
        });
    writer.finish();
    show_progress("");
    if (const std::string repairs = counts.repairs(); !repairs.empty()) warn(cat(path, ": ", repairs));
    info(cat("encoded ", path, ": ", human_bytes(static_cast<double>(counts.bytes)), ", ", documents,
             " documents, ", human_count(static_cast<double>(writer.count())), " tokens"));
  }
  return std::make_shared<TokenShard>(shard);
}

class Preparation {
 public:
  Preparation(ThreadPool& pool, const PretrainConfig& config, const fs::path& work)
      : pool_(pool), config_(config), work_(work) {
    data_.tokenizer = find_or_train_tokenizer(config, work);
    vocab_ = config.model.vocab_size;
    if (vocab_ == 0 && data_.tokenizer) vocab_ = data_.tokenizer->vocab_size();
    if (vocab_ == 0 && !config.init_from.empty())
      vocab_ = ModelSource::open(config.init_from)->config().vocab_size;
    if (vocab_ == 0)
      throw UsageError("model.vocab_size: expected at least 1 where no tokenizer says it, found 0");
    if (data_.tokenizer && vocab_ < data_.tokenizer->vocab_size()) {
      throw UsageError(cat("model.vocab_size: expected at least the tokenizer's ",
                           data_.tokenizer->vocab_size(), ", found ", vocab_));
    }
  }

  PretrainData run() {
    const bool hold_out = config_.data.validation.empty() && config_.data.validation_fraction > 0;
    for (const DataSource& source : config_.data.train) {
      WindowSampler::Source entry;
      entry.weight = source.weight;
      for (const auto& shard : open(source.path)) {
        if (hold_out) {
          split_by_document(shard, config_.data.validation_fraction,
                            static_cast<uint64_t>(config_.training.seed), entry.stream, data_.validation);
        } else {
          entry.stream.add(shard, 0, shard->size());
        }
      }
      data_.hash = mix64(data_.hash ^ entry.stream.hash());
      data_.training.push_back(std::move(entry));
    }
    for (const std::string& path : config_.data.validation) {
      for (const auto& shard : open(path)) data_.validation.add(shard, 0, shard->size());
    }
    data_.hash = mix64(data_.hash ^ data_.validation.hash());
    return std::move(data_);
  }

 private:
  std::vector<std::shared_ptr<const TokenShard>> open(const std::string& path) {
    std::vector<std::shared_ptr<const TokenShard>> shards;
    CorpusCounts counts;
    std::vector<std::string> files = {path};
    if (!fs::exists(path)) files = list_inputs(corpus_of(config_.data, {path}), counts);
    const auto encode = [&](const std::string& text) {
      if (!data_.tokenizer) throw UsageError(cat(text, ": text needs a tokenizer (tokenizer.path)"));
      shards.push_back(encode_source(pool_, config_.data, text, *data_.tokenizer, work_));
    };
    if (std::none_of(files.begin(), files.end(), TokenShard::looks_like_one)) {
      encode(path);
    } else {
      for (const std::string& file : files) {
        if (TokenShard::looks_like_one(file)) {
          shards.push_back(std::make_shared<TokenShard>(file));
        } else {
          encode(file);
        }
      }
    }
    for (const auto& shard : shards) check(*shard);
    return shards;
  }
  void check(const TokenShard& shard) const {
    const std::string name = shard.path().string();
    if (data_.tokenizer && shard.tokenizer_hash() && *shard.tokenizer_hash() != data_.tokenizer->hash()) {
      throw Error(cat(name, ": was made with another tokenizer (hash ", hex(*shard.tokenizer_hash()),
                      ", expected ", hex(data_.tokenizer->hash()), ")"));
    }
    if (const TokenId largest = shard.largest(); largest >= vocab_) {
      throw Error(cat(name, ": expected ids below the vocabulary's ", vocab_, ", found ", largest));
    }
  }

  ThreadPool& pool_;
  const PretrainConfig& config_;
  const fs::path& work_;
  PretrainData data_;
  int64_t vocab_ = 0;
};
}  // namespace

PretrainData prepare_data(ThreadPool& pool, const PretrainConfig& config, const fs::path& work) {
  return Preparation(pool, config, work).run();
}

}  // namespace llmtool
