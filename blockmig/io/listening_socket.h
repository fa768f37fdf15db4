// SPDX-License-Identifier: Apache-2.0
// Opening a listening socket, of every family, and what is at the path of one. For this folder's
// listeners, and for who polls in a thread of its own. Thread rule: any thread.
#pragma once

#include <sys/types.h>

#include <string>

#include "blockmig/base/error.h"
#include "blockmig/io/stream.h"
#include "blockmig/io/unique_fd.h"

namespace blockmig {

/// Which file a path names, so that a file of somebody else at the same path is never removed.
struct FileIdentity {
  dev_t device = 0;
  ino_t inode = 0;
  bool is_socket = false;
  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

/// All zero if there is none.
FileIdentity identify_file(const std::string& path);

/// Gives the socket file at `address` its group and mode, where they are asked for. At no moment
/// may anybody connect who may neither before nor afterwards. kBusy: it is not the file `is`, or no
/// socket; then nothing is changed.
Status set_socket_access(const SocketAddress& address, const UnixSocketOptions& options,
                         const FileIdentity& is);

/// Bound, listening, non-blocking, tuned. Errors as listen_on().
Result<UniqueFd> open_listening_socket(const SocketAddress& address,
                                       const UnixSocketOptions& options);

}  // namespace blockmig
