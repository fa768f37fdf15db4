// SPDX-License-Identifier: Apache-2.0
// Daemon: everything that one blockmigd consists of, wired together.
//
// A thread of its own runs the loop and, on it, journal, disks, NBD server and migrations (Engine);
// further threads (ServingThreads) have loops that serve clients only.
// Control requests come from other threads, are posted to the loop, and are answered within
// kControlPatience whatever the data plane does; GET /metrics within 100 ms (MetricsPage).
//
// Lifecycle: start(); stop() ends in order: no new control requests, migrations suspended before
// their decision, clients' requests finished, disks flushed and closed. The destructor stops.
// Thread rule: any thread; stop() once.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <semaphore>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "blockmig/io/io_loop.h"
#include "nbdserver/admission.h"
#include "nbdserver/limits.h"
#include "nbdserver/security.h"
#include "tools/control/channel.h"
#include "tools/daemon/handover.h"
#include "tools/daemon/inherited_clients.h"
#include "tools/daemon/log.h"
#include "tools/daemon/metrics_page.h"

namespace blockmig {

inline constexpr Duration kControlPatience = std::chrono::seconds(5);

inline constexpr unsigned kMaxAutomaticThreads = 4;

struct DaemonOptions {
  std::string state_dir;
  /// "unix:PATH", "tcp:HOST:PORT"; listened on at once.
  std::vector<std::string> listen;
  /// The same, but after a handover, beside the listeners that come with it.
  std::vector<std::string> listen_besides;
  LoopKind loop = LoopKind::kAuto;
  /// Loops that clients are served on, each on a thread of its own; 0 = one per processor that this
  /// process may use, at most kMaxAutomaticThreads.
  unsigned threads = 0;
  NbdServerLimits limits;
  PeerRules peers;
  UnixSocketOptions unix_sockets;
  std::shared_ptr<const NbdSecurity> security;  ///< null: no TLS, every export for everybody
  /// TCP: where scrapes are answered beside the control socket; for whoever owns the sockets.
  std::optional<SocketAddress> metrics;
  /// What the copiers of all jobs may do together; 0: no limit. Empty: what was last set.
  std::optional<std::uint64_t> bwlimit_bytes_per_second;
  /// How long an end in order waits for stores before it gives up what they have not answered.
  Duration stop_timeout = std::chrono::seconds(30);
  LogLevel log_level = LogLevel::kInfo;  ///< for whoever makes the log
  /// What open_inherited() serves; null: nothing. With it the default socket is not opened.
  std::shared_ptr<InheritedClients> inherited;
  /// What the daemon before has left with the service manager.
  StoredHandover stored;
  /// Leave everything there at the end, for the next start.
  bool use_fd_store = false;
  /// Another daemon wants to take this one's place, and waits at handover_socket_path(). On the
  /// loop; must not block. Null: there is no taking over.
  std::function<void()> on_handover_request;
  /// Serves again what the daemon before served, but not these, which the caller will serve.
  bool restore = false;
  std::vector<std::string> restore_except;
  /// Nothing survives the process and nobody connects: for a one-shot copy.
  bool private_journal = false;
};

class Engine;

class Daemon final : public ControlHandler {
 public:
  /// `on_stop_request` is called on the loop when a client asks the daemon to end; it must not
  /// block. The caller holds the state folder's lock. `log` outlives the daemon.
  static Result<std::unique_ptr<Daemon>> start(const DaemonOptions& options, Log& log,
                                               std::function<void()> on_stop_request);
  ~Daemon() override;
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  ControlResponse handle(const ControlRequest& request) override;
  /// Serves what the process was started with; the end of the client on standard input and output
  /// is a request to stop. Once, when the disks are there. The first error.
  Status open_inherited();
  /// What all jobs may copy together now; 0: no limit. Before stop().
  std::uint64_t bwlimit();
  /// As Engine's. After a successful park() only stop() is left.
  Result<Handover> park(Duration patience, Stragglers stragglers);
  Status check_successor(Duration patience);
  Status resume_disks(const Handover& handover, ResumedDisks which);
  Status resume_clients(const Handover& handover);
  Status serve_wanted(const std::vector<ServeRequest>& disks, bool alone);
  /// The first error of closing a disk, if any. Ends by --stop-timeout, whatever hangs.
  Status stop();
  /// After stop(), which has said what: something hangs still, in threads that cannot be ended. The
  /// process is to leave by _exit().
  bool gave_up() const { return gave_up_; }
  /// After stop(), as Engine's.
  const std::set<std::string>& unclosed() const { return unclosed_; }
  /// As gave_up(), after a park(), but another daemon can open everything: the journal and the
  /// disks are let go of, and what hangs is none of theirs.
  bool left_behind() const { return left_behind_; }

 private:
  struct Startup;
  Daemon() = default;
  void run(const DaemonOptions& options, Log& log, std::function<void()> on_stop_request,
           Startup& startup);
  /// What is done on the loop, and what it says; blocks.
  template <typename T>
  T ask_on_loop(std::function<T(Engine&)> ask);
  template <typename T>
  T await_on_loop(std::function<Task<T>(Engine&)> begin);

  std::thread thread_;
  std::atomic<bool> stopping_ = false;
  std::binary_semaphore ended_{0};  ///< the loop has
  bool gave_up_ = false;
  bool left_behind_ = false;
  std::binary_semaphore end_posted_{0};  ///< the loop must outlive the post() that ends it
  IoLoop* loop_ = nullptr;               ///< owned by the thread's frame
  Engine* engine_ = nullptr;             ///< the same; used on the loop only
  std::unique_ptr<MetricsPage> metrics_;
  Status closed_;
  std::set<std::string> unclosed_;
};

}  // namespace blockmig
