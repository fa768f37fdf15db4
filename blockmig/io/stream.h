// SPDX-License-Identifier: Apache-2.0
// Stream: an ordered, reliable byte connection. Implementations: SocketStream (unix, TCP), and
// in-memory pipes for tests and the simulator; TLS wraps another Stream.
//
// One reader and one writer at a time, which may overlap. shutdown() may be called at any time by
// anybody on the loop: it ends both directions, and what waits returns kDisconnected (or 0 for a
// read). Thread rule: one loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "blockmig/base/bytes.h"
#include "blockmig/base/error.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task.h"

namespace blockmig {

class IoLoop;

class Stream {
 public:
  virtual ~Stream() = default;

  /// At least one byte, as many as are there; 0 at the end of the stream (and after shutdown()).
  virtual Task<Result<std::size_t>> read_some(MutableBytes into) = 0;
  /// What is there without waiting: 0 when nothing is; sets `*ended` at the end of the stream.
  virtual Result<std::size_t> try_read(MutableBytes into, bool* ended) = 0;
  /// Everything, gathered from `parts` in order; `parts` and what it points to stay valid until the
  /// task has finished. kDisconnected if the peer has gone, or after shutdown(). After a failure
  /// part of the bytes may have been sent: the connection is of no more use.
  virtual Task<Status> write_all(std::span<const ConstBytes> parts) = 0;
  virtual void shutdown() = 0;
  /// For logs and client lists: "unix:/run/x.sock", "tcp:127.0.0.1:4711".
  virtual std::string peer_name() const = 0;
};

/// Fills `into` whole; kDisconnected if the stream ends before.
Task<Status> read_exactly(Stream& stream, MutableBytes into);

/// Where to listen or to connect to.
struct SocketAddress {
  enum class Family { kUnix, kTcp };
  Family family = Family::kUnix;
  std::string path;        ///< unix
  std::string host;        ///< TCP: name or address; empty = any
  std::uint16_t port = 0;  ///< TCP; 0 = the kernel picks when listening

  /// "unix:PATH", "tcp:HOST:PORT", "tcp:[V6]:PORT", "tcp::PORT" for any address. kInvalid, saying
  /// why.
  static Result<SocketAddress> parse(const std::string& text);
  std::string to_string() const;
};

class Listener {
 public:
  virtual ~Listener() = default;
  /// The next connection; one caller at a time. Out of descriptors it waits for some: the
  /// connection stays in the kernel's queue meanwhile. kCancelled after close().
  virtual Task<Result<std::unique_ptr<Stream>>> accept() = 0;
  /// Refuses new connections, frees the address, removes the unix socket's file, ends accept().
  virtual void close() = 0;
  /// With the port that the kernel picked.
  virtual const SocketAddress& address() const = 0;
};

/// A stale unix socket file that nobody listens on is replaced; a live one is kBusy, as is a port
/// in use and a path that holds another kind of file. Blocks for the resolution of a host name.
Result<std::unique_ptr<Listener>> listen_on(IoLoop& loop, const SocketAddress& address);
/// kTimedOut, kDisconnected (nobody listens), kNotFound (no such path or host name); the message
/// names the address. Tries every address of a host name within the one timeout.
Task<Result<std::unique_ptr<Stream>>> connect_to(IoLoop& loop, const SocketAddress& address,
                                                 Duration timeout);
/// Takes ownership of a connected socket or one end of a socket pair, also when it fails.
Result<std::unique_ptr<Stream>> adopt_socket(IoLoop& loop, int fd);

}  // namespace blockmig
