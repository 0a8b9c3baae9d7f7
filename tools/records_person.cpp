// Judging by hand, record by record.

#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "llmtool/core/error.h"
#include "llmtool/io/json_text.h"
#include "llmtool/records/record_rows.h"
#include "llmtool/records/terminal_text.h"
#include "records.h"

namespace llmtool {

namespace {
void say(const std::string& text) {
  std::fputs(text.c_str(), stderr);
  std::fflush(stderr);
}

/// Keys and lines from standard input: a key is a press on a terminal, a line's first character elsewhere.
class Keyboard {
 public:
  /// The answer to a question; 'q' at the end of the input.
  char key(const std::string& question) const {
    if (!::isatty(STDIN_FILENO)) {
      say(question);
      std::string text;
      while (text.empty()) {
        if (!line(text)) return 'q';
      }
      return text[0];
    }
    termios usual{};
    ::tcgetattr(STDIN_FILENO, &usual);
    termios keys = usual;
    // Ctrl-C is a key, too, so that the terminal is never left like this.
    keys.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO | ISIG);
    keys.c_cc[VMIN] = 1;
    keys.c_cc[VTIME] = 0;
    ::tcsetattr(STDIN_FILENO, TCSADRAIN, &keys);
    say(question);  // now any key may come
    char c = 0;
    constexpr char kEscape = 27;
    bool read = read_byte(c);
    for (; read && c == kEscape; read = read_byte(c)) skip_sequence();
    ::tcsetattr(STDIN_FILENO, TCSADRAIN, &usual);
    constexpr char kInterrupt = 3, kEnd = 4;
    return !read || c == kInterrupt || c == kEnd ? 'q' : c;
  }
  /// False at the end of the input.
  bool line(std::string& text) const {
    text.clear();
    for (char c; read_byte(c);) {
      if (c == '\n') return true;
      text += c;
    }
    return !text.empty();
  }

 private:
  /// What an arrow and its like send behind an escape, all at once: ECMA-48's CSI and SS3, or one character.
  static void skip_sequence() {
    constexpr int kAtOnce = 50;  // milliseconds
    const auto next = [](char& c) {
      pollfd in{STDIN_FILENO, POLLIN, 0};
      return ::poll(&in, 1, kAtOnce) == 1 && read_byte(c);
    };
    char c;
    if (!next(c)) return;
    if (c == 'O') next(c);
    if (c != '[') return;
    while (next(c) && !(c >= '@' && c <= '~')) {
    }
  }
  static bool read_byte(char& c) {
    ssize_t n;
    do {
      n = ::read(STDIN_FILENO, &c, 1);
    } while (n < 0 && errno == EINTR);
    return n == 1;
  }
};

void show(const Record& r, size_t at, size_t total) {
  const auto block = [](const char* name, const std::string& text) {
    say(cat("--- ", name, "\n", printable(text), text.ends_with('\n') ? "" : "\n"));
  };
  say(cat("\n=== record ", r.id, " (", at + 1, " of ", total, ")\n"));
  if (!r.input.is_null()) block("input", plain_text(r.input));
  block("prompt", r.prompt);
  block("response", r.response);
  if (r.expected) block("expected", *r.expected);
  if (r.verdict) say(cat("--- judged ", verdict_name(*r.verdict), " by ", r.judged_by, "\n"));
}

/// What was expected instead, which may have several lines; the record's own where nothing is said. False at
/// the end of the input.
bool ask_expected(const Keyboard& keyboard, std::optional<std::string>& expected) {
  say(cat("expected (a line that ends in \\ goes on",
          expected ? "; empty: as above): " : "; empty: not known): "));
  std::string all, text;
  while (true) {
    if (!keyboard.line(text)) return false;
    if (!text.ends_with('\\')) break;
    text.back() = '\n';
    all += text;
  }
  all += text;
  if (!all.empty()) expected = all;
  return true;
}

class Session {
 public:
  Session(RecordStore& store, const std::vector<int64_t>& ids, bool again)
      : store_(store), ids_(ids), again_(again) {}

  JudgedCounts run() {
    while (at_ < ids_.size()) {
      const Record record = store_.get(ids_[at_]);
      // Somebody else may have judged it meanwhile.
      if (!again_ && record.verdict) {
        ++at_;
        continue;
      }
      show(record, at_, ids_.size());
      if (!step(record)) break;
    }
    JudgedCounts counts;
    for (const Done& done : done_) ++(done.verdict == Verdict::right ? counts.right : counts.wrong);
    return counts;
  }

 private:
  struct Done {
    size_t at;
    Judgement before;
    Verdict verdict;
  };

  /// False where the user has had enough.
  bool step(const Record& record) {
    while (true) {
      const char key = keyboard_.key("r right, w wrong, s skip, u undo, q quit: ");
      say(cat(printable(std::string(1, key)), "\n"));
      if (key == 'q') return false;
      if (key == 's') return ++at_, true;
      if (key == 'u') {
        if (undo()) return true;
        say("nothing to undo\n");
      } else if (key == 'r') {
        judge(record, Verdict::right, record.expected);
        return true;
      } else if (key == 'w') {
        std::optional<std::string> expected = record.expected;
        if (!ask_expected(keyboard_, expected)) return false;
        judge(record, Verdict::wrong, expected);
        return true;
      }
    }
  }

  void judge(const Record& record, Verdict verdict, const std::optional<std::string>& expected) {
    const Judgement judgement{record.id, verdict, "person", expected};
    store_.judge({&judgement, 1});
    done_.push_back({at_++, {record.id, record.verdict, record.judged_by, record.expected}, verdict});
  }

  bool undo() {
    if (done_.empty()) return false;
    store_.judge({&done_.back().before, 1});
    at_ = done_.back().at;
    done_.pop_back();
    return true;
  }

  RecordStore& store_;
  const std::vector<int64_t>& ids_;
  bool again_;
  Keyboard keyboard_;
  size_t at_ = 0;
  std::vector<Done> done_;
};
}  // namespace

JudgedCounts judge_by_person(RecordStore& store, const std::vector<int64_t>& ids, bool again) {
  return Session(store, ids, again).run();
}

}  // namespace llmtool
