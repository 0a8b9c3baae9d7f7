#include "train/signals.h"

#include <unistd.h>

#include <csignal>
#include <initializer_list>

namespace llmtool {

namespace {
volatile std::sig_atomic_t stop_signal = 0;
volatile std::sig_atomic_t save_wanted = 0;

void on_stop(int signal) {
  if (stop_signal) ::_exit(128 + signal);
  stop_signal = signal;
}
void on_save(int) { save_wanted = 1; }

void listen(int signal, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  ::sigaction(signal, &action, nullptr);
}
}  // namespace

SignalWatch::SignalWatch() {
  stop_signal = 0;
  save_wanted = 0;
  listen(SIGINT, on_stop);
  listen(SIGTERM, on_stop);
  listen(SIGUSR1, on_save);
}

SignalWatch::~SignalWatch() {
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1}) listen(signal, SIG_DFL);
}

int SignalWatch::stop() const { return stop_signal; }

bool SignalWatch::take_save() {
  const bool wanted = save_wanted != 0;
  save_wanted = 0;
  return wanted;
}

}  // namespace llmtool
