// SPDX-License-Identifier: Apache-2.0
// Stream: an ordered, reliable byte connection. Implementations: SocketStream (unix, TCP), and
// in-memory pipes for tests and the simulator; TLS wraps another Stream.
//
// One reader and one writer at a time, which may overlap. shutdown() may be called at any time by
// anybody on the loop: it ends both directions, and what waits returns kDisconnected (or 0 for a
// read). Thread rule: one loop.
#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "blockmig/base/bytes.h"
#include "blockmig/base/error.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task.h"

namespace blockmig {

class IoLoop;

/// Who a process is, as the kernel has noted it when it connected.
struct PeerCredentials {
  std::uint32_t uid = 0;
  std::vector<std::uint32_t> gids;  ///< its group first, then the others it is in
  std::int32_t pid = 0;
};

/// Who is at the other end, as far as the system itself knows.
struct StreamPeer {
  /// One text for everything that comes from one place: "uid:1000" behind a unix socket,
  /// "tcp:192.0.2.1", "vsock:3"; empty where nobody can say.
  std::string origin;
  std::optional<PeerCredentials> credentials;  ///< of unix sockets
};

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
  /// Sends what goes without waiting and returns how much that was, counted over `parts`: for last
  /// words, and for bytes that cannot stay where they are. 0 also where the stream cannot do it;
  /// not while a write_all() is under way. Once a part was begun its rest must follow next.
  virtual std::size_t try_write(std::span<const ConstBytes> parts) {
    (void)parts;
    return 0;
  }
  /// True if try_write(), readable() and available() work, so that bytes can go from and to where
  /// they belong in pieces of the caller's choice.
  virtual bool works_in_place() const { return false; }
  /// How many bytes try_read() would give now, or fewer.
  virtual std::size_t available() { return 0; }
  /// To be awaited: no task of its own, as most of what a server's many connections do is to wait.
  class Readable {
   public:
    explicit Readable(Stream& stream) : stream_(stream) {}
    bool await_ready() const { return false; }
    bool await_suspend(std::coroutine_handle<> waiter) { return stream_.begin_wait(waiter); }
    Status await_resume() { return stream_.end_wait(); }

   private:
    Stream& stream_;
  };
  /// Waits until more is available, or the end; what came before may end it early. Counts as
  /// reading.
  Readable readable() { return Readable(*this); }
  /// True once the peer sends no more, or after shutdown(), whatever is still unread: for work that
  /// only a client who waits for it wants. False also where the stream cannot tell.
  virtual bool peer_has_ended() const { return false; }
  /// True once nobody can be sent anything any more, or after shutdown(). False also where the
  /// stream cannot tell, as with most of TCP's closed connections.
  virtual bool peer_is_gone() const { return false; }
  virtual void shutdown() = 0;
  /// Of a TCP connection: after so long a silence (whole seconds) its other end is asked three
  /// times, a third of that apart, whether it is there; if not, the connection ends. Elsewhere
  /// nothing: the kernel knows.
  virtual void set_keepalive(Duration) {}
  /// Gives back what is kept to be faster next time; a read may be waiting. For now and then.
  virtual void release_idle_memory() {}
  /// For logs and client lists: "unix:/run/x.sock", "tcp:127.0.0.1:4711".
  virtual std::string peer_name() const = 0;
  /// Asks the system; a stream that wraps another one passes the question on.
  virtual StreamPeer peer() const { return {}; }
  /// Takes the stream off its loop, so that attach() can put it on another one; nobody may be
  /// reading or writing. False: it cannot be moved, and stays where it is.
  virtual bool detach() { return false; }
  /// On the new loop's thread, after detach(): it belongs to that loop from now on.
  virtual void attach(IoLoop&) {}

  // For handing the connection to another process.
  /// True if release() gives a descriptor that anybody could go on with.
  virtual bool can_release() const { return false; }
  /// A read that waits, and every later one, ends with kCancelled; what has not been read stays in
  /// the kernel. Writing goes on. Only where can_release().
  virtual void end_reading() {}
  /// The descriptor, which is the caller's now; the connection stays open. Last call; nobody may be
  /// reading or writing. Negative: it has none.
  virtual int release() { return -1; }

 protected:
  /// Of readable(): true if `waiter` will be resumed, through the loop; false if it need not wait.
  virtual bool begin_wait(std::coroutine_handle<> waiter) {
    (void)waiter;
    return false;
  }
  /// What has come of it.
  virtual Status end_wait() {
    return Error(ErrorCode::kNotSupported, peer_name() + ": cannot wait for bytes");
  }
};

/// Fills `into` whole; kDisconnected if the stream ends before.
Task<Status> read_exactly(Stream& stream, MutableBytes into);

/// Where to listen or to connect to.
struct SocketAddress {
  enum class Family { kUnix, kTcp, kVsock };
  static constexpr std::uint32_t kAnyCid = 0xffffffff;

  Family family = Family::kUnix;
  std::string path;              ///< unix; '@' first for an abstract name (activation only)
  std::string host;              ///< TCP: name or address; empty = any, IPv4 and IPv6
  std::uint16_t port = 0;        ///< TCP; 0 = the kernel picks when listening
  std::uint32_t cid = kAnyCid;   ///< vsock: 1 = this machine, 2 = the host, others are guests
  std::uint32_t vsock_port = 0;  ///< vsock; 0 = the kernel picks when listening

  /// "unix:PATH", "tcp:HOST:PORT", "tcp:[V6]:PORT", "tcp::PORT" for any address, "vsock:CID:PORT",
  /// "vsock::PORT" for any. kInvalid, saying why.
  static Result<SocketAddress> parse(const std::string& text);
  /// True for an abstract name, which nobody here can open.
  bool is_abstract() const { return family == Family::kUnix && path.starts_with('@'); }
  /// True if other machines may reach it: TCP, but not on 127.0.0.0/8, ::1 or "localhost".
  bool is_on_a_network() const;
  std::string to_string() const;
};

/// Of the file of a unix socket; they are in force before the first client can connect.
struct UnixSocketOptions {
  std::optional<std::uint32_t> mode;  ///< permission bits; else what the umask leaves
  std::optional<std::uint32_t> gid;   ///< else the process's
};

class Listener {
 public:
  virtual ~Listener() = default;
  /// The next connection; one caller at a time. Out of descriptors it waits for some: the
  /// connection stays in the kernel's queue meanwhile. kCancelled after close().
  virtual Task<Result<std::unique_ptr<Stream>>> accept() = 0;
  /// Refuses new connections, frees the address, removes the unix socket's file, ends accept().
  virtual void close() = 0;
  /// Ends accept(), and gives the descriptor away: who connects waits in its queue. As close(), but
  /// nothing is refused, freed or removed. Negative: it has none.
  virtual int release() { return -1; }
  /// True if the address, and the file of a unix socket, end with this listener.
  virtual bool owns_address() const { return true; }
  /// Changes group and mode of a unix socket's file that ends with this listener, where they are
  /// asked for; of any other nothing. kBusy: the file is another one.
  virtual Status set_access(const UnixSocketOptions&) { return {}; }
  /// With the port that the kernel picked.
  virtual const SocketAddress& address() const = 0;
  /// As it was asked for: a port that the kernel was to pick is 0.
  virtual const SocketAddress& asked() const { return address(); }
};

/// A stale unix socket file that nobody listens on is replaced; a live one is kBusy, as is a port
/// in use and a path that holds another kind of file. kNotSupported: no vsock here. After an error
/// no socket file is left. Blocks for the resolution of a host name, of which the best address is
/// taken.
Result<std::unique_ptr<Listener>> listen_on(IoLoop& loop, const SocketAddress& address,
                                            const UnixSocketOptions& options = {});
/// Takes ownership of a listening stream socket that somebody else has made and may go on using
/// (socket activation), also when it fails: closing the listener leaves its file and its queue
/// alone.
/// `owned`: nobody else goes on using it, so closing it ends it as if it had been made here.
/// `asked`: what it was made for, which the kernel does not know ("tcp::80", a host's name).
Result<std::unique_ptr<Listener>> adopt_listener(IoLoop& loop, int fd, bool owned = false,
                                                 const std::optional<SocketAddress>& asked = {});
/// kTimedOut, kDisconnected (nobody listens), kNotFound (no such path or host name); the message
/// names the address. Tries every address of a host name within the one timeout. For tests.
Task<Result<std::unique_ptr<Stream>>> connect_to(IoLoop& loop, const SocketAddress& address,
                                                 Duration timeout);
/// Takes ownership of a connected socket or one end of a socket pair, also when it fails.
Result<std::unique_ptr<Stream>> adopt_socket(IoLoop& loop, int fd);

}  // namespace blockmig
