// SPDX-License-Identifier: Apache-2.0
// The state folder of a daemon: where it is, that it is ours alone, and what lies in it.
//
//   journal/       RocksDB
//   control.sock   HTTP control socket, mode 0600
//   nbd.sock       NBD, where nothing else was asked for
//   handover.sock  while one daemon takes the place of another
//   handover.lock  held by the one that does
//   lock           held by the daemon for its whole life; holds its process id
//
// Any thread; blocks. For the start and the end of a process.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "blockmig/base/error.h"
#include "blockmig/io/unique_fd.h"

namespace blockmig {

/// What the choice of the folder depends on; from_process() reads the real ones.
struct StateDirEnvironment {
  std::optional<std::string> xdg_state_home;
  std::optional<std::string> home;
  bool root = false;

  static StateDirEnvironment from_process();
};

/// --state-dir, else $XDG_STATE_HOME/blockmig, else /var/lib/blockmig for root, else
/// ~/.local/state/blockmig. Absolute. A relative XDG_STATE_HOME is ignored, as the XDG Base
/// Directory Specification says. kNotFound: no home folder is known.
Result<std::string> resolve_state_dir(const std::string& from_option,
                                      const StateDirEnvironment& environment);

std::string control_socket_path(const std::string& state_dir);
std::string nbd_socket_path(const std::string& state_dir);
std::string journal_path(const std::string& state_dir);
/// Where a daemon waits for the one whose place it takes.
std::string handover_socket_path(const std::string& state_dir);
/// For the one daemon that may wait there, as long as the descriptor is open. kBusy: another does.
/// kNotFound: there is no such folder.
Result<UniqueFd> lock_handover(const std::string& state_dir);

/// kPrecondition if a unix socket cannot have this path (too long), saying how long it may be.
Status check_socket_path(const std::string& path);

/// Whether a process holds it (StateDirLock): a daemon that runs, starts, ends or hands over.
bool state_dir_is_held(const std::string& state_dir);

/// Holds a state folder: at most one process does (I3). Released by destruction, and by the kernel
/// when the process dies.
class StateDirLock final {
 public:
  /// Creates the folder (0700) if needed. kBusy: another process has it, named.
  static Result<StateDirLock> acquire(const std::string& state_dir);
  /// The lock that another process holds too, and has passed on: it stays locked as long as one of
  /// them has it.
  static Result<StateDirLock> adopt(UniqueFd lock);
  const UniqueFd& descriptor() const { return fd_; }

 private:
  Status sign() const;
  explicit StateDirLock(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace blockmig
