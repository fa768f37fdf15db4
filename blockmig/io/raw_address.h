// SPDX-License-Identifier: Apache-2.0
// RawAddress: a socket address as the kernel takes it, and the way from and to a SocketAddress.
// Thread rule: any thread.
#pragma once

#include <sys/socket.h>

#include <string>
#include <vector>

#include "blockmig/base/error.h"
#include "blockmig/io/stream.h"

namespace blockmig {

struct RawAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  int family() const { return storage.ss_family; }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

/// kInvalid if the path is empty or longer than the kernel takes.
Result<RawAddress> raw_unix_address(const std::string& path);
/// Never fails; whether there is vsock here shows when a socket is made.
RawAddress raw_vsock_address(std::uint32_t cid, std::uint32_t port);
/// A numeric host and port; kInvalid for a name. Never blocks.
Result<RawAddress> raw_numeric_address(const std::string& host, std::uint16_t port);
/// Every address of a host name, best first; kNotFound if there is none. May block for seconds.
Result<std::vector<RawAddress>> resolve_host(const std::string& host, std::uint16_t port);

SocketAddress to_socket_address(const RawAddress& raw);
/// Of a socket: its own address, or its peer's.
Result<RawAddress> local_address(int fd);
Result<RawAddress> peer_address(int fd);

}  // namespace blockmig
