// SPDX-License-Identifier: Apache-2.0
// SocketStream: a Stream over a connected, non-blocking stream socket.
//
// Every call first tries the system call on the spot; only what the kernel cannot take or give at
// once waits for the loop. Destroying it shuts the connection down, so that the peer sees the end
// at once. Thread rule: one loop.
#pragma once

#include <memory>
#include <string>

#include "blockmig/io/io_loop.h"
#include "blockmig/io/stream.h"
#include "blockmig/io/unique_fd.h"

namespace blockmig {

struct RawAddress;

class SocketStream final : public Stream {
 public:
  /// `socket` is connected, non-blocking and tuned.
  SocketStream(IoLoop& loop, UniqueFd socket, std::string peer_name);
  ~SocketStream() override;

  Task<Result<std::size_t>> read_some(MutableBytes into) override;
  Result<std::size_t> try_read(MutableBytes into, bool* ended) override;
  Task<Status> write_all(std::span<const ConstBytes> parts) override;
  std::size_t try_write(std::span<const ConstBytes> parts) override;
  bool works_in_place() const override { return true; }
  std::size_t available() override;
  bool peer_has_ended() const override;
  bool peer_is_gone() const override;
  void set_keepalive(Duration silence) override;
  void shutdown() override;
  std::string peer_name() const override { return peer_name_; }
  StreamPeer peer() const override;
  bool detach() override;
  void attach(IoLoop& loop) override;
  bool can_release() const override { return true; }
  void end_reading() override;
  int release() override;

 protected:
  bool begin_wait(std::coroutine_handle<> waiter) override;
  Status end_wait() override;

 private:
  UniqueFd socket_;
  std::unique_ptr<FdWatch> watch_;
  std::string peer_name_;
  bool shut_ = false;
  bool reading_ended_ = false;
};

/// Options of a connection or (they are inherited) a listener: keepalive and no delay on TCP,
/// larger buffers on unix sockets. What the kernel refuses is left as it is.
void tune_socket(int fd, int family);
/// The same of a connection to `peer`, and what only a known peer allows: over the loopback nothing
/// is paced.
void tune_connection(int fd, const RawAddress& peer);

/// Of a descriptor that came from outside: it must be a stream socket, and becomes non-blocking and
/// close-on-exec. kInvalid, naming it.
Status prepare_adopted(int fd);

}  // namespace blockmig
