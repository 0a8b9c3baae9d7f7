#include "generate_chat.h"

#include <langinfo.h>
#include <poll.h>
#include <unistd.h>
// After unistd.h: it wants size_t.
#include <editline/readline.h>

#include <clocale>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <string_view>

#include "generate_io.h"
#include "llmtool/core/error.h"
#include "llmtool/core/log.h"
#include "llmtool/io/files.h"

namespace llmtool {

namespace {
constexpr const char* kHelp =
    "/reset      forget the conversation\n"
    "/save FILE  write it as a row {\"messages\": [...]}\n"
    "/exit       leave (so does ctrl-D)\n"
    "ctrl-C stops an answer, or clears the line.";

volatile std::sig_atomic_t stop_wanted = 0;
void on_interrupt(int) { stop_wanted = 1; }

/// The line editor drops characters that the locale does not know. Numbers stay those of C.
void type_utf8() {
  std::setlocale(LC_CTYPE, "");
  if (std::string_view(::nl_langinfo(CODESET)) != "UTF-8") std::setlocale(LC_CTYPE, "C.UTF-8");
}

/// What the line editor has given: it calls a plain function.
struct TypedLine {
  bool ended = false;
  char* text = nullptr;  // none at the end of the input
};
TypedLine typed;
void take_line(char* text) { typed = {true, text}; }

/// The editor puts the terminal in order before a signal does its work; where the terminal goes there is
/// none.
void begin_line() {
  struct sigaction hangup {};
  ::sigaction(SIGHUP, nullptr, &hangup);
  ::rl_callback_handler_install("> ", take_line);
  ::sigaction(SIGHUP, &hangup, nullptr);
}

/// A line with the editor, which takes a character at a time, so that it can be left between two; nullptr at
/// the end of the input.
char* edited_line() {
  constexpr int kMilliseconds = 50;  // another thread may have taken the signal
  typed = {};
  stop_wanted = 0;
  begin_line();
  while (!typed.ended) {
    pollfd in{STDIN_FILENO, POLLIN, 0};
    const int ready = ::poll(&in, 1, kMilliseconds);
    if (stop_wanted) {
      stop_wanted = 0;
      ::rl_callback_handler_remove();
      std::fputs("\n", stdout);
      std::fflush(stdout);
      std::fputs("/exit or ctrl-D leaves.\n", stderr);
      begin_line();
    } else if (ready > 0 && in.revents != POLLIN) {
      break;  // the terminal has gone
    } else if (ready > 0) {
      ::rl_callback_read_char();
    }
  }
  ::rl_callback_handler_remove();
  return typed.text;
}

/// While it lives, SIGINT stops an answer or clears a line and no more.
class InterruptWatch {
 public:
  InterruptWatch() {
    struct sigaction action {};
    action.sa_handler = on_interrupt;
    action.sa_flags = SA_RESTART;  // what is being written is written
    ::sigaction(SIGINT, &action, &before_);
  }
  ~InterruptWatch() { ::sigaction(SIGINT, &before_, nullptr); }
  InterruptWatch(const InterruptWatch&) = delete;
  InterruptWatch& operator=(const InterruptWatch&) = delete;

 private:
  struct sigaction before_ {};
};

class Chat {
 public:
  Chat(const Transformer& model, const Tokenizer& tokenizer, const ChatWriter& writer, ThreadPool& pool,
       GenerationOptions options, std::string system, int64_t room, bool json, Recorder* recorder)
      : options_(std::move(options)),
        generator_(model, &tokenizer, pool, options_),
        conversation_(writer, std::move(system)),
        room_(room),
        json_(json),
        recorder_(recorder),
        terminal_(::isatty(STDOUT_FILENO)) {}

  /// The exit code.
  int run() {
    const InterruptWatch watch;
    if (terminal_) type_utf8();
    info("/help lists the commands.");
    while (const std::optional<std::string> line = read_line()) {
      if (line->find_first_not_of(" \t\r") == std::string::npos) continue;
      if (line->front() == '/') {
        if (!command(*line)) break;
      } else {
        turn(*line);
      }
    }
    return code_;
  }

 private:
  std::optional<std::string> read_line() const {
    std::string line;
    if (!terminal_) {
      if (!std::getline(std::cin, line)) return std::nullopt;
      if (line.ends_with('\r')) line.pop_back();
      return line;
    }
    rl_catch_signals = 1;  // puts the terminal in order before a signal does its work
    char* const text = edited_line();
    if (!text) {
      write_out("\n");
      return std::nullopt;
    }
    line = text;
    std::free(text);
    if (!line.empty()) ::add_history(line.c_str());
    return line;
  }

  /// False where it ends the conversation.
  bool command(const std::string& line) {
    const size_t end = line.find(' ');
    const std::string name = line.substr(0, end);
    const std::string rest = end == std::string::npos ? "" : line.substr(line.find_first_not_of(' ', end));
    if (name == "/exit" || name == "/quit") return false;
    if (name == "/reset") {
      conversation_.reset();
      info("The conversation begins anew.");
    } else if (name == "/save" && !rest.empty()) {
      save(rest);
    } else {
      if (name != "/help") warn(cat(line, ": no command"));
      info(kHelp);
    }
    return true;
  }

  void save(const std::string& file) const {
    try {
      nlohmann::ordered_json row = nlohmann::ordered_json::object();
      row["messages"] = conversation_.messages();
      write_file(file, json_line(row) + "\n");
      info(cat("Saved to ", file, "."));
    } catch (const Error& e) {
      warn(e.what());  // the conversation matters more
    }
  }

  void turn(const std::string& text) {
    conversation_.say(text);
    std::optional<std::string> answer;
    try {
      int64_t dropped = 0;
      Prompt prompt = conversation_.prompt(room_, dropped);
      if (dropped > 0)
        info(dropped == 1
                 ? "The oldest turn is left out: it no longer fits the context."
                 : cat("The oldest ", dropped, " turns are left out: they no longer fit the context."));
      answer = answer_to(std::move(prompt));
    } catch (const Error& e) {
      warn(e.what());
    }
    if (answer) {
      conversation_.answer(*answer);
    } else {
      conversation_.unsay();
    }
  }

  /// None where it was stopped before it had text.
  std::optional<std::string> answer_to(Prompt prompt) {
    bool given = false;
    std::string written;
    std::optional<std::string> answer;
    stop_wanted = 0;
    const auto source = [&](GenerationRequest& request) {
      if (given) return false;
      request = request_of(std::move(prompt));
      given = true;
      return true;
    };
    const Generator::Stream stream = [&](const std::string& more) {
      print_out(more);
      written += more;
    };
    generator_.run(
        source,
        [&](const GenerationResult& r) {
          if (r.finish_reason == "stopped" && r.text.empty()) return;
          if (json_) {
            const auto row = result_row(r, options_, nullptr);
            print_out(json_line(row) + "\n");
          } else {
            print_out(r.text.substr(written.size()) + "\n");
          }
          answer = r.text;
          if (recorder_) recorder_->add(r, {{"messages", conversation_.messages()}});
          report_cut(r, options_, code_);
        },
        json_ ? Generator::Stream{} : stream);
    if (!answer && terminal_) print_out("\n");
    return answer;
  }

  GenerationOptions options_;
  Generator generator_;
  Conversation conversation_;
  int64_t room_;
  bool json_;
  Recorder* recorder_;
  bool terminal_;  // answers go there, too
  int code_ = 0;
};
}  // namespace

int run_chat(const Transformer& model, const Tokenizer& tokenizer, ThreadPool& pool,
             GenerationOptions options, const std::string& system, int64_t room, bool json,
             Recorder* recorder) {
  const ChatWriter writer(tokenizer);
  options.stop_wanted = [] { return stop_wanted != 0; };
  Chat chat(model, tokenizer, writer, pool, std::move(options), system, room, json, recorder);
  try {
    return chat.run();
  } catch (const ReaderGone&) {
    return 0;
  }
}

}  // namespace llmtool
