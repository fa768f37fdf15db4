// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/nbd_connection.h"

#include <libnbd.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "blockmig/base/check.h"

namespace blockmig {
namespace {

// How long a server may take to close its side after our goodbye.
constexpr Duration kGoodbyeTimeout = std::chrono::seconds(1);
// Flags of base:allocation (NBD proto.md, "Metadata querying").
constexpr std::uint32_t kStateHole = 1;
constexpr std::uint32_t kStateZero = 2;

const char* verb_of(NbdCommand::Kind kind) {
  switch (kind) {
    case NbdCommand::Kind::kRead:
      return "read";
    case NbdCommand::Kind::kWrite:
      return "write";
    case NbdCommand::Kind::kFlush:
      return "flush";
    case NbdCommand::Kind::kTrim:
      return "trim";
    case NbdCommand::Kind::kZero:
      return "write zeroes";
    case NbdCommand::Kind::kBlockStatus:
      return "block status";
  }
  return "request";
}

}  // namespace

NbdCommand NbdCommand::take(std::uint64_t bytes) {
  NbdCommand part = *this;
  part.length = std::min(length, bytes);
  offset += part.length;
  length -= part.length;
  if (into != nullptr) into += part.length;
  if (from != nullptr) from += part.length;
  return part;
}

/// One request in flight; libnbd's callbacks get its address. Lives in execute()'s frame.
struct NbdConnection::Pending {
  Pending(NbdConnection& owner, const NbdCommand& command) : owner_(owner), command_(command) {
    place_ = owner_.pending_.insert(owner_.pending_.end(), this);
  }
  ~Pending() { owner_.pending_.erase(place_); }
  Pending(const Pending&) = delete;
  Pending& operator=(const Pending&) = delete;

  /// Inside a libnbd call: only notes the result and lets the loop resume the waiter.
  void finish(int os_errno) {
    if (done_) return;
    done_ = true;
    os_errno_ = os_errno;
    if (waiter_) owner_.loop_.defer(std::exchange(waiter_, {}));
  }

  static int on_completion(void* user, int* os_errno) {
    static_cast<Pending*>(user)->finish(*os_errno);
    return 1;  // libnbd forgets the command
  }
  static int on_chunk(void* user, const void*, std::size_t count, std::uint64_t, unsigned status,
                      int*) {
    if (status != LIBNBD_READ_ERROR) static_cast<Pending*>(user)->covered_ += count;
    return 0;
  }
  static int on_extents(void* user, const char* context, std::uint64_t offset,
                        std::uint32_t* entries, std::size_t count, int* os_errno) {
    if (std::strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0) return 0;
    return static_cast<Pending*>(user)->add_extents(offset, entries, count, os_errno);
  }
  int add_extents(std::uint64_t offset, const std::uint32_t* entries, std::size_t count,
                  int* os_errno) {
    for (std::size_t i = 0; i + 1 < count; i += 2) {
      if (entries[i] == 0) {
        *os_errno = EPROTO;
        return -1;
      }
      const std::uint32_t state = entries[i + 1];
      append_extent(*command_.extents, Extent{offset, entries[i], (state & kStateHole) != 0,
                                              (state & kStateZero) != 0});
      offset += entries[i];
    }
    return 0;
  }

  bool await_ready() const { return done_; }
  void await_suspend(std::coroutine_handle<> waiter) { waiter_ = waiter; }
  void await_resume() const {}

  NbdConnection& owner_;
  const NbdCommand& command_;
  std::coroutine_handle<> waiter_;
  std::uint64_t covered_ = 0;  ///< bytes that the server's answer to a read had
  int os_errno_ = 0;
  bool done_ = false;
  std::list<Pending*>::iterator place_;
};

NbdConnection::NbdConnection(IoLoop& loop, NbdHandle handle, const std::string& uri)
    : loop_(loop),
      handle_(std::move(handle)),
      uri_(uri),
      fd_(nbd_aio_get_fd(handle_.get())),
      watch_(loop.watch(fd_)),
      slots_(loop, kMaxInFlight),
      dead_(loop),
      blocked_(loop) {
  pumps_.spawn(pump_readable());
  pumps_.spawn(pump_writable());
}

NbdConnection::~NbdConnection() { BM_CHECK(pumps_.running() == 0 && pending_.empty()); }

Task<Status> NbdConnection::execute(NbdCommand command) {
  ++load_;
  co_await slots_.acquire(1);
  Status result;
  if (death_) {
    result = *death_;
  } else if (withdrawn_) {
    result = Error(ErrorCode::kDisconnected, uri_ + ": given up");
  } else {
    Pending pending(*this, command);
    if (issue(command, pending) < 0) {
      const int os_errno = nbd_get_errno();
      last_error_ = nbd_get_error();
      result = Error(code_from_errno(os_errno), uri_ + ": " + last_error_, os_errno);
    } else {
      note_death();  // sending may have found it
      note_blocked();
      co_await pending;
      result = judge(command, pending);
    }
  }
  slots_.release(1);
  --load_;
  co_return result;
}

std::int64_t NbdConnection::issue(const NbdCommand& command, Pending& pending) {
  nbd_handle* const h = handle_.get();
  const nbd_completion_callback done = {
      .callback = Pending::on_completion, .user_data = &pending, .free = nullptr};
  const std::uint32_t fua = command.fua ? LIBNBD_CMD_FLAG_FUA : 0;
  switch (command.kind) {
    case NbdCommand::Kind::kRead: {
      const nbd_chunk_callback chunk = {
          .callback = Pending::on_chunk, .user_data = &pending, .free = nullptr};
      return nbd_aio_pread_structured(h, command.into, command.length, command.offset, chunk, done,
                                      0);
    }
    case NbdCommand::Kind::kWrite:
      return nbd_aio_pwrite(h, command.from, command.length, command.offset, done, fua);
    case NbdCommand::Kind::kFlush:
      return nbd_aio_flush(h, done, 0);
    case NbdCommand::Kind::kTrim:
      return nbd_aio_trim(h, command.length, command.offset, done, fua);
    case NbdCommand::Kind::kZero:
      return nbd_aio_zero(h, command.length, command.offset, done,
                          fua | (command.no_hole ? LIBNBD_CMD_FLAG_NO_HOLE : 0) |
                              (command.fast ? LIBNBD_CMD_FLAG_FAST_ZERO : 0));
    case NbdCommand::Kind::kBlockStatus: {
      const nbd_extent_callback extent = {
          .callback = Pending::on_extents, .user_data = &pending, .free = nullptr};
      return nbd_aio_block_status(h, command.length, command.offset, extent, done, 0);
    }
  }
  return -1;
}

Status NbdConnection::judge(const NbdCommand& command, const Pending& pending) const {
  if (pending.os_errno_ == 0) {
    if (command.kind != NbdCommand::Kind::kRead || pending.covered_ == command.length) return {};
    return Error(ErrorCode::kProtocol, uri_ + ": read at " + std::to_string(command.offset) +
                                           ": the server answered with part of the data");
  }
  const std::string what = std::string(verb_of(command.kind)) + " of " +
                           std::to_string(command.length) + " bytes at " +
                           std::to_string(command.offset);
  if (pending.os_errno_ == ENOTCONN && death_) return death_->with_context(what);
  return Error::from_errno(pending.os_errno_, uri_ + ": " + what);
}

void NbdConnection::progress() {
  while (!death_ && step()) {
    note_death();
  }
  note_blocked();
}

bool NbdConnection::wants_write() const {
  return (nbd_aio_get_direction(handle_.get()) & LIBNBD_AIO_DIRECTION_WRITE) != 0;
}

void NbdConnection::note_blocked() {
  if (!death_ && wants_write()) blocked_.pulse();
}

void NbdConnection::note_death() {
  nbd_handle* const h = handle_.get();
  if (death_ || (!nbd_aio_is_dead(h) && !nbd_aio_is_closed(h))) return;
  die(last_error_.empty() ? "the server closed the connection" : last_error_);
}

bool NbdConnection::step() {
  nbd_handle* const h = handle_.get();
  const unsigned direction = nbd_aio_get_direction(h);
  const bool wants_read = (direction & LIBNBD_AIO_DIRECTION_READ) != 0;
  const bool wants_write = (direction & LIBNBD_AIO_DIRECTION_WRITE) != 0;
  pollfd socket = {fd_, static_cast<short>((wants_read ? POLLIN : 0) | (wants_write ? POLLOUT : 0)),
                   0};
  if (direction == 0 || ::poll(&socket, 1, 0) <= 0) return false;
  const bool broken = (socket.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0;
  int result = 0;
  if (wants_read && ((socket.revents & POLLIN) != 0 || broken)) {
    result = nbd_aio_notify_read(h);
  } else if (wants_write && ((socket.revents & POLLOUT) != 0 || broken)) {
    result = nbd_aio_notify_write(h);
  } else {
    return false;
  }
  if (result != 0) last_error_ = nbd_get_error();
  return true;
}

void NbdConnection::die(const std::string& reason) {
  if (death_) return;
  death_ = Error(ErrorCode::kDisconnected, uri_ + ": connection lost: " + reason, ENOTCONN);
  // libnbd is not called any more until it is closed, so it touches no buffer of these.
  for (Pending* pending : pending_) pending->finish(ENOTCONN);
  watch_->cancel();
  dead_.set();
  blocked_.pulse();
}

void NbdConnection::cut() {
  if (death_) return;
  // TCP: dissolving the association resets it and drops what is still to be sent. Others: half a
  // word that the server has already got cannot be taken back, but nothing is added.
  sockaddr nobody = {};
  nobody.sa_family = AF_UNSPEC;
  sockaddr_storage own = {};
  socklen_t length = sizeof own;
  const bool named = ::getsockname(fd_, reinterpret_cast<sockaddr*>(&own), &length) == 0;
  if (named && (own.ss_family == AF_INET || own.ss_family == AF_INET6)) {
    (void)::connect(fd_, &nobody, sizeof nobody);
  }
  (void)::shutdown(fd_, SHUT_RDWR);
  die("abandoned");
}

Task<void> NbdConnection::close() {
  if (!death_) {
    if (nbd_aio_disconnect(handle_.get(), 0) == 0) {
      progress();
      co_await dead_.wait_until(loop_.now() + kGoodbyeTimeout);
    }
    cut();
  }
  co_await pumps_.join();
  watch_.reset();
  handle_.reset();
}

Task<void> NbdConnection::pump_readable() {
  while (!death_) {
    progress();
    if (death_) break;
    const bool go_on = co_await watch_->readable();
    if (!go_on) break;
  }
}

/// A socket is writable nearly always: only who has something to send may wait for it, or it would
/// keep the loop busy.
Task<void> NbdConnection::pump_writable() {
  while (!death_) {
    if (wants_write()) progress();
    if (death_) break;
    if (!wants_write()) {
      co_await blocked_.wait();
      continue;
    }
    const bool go_on = co_await watch_->writable();
    if (!go_on) break;
  }
}

}  // namespace blockmig
