// SPDX-License-Identifier: Apache-2.0
#include "blockmig/disk/request_stats.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "blockmig/base/random.h"
#include "blockmig/block/fault_device.h"
#include "blockmig/disk/disk.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"
#include "blockmig/io/task_scope.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;
constexpr std::uint64_t kSize = kMiB;

TEST(RequestStats, WhatIsDoneOnTheSpotCountsAsOneRequest) {
  RequestStats stats;
  stats.done_now(DiskOp::kRead, std::chrono::microseconds(2), 512);
  stats.filled_now(std::chrono::microseconds(1), 4096, false);
  EXPECT_EQ(stats.requests(), 1u) << "a part of a write is none";
  stats.filled_now(std::chrono::microseconds(3), 1024, true);
  EXPECT_EQ(stats.requests(DiskOp::kRead), 1u);
  EXPECT_EQ(stats.bytes(DiskOp::kRead), 512u);
  EXPECT_EQ(stats.requests(DiskOp::kWrite), 1u);
  EXPECT_EQ(stats.bytes(DiskOp::kWrite), 5120u);
  EXPECT_EQ(stats.latency(DiskOp::kWrite).sum_ns(), 3'000u);
  EXPECT_EQ(stats.in_flight(), 0u);
  EXPECT_EQ(stats.take_longest_ns(), 3'000u);
}

TEST(RequestStats, MergeAddsThreadsUp) {
  RequestStats one;
  RequestStats other;
  one.begin(DiskOp::kRead);
  one.end(DiskOp::kRead, 1'000, 4096);
  other.begin(DiskOp::kRead);
  other.end(DiskOp::kRead, 3'000, 512);
  other.begin(DiskOp::kWrite);
  other.fail(DiskOp::kWrite, 5'000, ErrorCode::kNoSpace);
  other.begin(DiskOp::kFlush);

  RequestStats sum = one;
  sum.merge(other);
  EXPECT_EQ(sum.requests(DiskOp::kRead), 2u);
  EXPECT_EQ(sum.bytes(DiskOp::kRead), 4608u);
  EXPECT_EQ(sum.latency(DiskOp::kRead).sum_ns(), 4'000u);
  EXPECT_EQ(sum.errors(DiskOp::kWrite, ErrorCode::kNoSpace), 1u);
  EXPECT_EQ(sum.errors(DiskOp::kWrite, ErrorCode::kIo), 0u);
  EXPECT_EQ(sum.errors(), 1u);
  EXPECT_EQ(sum.requests(), 3u) << "what is still in flight has not been answered";
  EXPECT_EQ(sum.in_flight(DiskOp::kFlush), 1u);
  EXPECT_EQ(sum.in_flight(), 1u);
  EXPECT_EQ(sum.latency().count(), 3u);
  EXPECT_EQ(sum.take_longest_ns(), 5'000u);
  EXPECT_EQ(one.requests(), 1u);
}

TEST(RequestStats, EveryKindHasAName) {
  std::vector<std::string_view> seen;
  for (const DiskOp op : kDiskOps) {
    EXPECT_NE(to_string(op), "unknown");
    EXPECT_EQ(std::count(seen.begin(), seen.end(), to_string(op)), 0);
    seen.push_back(to_string(op));
  }
}

class DiskStatsTest : public testing::Test {
 protected:
  DiskStatsTest() {
    auto device = std::make_unique<FaultDevice>(loop_, random_, "store", kSize);
    store_ = device.get();
    disk_ = std::make_unique<Disk>(loop_, "vm1", std::move(device), "test:store", 1);
  }
  ~DiskStatsTest() override { static_cast<void>(run_task(loop_, disk_->close())); }

  Status write(std::size_t length) {
    const std::vector<std::byte> bytes(length, std::byte{0x42});
    const ConstBytes from(bytes);
    const WriteFlags flags{};
    return run_task(loop_, disk_->write(0, from, flags));
  }
  Status read(std::size_t length) {
    std::vector<std::byte> bytes(length);
    const MutableBytes into(bytes);
    return run_task(loop_, disk_->read(0, into));
  }

  Random random_{3};
  SimLoop loop_{random_};
  FaultDevice* store_ = nullptr;
  std::unique_ptr<Disk> disk_;
};

TEST_F(DiskStatsTest, EveryKindOfRequestIsCountedOnceAsItself) {
  ASSERT_TRUE(read(4096).ok());
  ASSERT_TRUE(write(512).ok());
  ASSERT_TRUE(run_task(loop_, disk_->flush()).ok());
  const WriteFlags flags{};
  ASSERT_TRUE(run_task(loop_, disk_->trim(0, 8192, flags)).ok());
  const ZeroFlags zero{};
  ASSERT_TRUE(run_task(loop_, disk_->write_zeroes(0, 16384, zero)).ok());
  ASSERT_TRUE(run_task(loop_, disk_->extents(0, 32768)).ok());
  std::vector<std::byte> scratch(1024);
  ASSERT_TRUE(run_task(loop_, disk_->prefetch(0, scratch)).ok());

  const RequestStats stats = disk_->stats();
  const std::vector<std::uint64_t> bytes = {4096, 512, 0, 8192, 16384, 32768, 1024};
  for (std::size_t i = 0; i < kDiskOps.size(); ++i) {
    EXPECT_EQ(stats.requests(kDiskOps[i]), 1u) << to_string(kDiskOps[i]);
    EXPECT_EQ(stats.bytes(kDiskOps[i]), bytes[i]) << to_string(kDiskOps[i]);
    EXPECT_EQ(stats.in_flight(kDiskOps[i]), 0u) << to_string(kDiskOps[i]);
    EXPECT_EQ(stats.errors(kDiskOps[i]), 0u) << to_string(kDiskOps[i]);
  }
  EXPECT_EQ(disk_->guest_bytes_written(), 512u + 16384u);
}

TEST_F(DiskStatsTest, AFailedRequestCountsAsAnErrorAndMovesNoBytes) {
  store_->plan().write_error_ppm = 1'000'000;
  ASSERT_FALSE(write(512).ok());
  store_->plan().write_error_ppm = 0;
  const RequestStats stats = disk_->stats();
  EXPECT_EQ(stats.requests(DiskOp::kWrite), 1u);
  EXPECT_EQ(stats.errors(DiskOp::kWrite, ErrorCode::kIo), 1u);
  EXPECT_EQ(stats.bytes(DiskOp::kWrite), 0u);
}

TEST_F(DiskStatsTest, ARequestThatTheClosedDiskRefusesIsAnError) {
  ASSERT_TRUE(run_task(loop_, disk_->close()).ok());
  ASSERT_FALSE(read(512).ok());
  EXPECT_EQ(disk_->stats().errors(DiskOp::kRead, ErrorCode::kShutdown), 1u);
}

TEST_F(DiskStatsTest, WhatWaitsAtTheGateIsInFlight) {
  run_task(loop_, disk_->gate().close());
  TaskScope scope;
  const auto body = [](Disk& disk) -> Task<void> {
    std::vector<std::byte> bytes(512);
    const MutableBytes into(bytes);
    const Status status = co_await disk.read(0, into);
    static_cast<void>(status);
  };
  scope.spawn(body(*disk_));
  run_task(loop_, sleep_for(loop_, milliseconds(20)));
  EXPECT_EQ(disk_->stats().in_flight(DiskOp::kRead), 1u);
  EXPECT_EQ(disk_->stats().requests(DiskOp::kRead), 0u);
  disk_->gate().open();
  run_task(loop_, sleep_for(loop_, milliseconds(1)));
  EXPECT_EQ(disk_->stats().in_flight(DiskOp::kRead), 0u);
  EXPECT_GE(disk_->stats().latency(DiskOp::kRead).max_ns(), 20'000'000u);
}

}  // namespace
}  // namespace blockmig
