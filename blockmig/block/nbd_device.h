// SPDX-License-Identifier: Apache-2.0
// NbdDevice: an export of any NBD server, through libnbd's asynchronous API on the loop.
//
// Several connections where the server allows it (MULTI_CONN); a request goes to the least loaded
// one. A frozen server freezes only the requests sent to it. abandon() cuts the connections at
// once: what is in flight fails with kDisconnected, and what the server has read of it may still
// take effect. withdraw() waits for its answers. Thread rule: one loop.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "blockmig/block/block_device.h"
#include "blockmig/block/store_identity.h"
#include "blockmig/io/io_loop.h"

namespace blockmig {

struct NbdDeviceOptions {
  std::uint32_t connections = 4;  ///< at most; 1 if the server does not offer MULTI_CONN
  Duration connect_timeout = std::chrono::seconds(10);
  bool read_only = false;
};

/// `uri` in libnbd's grammar; it and `options` outlive the task. kDisconnected (unreachable, names
/// the URI), kNotFound (unknown export), kTimedOut, kReadOnly (a read-only export is opened for
/// writing), kInvalid (not such a URI), kProtocol (block sizes that make no sense). The first
/// connection that is lost ends the device: every later request is kDisconnected, until revive()
/// has connected all of them again to an export of the same size, block sizes and abilities.
/// flush() on a server that offers none is kNotSupported.
Task<Result<std::unique_ptr<BlockDevice>>> open_nbd_device(IoLoop& loop, const std::string& uri,
                                                           const NbdDeviceOptions& options);

/// What the export says it is now; none where there is no such export. Errors as above.
Task<Result<Identities>> ask_nbd_identities(IoLoop& loop, const std::string& uri, Duration timeout);

}  // namespace blockmig
