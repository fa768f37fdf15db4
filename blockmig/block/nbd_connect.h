// SPDX-License-Identifier: Apache-2.0
// Connecting to an NBD server: name lookup, connect, handshake. Blocks, with a deadline (libnbd's
// name lookup cannot be made asynchronous, and may try several addresses): runs on a blocking
// thread. For this folder's .cc files: libnbd.h stays behind this wall.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "blockmig/base/error.h"
#include "blockmig/block/nbd_device.h"
#include "blockmig/block/store_identity.h"

struct nbd_handle;

namespace blockmig {

struct CloseNbdHandle {
  void operator()(nbd_handle* handle) const;
};
/// Closes the socket when destroyed, without a word to the server.
using NbdHandle = std::unique_ptr<nbd_handle, CloseNbdHandle>;

/// What the server said of the export; the same on every connection to it.
struct NbdFacts {
  std::uint64_t size_bytes = 0;
  std::uint32_t min_block_bytes = 1;
  std::uint32_t preferred_block_bytes = 4096;
  std::uint32_t max_payload_bytes = 32u << 20;
  bool read_only = false;
  bool can_flush = false;
  bool can_fua = false;
  bool can_trim = false;
  bool can_zero = false;
  bool can_fast_zero = false;
  bool can_multi_conn = false;
  bool has_allocation = false;  ///< base:allocation was negotiated
  friend bool operator==(const NbdFacts&, const NbdFacts&) = default;
};

/// Handles in the ready state: one, or more where the server lets them be one.
struct NbdOpened {
  std::vector<NbdHandle> handles;
  NbdFacts facts;
  Identities identities;
};
/// Errors as open_nbd_device().
Result<NbdOpened> connect_nbd(const std::string& uri, const NbdDeviceOptions& options);
/// Without entering the export.
Result<Identities> ask_nbd(const std::string& uri, TimePoint deadline);

}  // namespace blockmig
