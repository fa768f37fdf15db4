// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/foreground_daemon.h"

#include <unistd.h>

#include <atomic>
#include <thread>
#include <utility>

namespace blockmig {
namespace {

constexpr Duration kStopPoll = std::chrono::milliseconds(20);
constexpr int kSignalExitBase = 128;

}  // namespace

Result<std::unique_ptr<ForegroundDaemon>> ForegroundDaemon::start(const DaemonOptions& options,
                                                                  LogForm log) {
  const std::string socket_path = control_socket_path(options.state_dir);
  const Status path_fits = check_socket_path(socket_path);
  if (!path_fits) return path_fits.error();
  Result<StateDirLock> lock = StateDirLock::acquire(options.state_dir);
  if (!lock) return lock.error();
  std::unique_ptr<ForegroundDaemon> daemon(new ForegroundDaemon(*std::move(lock), log));
  Result<std::unique_ptr<Daemon>> engine =
      Daemon::start(options, daemon->log_, [] { StopSignals::raise(); });
  if (!engine) return engine.error();
  daemon->daemon_ = *std::move(engine);
  Result<std::unique_ptr<ControlServer>> server =
      ControlServer::start(socket_path, *daemon->daemon_);
  if (!server) return server.error();
  daemon->server_ = *std::move(server);
  daemon->log_.info("daemon started, state folder " + options.state_dir);
  return daemon;
}

ForegroundDaemon::~ForegroundDaemon() {
  server_.reset();  // it hands requests to the daemon
}

Status ForegroundDaemon::run_until_stopped(StopSignals& signals) {
  const int first = signals.wait();
  log_.info("stopping (signal " + std::to_string(first) + ")");
  std::atomic<bool> ended = false;
  Status closed;
  std::thread stopper([this, &ended, &closed] {
    server_.reset();
    closed = daemon_->stop();
    ended.store(true);
  });
  while (!ended.load()) {
    const std::optional<int> again = signals.wait_for(kStopPoll);
    if (again) {
      log_.warning("stopping at once (second signal)");
      _exit(kSignalExitBase + *again);
    }
  }
  stopper.join();
  if (closed.ok()) {
    log_.info("stopped");
  } else {
    log_.error("stopped, but a store did not close: " + closed.error().message());
  }
  return closed;
}

}  // namespace blockmig
