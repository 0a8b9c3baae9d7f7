#include "llmtool/model/base_source.h"

#include <algorithm>

#include "llmtool/core/error.h"
#include "llmtool/core/rng.h"
#include "llmtool/io/files.h"
#include "model/architecture.h"

namespace llmtool {

namespace {
class ChangedSource : public ModelSource {
 public:
  ChangedSource(std::shared_ptr<const ModelSource> base, const BaseChanges& changes)
      : ModelSource(base->path(), base->config()), base_(std::move(base)), changes_(changes) {
    ModelConfig& c = config_;
    const WeightNames& names = architecture(c).names;
    embedding_ = cat(names.prefix, names.embedding, ".weight");
    head_ = cat(names.head, ".weight");
    if (changes.untie) c.tie_word_embeddings = false;
    if (changes.labels) {
      fresh_head_ = c.head != HeadKind::classification || c.labels != *changes.labels;
      fresh_pooler_ = *names.pooler && !c.pooler;
      c.head = HeadKind::classification;
      c.labels = *changes.labels;
      c.problem_type = "single_label_classification";
      c.pooler = c.pooler || fresh_pooler_;
    }
    if (changes.vocab_size > 0 && changes.vocab_size < c.vocab_size)
      throw UsageError(
          cat("expected a vocabulary of at least ", c.vocab_size, ", found ", changes.vocab_size));
    if (changes.vocab_size > 0) c.vocab_size = changes.vocab_size;
    const int64_t files = base_->config().vocab_size;
    known_ = changes.spare.end > 0 ? std::min(changes.spare.first, files) : files;
    new_end_ = c.vocab_size > files ? c.vocab_size : std::min(changes.spare.end, files);
    for (const int64_t id : changes.stop_ids) {
      if (std::find(c.stop_ids.begin(), c.stop_ids.end(), id) == c.stop_ids.end()) c.stop_ids.push_back(id);
      if (!c.eos_token_id) c.eos_token_id = id;
    }
  }

  const char* format() const override { return base_->format(); }
  EmbeddingSettings embedding() const override { return base_->embedding(); }

  StoredParam find(const Param& p) const override {
    if (is_fresh(p) || has_new_rows(p)) return {p.name, {}};
    return base_->find(named(p));
  }

  bool holds(const Param& p) const { return !is_fresh(p) && holds_values(*base_, named(p)); }

  void check_all_used(const ParamStore& params) const override {
    // A language model's head that a classifier does not have is no sign of another model.
    if (!fresh_head_ && !fresh_pooler_) base_->check_all_used(params);
  }

  void read(const Param& p, float* values) const override {
    if (is_fresh(p)) return draw(p, values);
    if (!has_new_rows(p)) return base_->read(named(p), values);
    Param files = named(p);
    const int64_t cols = p.value.size() / p.value.shape[0];
    files.value.shape.dims[0] = base_->config().vocab_size;
    base_->read(files, values);
    std::vector<double> mean(static_cast<size_t>(cols));
    for (int64_t i = 0; i < known_ * cols; ++i) mean[static_cast<size_t>(i % cols)] += values[i];
    for (int64_t i = known_ * cols; i < new_end_ * cols; ++i)
      values[i] = static_cast<float>(mean[static_cast<size_t>(i % cols)] / static_cast<double>(known_));
  }

 private:
  bool is_fresh(const Param& p) const {
    const WeightNames& names = architecture(config_).names;
    return (fresh_head_ && p.name.starts_with(cat(names.classifier, "."))) ||
           (fresh_pooler_ && p.name.starts_with(cat(names.prefix, names.pooler, ".")));
  }
  bool has_new_rows(const Param& p) const {
    const bool of_vocabulary =
        p.name == embedding_ || p.name == head_ || p.name == architecture(config_).names.head_bias;
    return of_vocabulary && new_end_ > known_;
  }
  /// As the files have it.
  Param named(const Param& p) const {
    Param files = p;
    if (base_->config().tie_word_embeddings && !config_.tie_word_embeddings && p.name == head_)
      files.name = embedding_;
    return files;
  }
  void draw(const Param& p, float* values) const {
    const auto* name = reinterpret_cast<const std::byte*>(p.name.data());
    Rng rng = Rng(changes_.seed).split(hash64({name, p.name.size()}));
    for (int64_t i = 0; i < p.value.size(); ++i)
      values[i] = p.value.shape.rank == 1 ? 0 : static_cast<float>(config_.initializer_range * rng.normal());
  }

  std::shared_ptr<const ModelSource> base_;
  BaseChanges changes_;
  std::string embedding_, head_;
  int64_t known_ = 0, new_end_ = 0;  // rows of the vocabulary: those of tokens, and where the new ones end
  bool fresh_head_ = false, fresh_pooler_ = false;
};
}  // namespace

std::shared_ptr<const ModelSource> change_base(std::shared_ptr<const ModelSource> base,
                                               const BaseChanges& changes) {
  const ModelConfig& c = base->config();
  const bool untie = changes.untie && c.tie_word_embeddings && c.head == HeadKind::language_model;
  const bool grows = (changes.vocab_size != 0 && changes.vocab_size != c.vocab_size) || changes.spare.end > 0;
  if (!untie && !changes.labels && !grows && changes.stop_ids.empty()) return base;
  BaseChanges needed = changes;
  needed.untie = untie;
  return std::make_shared<ChangedSource>(std::move(base), needed);
}

bool holds_values(const ModelSource& source, const Param& p) {
  const auto* const changed = dynamic_cast<const ChangedSource*>(&source);
  return changed ? changed->holds(p) : static_cast<bool>(source.find(p).tensor);
}

}  // namespace llmtool
