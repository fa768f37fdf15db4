// SPDX-License-Identifier: Apache-2.0
// ForegroundDaemon: a daemon in this process with its state folder and control socket: what
// blockmigd is, and what `blockmig serve` becomes where none runs. Lifecycle: start(),
// run_until_stopped(). Thread rule: the main thread.
#pragma once

#include <memory>
#include <string>

#include "tools/cli/stop_signals.h"
#include "tools/control/control_server.h"
#include "tools/control/state_dir.h"
#include "tools/daemon/daemon.h"
#include "tools/daemon/log.h"

namespace blockmig {

class ForegroundDaemon final {
 public:
  /// kBusy: the state folder belongs to another daemon.
  static Result<std::unique_ptr<ForegroundDaemon>> start(const DaemonOptions& options, LogForm log);
  ~ForegroundDaemon();
  ForegroundDaemon(const ForegroundDaemon&) = delete;
  ForegroundDaemon& operator=(const ForegroundDaemon&) = delete;

  /// The control interface, without the socket.
  ControlHandler& control() { return *daemon_; }
  /// Waits for a signal or a stop request, then ends in order. A second signal ends the process at
  /// once. The first error of closing the disks.
  Status run_until_stopped(StopSignals& signals);

 private:
  ForegroundDaemon(StateDirLock lock, LogForm log) : lock_(std::move(lock)), log_(log) {}

  StateDirLock lock_;
  Log log_;
  std::unique_ptr<Daemon> daemon_;
  std::unique_ptr<ControlServer> server_;
};

}  // namespace blockmig
