// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/load_worker.h"

#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <limits>
#include <utility>

namespace blockmig::bench {
namespace {

constexpr std::uint64_t kForever = std::numeric_limits<std::uint64_t>::max();
constexpr std::size_t kEventsAtOnce = 256;
constexpr int kWaitMs = 100;
constexpr int kLooksPerClock = 16;
constexpr std::uint64_t kLongestNapNs = 100'000'000;

std::array<epoll_event, kEventsAtOnce>& events() {
  thread_local std::array<epoll_event, kEventsAtOnce> storage;
  return storage;
}

}  // namespace

LoadWorker::LoadWorker(const LoadOptions& options)
    : options_(options), buffer_(kLoadBufferBytes), epoll_fd_(::epoll_create1(EPOLL_CLOEXEC)) {}

LoadWorker::~LoadWorker() {
  connections_.clear();
  ::close(epoll_fd_);
}

Status LoadWorker::add(Connection connection, std::uint64_t seed) {
  if (options_.verify) {
    pattern_ = std::make_unique<BlockPattern>(connection.size_bytes / options_.block_bytes,
                                              options_.block_bytes);
  }
  connections_.push_back(std::make_unique<LoadConnection>(options_, std::move(connection), &totals_,
                                                          pattern_.get(), &buffer_, seed));
  watched_for_sending_.push_back(false);
  return {};
}

/// A single connection asks its socket: each message of the server would cost it a callback more.
Status LoadWorker::watch_all() {
  for (std::size_t i = 0; i < connections_.size(); ++i) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = i;
    if (::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, connections_[i]->fd(), &event) != 0) {
      return Error::from_errno(errno, "epoll_ctl");
    }
  }
  return {};
}

Status LoadWorker::run(std::uint64_t count_from_ns, std::uint64_t end_ns) {
  if (connections_.size() > 1) {
    if (Status s = watch_all(); !s) return s;
  }
  if (Status s = run_until(count_from_ns); !s) return s;
  totals_.counting = true;
  const std::uint64_t begin_ns = now_ns();
  totals_.recording = !options_.record_path.empty();
  totals_.record_begin_ns = begin_ns;
  const std::uint64_t begin_cpu_ns = thread_cpu_ns();
  if (Status s = run_until(end_ns); !s) return s;
  totals_.counting = false;
  counted_wall_ns_ = now_ns() - begin_ns;
  counted_cpu_ns_ = thread_cpu_ns() - begin_cpu_ns;
  for (auto& c : connections_) c->stop();
  if (Status s = run_until(kForever); !s || !pattern_) return s;
  for (auto& c : connections_) c->begin_read_back();
  return run_until(kForever);
}

Status LoadWorker::run_until(std::uint64_t end_ns) {
  return connections_.size() == 1 ? run_alone(end_ns) : run_several(end_ns);
}

/// Not while draining, which has no end but its own.
bool LoadWorker::interrupted(std::uint64_t end_ns) const {
  return end_ns != kForever && options_.interrupted != nullptr && options_.interrupted->load();
}

Status LoadWorker::run_alone(std::uint64_t end_ns) {
  LoadConnection& c = *connections_[0];
  while (!c.done() && now_ns() < end_ns && !interrupted(end_ns)) {
    c.send();
    if (c.done()) break;
    if (c.wants_to_send()) {  // the socket is full: wait for either direction
      pollfd either{c.fd(), POLLIN | POLLOUT, 0};
      (void)::poll(&either, 1, kWaitMs);
      (void)c.receive(false);
    } else if (options_.rate > 0) {
      // A reply, or the next request's turn.
      wait_for_turn(c, end_ns);
      (void)c.receive(false);
    } else if (options_.spin_us > 0) {
      receive_spinning(c, end_ns);
    } else {
      (void)c.receive(true);
    }
  }
  if (!c.fatal().empty()) return Error(ErrorCode::kDisconnected, c.fatal());
  return {};
}

/// Asks the socket itself: nothing is leaner, and the server's sends have nobody else to tell.
void LoadWorker::receive_spinning(LoadConnection& c, std::uint64_t end_ns) {
  const std::uint64_t until = std::min(now_ns() + std::uint64_t{options_.spin_us} * 1000, end_ns);
  do {
    for (int i = 0; i < kLooksPerClock; ++i) {
      if (c.receive(false) || !c.fatal().empty()) return;
    }
  } while (now_ns() < until);
  wait_for_turn(c, end_ns);
  (void)c.receive(false);
}

void LoadWorker::wait_for_turn(const LoadConnection& c, std::uint64_t end_ns) {
  const std::uint64_t now = now_ns();
  const std::uint64_t until = std::min(std::max(c.next_due_ns(), now), end_ns);
  pollfd ready{c.fd(), POLLIN, 0};
  const std::uint64_t to_turn_ns = until > now ? until - now : 0;  // past: it is its turn
  const std::uint64_t ns = c.has_room() ? to_turn_ns : kLongestNapNs;
  const timespec nap{static_cast<std::time_t>(ns / 1'000'000'000),
                     static_cast<long>(ns % 1'000'000'000)};
  (void)::ppoll(&ready, 1, &nap, nullptr);
}

Status LoadWorker::run_several(std::uint64_t end_ns) {
  done_ = 0;
  std::vector<bool> counted(connections_.size());
  const auto attend = [&](std::size_t i) -> Status {
    if (Status s = push(i); !s) return s;
    if (connections_[i]->done() && !counted[i]) {
      counted[i] = true;
      ++done_;
    }
    return {};
  };
  for (std::size_t i = 0; i < connections_.size(); ++i) {
    if (Status s = attend(i); !s) return s;
  }
  while (done_ < connections_.size() && now_ns() < end_ns && !interrupted(end_ns)) {
    const int ready = wait(end_ns);
    for (int e = 0; e < ready; ++e) {
      const epoll_event& event = events()[static_cast<std::size_t>(e)];
      const auto i = static_cast<std::size_t>(event.data.u64);
      if (event.events & ~static_cast<std::uint32_t>(EPOLLOUT))
        (void)connections_[i]->receive(false);
      if (Status s = attend(i); !s) return s;
    }
  }
  return {};
}

Status LoadWorker::push(std::size_t which) {
  LoadConnection& c = *connections_[which];
  if (c.fatal().empty()) c.send();
  if (!c.fatal().empty()) return Error(ErrorCode::kDisconnected, c.fatal());
  watch(which, c.wants_to_send());
  return {};
}

int LoadWorker::wait(std::uint64_t end_ns) {
  epoll_event* out = events().data();
  const std::uint64_t spin_end_ns =
      std::min(now_ns() + std::uint64_t{options_.spin_us} * 1000, end_ns);
  for (;;) {
    const bool spin = options_.spin_us > 0 && now_ns() < spin_end_ns;
    const int ready = ::epoll_wait(epoll_fd_, out, kEventsAtOnce, spin ? 0 : kWaitMs);
    if (ready != 0 || !spin) return ready;
  }
}

void LoadWorker::watch(std::size_t which, bool for_sending) {
  if (watched_for_sending_[which] == for_sending) return;
  watched_for_sending_[which] = for_sending;
  epoll_event event{};
  event.events = EPOLLIN | (for_sending ? static_cast<std::uint32_t>(EPOLLOUT) : 0u);
  event.data.u64 = which;
  ::epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, connections_[which]->fd(), &event);
}

}  // namespace blockmig::bench
