// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/uring_loop.h"

#include <liburing.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <thread>
#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/io/file_calls.h"
#include "blockmig/io/loop_base.h"
#include "blockmig/io/uring_polls.h"
#include "blockmig/io/uring_setup.h"
#include "blockmig/io/uring_tag.h"

namespace blockmig {
namespace {

/// File operations that go out together: few while the medium has little to do, which then starts
/// with the first ones while the rest is still being prepared.
constexpr unsigned kIdleGroup = 2;
constexpr unsigned kBusyGroup = 4;
constexpr std::size_t kLittleToDo = 4;  // file operations
/// One of so many bytes goes to an idle medium by itself: the next one's bytes take long to arrive.
constexpr unsigned kLargeBytes = 32 * 1024;
/// The kernel works off 20 completions each time it is entered (6.13), and what a socket has to say
/// stands behind those of a disk.
constexpr int kMostEntries = 16;

class UringLoop final : public LoopBase, private UringPolls::Host {
 public:
  UringLoop(const IoLoopOptions& options, UniqueFd wake, const io_uring& ring, bool enabled)
      : LoopBase(options, std::move(wake)), ring_(ring), enabled_(enabled) {}
  ~UringLoop() override;

  std::string_view name() const override { return "io_uring"; }
  std::unique_ptr<FdWatch> watch(int fd) override { return polls_.watch(fd); }
  Task<Result<std::size_t>> read_at(int fd, MutableBytes into, std::uint64_t offset) override;
  Task<Result<std::size_t>> write_at(int fd, ConstBytes from, std::uint64_t offset,
                                     bool durable) override;
  Task<Status> sync(int fd) override;
  Task<Status> allocate(int fd, AllocateMode mode, std::uint64_t offset,
                        std::uint64_t length) override;

 protected:
  void poll_io(std::optional<Duration> wait) override;
  bool file_io_in_flight() const override { return file_operations_ != 0; }
  bool io_ready() override { return io_uring_cq_ready(&ring_) != 0 || kernel_has_work(); }

 private:
  friend class FileOperation;

  /// Room for one submission; it goes out with the next poll_io().
  io_uring_sqe* next_submission() override;
  /// The medium starts with the first of many operations while the rest is still being prepared.
  void submit_full_group();
  /// What is queued goes out now if the medium has nothing to do.
  void submit_to_idle();
  bool kernel_has_work() const override {
    const unsigned flags = __atomic_load_n(ring_.sq.kflags, __ATOMIC_ACQUIRE);
    return (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
  }
  void submit();
  void enable();
  bool may_submit() const override {
    return owner_ == std::thread::id() || owner_ == std::this_thread::get_id();
  }
  void enter(std::optional<Duration> wait);
  void collect();
  void complete(std::uint64_t user_data, int result, unsigned flags);
  void flush() override;
  void resume_later(std::coroutine_handle<> waiter) override { defer(waiter); }

  io_uring ring_;
  UringPolls polls_{*this};
  std::size_t file_operations_ = 0;  ///< queued or in flight
  bool enabled_;
  std::thread::id owner_;  ///< the thread that submits: the first that entered the kernel
  bool wake_armed_ = false;
};

/// What a submission says, in the kernel's terms (io_uring_sqe itself fits in no class of C++).
struct FileRequest {
  int opcode = 0;
  int fd = -1;
  std::uint64_t address = 0;
  unsigned length = 0;
  std::uint64_t offset = 0;
  unsigned call_flags = 0;   ///< RWF_*, or those of fsync
  bool on_a_thread = false;  ///< do not try without blocking first
};

/// One file operation: await it once, get what the kernel returned.
class FileOperation final {
 public:
  FileOperation(UringLoop& loop, const FileRequest& request) : loop_(loop), request_(request) {}
  FileOperation(const FileOperation&) = delete;
  FileOperation& operator=(const FileOperation&) = delete;

  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> waiter) {
    waiter_ = waiter;
    io_uring_sqe* submission = loop_.next_submission();
    io_uring_prep_rw(request_.opcode, submission, request_.fd, nullptr, request_.length,
                     request_.offset);
    submission->addr = request_.address;
    submission->rw_flags = static_cast<int>(request_.call_flags);
    if (request_.on_a_thread) submission->flags |= IOSQE_ASYNC;
    submission->user_data = tagged(UringTag::kFile, reinterpret_cast<std::uintptr_t>(this));
    ++loop_.file_operations_;
    loop_.submit_full_group();
    if (request_.length >= kLargeBytes) loop_.submit_to_idle();
  }
  int await_resume() const { return result_; }

  void complete(int result) {
    result_ = result;
    --loop_.file_operations_;
    loop_.defer_finished(waiter_);
  }

 private:
  UringLoop& loop_;
  const FileRequest& request_;
  std::coroutine_handle<> waiter_;
  int result_ = 0;
};

UringLoop::~UringLoop() {
  stop_threads();
  // The kernel writes into the buffers of what is in flight until it completes. Where another
  // thread ran the loop and is gone, the kernel has waited for its operations when it exited.
  while (file_operations_ > 0 && may_submit()) {
    enter(std::nullopt);
    collect();
  }
  io_uring_queue_exit(&ring_);
}

void UringLoop::enable() {
  if (owner_ == std::thread::id()) owner_ = std::this_thread::get_id();
  // Binds the ring to the calling thread, which is why it happens as late as possible.
  if (std::exchange(enabled_, true)) return;
  // Debian 12's liburing declares io_uring_enable_rings() but does not export it.
  const long result =
      ::syscall(__NR_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
  BM_CHECK(result == 0);
}

io_uring_sqe* UringLoop::next_submission() {
  io_uring_sqe* submission = io_uring_get_sqe(&ring_);
  while (submission == nullptr) {
    enter(Duration::zero());
    collect();
    submission = io_uring_get_sqe(&ring_);
  }
  return submission;
}

void UringLoop::submit_full_group() {
  const unsigned queued = io_uring_sq_ready(&ring_);
  const bool idle = file_operations_ < queued + kLittleToDo;
  if (queued >= (idle ? kIdleGroup : kBusyGroup)) submit();
}

void UringLoop::submit_to_idle() {
  if (file_operations_ <= io_uring_sq_ready(&ring_)) submit();
}

void UringLoop::submit() {
  enable();
  const int result = io_uring_submit(&ring_);
  BM_CHECK(result >= 0 || result == -EINTR || result == -EBUSY || result == -EAGAIN);
}

void UringLoop::poll_io(std::optional<Duration> wait) {
  if (!wake_armed_) {
    wake_armed_ = true;
    io_uring_sqe* submission = next_submission();
    io_uring_prep_poll_multishot(submission, wake_fd(), POLLIN);
    submission->user_data = tagged(UringTag::kWake, 0);
  }
  const bool in_burst = has_finished();
  if (polls_.in_doubt()) wait = Duration::zero();
  const bool is_waiting = !wait || *wait > Duration::zero();
  if (is_waiting || io_uring_sq_ready(&ring_) != 0 || kernel_has_work()) enter(wait);
  collect();
  for (int i = 0; in_burst && i < kMostEntries && kernel_has_work(); ++i) {
    enter(Duration::zero());
    collect();
  }
  polls_.settle_doubts();
}

void UringLoop::enter(std::optional<Duration> wait) {
  enable();
  int result = 0;
  if (!wait) {
    result = io_uring_submit_and_wait(&ring_, 1);
  } else if (*wait > Duration::zero()) {
    const auto seconds = std::chrono::floor<std::chrono::seconds>(*wait);
    __kernel_timespec timeout{seconds.count(), (*wait - seconds).count()};
    io_uring_cqe* first = nullptr;
    result = io_uring_submit_and_wait_timeout(&ring_, &first, 1, &timeout, nullptr);
  } else {
    result = io_uring_submit_and_get_events(&ring_);
  }
  // A timeout, a signal, or completions to collect before more is taken: all are tried again by the
  // loop.
  BM_CHECK(result >= 0 || result == -ETIME || result == -EINTR || result == -EBUSY ||
           result == -EAGAIN);
}

void UringLoop::flush() {
  if (running() || owner_ == std::thread::id()) return;
  enter(Duration::zero());
  collect();
}

void UringLoop::collect() {
  unsigned head = 0;
  unsigned count = 0;
  io_uring_cqe* completion = nullptr;
  io_uring_for_each_cqe(&ring_, head, completion) {
    complete(completion->user_data, completion->res, completion->flags);
    ++count;
  }
  io_uring_cq_advance(&ring_, count);
}

// Must not queue submissions: it runs while the completion queue is being walked.
void UringLoop::complete(std::uint64_t user_data, int result, unsigned flags) {
  const std::uint64_t value = tagged_value(user_data);
  const bool more = (flags & IORING_CQE_F_MORE) != 0;
  switch (tag_of(user_data)) {
    case UringTag::kFile:
      reinterpret_cast<FileOperation*>(static_cast<std::uintptr_t>(value))->complete(result);
      return;
    case UringTag::kWatchIn:
    case UringTag::kWatchOut:
      polls_.complete(user_data, result, more);
      return;
    case UringTag::kWake:
      wake_armed_ = more;
      return;
    case UringTag::kIgnored:
      return;
  }
}

Task<Result<std::size_t>> transfer_all(UringLoop& loop, Transfer transfer, int fd,
                                       std::uintptr_t buffer, unsigned call_flags) {
  FileRequest request;
  request.opcode = transfer.kind() == Transfer::Kind::kRead ? IORING_OP_READ : IORING_OP_WRITE;
  request.fd = fd;
  request.call_flags = call_flags;
  while (!transfer.finished()) {
    request.address = buffer + transfer.done_bytes();
    request.length = static_cast<unsigned>(transfer.next_length());
    request.offset = transfer.next_offset();
    FileOperation operation(loop, request);
    const int result = co_await operation;
    request.on_a_thread = result == -EAGAIN;
    transfer.advance(result);
  }
  co_return transfer.result();
}

Task<Result<std::size_t>> UringLoop::read_at(int fd, MutableBytes into, std::uint64_t offset) {
  const Transfer transfer(Transfer::Kind::kRead, fd, offset, into.size());
  return transfer_all(*this, transfer, fd, reinterpret_cast<std::uintptr_t>(into.data()), 0);
}

Task<Result<std::size_t>> UringLoop::write_at(int fd, ConstBytes from, std::uint64_t offset,
                                              bool durable) {
  const Transfer transfer(Transfer::Kind::kWrite, fd, offset, from.size());
  return transfer_all(*this, transfer, fd, reinterpret_cast<std::uintptr_t>(from.data()),
                      durable ? RWF_DSYNC : 0);
}

Task<Status> UringLoop::sync(int fd) {
  FileRequest request;
  request.opcode = IORING_OP_FSYNC;
  request.fd = fd;
  request.call_flags = IORING_FSYNC_DATASYNC;
  FileOperation operation(*this, request);
  const int result = co_await operation;
  co_return sync_status(result);
}

Task<Status> UringLoop::allocate(int fd, AllocateMode mode, std::uint64_t offset,
                                 std::uint64_t length) {
  FileRequest request;
  request.opcode = IORING_OP_FALLOCATE;
  request.fd = fd;
  request.address = length;  // the kernel's layout: len holds the mode, addr the length
  request.length = static_cast<unsigned>(fallocate_mode(mode));
  request.offset = offset;
  int result = length == 0 ? 0 : -EINTR;
  while (result == -EINTR) {
    FileOperation operation(*this, request);
    const int answer = co_await operation;
    result = answer;
  }
  co_return allocate_status(result, offset, length);
}

}  // namespace

Result<std::unique_ptr<IoLoop>> make_uring_loop(const IoLoopOptions& options, UringSetup best) {
  auto wake = make_wake_fd();
  if (!wake) return wake.error();
  io_uring ring{};
  const Result<bool> enabled = open_ring(best, ring);
  if (!enabled) return enabled.error();
  return std::unique_ptr<IoLoop>(
      std::make_unique<UringLoop>(options, std::move(*wake), ring, *enabled));
}

}  // namespace blockmig
