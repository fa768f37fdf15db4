// SPDX-License-Identifier: Apache-2.0
#include "blockmig/disk/disk_lane.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "blockmig/io/call_on.h"
#include "blockmig/io/io_thread.h"
#include "blockmig/io/loop_barrier.h"
#include "blockmig/io/run_task.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kChunk = kDefaultGranularityBytes;
constexpr std::uint64_t kSize = 64 * kChunk + 777;

/// Memory that any thread may read and write, counting by which way it was asked.
class SharedMemory final : public BlockDevice {
 public:
  SharedMemory() : bytes_(kSize) { info_.size_bytes = kSize; }

  const DeviceInfo& info() const override { return info_; }
  Task<Status> read(std::uint64_t offset, MutableBytes into) override {
    ++asked_at_home;
    copy_out(offset, into);
    co_return Status();
  }
  Task<Status> write(std::uint64_t offset, ConstBytes from, WriteFlags) override {
    ++asked_at_home;
    copy_in(offset, from);
    co_return Status();
  }
  Task<Status> flush() override { co_return Status(); }
  Task<Status> trim(std::uint64_t, std::uint64_t, WriteFlags) override { co_return Status(); }
  Task<Status> write_zeroes(std::uint64_t, std::uint64_t, ZeroFlags) override {
    co_return Status();
  }
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length) override {
    co_return std::vector<Extent>{{offset, length, false, false}};
  }
  bool read_now(std::uint64_t offset, MutableBytes into) override {
    if (refuses_now) return false;
    copy_out(offset, into);
    return true;
  }
  bool write_now(std::uint64_t offset, ConstBytes from) override {
    if (refuses_now) {
      // A part of it, as a real device may.
      copy_in(offset, from.first(from.size() / 2));
      return false;
    }
    // Room for a pass between the first mark and the change; not each time, since on a busy machine
    // every yield costs a time slice.
    if (++changes_ % 8 == 0) {
      for (int i = 0; i < 3; ++i) std::this_thread::yield();
    }
    copy_in(offset, from);
    return true;
  }
  Task<Status> close() override { co_return Status(); }

  std::vector<std::byte> content() {
    const std::lock_guard lock(mutex_);
    return bytes_;
  }

  std::atomic<bool> refuses_now = false;
  std::atomic<int> asked_at_home = 0;

 private:
  void copy_out(std::uint64_t offset, MutableBytes into) {
    const std::lock_guard lock(mutex_);
    std::memcpy(into.data(), bytes_.data() + offset, into.size());
  }
  void copy_in(std::uint64_t offset, ConstBytes from) {
    const std::lock_guard lock(mutex_);
    std::memcpy(bytes_.data() + offset, from.data(), from.size());
  }

  DeviceInfo info_;
  std::atomic<unsigned> changes_ = 0;
  std::mutex mutex_;
  std::vector<std::byte> bytes_;
};

/// Counts, and writes to the source only: what a job would copy stays its own business.
class CountingMirror final : public WriteMirror {
 public:
  Task<Status> write(BlockDevice& store, std::uint64_t offset, ConstBytes from, WriteFlags flags,
                     MirrorVisit& /*visit*/) override {
    ++writes;
    const Status status = co_await store.write(offset, from, flags);
    co_return status;
  }
  Task<Status> write_zeroes(BlockDevice&, std::uint64_t, std::uint64_t, ZeroFlags,
                            MirrorVisit&) override {
    co_return Status();
  }
  Task<Status> trim(BlockDevice&, std::uint64_t, std::uint64_t, WriteFlags) override {
    co_return Status();
  }
  Task<Status> flush(BlockDevice&) override { co_return Status(); }

  int writes = 0;
};

Task<void> pass(EventLoop& here, EventLoop& there) { co_await LoopBarrier(here, there); }

class DiskLaneTest : public testing::Test {
 protected:
  void SetUp() override {
    auto home = make_io_loop({.kind = LoopKind::kPortable});
    auto thread = IoThread::start({.kind = LoopKind::kPortable}, "lane");
    ASSERT_TRUE(home.ok() && thread.ok());
    home_ = *std::move(home);
    thread_ = *std::move(thread);
    auto device = std::make_unique<SharedMemory>();
    store_ = device.get();
    disk_ = std::make_unique<Disk>(*home_, "vm1", std::move(device), "test:store", 1);
    lane_ = std::make_unique<DiskLane>(*disk_, thread_->loop());
    auto bitmap = DirtyBitmap::create(kSize, kChunk);
    ASSERT_TRUE(disk_->tracking().add("b", *std::move(bitmap)).ok());
  }
  void TearDown() override {
    run_task(*home_, pass(*home_, thread_->loop()));
    lane_.reset();
    const Status closed = run_task(*home_, disk_->close());
    EXPECT_TRUE(closed.ok());
    disk_.reset();
  }
  /// Runs `make()` on the lane's loop.
  template <typename Make>
  auto on_lane(Make make) {
    return run_task(*home_, call<Make>(*home_, thread_->loop(), calls_, make));
  }
  template <typename Make>
  static Task<typename call_on<Make>::Value> call(EventLoop& here, EventLoop& there,
                                                  TaskScope& scope, Make make) {
    auto value = co_await call_on(here, there, scope, make);
    co_await LoopBarrier(here, there);
    co_return value;
  }
  Status write(std::uint64_t offset, const std::vector<std::byte>& bytes, bool fua = false) {
    const ConstBytes from(bytes);
    const WriteFlags flags{.fua = fua};
    return on_lane([this, offset, from, flags] { return lane_->write(offset, from, flags); });
  }
  std::vector<std::byte> read(std::uint64_t offset, std::size_t length) {
    std::vector<std::byte> bytes(length);
    const MutableBytes into(bytes);
    const Status status = on_lane([this, offset, into] { return lane_->read(offset, into); });
    EXPECT_TRUE(status.ok());
    return bytes;
  }
  const DirtyBitmap& bitmap() { return *disk_->tracking().find("b"); }

  std::unique_ptr<IoLoop> home_;
  TaskScope calls_;  ///< used on the lane's loop
  std::unique_ptr<IoThread> thread_;
  SharedMemory* store_ = nullptr;
  std::unique_ptr<Disk> disk_;
  std::unique_ptr<DiskLane> lane_;
  const std::vector<std::byte> data_ = std::vector<std::byte>(4096, std::byte{0x5a});
};

TEST_F(DiskLaneTest, ServesFromItsOwnThreadAndMarks) {
  ASSERT_TRUE(write(3 * kChunk, data_).ok());
  EXPECT_EQ(read(3 * kChunk, 4096), data_);
  EXPECT_EQ(store_->asked_at_home, 0);
  EXPECT_EQ(bitmap().dirty_count(), 1u);
  EXPECT_TRUE(bitmap().is_dirty(3));
  const RequestStats stats = disk_->stats();
  EXPECT_EQ(stats.requests(DiskOp::kWrite), 1u);
  EXPECT_EQ(stats.bytes(DiskOp::kRead), 4096u);
  EXPECT_EQ(disk_->guest_bytes_written(), 4096u);
  EXPECT_EQ(stats.in_flight(), 0u);
}

TEST_F(DiskLaneTest, WhatIsNotToBeHadAtOnceGoesHome) {
  store_->refuses_now = true;
  ASSERT_TRUE(write(kChunk, data_).ok());
  EXPECT_EQ(read(kChunk, 4096), data_);
  EXPECT_EQ(store_->asked_at_home, 2);
  EXPECT_EQ(bitmap().dirty_count(), 1u);
  EXPECT_EQ(disk_->stats().requests(DiskOp::kWrite), 1u) << "counted once";
  EXPECT_EQ(disk_->stats().in_flight(), 0u);
}

TEST_F(DiskLaneTest, HeatsTheDisksMap) {
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(write(3 * kChunk, data_).ok());
  EXPECT_EQ(store_->asked_at_home, 0);
  EXPECT_NEAR(disk_->write_heat().heat(3 * kChunk, home_->now()), 200, 80);
}

TEST_F(DiskLaneTest, FuaGoesHome) {
  ASSERT_TRUE(write(0, data_, true).ok());
  EXPECT_EQ(store_->asked_at_home, 1);
}

TEST_F(DiskLaneTest, AMirrorSeesEveryWrite) {
  CountingMirror mirror;
  disk_->set_mirror(&mirror);
  ASSERT_TRUE(write(0, data_).ok());
  EXPECT_EQ(mirror.writes, 1);
  EXPECT_EQ(read(0, 4096), data_);
  disk_->set_mirror(nullptr);
  ASSERT_TRUE(write(0, data_).ok());
  EXPECT_EQ(mirror.writes, 1);
}

TEST_F(DiskLaneTest, AThrottledWriteGoesHome) {
  disk_->write_throttle().set_rate(1 << 30);
  ASSERT_TRUE(write(0, data_).ok());
  EXPECT_EQ(store_->asked_at_home, 1);
}

TEST_F(DiskLaneTest, EverythingElseReachesTheDisk) {
  EXPECT_TRUE(on_lane([this] { return lane_->flush(); }).ok());
  EXPECT_TRUE(on_lane([this] { return lane_->trim(0, 4096, WriteFlags{}); }).ok());
  EXPECT_TRUE(on_lane([this] { return lane_->write_zeroes(0, 4096, ZeroFlags{}); }).ok());
  const auto extents = on_lane([this] { return lane_->extents(0, 4096); });
  ASSERT_TRUE(extents.ok());
  EXPECT_EQ(extents->size(), 1u);
  std::vector<std::byte> scratch(4096);
  EXPECT_TRUE(on_lane([&] { return lane_->prefetch(0, scratch); }).ok());
  EXPECT_EQ(disk_->stats().requests(DiskOp::kFlush), 1u);
  EXPECT_EQ(disk_->stats().requests(DiskOp::kCache), 1u);
  EXPECT_TRUE(bitmap().is_dirty(0));
}

TEST_F(DiskLaneTest, AClosedDiskRefuses) {
  EXPECT_TRUE(run_task(*home_, disk_->close()).ok());
  const Status status = write(0, data_);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code(), ErrorCode::kShutdown);
}

Task<Status> write_until(DiskLane& lane, EventLoop& loop, const std::atomic<bool>& stop,
                         std::atomic<int>& writes) {
  std::vector<std::byte> bytes(512);
  for (unsigned i = 0; !stop.load(); ++i) {
    const std::uint64_t chunk = i * 7919u % (kSize / kChunk);
    std::fill(bytes.begin(), bytes.end(), static_cast<std::byte>(i));
    const ConstBytes from(bytes);
    const Status status = co_await lane.write(chunk * kChunk, from, WriteFlags{});
    if (!status.ok()) co_return status;
    writes.fetch_add(1);
    if (i % 16 == 0) {
      co_await LoopBarrier(loop, lane.home());
    }
  }
  co_return Status();
}

/// Copies what is dirty from the store to `target`; the order of I6.
void copy_pass(DirtyBitmap& job, SharedMemory& store, std::vector<std::byte>& target) {
  DirtyLease lease = job.lease(0, 1000);
  for (std::size_t i = 0; i < lease.chunks().size(); ++i) {
    const ByteRange range = lease.range(i);
    const MutableBytes into = MutableBytes(target).subspan(static_cast<std::size_t>(range.offset),
                                                           static_cast<std::size_t>(range.length));
    ASSERT_TRUE(store.read_now(range.offset, into));
    lease.acknowledge(i);
  }
}

Task<Status> fence(Gate& gate) {
  co_await gate.close();
  co_return Status();
}

/// A move under a writer on another thread: passes, then the fence, the last pass, and the two
/// sides are equal.
TEST_F(DiskLaneTest, I4TheLastPassUnderTheFenceMakesTheTargetEqual) {
  std::atomic<bool> stop = false;
  std::atomic<int> writes = 0;
  TaskScope writers;  // on the lane's loop
  EventLoop& other = thread_->loop();
  Status written;
  TaskScope here;
  const auto drive = [&]() -> Task<void> {
    const Status status = co_await call_on(
        *home_, other, writers, [&] { return write_until(*lane_, other, stop, writes); });
    written = status;
  };
  here.spawn(drive());
  for (int move = 0; move < 30; ++move) {
    auto made = DirtyBitmap::create(kSize, kChunk);
    auto job = *std::move(made);
    std::vector<std::byte> target(kSize);
    disk_->tracking().attach_job(*job);
    job->mark_all();
    const int begun = writes.load();
    while (writes.load() < begun + 200) {
      copy_pass(*job, *store_, target);
      run_task(*home_, pass(*home_, other));
    }
    ASSERT_TRUE(run_task(*home_, fence(disk_->gate())).ok());
    copy_pass(*job, *store_, target);
    ASSERT_EQ(job->dirty_count(), 0u);
    EXPECT_EQ(target, store_->content()) << "move " << move;
    disk_->tracking().detach_job(job.get());
    disk_->gate().open();
  }
  stop.store(true);
  while (here.running() != 0) run_task(*home_, pass(*home_, other));
  EXPECT_TRUE(written.ok());
}

}  // namespace
}  // namespace blockmig
