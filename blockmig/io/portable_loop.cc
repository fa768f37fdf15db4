// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/portable_loop.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/io/file_calls.h"
#include "blockmig/io/loop_base.h"
#include "blockmig/io/offload.h"
#include "blockmig/io/watch_table.h"

namespace blockmig {
namespace {

constexpr int kEventsPerPoll = 256;
constexpr std::uint64_t kWakeKey = UINT64_MAX;

class PortableWatch;

class PortableLoop final : public LoopBase {
 public:
  PortableLoop(const IoLoopOptions& options, UniqueFd wake, UniqueFd epoll)
      : LoopBase(options, std::move(wake)), epoll_(std::move(epoll)) {}
  ~PortableLoop() override { stop_threads(); }

  Status start();

  std::string_view name() const override { return "portable"; }
  std::unique_ptr<FdWatch> watch(int fd) override;
  Task<Result<std::size_t>> read_at(int fd, MutableBytes into, std::uint64_t offset) override;
  Task<Result<std::size_t>> write_at(int fd, ConstBytes from, std::uint64_t offset,
                                     bool durable) override;
  Task<Status> sync(int fd) override;
  Task<Status> allocate(int fd, AllocateMode mode, std::uint64_t offset,
                        std::uint64_t length) override;

 protected:
  void poll_io(std::optional<Duration> wait) override;
  bool io_ready() override {
    if (found_ == 0) look(Duration::zero());
    return found_ != 0;
  }

 private:
  friend class PortableWatch;
  /// Fills events_ up to found_.
  void look(std::optional<Duration> wait);
  int wait_for_events(std::optional<Duration> wait);

  UniqueFd epoll_;
  WatchTable<PortableWatch> watches_;
  std::array<epoll_event, kEventsPerPoll> events_;
  int found_ = 0;
  bool has_pwait2_ = true;
};

/// Edge-triggered. Every change of the registration reports again what is ready, so no edge is
/// lost.
class PortableWatch final : public FdWatch {
 public:
  PortableWatch(PortableLoop& loop, int fd)
      : loop_(loop), fd_(fd), key_(loop.watches_.add(*this)) {}

  ~PortableWatch() override {
    if (events_ != 0) ::epoll_ctl(loop_.epoll_.get(), EPOLL_CTL_DEL, fd_, nullptr);
    loop_.watches_.remove(key_);
  }

  void on_events(std::uint32_t events) {
    const bool broken = (events & (EPOLLERR | EPOLLHUP)) != 0;
    const bool in = (events & (EPOLLIN | EPOLLRDHUP)) != 0;
    const bool out = (events & EPOLLOUT) != 0;
    const bool unasked = out && !waited_for(1);
    signal(in || broken, out || broken);
    if (unasked) change(events_ & ~static_cast<std::uint32_t>(EPOLLOUT));
  }

 protected:
  void arm(int direction) override {
    const std::uint32_t wanted = direction == 0 ? EPOLLIN | EPOLLRDHUP : EPOLLOUT;
    if ((events_ & wanted) != wanted) change(events_ | wanted);
  }
  void wake(std::coroutine_handle<> waiter) override { loop_.defer(waiter); }

 private:
  void change(std::uint32_t events) {
    epoll_event event{};
    event.events = events | EPOLLET;
    event.data.u64 = key_;
    const int operation = events_ == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    if (::epoll_ctl(loop_.epoll_.get(), operation, fd_, &event) != 0) {
      cancel();
      return;
    }
    events_ = event.events;
  }

  PortableLoop& loop_;
  int fd_;
  std::uint64_t key_;
  std::uint32_t events_ = 0;  ///< registered; 0 = not at all
};

Status PortableLoop::start() {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  event.data.u64 = kWakeKey;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_fd(), &event) == 0) return {};
  return Error::from_errno(errno, "event loop: epoll_ctl");
}

void PortableLoop::poll_io(std::optional<Duration> wait) {
  if (found_ == 0) look(wait);
  const int count = std::exchange(found_, 0);
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events_[static_cast<std::size_t>(i)];
    if (event.data.u64 == kWakeKey) continue;
    if (PortableWatch* watch = watches_.find(event.data.u64)) watch->on_events(event.events);
  }
}

void PortableLoop::look(std::optional<Duration> wait) {
  const int count = wait_for_events(wait);
  BM_CHECK(count >= 0 || errno == EINTR);
  found_ = std::max(count, 0);
}

int PortableLoop::wait_for_events(std::optional<Duration> wait) {
  if (!wait) return ::epoll_wait(epoll_.get(), events_.data(), kEventsPerPoll, -1);
  if (*wait <= Duration::zero()) {
    return ::epoll_wait(epoll_.get(), events_.data(), kEventsPerPoll, 0);
  }
  if (has_pwait2_) {
    const auto seconds = std::chrono::floor<std::chrono::seconds>(*wait);
    const timespec timeout{seconds.count(), (*wait - seconds).count()};
    const int count =
        ::epoll_pwait2(epoll_.get(), events_.data(), kEventsPerPoll, &timeout, nullptr);
    if (count >= 0 || (errno != ENOSYS && errno != EPERM)) return count;
    has_pwait2_ = false;  // Linux before 5.11, or a sandbox that does not know the call
  }
  constexpr std::int64_t kLongest = 60'000;
  const auto rounded_up = std::chrono::ceil<std::chrono::milliseconds>(*wait).count();
  const int timeout_ms = static_cast<int>(std::min<std::int64_t>(rounded_up, kLongest));
  return ::epoll_wait(epoll_.get(), events_.data(), kEventsPerPoll, timeout_ms);
}

std::unique_ptr<FdWatch> PortableLoop::watch(int fd) {
  return std::make_unique<PortableWatch>(*this, fd);
}

Task<Result<std::size_t>> PortableLoop::read_at(int fd, MutableBytes into, std::uint64_t offset) {
  offload call(file_calls(), [fd, into, offset] { return read_fully(fd, into, offset); });
  auto result = co_await call;
  co_return result;
}

Task<Result<std::size_t>> PortableLoop::write_at(int fd, ConstBytes from, std::uint64_t offset,
                                                 bool durable) {
  offload call(file_calls(),
               [fd, from, offset, durable] { return write_fully(fd, from, offset, durable); });
  auto result = co_await call;
  co_return result;
}

Task<Status> PortableLoop::sync(int fd) {
  offload call(file_calls(), [fd] { return sync_data(fd); });
  auto result = co_await call;
  co_return result;
}

Task<Status> PortableLoop::allocate(int fd, AllocateMode mode, std::uint64_t offset,
                                    std::uint64_t length) {
  offload call(file_calls(), [=] { return allocate_range(fd, mode, offset, length); });
  auto result = co_await call;
  co_return result;
}

}  // namespace

Result<std::unique_ptr<IoLoop>> make_portable_loop(const IoLoopOptions& options) {
  auto wake = make_wake_fd();
  if (!wake) return wake.error();
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return Error::from_errno(errno, "event loop: epoll_create1");
  auto loop = std::make_unique<PortableLoop>(options, std::move(*wake), std::move(epoll));
  const Status started = loop->start();
  if (!started) return started.error();
  return std::unique_ptr<IoLoop>(std::move(loop));
}

}  // namespace blockmig
