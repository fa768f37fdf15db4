// SPDX-License-Identifier: Apache-2.0
// ForwardingLoop: a real loop behind one that a test changes in part.
#pragma once

#include <memory>
#include <utility>

#include "blockmig/io/io_loop.h"

namespace blockmig {

class ForwardingLoop : public IoLoop {
 public:
  explicit ForwardingLoop(std::unique_ptr<IoLoop> real) : real_(std::move(real)) {}

  TimePoint now() const override { return real_->now(); }
  void run() override { real_->run(); }
  void stop() override { real_->stop(); }
  void defer(std::coroutine_handle<> handle) override { real_->defer(handle); }
  void post(std::function<void()> callback) override { real_->post(std::move(callback)); }
  void run_blocking(std::function<void()> work, std::function<void()> done) override {
    real_->run_blocking(std::move(work), std::move(done));
  }
  void arm_timer(Timer& timer, TimePoint when) override { real_->arm_timer(timer, when); }
  void disarm_timer(Timer& timer) override { real_->disarm_timer(timer); }
  std::string_view name() const override { return "forwarding"; }
  std::unique_ptr<FdWatch> watch(int fd) override { return real_->watch(fd); }
  Task<Result<std::size_t>> read_at(int fd, MutableBytes into, std::uint64_t offset) override {
    return real_->read_at(fd, into, offset);
  }
  Task<Result<std::size_t>> write_at(int fd, ConstBytes from, std::uint64_t offset,
                                     bool durable) override {
    return real_->write_at(fd, from, offset, durable);
  }
  Task<Status> sync(int fd) override { return real_->sync(fd); }
  Task<Status> allocate(int fd, AllocateMode mode, std::uint64_t offset,
                        std::uint64_t length) override {
    return real_->allocate(fd, mode, offset, length);
  }

  BlockingCalls& file_calls() override { return real_->file_calls(); }

 private:
  std::unique_ptr<IoLoop> real_;
};

}  // namespace blockmig
