// SPDX-License-Identifier: Apache-2.0
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "blockmig/io/cancel.h"
#include "blockmig/io/event.h"
#include "blockmig/io/io_loop.h"
#include "blockmig/io/raw_address.h"
#include "blockmig/io/socket_stream.h"
#include "blockmig/io/stream.h"
#include "blockmig/io/unique_fd.h"

namespace blockmig {
namespace {

/// How long to wait for a unix listener whose backlog is full before trying again.
constexpr Duration kBacklogPause = std::chrono::milliseconds(2);

/// So that no deadline overflows.
constexpr Duration kLongestTimeout = std::chrono::hours(24);

using RawAddresses = std::vector<RawAddress>;

Error timed_out(const std::string& what) {
  return Error(ErrorCode::kTimedOut, what + ": no answer in time");
}

RawAddresses only(const RawAddress& address) { return RawAddresses(1, address); }

/// A host name's addresses, off the loop. Shared with the thread, which may need longer than the
/// caller waits.
struct Resolution {
  explicit Resolution(EventLoop& loop) : finished(loop) {}
  Event finished;
  std::optional<Result<RawAddresses>> addresses;
};

Task<Result<RawAddresses>> resolve(IoLoop& loop, const SocketAddress& address, TimePoint deadline) {
  const auto numeric = raw_numeric_address(address.host, address.port);
  if (numeric) co_return only(*numeric);
  const auto resolution = std::make_shared<Resolution>(loop);
  loop.run_blocking(
      [resolution, host = address.host, port = address.port] {
        resolution->addresses.emplace(resolve_host(host, port));
      },
      [resolution] { resolution->finished.set(); });
  const bool in_time = co_await resolution->finished.wait_until(deadline);
  if (!in_time) co_return timed_out("resolve \"" + address.host + "\"");
  co_return std::move(*resolution->addresses);
}

Task<Result<RawAddresses>> find_addresses(IoLoop& loop, const SocketAddress& address,
                                          TimePoint deadline) {
  if (address.family == SocketAddress::Family::kTcp) {
    auto addresses = co_await resolve(loop, address, deadline);
    co_return addresses;
  }
  if (address.family == SocketAddress::Family::kVsock) {
    co_return only(raw_vsock_address(address.cid, address.vsock_port));
  }
  const auto raw = raw_unix_address(address.path);
  if (!raw) co_return raw.error();
  co_return only(*raw);
}

/// Waits for the outcome of a connect() under way; an errno.
Task<int> await_connected(IoLoop& loop, int fd, TimePoint deadline) {
  const std::unique_ptr<FdWatch> watch = loop.watch(fd);
  Timer timer(loop, [&watch] { watch->cancel(); });
  timer.arm(deadline);
  const bool in_time = co_await watch->writable();
  if (!in_time) co_return ETIMEDOUT;
  int failure = 0;
  socklen_t length = sizeof failure;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &length) != 0) co_return errno;
  co_return failure;
}

/// 0, or an errno; ETIMEDOUT once the deadline has passed.
Task<int> connect_socket(IoLoop& loop, int fd, const RawAddress& raw, TimePoint deadline) {
  for (;;) {
    if (::connect(fd, raw.get(), raw.length) == 0) co_return 0;
    const int failure = errno;
    if (failure == EINPROGRESS || failure == EINTR) {
      const int outcome = co_await await_connected(loop, fd, deadline);
      co_return outcome;
    }
    if (failure != EAGAIN) co_return failure;
    if (loop.now() >= deadline) co_return ETIMEDOUT;
    co_await sleep_for(loop, kBacklogPause);
  }
}

Error connect_error(int os_errno, const std::string& what) {
  if (os_errno == ETIMEDOUT) return timed_out(what);
  return Error::from_errno(os_errno, what);
}

}  // namespace

Task<Result<std::unique_ptr<Stream>>> connect_to(IoLoop& loop, const SocketAddress& address,
                                                 Duration timeout) {
  const TimePoint deadline = loop.now() + std::min(timeout, kLongestTimeout);
  const std::string name = address.to_string();
  const std::string what = "connect to " + name;
  const auto addresses = co_await find_addresses(loop, address, deadline);
  if (!addresses) co_return addresses.error().with_context(what);
  Error last(ErrorCode::kNotFound, what + ": no address");
  for (const RawAddress& raw : *addresses) {
    UniqueFd socket(::socket(raw.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    const int opened = socket ? 0 : errno;
    int failure = opened;
    if (socket) {
      tune_connection(socket.get(), raw);
      const int outcome = co_await connect_socket(loop, socket.get(), raw, deadline);
      failure = outcome;
    }
    if (failure == 0) {
      co_return std::unique_ptr<Stream>(
          std::make_unique<SocketStream>(loop, std::move(socket), name));
    }
    last = connect_error(failure, what);
    if (failure == ETIMEDOUT) break;
  }
  co_return last;
}

}  // namespace blockmig
