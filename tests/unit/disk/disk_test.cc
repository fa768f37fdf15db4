// SPDX-License-Identifier: Apache-2.0
#include "blockmig/disk/disk.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "blockmig/base/random.h"
#include "blockmig/block/fault_device.h"
#include "blockmig/block/memory_device.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"
#include "blockmig/io/task_scope.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;
constexpr std::uint64_t kSize = kMiB + 777;

std::unique_ptr<DirtyBitmap> make_bitmap() {
  auto bitmap = DirtyBitmap::create(kSize, kDefaultGranularityBytes);
  return std::move(*bitmap);
}

class DiskTest : public testing::Test {
 protected:
  DiskTest() {
    auto device = std::make_unique<FaultDevice>(loop_, random_, "store", kSize);
    store_ = device.get();
    disk_ = std::make_unique<Disk>(loop_, "vm1", std::move(device), "test:store", 1);
  }
  ~DiskTest() override {
    const Status closed = run_task(loop_, disk_->close());
    EXPECT_TRUE(closed.ok());
  }
  Status write(std::uint64_t offset, std::size_t length) {
    const std::vector<std::byte> bytes(length, std::byte{0x42});
    const ConstBytes from(bytes);
    const WriteFlags flags{};
    return run_task(loop_, disk_->write(offset, from, flags));
  }
  /// A write that goes on in the background; `ended` says when it is over.
  void begin_write(TaskScope& scope, std::uint64_t offset, bool& ended) {
    const auto body = [](Disk& disk, std::uint64_t at, bool& done) -> Task<void> {
      static const std::vector<std::byte> bytes(4096, std::byte{0x17});
      const ConstBytes from(bytes);
      const WriteFlags flags{};
      const Status status = co_await disk.write(at, from, flags);
      static_cast<void>(status);
      done = true;
    };
    scope.spawn(body(*disk_, offset, ended));
  }
  void advance(Duration time) { run_task(loop_, sleep_for(loop_, time)); }

  Random random_{3};
  SimLoop loop_{random_};
  FaultDevice* store_ = nullptr;
  std::unique_ptr<Disk> disk_;
};

TEST_F(DiskTest, EveryKindOfChangeIsMarkedInEveryBitmap_Trap10) {
  ASSERT_TRUE(disk_->tracking().add("daily", make_bitmap()).ok());
  const auto job = make_bitmap();
  disk_->tracking().attach_job(*job);
  ASSERT_TRUE(write(0, 512).ok());
  const ZeroFlags zero{};
  ASSERT_TRUE(run_task(loop_, disk_->write_zeroes(3 * 65536, 512, zero)).ok());
  const WriteFlags flags{};
  ASSERT_TRUE(run_task(loop_, disk_->trim(5 * 65536 + 1, 65536, flags)).ok());
  const DirtyBitmap* const const_job = job.get();
  const DirtyBitmap* const daily = disk_->tracking().find("daily");
  for (const DirtyBitmap* bitmap : {daily, const_job}) {
    EXPECT_EQ(bitmap->dirty_count(), 4u);
    for (const std::uint64_t chunk : {0u, 3u, 5u, 6u}) EXPECT_TRUE(bitmap->is_dirty(chunk));
  }
  disk_->tracking().detach_job(job.get());
}

TEST_F(DiskTest, AFailedWriteIsMarked_Trap5) {
  const auto job = make_bitmap();
  disk_->tracking().attach_job(*job);
  store_->plan().write_error_ppm = 1'000'000;
  EXPECT_FALSE(write(65536, 512).ok());
  EXPECT_TRUE(job->is_dirty(1));
  store_->plan().write_error_ppm = 0;
  disk_->tracking().detach_job(job.get());
}

TEST_F(DiskTest, AWriteInFlightWhenTrackingIsArmedIsMarkedAtItsEnd_I17) {
  TaskScope scope;
  bool ended = false;
  store_->stall();
  begin_write(scope, 65536, ended);
  const auto job = make_bitmap();
  disk_->tracking().attach_job(*job);
  EXPECT_FALSE(job->is_dirty(1)) << "it began before the bitmap was there";
  store_->unstall();
  advance(milliseconds(1));
  EXPECT_TRUE(ended);
  EXPECT_TRUE(job->is_dirty(1));
  disk_->tracking().detach_job(job.get());
}

TEST_F(DiskTest, AMarkClearedWhileTheWriteIsInFlightComesBack_I5) {
  const auto job = make_bitmap();
  disk_->tracking().attach_job(*job);
  TaskScope scope;
  bool ended = false;
  store_->stall();
  begin_write(scope, 65536, ended);
  EXPECT_TRUE(job->is_dirty(1));
  auto lease = job->lease(0, 16);
  lease.acknowledge_all();
  lease = DirtyLease();
  EXPECT_FALSE(job->is_dirty(1));
  store_->unstall();
  advance(milliseconds(1));
  EXPECT_TRUE(job->is_dirty(1));
  disk_->tracking().detach_job(job.get());
}

TEST_F(DiskTest, AClosedGateParksRequestsAndTheNewStoreAnswersThem_Trap2) {
  run_task(loop_, disk_->gate().close());
  TaskScope scope;
  bool ended = false;
  begin_write(scope, 0, ended);
  advance(milliseconds(10));
  EXPECT_FALSE(ended);
  auto next = std::make_unique<MemoryDevice>("next", kSize);
  MemoryDevice* const seen = next.get();
  const auto old = disk_->swap_store(std::move(next), "test:next", 2);
  disk_->gate().open();
  advance(milliseconds(10));
  EXPECT_TRUE(ended);
  std::byte byte[1];
  seen->peek(0, byte);
  EXPECT_EQ(byte[0], std::byte{0x17});
  EXPECT_EQ(disk_->store_uri(), "test:next");
  EXPECT_EQ(disk_->epoch(), 2u);
}

TEST_F(DiskTest, ClosingRefusesWhatComesLater) {
  const Status closed = run_task(loop_, disk_->close());
  EXPECT_TRUE(closed.ok());
  const Status late = write(0, 512);
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.error().code(), ErrorCode::kShutdown);
}

TEST_F(DiskTest, WaitingAtTheGateCountsAsLatency) {
  run_task(loop_, disk_->gate().close());
  TaskScope scope;
  bool ended = false;
  begin_write(scope, 0, ended);
  advance(milliseconds(25));
  disk_->gate().open();
  advance(milliseconds(1));
  EXPECT_TRUE(ended);
  EXPECT_GE(disk_->take_longest_latency(), milliseconds(25));
  EXPECT_EQ(disk_->take_longest_latency(), Duration::zero());
}

TEST_F(DiskTest, WritesHeatWhereTheyGoAndReadsHeatApart) {
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(write(kDefaultGranularityBytes, 512).ok());
  std::vector<std::byte> bytes(512);
  const MutableBytes into(bytes);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(run_task(loop_, disk_->read(kMiB, into)).ok());
  const TimePoint now = loop_.now();
  const auto written = disk_->write_heat().at_least(1, now);
  ASSERT_EQ(written.size(), 1u);
  EXPECT_EQ(written[0].range.offset, kDefaultGranularityBytes);
  EXPECT_NEAR(written[0].heat, 200, 80) << "a sample of one in eight";
  const auto read = disk_->read_heat().at_least(1, now);
  ASSERT_EQ(read.size(), 1u);
  EXPECT_EQ(read[0].range.offset, kMiB);
}

TEST_F(DiskTest, ABitmapsNameIsTakenOnce) {
  ASSERT_TRUE(disk_->tracking().add("daily", make_bitmap()).ok());
  EXPECT_EQ(disk_->tracking().add("daily", make_bitmap()).error().code(), ErrorCode::kBusy);
  EXPECT_TRUE(disk_->tracking().remove("daily").ok());
  EXPECT_EQ(disk_->tracking().remove("daily").error().code(), ErrorCode::kNotFound);
}

}  // namespace
}  // namespace blockmig
