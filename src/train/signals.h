#pragma once
// Signals that a training run listens to.

namespace llmtool {

/// From construction to destruction SIGINT and SIGTERM only take note (a second one ends the process at
/// once), and SIGUSR1 asks for a checkpoint.
class SignalWatch {
 public:
  SignalWatch();
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;
  int stop() const;  // the signal that asked for the end, 0: none
  bool take_save();  // whether a checkpoint was asked for since the last call
};

}  // namespace llmtool
