// SPDX-License-Identifier: Apache-2.0
// FileDevice on a kernel that reports what it lost as Linux does: once per open file, to whichever
// call asks first (errseq_t). No call that overlaps may hide it from the others (I11).
#include <gtest/gtest.h>

#include <list>
#include <map>
#include <optional>

#include "blockmig/block/file_device.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/event.h"
#include "blockmig/io/task_scope.h"
#include "tests/unit/block/forwarding_loop.h"
#include "tests/unit/block/store_fixture.h"

namespace blockmig {
namespace {

/// A real loop whose syncs and durable writes the test holds, judges and answers.
class ReportingLoop final : public ForwardingLoop {
 public:
  struct Call {
    Call(EventLoop& loop, int of_fd, bool is_sync) : fd(of_fd), sync(is_sync), end(loop) {}
    int fd;
    bool sync;
    int os_errno = 0;
    Event end;
  };
  using ForwardingLoop::ForwardingLoop;

  bool hold = false;      ///< calls wait for answer(); otherwise they are judged and answered
  std::list<Call> calls;  ///< as they came, until the caller has gone on
  Event came{*this};      ///< pulsed by each call that is held

  /// A write-back fails: each open file has that to report, once.
  void lose_data() { ++losses_; }
  /// The instant at which the kernel looks whether there is something to report.
  void judge(Call& call) {
    if (std::exchange(reported_[call.fd], losses_) != losses_) call.os_errno = EIO;
  }
  void answer(Call& call) { call.end.set(); }

  Task<Result<std::size_t>> write_at(int fd, ConstBytes from, std::uint64_t offset,
                                     bool durable) override {
    const auto count = co_await ForwardingLoop::write_at(fd, from, offset, false);
    if (!count || !durable) co_return count;
    const int os_errno = co_await ask(fd, false);
    if (os_errno != 0) co_return Error::from_errno(os_errno, "reported");
    co_return *count;
  }
  Task<Status> sync(int fd) override {
    const int os_errno = co_await ask(fd, true);
    if (os_errno != 0) co_return Error::from_errno(os_errno, "reported");
    co_return Status();
  }

 private:
  Task<int> ask(int fd, bool sync) {
    calls.emplace_back(*this, fd, sync);
    const auto call = std::prev(calls.end());
    if (hold) {
      came.pulse();
      co_await call->end.wait();
    } else {
      judge(*call);
    }
    const int os_errno = call->os_errno;
    calls.erase(call);
    co_return os_errno;
  }

  int losses_ = 0;
  std::map<int, int> reported_;  ///< by descriptor: of how many losses
};

class FileReport : public testing::TestWithParam<CacheMode> {
 protected:
  using Call = ReportingLoop::Call;

  void SetUp() override {
    FileDeviceOptions options;
    options.create_size_bytes = 64 * kKiB;
    options.cache = GetParam();
    auto opened = run_task(loop_, open_file_device(loop_, folder_ / "disk.img", options));
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    device_ = std::move(*opened);
    loop_.hold = true;
  }
  void TearDown() override { EXPECT_TRUE(run_task(loop_, device_->close()).ok()); }

  Task<void> flush_into(std::optional<Status>& answer) {
    const Status done = co_await device_->flush();
    answer = done;
  }
  Task<void> write_into(std::uint64_t offset, std::optional<Status>& answer) {
    const Bytes content = filled(4096, 7);
    const WriteFlags durable{true};
    const Status done = co_await device_->write(offset, content, durable);
    answer = done;
  }
  void begin_flush(std::optional<Status>& answer) {
    auto task = flush_into(answer);
    scope_.spawn(std::move(task));
  }
  void begin_write(std::uint64_t offset, std::optional<Status>& answer) {
    auto task = write_into(offset, answer);
    scope_.spawn(std::move(task));
  }
  /// Runs the loop until `count` calls are with the kernel.
  void until_held(std::size_t count) { run_task(loop_, wait_held(count)); }
  Task<bool> wait_held(std::size_t count) {
    while (loop_.calls.size() < count) co_await loop_.came.wait();
    co_return true;
  }
  /// The kernel judges and answers what it has, and what still comes, until nobody asks any more.
  void answer_all() {
    loop_.hold = false;
    for (Call& call : loop_.calls) {
      if (call.end.is_set()) continue;
      loop_.judge(call);
      loop_.answer(call);
    }
    run_task(loop_, join());
  }
  Task<bool> join() {
    co_await scope_.join();
    co_return true;
  }
  /// Something is lost, the kernel looks for the first call and then for the second, which it
  /// answers: the one that asked first is told, but last.
  void lose_data_and_answer_second() {
    loop_.lose_data();
    loop_.judge(held(0));
    loop_.judge(held(1));
    loop_.answer(held(1));
    run_task(loop_, sleep_for(loop_, std::chrono::milliseconds(1)));
  }
  Call& held(std::size_t index) { return *std::next(loop_.calls.begin(), static_cast<int>(index)); }

  TemporaryFolder folder_;
  ReportingLoop loop_{make_test_loop(LoopKind::kAuto)};
  std::unique_ptr<BlockDevice> device_;
  TaskScope scope_;
  std::optional<Status> first_, second_;
};

bool failed(const std::optional<Status>& answer) { return answer && !answer->ok(); }
bool succeeded(const std::optional<Status>& answer) { return answer && answer->ok(); }

TEST_P(FileReport, OfFlushesThatOverlapAllFail_I11) {
  begin_flush(first_);
  begin_flush(second_);
  until_held(1);
  loop_.lose_data();
  answer_all();
  EXPECT_TRUE(failed(first_));
  EXPECT_TRUE(failed(second_)) << "the first one took the report";
}

TEST_P(FileReport, ADurableWriteDoesNotHideALossFromAFlush_I11) {
  begin_write(0, first_);
  until_held(1);
  begin_flush(second_);
  until_held(2);
  lose_data_and_answer_second();
  EXPECT_FALSE(succeeded(second_)) << "the write took the report";
  answer_all();
  EXPECT_TRUE(failed(first_));
  EXPECT_TRUE(failed(second_));
}

TEST_P(FileReport, AFlushDoesNotHideALossFromADurableWrite_I11) {
  begin_flush(first_);
  until_held(1);
  begin_write(0, second_);
  until_held(2);
  lose_data_and_answer_second();
  EXPECT_FALSE(succeeded(second_)) << "the flush took the report";
  answer_all();
  EXPECT_TRUE(failed(first_));
  EXPECT_TRUE(failed(second_));
}

TEST_P(FileReport, ADurableWriteDoesNotHideALossFromAnother_I11) {
  begin_write(0, first_);
  until_held(1);
  begin_write(8192, second_);
  until_held(2);
  lose_data_and_answer_second();
  EXPECT_FALSE(succeeded(second_)) << "the other one took the report";
  answer_all();
  EXPECT_TRUE(failed(first_));
  EXPECT_TRUE(failed(second_));
}

TEST_P(FileReport, ARevivedDeviceIsNotToldAgainOfWhatItForgot) {
  loop_.hold = false;
  SyncDevice sync(loop_, *device_);
  loop_.lose_data();
  EXPECT_FALSE(sync.flush().ok());
  ASSERT_TRUE(run_task(loop_, device_->revive()).ok());
  EXPECT_TRUE(sync.write(0, filled(4096, 1), WriteFlags{true}).ok());
  EXPECT_TRUE(sync.flush().ok());
  loop_.lose_data();
  EXPECT_FALSE(sync.write(0, filled(4096, 1), WriteFlags{true}).ok());
  ASSERT_TRUE(run_task(loop_, device_->revive()).ok());
  EXPECT_TRUE(sync.flush().ok());
}

INSTANTIATE_TEST_SUITE_P(Modes, FileReport,
                         testing::Values(CacheMode::kBuffered, CacheMode::kDirect, CacheMode::kMap),
                         cache_mode_name);

}  // namespace
}  // namespace blockmig
