// SPDX-License-Identifier: Apache-2.0
// history_client: a guest that trusts nobody. See `history_client --help`.
#include <fcntl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <string>
#include <vector>

#include "tests/bench/history_engine.h"

namespace blockmig::bench {
namespace {

constexpr int kStepMs = 2;
constexpr int kIdleStepMs = 20;

class Client {
 public:
  /// SIGTERM and SIGINT must be blocked already: the engine starts a thread.
  Client(const HistoryOptions& options, int signal_fd)
      : options_(options), engine_(options), signal_fd_(signal_fd) {}

  /// The exit code.
  int run() {
    if (Status s = engine_.start(); !s) {
      std::fprintf(stderr, "history_client: %s\n", s.error().message().c_str());
      return 1;
    }
    ::fcntl(STDIN_FILENO, F_SETFL, ::fcntl(STDIN_FILENO, F_GETFL) | O_NONBLOCK);
    std::printf("{\"event\": \"started\", \"bytes\": %llu}\n",
                static_cast<unsigned long long>(engine_.region_bytes()));
    std::fflush(stdout);
    began_ns_ = now_ns();
    while (!quit_) {
      const bool held = engine_.state() == EngineState::kHeld;
      engine_.step(held ? kIdleStepMs : kStepMs, input_fds());
      if (held_wanted_ && engine_.state() == EngineState::kHeld) {
        held_wanted_ = false;
        print("held");
      }
      read_signals();
      read_commands();
      const double seconds = static_cast<double>(now_ns() - began_ns_) / 1e9;
      if (options_.seconds > 0 && seconds >= options_.seconds) quit_ = true;
    }
    const bool complete = finish();
    print("final");
    const HistoryFigures& f = engine_.figures();
    return complete && f.errors == 0 && f.violations == 0 ? 0 : 1;
  }

 private:
  std::vector<int> input_fds() const {
    if (input_closed_) return {signal_fd_};
    return {signal_fd_, STDIN_FILENO};
  }

  void read_signals() {
    signalfd_siginfo info;
    if (::read(signal_fd_, &info, sizeof info) == sizeof info) quit_ = true;
  }

  void read_commands() {
    char buffer[512];
    const ssize_t n = input_closed_ ? -1 : ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (n == 0) input_closed_ = true;
    if (n <= 0) return;
    input_.append(buffer, static_cast<std::size_t>(n));
    for (auto end = input_.find('\n'); end != std::string::npos; end = input_.find('\n')) {
      const std::string line = input_.substr(0, end);
      input_.erase(0, end + 1);
      command(line);
    }
  }

  void command(const std::string& line) {
    if (line == "report") {
      print("report");
      engine_.reset_figures();
    } else if (line == "hold") {
      held_wanted_ = true;
      engine_.hold();
    } else if (line == "resume") {
      engine_.resume();
      print("resumed");
    } else if (line == "quit") {
      quit_ = true;
    } else if (line.starts_with("check ") && engine_.state() == EngineState::kHeld) {
      check(line.substr(6));
    } else {
      std::printf("{\"event\": \"refused\"}\n");
      std::fflush(stdout);
    }
  }

  void check(const std::string& path) {
    const auto wrong = engine_.check_file(path);
    if (wrong) {
      std::printf("{\"event\": \"checked\", \"wrong_sectors\": %llu}\n",
                  static_cast<unsigned long long>(*wrong));
    } else {
      std::fprintf(stderr, "history_client: %s\n", wrong.error().message().c_str());
      std::printf("{\"event\": \"unreadable\"}\n");
    }
    std::fflush(stdout);
  }

  bool reach_held(std::uint64_t deadline_ns) {
    while (engine_.state() != EngineState::kHeld) {
      if (now_ns() > deadline_ns) return false;
      engine_.step(kStepMs, {});
    }
    return true;
  }

  /// Drains, then reads everything. False if the server did not answer in time.
  bool finish() {
    const auto deadline = [this] {
      return now_ns() + static_cast<std::uint64_t>(options_.drain_seconds * 1e9);
    };
    engine_.hold();
    bool ok = reach_held(deadline());
    if (ok) {
      engine_.scan();
      ok = reach_held(deadline());
    }
    if (!ok) std::fprintf(stderr, "history_client: the server leaves requests unanswered\n");
    return ok;
  }

  void print(const char* event) const {
    const HistoryFigures& f = engine_.figures();
    const double seconds = static_cast<double>(now_ns() - f.reset_ns) / 1e9;
    const auto ms = [](std::uint64_t ns) { return static_cast<double>(ns) / 1e6; };
    std::printf(
        "{\"event\": \"%s\", \"seconds\": %.3f, \"requests\": %llu, \"iops\": %.1f, \"p50_ms\": "
        "%.3f, "
        "\"p99_ms\": %.3f, \"longest_stall_ms\": %.3f, \"connections_opened\": %llu, "
        "\"sectors_checked\": %llu, \"unanswered\": %llu, \"torn\": %llu, \"errors\": %llu, "
        "\"violations\": "
        "%llu}\n",
        event, seconds, static_cast<unsigned long long>(f.requests),
        static_cast<double>(f.requests) / seconds, ms(f.latency.quantile(0.5)),
        ms(f.latency.quantile(0.99)), ms(engine_.longest_wait_ns()),
        static_cast<unsigned long long>(f.connections),
        static_cast<unsigned long long>(f.sectors_read),
        static_cast<unsigned long long>(engine_.unanswered()),
        static_cast<unsigned long long>(f.torn), static_cast<unsigned long long>(f.errors),
        static_cast<unsigned long long>(f.violations));
    std::fflush(stdout);
  }

  const HistoryOptions options_;
  HistoryEngine engine_;
  const int signal_fd_;
  bool input_closed_ = false;
  bool quit_ = false;
  bool held_wanted_ = false;
  std::string input_;
  std::uint64_t began_ns_ = 0;
};

int blocked_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  return ::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

int play(int argc, char** argv) {
  const auto options = parse_history_options(argc, argv);
  if (!options) {
    std::fprintf(stderr, "history_client: %s (--help lists the options)\n",
                 options.error().message().c_str());
    return 2;
  }
  return Client(*options, blocked_signals()).run();
}

}  // namespace
}  // namespace blockmig::bench

int main(int argc, char** argv) { return blockmig::bench::play(argc, argv); }
