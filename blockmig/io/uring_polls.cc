// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/uring_polls.h"

#include <liburing.h>
#include <poll.h>

#include "blockmig/io/uring_tag.h"

namespace blockmig {

static_assert(kUringTagShift >= WatchTable<FdWatch>::kKeyBits);

class UringWatch final : public FdWatch {
 public:
  UringWatch(UringPolls& polls, int fd)
      : polls_(polls), fd_(fd), key_(polls_.watches_.add(*this)) {}

  ~UringWatch() override {
    polls_.watches_.remove(key_);
    if (!polls_.host_.may_submit()) return;
    if (armed_[0]) cancel_poll(UringTag::kWatchIn);
    if (armed_[1]) cancel_poll(UringTag::kWatchOut);
    if (armed_[0] || armed_[1]) polls_.host_.flush();
  }

  void on_poll(UringTag tag, int result, bool more) {
    const bool is_out = tag == UringTag::kWatchOut;
    armed_[is_out] = more;
    if (result < 0) {
      cancel();
      return;
    }
    const bool broken = (result & (POLLERR | POLLHUP)) != 0;
    signal(!is_out || broken, is_out || broken);
  }

  void look_again() {
    if (waited_for(0)) nudge_reader();
  }

 protected:
  void arm(int direction) override {
    if (armed_[direction]) {
      if (direction == 0 && polls_.host_.kernel_has_work()) polls_.doubted_.push_back(key_);
      return;
    }
    armed_[direction] = true;
    io_uring_sqe* submission = polls_.host_.next_submission();
    if (direction == 0) {
      io_uring_prep_poll_multishot(submission, fd_, POLLIN | POLLRDHUP);
      submission->user_data = tagged(UringTag::kWatchIn, key_);
    } else {
      io_uring_prep_poll_add(submission, fd_, POLLOUT);
      submission->user_data = tagged(UringTag::kWatchOut, key_);
    }
  }
  void wake(std::coroutine_handle<> waiter) override { polls_.host_.resume_later(waiter); }

 private:
  /// Not removed: the kernel refuses that (EALREADY) while a poll has an event to report, and the
  /// poll would go on, with the file open, for as long as the ring.
  void cancel_poll(UringTag tag) {
    io_uring_sqe* submission = polls_.host_.next_submission();
    io_uring_prep_cancel64(submission, tagged(tag, key_), 0);
    submission->user_data = tagged(UringTag::kIgnored, 0);
  }

  UringPolls& polls_;
  int fd_;
  std::uint64_t key_;
  bool armed_[2] = {false, false};
};

std::unique_ptr<FdWatch> UringPolls::watch(int fd) {
  return std::make_unique<UringWatch>(*this, fd);
}

void UringPolls::complete(std::uint64_t user_data, int result, bool more) {
  UringWatch* watch = watches_.find(tagged_value(user_data));
  if (watch != nullptr) watch->on_poll(tag_of(user_data), result, more);
}

void UringPolls::settle_doubts() {
  for (const std::uint64_t key : doubted_) {
    if (UringWatch* watch = watches_.find(key)) watch->look_again();
  }
  doubted_.clear();
}

}  // namespace blockmig
