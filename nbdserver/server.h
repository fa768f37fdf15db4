// SPDX-License-Identifier: Apache-2.0
// NbdServer: accepts connections and runs one NbdSession on each.
//
// Lifecycle: create, listen() any number of times, then stop(): no new connections, sessions finish
// what is in flight, answer what they can and close; after a grace time the rest is cut. Hostile
// input closes that connection only. Thread rule: one loop.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "blockmig/base/error.h"
#include "blockmig/io/io_loop.h"
#include "blockmig/io/stream.h"
#include "blockmig/io/task.h"
#include "nbdserver/export.h"

namespace blockmig {

struct NbdServerLimits {
  std::uint32_t max_connections = 16384;
  Duration handshake_timeout = std::chrono::seconds(10);  ///< I16
  std::uint32_t max_handshake_bytes = 64 * 1024;          ///< I16, before transmission
  std::uint32_t max_options = 128;                        ///< per connection
  std::uint32_t max_request_bytes = 64u << 20;            ///< payload of one WRITE
  std::uint32_t advertised_max_bytes = 32u << 20;         ///< NBD_INFO_BLOCK_SIZE maximum
  std::uint32_t max_in_flight_requests = 1024;            ///< per connection
  std::uint64_t max_in_flight_bytes = 128u << 20;         ///< per connection
};

/// One connected client, for `blockmig ls clients` and status.
struct NbdClientInfo {
  std::uint64_t id = 0;
  std::string peer;
  std::string export_name;  ///< empty during the handshake
  std::uint64_t requests = 0;
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
  std::uint32_t in_flight = 0;
};

class NbdServer {
 public:
  virtual ~NbdServer() = default;

  virtual Status listen(const SocketAddress& address) = 0;
  /// With the ports that the kernel picked.
  virtual std::vector<SocketAddress> addresses() const = 0;
  /// Serves one client on an open connection (socket activation, --stdio, tests); returns when it
  /// left.
  virtual Task<void> serve_stream(std::unique_ptr<Stream> stream) = 0;
  virtual std::vector<NbdClientInfo> clients() const = 0;
  /// Cuts one client; kNotFound if it is gone.
  virtual Status disconnect(std::uint64_t client_id) = 0;
  /// Ends as described above; after `grace` the remaining connections are cut.
  virtual Task<void> stop(Duration grace) = 0;
};

/// `loop` for timers and streams; `directory` outlives the server.
std::unique_ptr<NbdServer> make_nbd_server(IoLoop& loop, ExportDirectory& directory,
                                           const NbdServerLimits& limits);

}  // namespace blockmig
