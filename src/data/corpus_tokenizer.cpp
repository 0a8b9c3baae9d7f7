#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "llmtool/data/corpus.h"

namespace llmtool {

namespace {
/// The corpus to be pulled: a thread of its own reads ahead, a few pieces, and waits.
class PulledCorpus {
 public:
  explicit PulledCorpus(const CorpusOptions& options) : thread_([this, options] { read(options); }) {}
  ~PulledCorpus() {
    {
      std::lock_guard lock(mutex_);
      abandoned_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  /// The next piece; false at the end. Throws what reading threw.
  bool next(std::string& text) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !pieces_.empty() || ended_; });
    if (pieces_.empty()) {
      if (failure_) std::rethrow_exception(failure_);
      return false;
    }
    text = std::move(pieces_.front());
    pieces_.pop_front();
    changed_.notify_all();
    return true;
  }
  const CorpusCounts& counts() const { return counts_; }  // once next() has returned false

 private:
  struct Abandoned {};

  void read(const CorpusOptions& options) {
    try {
      counts_ = read_corpus(options, [&](CorpusPiece&& piece) {
        push(std::move(piece.text));
        if (piece.last) push("");
      });
    } catch (const Abandoned&) {
    } catch (...) {
      failure_ = std::current_exception();
    }
    std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }
  void push(std::string&& text) {
    constexpr size_t kAhead = 16;
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return pieces_.size() < kAhead || abandoned_; });
    if (abandoned_) throw Abandoned();
    pieces_.push_back(std::move(text));
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::string> pieces_;
  CorpusCounts counts_;
  std::exception_ptr failure_;
  bool ended_ = false, abandoned_ = false;
  std::thread thread_;  // the last member: it uses the others
};
}  // namespace

TokenizerTrainingResult train_tokenizer_on(const TokenizerTraining& training, const CorpusOptions& corpus,
                                           CorpusCounts& counts) {
  CorpusOptions options = corpus;
  options.words_only = training.model_type == "byte-bpe";  // which has a piece for NUL, too
  PulledCorpus pulled(options);
  std::string current;
  const TextSource source = [&](std::string_view& text) {
    if (!pulled.next(current)) return false;
    text = current;
    return true;
  };
  TokenizerTrainingResult result = train_tokenizer(training, source);
  counts = pulled.counts();
  return result;
}

}  // namespace llmtool
