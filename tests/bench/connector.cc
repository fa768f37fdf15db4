// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/connector.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <utility>

#include "tests/bench/latency.h"

namespace blockmig::bench {
namespace {
constexpr int kTimeoutSeconds = 60;
}

Connector::Connector(const Endpoint& endpoint)
    : endpoint_(endpoint),
      event_fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      thread_([this] { run(); }) {}

Connector::~Connector() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
  for (auto& o : done_) {
    if (o->connection) ::close(o->connection->fd);
  }
  ::close(event_fd_);
}

void Connector::request() {
  ++pending_;
  const std::lock_guard lock(mutex_);
  ++wanted_;
  wake_.notify_one();
}

std::unique_ptr<Connector::Outcome> Connector::take() {
  std::uint64_t count = 0;
  (void)!::read(event_fd_, &count, sizeof count);
  const std::lock_guard lock(mutex_);
  if (done_.empty()) return nullptr;
  std::unique_ptr<Outcome> out = std::move(done_.front());
  done_.pop_front();
  --pending_;
  return out;
}

std::uint64_t Connector::waiting_ns() const {
  const std::lock_guard lock(mutex_);
  return began_ns_ == 0 ? 0 : now_ns() - began_ns_;
}

void Connector::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || wanted_ > 0; });
    if (stopping_) return;
    --wanted_;
    began_ns_ = now_ns();
    lock.unlock();
    auto connection = connect_export(endpoint_, kTimeoutSeconds);
    lock.lock();
    done_.push_back(std::make_unique<Outcome>(std::move(connection), now_ns() - began_ns_));
    began_ns_ = 0;
    const std::uint64_t one = 1;
    (void)!::write(event_fd_, &one, sizeof one);
  }
}

}  // namespace blockmig::bench
