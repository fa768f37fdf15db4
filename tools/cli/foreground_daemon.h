// SPDX-License-Identifier: Apache-2.0
// ForegroundDaemon: a daemon in this process with its state folder and control socket: what
// blockmigd is, and what `blockmig serve` becomes where none runs. Lifecycle: start(),
// run_until_stopped(). Thread rule: the main thread.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "tools/cli/process_options.h"
#include "tools/cli/stop_signals.h"
#include "tools/control/control_server.h"
#include "tools/control/metrics_server.h"
#include "tools/control/state_dir.h"
#include "tools/daemon/daemon.h"
#include "tools/daemon/log.h"

namespace blockmig {

/// Takes over the sockets that the process was started with, and makes room for as many
/// descriptors as the system grants. Once, before any thread is started. kInvalid, kPrecondition:
/// they are not what they should be; else as make_nbd_security().
Result<DaemonOptions> daemon_options(const ProcessSettings& settings, const std::string& state_dir);

class ForegroundDaemon final {
 public:
  /// kBusy: the state folder belongs to another daemon.
  static Result<std::unique_ptr<ForegroundDaemon>> start(const DaemonOptions& options, LogForm log);
  /// Takes the place of the daemon of the state folder, with its disks and its clients, who notice
  /// a short pause. kNotFound: there is none. kBusy: another process does that already. After any
  /// other error the old one goes on.
  static Result<std::unique_ptr<ForegroundDaemon>> replace(const DaemonOptions& options,
                                                           LogForm log);
  ~ForegroundDaemon();
  ForegroundDaemon(const ForegroundDaemon&) = delete;
  ForegroundDaemon& operator=(const ForegroundDaemon&) = delete;

  /// Serves the clients that the process was started with (DaemonOptions::inherited).
  Status open_inherited() { return daemon_->open_inherited(); }
  /// As Engine's.
  Status serve_wanted(const std::vector<ServeRequest>& disks, bool alone) {
    return daemon_->serve_wanted(disks, alone);
  }
  /// The control interface, without the socket.
  ControlHandler& control() { return *daemon_; }
  /// Waits for a signal, a stop request or a daemon that takes this one's place, then ends in
  /// order. A second signal, a second or more later, ends the process at once, also while clients
  /// are handed over or stored. The first error of closing the disks.
  Status run_until_stopped(StopSignals& signals);

 private:
  ForegroundDaemon(StateDirLock lock, DaemonOptions options, LogForm log)
      : lock_(std::move(lock)), options_(std::move(options)), log_(log, options_.log_level) {}
  /// What --fd-store asks for nobody may be there to do.
  void check_fd_store();
  /// The engine, then whoever asks it.
  Status start_engine();
  Status start_servers();
  /// Waits for no client of theirs, but up to kControlPatience for a request that the daemon has:
  /// not while guests wait.
  void stop_servers();
  Status serve_metrics();
  /// For clients that are in the middle of a request; then nothing is handed over.
  static constexpr Duration kParkPatience = std::chrono::seconds(5);
  /// True: another process has taken over.
  bool hand_over();
  /// What can be opened is served again. An error: nothing is, as the journal is another's.
  Status take_back(const Handover& handover);
  /// True: everything has ended, and what could be kept is kept, or `stored` says why not.
  bool leave_in_store(Status& stored);
  /// After the engine's end: disks whose close failed do not go on, nor do their clients.
  void leave_out_unclosed(Handover& handover);
  Status resume_stored(const Handover& handover);
  /// The next start must not find it; with what there is to say of it.
  void forget_stored();
  Status stop(StopSignals& signals);
  /// Does it on a thread of its own. The request to stop was made at `asked`, or is made by the
  /// first signal meanwhile, which is returned; another one ends the process at once.
  std::optional<int> interruptibly(StopSignals& signals,
                                   std::optional<std::chrono::steady_clock::time_point> asked,
                                   const std::function<void()>& work);
  /// Ends the process if its daemon had to give something up, which `closed` says.
  void leave_if_given_up(const Status& closed);
  [[noreturn]] void leave(const Status& closed);

  StateDirLock lock_;
  DaemonOptions options_;
  std::atomic<bool> handover_requested_ = false;
  bool left_behind_ = false;  ///< an engine that was handed over; its threads may hang still
  Log log_;
  std::unique_ptr<Daemon> daemon_;
  std::unique_ptr<ControlServer> server_;
  std::unique_ptr<MetricsServer> metrics_;
};

}  // namespace blockmig
