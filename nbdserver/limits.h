// SPDX-License-Identifier: Apache-2.0
// What the server allows its clients. limit_table.h has names, units and meanings.
#pragma once

#include <chrono>
#include <cstdint>

#include "blockmig/io/event_loop.h"

namespace blockmig {

struct NbdServerLimits {
  std::uint32_t max_connections = 16384;
  std::uint32_t max_connections_per_peer = 4096;          ///< of one user, host or guest
  Duration handshake_timeout = std::chrono::seconds(10);  ///< I16
  std::uint32_t max_handshake_bytes = 64 * 1024;          ///< I16, beside what is skipped
  std::uint32_t max_skipped_bytes = 32u << 20;            ///< payloads of refused options
  std::uint32_t max_options = 128;                        ///< per connection
  std::uint32_t max_option_bytes = 8448;                  ///< data of one known option
  std::uint32_t max_name_bytes = 4096;                    ///< of an export or context
  std::uint32_t max_listed_exports = 10000;               ///< LIST of more is refused
  std::uint32_t max_request_bytes = 64u << 20;            ///< payload of one WRITE
  std::uint32_t advertised_max_bytes = 32u << 20;         ///< NBD_INFO_BLOCK_SIZE maximum
  std::uint32_t max_in_flight_requests = 1024;            ///< per connection
  std::uint64_t max_in_flight_bytes = 128u << 20;         ///< per connection
  /// Over all connections together, beyond the little that each has for itself (MemoryBudget).
  std::uint64_t max_total_in_flight_bytes = std::uint64_t{1} << 30;
  /// How long a client may hold memory that others wait for without reading its replies or sending
  /// its payload.
  Duration stall_timeout = std::chrono::seconds(30);
  /// Silence of a TCP connection after which its other end is asked whether it is there.
  Duration keepalive_time = std::chrono::seconds(30);
};

}  // namespace blockmig
