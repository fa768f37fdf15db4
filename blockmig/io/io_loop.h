// SPDX-License-Identifier: Apache-2.0
// IoLoop: an EventLoop that also does file and socket I/O.
//
// Two implementations: UringLoop (io_uring) and PortableLoop (epoll and a thread pool) for hosts
// that refuse io_uring, as default container profiles do. make_io_loop() picks. Thread rule: one
// loop, one thread; only post() and stop() come from others.
#pragma once

#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

#include "blockmig/base/bytes.h"
#include "blockmig/base/check.h"
#include "blockmig/base/error.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task.h"

namespace blockmig {

/// Readiness of one file descriptor, edge by edge.
///
/// Use: try the non-blocking call; on EAGAIN co_await readable() or writable(), then try again. An
/// edge that the loop has seen and nobody has waited for is kept, so none is lost. Errors and
/// hang-ups count as readiness. One waiter per direction; none may be left when it is destroyed.
/// One watch per descriptor. Destroy it before closing the descriptor; the kernel may keep the file
/// open until the loop's next turn, so shutdown() a socket whose peer must see the end at once.
///
/// A direction is registered with the kernel when it is first waited for. Reading then stays
/// registered: a wait costs no system call. Writing is registered only while it is waited for,
/// since otherwise every buffer that a peer empties would wake the loop. Registering reports
/// readiness that is already there. A descriptor that cannot be watched gives a cancelled watch.
class FdWatch {
 public:
  FdWatch() = default;
  virtual ~FdWatch() = default;
  FdWatch(const FdWatch&) = delete;
  FdWatch& operator=(const FdWatch&) = delete;

  class Awaiter {
   public:
    Awaiter(FdWatch& watch, int direction) : watch_(watch), direction_(direction) {}
    bool await_ready() const { return watch_.cancelled_ || watch_.edge_[direction_]; }
    void await_suspend(std::coroutine_handle<> handle) {
      BM_CHECK(!watch_.waiter_[direction_]);
      watch_.waiter_[direction_] = handle;
      watch_.arm(direction_);
    }
    /// False if the watch was cancelled.
    bool await_resume() {
      watch_.edge_[direction_] = false;
      return !watch_.cancelled_;
    }

   private:
    FdWatch& watch_;
    int direction_;
  };
  Awaiter readable() { return Awaiter(*this, 0); }
  Awaiter writable() { return Awaiter(*this, 1); }

  /// Wakes both waiters; every wait from now on returns false at once.
  void cancel() {
    cancelled_ = true;
    signal(true, true);
  }
  bool cancelled() const { return cancelled_; }
  /// Wakes whoever waits for reading, as an edge does.
  void nudge_reader() { signal(true, false); }

 protected:
  bool waited_for(int direction) const { return static_cast<bool>(waiter_[direction]); }
  /// Somebody waits for `direction` (0 = reading, 1 = writing): register it if it is not. May
  /// signal().
  virtual void arm(int direction) = 0;
  /// The loop reports edges here.
  void signal(bool in, bool out) {
    std::coroutine_handle<> wake_in;
    std::coroutine_handle<> wake_out;
    if (in) {
      edge_[0] = true;
      wake_in = std::exchange(waiter_[0], {});
    }
    if (out) {
      edge_[1] = true;
      wake_out = std::exchange(waiter_[1], {});
    }
    if (wake_in) wake(wake_in);
    if (wake_out) wake(wake_out);
  }
  /// Hands a waiter to the loop (EventLoop::defer); never resumes it on the spot.
  virtual void wake(std::coroutine_handle<> waiter) = 0;

 private:
  friend class Awaiter;
  std::coroutine_handle<> waiter_[2];
  bool edge_[2] = {false, false};
  bool cancelled_ = false;
};

enum class AllocateMode {
  kReserve,    ///< allocate, keep contents (fallocate mode 0, KEEP_SIZE)
  kPunchHole,  ///< deallocate; reads as zeros
  kZeroRange,  ///< zeros, stays or becomes allocated
};

class IoLoop : public EventLoop {
 public:
  /// "io_uring" or "portable".
  virtual std::string_view name() const = 0;

  /// Watches a non-blocking descriptor for edges.
  virtual std::unique_ptr<FdWatch> watch(int fd) = 0;

  // File I/O. Buffers stay valid until the task finished; a short count is only at the end of the
  // file (reads) or a full disk (writes; kNoSpace where not one byte had room). Any other error
  // fails the whole call, whatever part of it was done (I11). Never blocks the loop. Every call
  // finishes before the loop is destroyed, which waits for the kernel if it has to.
  virtual Task<Result<std::size_t>> read_at(int fd, MutableBytes into, std::uint64_t offset) = 0;
  /// `durable`: as O_DSYNC, on stable storage before the task finishes.
  virtual Task<Result<std::size_t>> write_at(int fd, ConstBytes from, std::uint64_t offset,
                                             bool durable) = 0;
  /// fdatasync, once: a failed one is never repeated here (I11). Covers writes that completed
  /// before it was called.
  virtual Task<Status> sync(int fd) = 0;
  virtual Task<Status> allocate(int fd, AllocateMode mode, std::uint64_t offset,
                                std::uint64_t length) = 0;
  /// Threads for other calls on files that are open: what guests wait for. Apart from
  /// run_blocking(), where paths are looked up and stores opened (I10).
  virtual BlockingCalls& file_calls() = 0;
};

enum class LoopKind {
  kAuto,  ///< io_uring where the kernel and the sandbox allow it, else portable
  kUring,
  kPortable,
};

struct IoLoopOptions {
  LoopKind kind = LoopKind::kAuto;
  /// How long the loop polls before it sleeps, while polling pays (adaptive); ten times as long
  /// while a file's operation is on its way; 0 = never.
  Duration spin = std::chrono::microseconds(50);
  /// Threads for run_blocking(), and as many for calls on open files (in the portable loop that is
  /// all file I/O). They start when they are needed: so many calls may hang before others wait.
  unsigned blocking_threads = 64;
};

/// Never fails for kAuto but for want of descriptors or memory. kNotSupported if io_uring was asked
/// for and is refused. The loop may run on another thread than the one that made it, but
/// then always on that one, from its first run() or run_task() on.
Result<std::unique_ptr<IoLoop>> make_io_loop(const IoLoopOptions& options);

}  // namespace blockmig
