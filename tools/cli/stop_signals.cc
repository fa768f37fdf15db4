// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/stop_signals.h"

#include <unistd.h>

#include <cerrno>

namespace blockmig {

StopSignals::StopSignals(HangUp hang_up) {
  struct sigaction inherited {};
  (void)sigaction(SIGHUP, nullptr, &inherited);
  const bool ignored = inherited.sa_handler == SIG_IGN || hang_up == HangUp::kIgnored;
  if (ignored) std::signal(SIGHUP, SIG_IGN);  // NOLINT(cert-err33-c): as below
  sigemptyset(&stops_);
  sigaddset(&stops_, SIGINT);
  sigaddset(&stops_, SIGTERM);
  if (!ignored) sigaddset(&stops_, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &stops_, &before_);
  std::signal(SIGPIPE, SIG_IGN);  // NOLINT(cert-err33-c): SIG_IGN for SIGPIPE cannot fail
  std::signal(SIGXFSZ, SIG_IGN);  // NOLINT(cert-err33-c): as above
}

StopSignals::~StopSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

std::optional<int> StopSignals::wait_for(Duration patience) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(patience);
  const auto rest = patience - seconds;
  const timespec time{static_cast<time_t>(seconds.count()), static_cast<long>(rest.count())};
  const int signal = sigtimedwait(&stops_, nullptr, &time);
  if (signal > 0) return signal;
  return std::nullopt;  // the time passed, or a debugger interrupted us
}

int StopSignals::wait() {
  for (;;) {
    const int signal = sigwaitinfo(&stops_, nullptr);
    if (signal > 0) return signal;
  }
}

void StopSignals::raise() { kill(getpid(), SIGTERM); }

}  // namespace blockmig
