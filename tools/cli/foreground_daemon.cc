// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/foreground_daemon.h"

#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <utility>

#include "tools/cli/fd_store.h"
#include "tools/control/exit_code.h"

namespace blockmig {
namespace {

constexpr Duration kStopPoll = std::chrono::milliseconds(20);
constexpr int kSignalExitBase = 128;
/// One request to stop may be several signals: timeout(1) sends its own to the child and to the
/// group, a terminal's Ctrl-C comes beside that of who has started us.
constexpr Duration kOneRequest = std::chrono::seconds(1);

/// A client is a descriptor. Programs that use select() need the soft limit low; we do not.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

/// Large allocations go back to the kernel when they are freed. By default the C library raises its
/// threshold for that with the first one freed, and later ones leave holes of megabytes in the heap
/// of every thread that it does not give back, more with every move.
void keep_heaps_small() {
#ifdef __GLIBC__
  (void)::mallopt(M_MMAP_THRESHOLD, 128 * 1024);
#endif
}

}  // namespace

Result<DaemonOptions> daemon_options(const ProcessSettings& settings,
                                     const std::string& state_dir) {
  DaemonOptions options;
  options.state_dir = state_dir;
  options.loop = settings.loop;
  options.threads = settings.threads;
  options.metrics = settings.metrics;
  options.bwlimit_bytes_per_second = settings.bwlimit_bytes_per_second;
  options.stop_timeout = settings.stop_timeout;
  options.log_level = settings.log_level;
  options.limits = settings.limits;
  options.peers = settings.peers;
  options.unix_sockets = settings.unix_sockets;
  const auto security = make_nbd_security(settings.security);
  if (!security) return security.error();
  options.security = *security;
  auto sockets = take_activated_sockets();
  if (!sockets) return sockets.error();
  options.stored = take_stored_handover(*sockets);
  options.use_fd_store = settings.fd_store;
  options.inherited = std::make_shared<InheritedClients>();
  options.inherited->sockets = *std::move(sockets);
  for (const InheritedSocket& socket : options.inherited->sockets) {
    // Clients must never get what looks like the control socket to whoever set it up.
    if (socket.name != "control") continue;
    return Error(ErrorCode::kInvalid,
                 "socket activation: descriptor " + std::to_string(socket.fd.get()) +
                     " is named 'control': the control socket is always our own");
  }
  if (settings.stdio) {
    auto streams = take_standard_streams();
    if (!streams) return streams.error();
    options.inherited->stdio = *std::move(streams);
  }
  raise_descriptor_limit();
  keep_heaps_small();
  return options;
}

Result<std::unique_ptr<ForegroundDaemon>> ForegroundDaemon::start(const DaemonOptions& options,
                                                                  LogForm log) {
  const Status path_fits = check_socket_path(control_socket_path(options.state_dir));
  if (!path_fits) return path_fits.error();
  Result<StateDirLock> lock = StateDirLock::acquire(options.state_dir);
  if (!lock) return lock.error();
  std::unique_ptr<ForegroundDaemon> daemon(new ForegroundDaemon(*std::move(lock), options, log));
  const bool resumes = options.stored.handover != nullptr;
  if (resumes) {
    daemon->options_.listen.clear();  // the listeners come along
    daemon->options_.restore = false;
  } else {
    daemon->forget_stored();
  }
  const Status engine = daemon->start_engine();
  if (!engine) return engine.error();
  if (resumes) {
    const Status resumed = daemon->resume_stored(*options.stored.handover);
    if (!resumed) return resumed.error();
    options.stored.handover->sockets.clear();  // whoever is cut must see the end of its connection
  }
  const Status servers = daemon->start_servers();
  if (!servers) return servers.error();
  daemon->log_.info("daemon started, state folder " + options.state_dir);
  return daemon;
}

void ForegroundDaemon::check_fd_store() {
  if (!options_.use_fd_store || has_service_manager()) return;
  options_.use_fd_store = false;
  log_.warning(
      "--fd-store: no service manager started this (NOTIFY_SOCKET), and an end keeps no clients: "
      "as without the option");
}

Status ForegroundDaemon::start_engine() {
  check_fd_store();
  options_.on_handover_request = [this] {
    handover_requested_.store(true);
    StopSignals::raise();
  };
  Result<std::unique_ptr<Daemon>> engine =
      Daemon::start(options_, log_, [] { StopSignals::raise(); });
  if (!engine) return engine.error();
  daemon_ = *std::move(engine);
  return {};
}

Status ForegroundDaemon::resume_stored(const Handover& handover) {
  const Status disks = daemon_->resume_disks(handover, ResumedDisks::kOpenable);
  if (!disks) return disks.error().with_context("what was stored by the daemon before");
  forget_stored();  // from their next request on they are not what was stored
  const Status clients = daemon_->resume_clients(handover);
  if (!clients) log_.error(clients.error().message());
  return {};
}

void ForegroundDaemon::forget_stored() {
  if (!options_.stored.complaint.empty()) log_.error(options_.stored.complaint);
  const Status forgotten = forget_stored_handover(options_.stored);
  if (!forgotten) log_.warning(forgotten.error().message());
}

bool ForegroundDaemon::leave_in_store(Status& stored) {
  stop_servers();  // before guests wait; an end that keeps nobody goes on without them too
  const Status reachable = tell_of_end();
  if (!reachable) {
    log_.error("clients are not kept: " + reachable.error().message());
    return false;
  }
  Result<Handover> handover = daemon_->park(kParkPatience, Stragglers::kCut);
  if (!handover) {
    log_.warning("clients are not kept: " + handover.error().message());
    return false;
  }
  const Status closed = daemon_->stop();
  if (!closed) log_.error("not all closed in order: " + closed.error().message());
  leave_out_unclosed(*handover);
  stored = store_handover(*handover);
  if (!stored) {
    drop_handover(*handover);
    log_.error("clients are cut, and not kept: " + stored.error().message());
    stored = Error(ErrorCode::kIo, stored.error().message());  // whatever was in the way
  }
  if (stored.ok()) log_.info("stopped, clients wait for the next start");
  const Status& first = stored.ok() ? closed : stored;
  if (daemon_->left_behind()) leave(first);
  leave_if_given_up(first);
  return true;
}

/// A flush on a connection that goes on would be told that all is durable.
void ForegroundDaemon::leave_out_unclosed(Handover& handover) {
  leave_out(handover, daemon_->unclosed());
  for (const std::string& disk : daemon_->unclosed()) {
    log_.error("its store did not close in order, and its clients are cut: they must hear of it",
               {disk, "", 0});
  }
}

Status ForegroundDaemon::start_servers() {
  auto server = ControlServer::start(control_socket_path(options_.state_dir), *daemon_);
  if (!server) return server.error();
  server_ = *std::move(server);
  return serve_metrics();
}

void ForegroundDaemon::stop_servers() {
  metrics_.reset();  // they hand requests to the daemon
  server_.reset();
}

ForegroundDaemon::~ForegroundDaemon() { stop_servers(); }

Status ForegroundDaemon::serve_metrics() {
  if (!options_.metrics) return {};
  const SocketAddress& address = *options_.metrics;
  auto server = MetricsServer::start(address.host, address.port, *daemon_);
  if (!server) return server.error();
  metrics_ = *std::move(server);
  options_.metrics->port = metrics_->port();  // where it is looked for if it is started again
  log_.info("answering scrapes on " + options_.metrics->to_string());
  return {};
}

Status ForegroundDaemon::run_until_stopped(StopSignals& signals) {
  std::optional<int> first;
  for (;;) {
    if (!first) first = signals.wait();
    if (!handover_requested_.exchange(false)) {
      log_.info("stopping (signal " + std::to_string(*first) + ")");
      return stop(signals);
    }
    bool handed_over = false;
    first =
        interruptibly(signals, std::nullopt, [this, &handed_over] { handed_over = hand_over(); });
    if (handed_over) return {};
    if (daemon_ == nullptr) {
      return Error(ErrorCode::kIo,
                   "the daemon could neither be handed over nor go on: see the log");
    }
  }
}

std::optional<int> ForegroundDaemon::interruptibly(
    StopSignals& signals, std::optional<std::chrono::steady_clock::time_point> asked,
    const std::function<void()>& work) {
  std::atomic<bool> ended = false;
  std::thread worker([&work, &ended] {
    work();
    ended.store(true);
  });
  std::optional<int> first;
  while (!ended.load()) {
    const std::optional<int> signal = signals.wait_for(kStopPoll);
    if (!signal) continue;
    const auto now = std::chrono::steady_clock::now();
    if (!asked) {
      first = signal;
      if (!handover_requested_.load()) asked = now;
    } else if (now - *asked >= kOneRequest) {
      log_.warning("stopping at once (second signal)");
      (void)log_.flush();
      _exit(kSignalExitBase + *signal);
    }
  }
  worker.join();
  return first;
}

Status ForegroundDaemon::stop(StopSignals& signals) {
  Status closed;
  Status stored;
  bool kept = false;
  (void)interruptibly(signals, std::chrono::steady_clock::now(), [this, &kept, &closed, &stored] {
    kept = options_.use_fd_store && leave_in_store(stored);
    if (kept) return;
    stop_servers();
    closed = daemon_->stop();
  });
  if (kept) return stored;
  if (closed.ok()) {
    log_.info("stopped");
  } else {
    log_.error("stopped, but not all closed in order: " + closed.error().message());
  }
  leave_if_given_up(closed);
  if (left_behind_) leave(closed);
  return closed;
}

void ForegroundDaemon::leave_if_given_up(const Status& closed) {
  if (daemon_->gave_up()) leave(closed);
}

/// A thread that the kernel does not let go keeps the process, and with it what is open here: the
/// next daemon must not wait for the locks of this one.
void ForegroundDaemon::leave(const Status& closed) {
  (void)log_.flush();
  ::close_range(STDERR_FILENO + 1, ~0U, 0);
  _exit(static_cast<int>(closed.ok() ? ExitCode::kOk : exit_code_of(closed.error())));
}

}  // namespace blockmig
