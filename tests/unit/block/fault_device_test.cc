// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/fault_device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "blockmig/base/random.h"
#include "blockmig/io/sim_loop.h"
#include "blockmig/io/task_scope.h"
#include "tests/unit/block/store_fixture.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kSize = 256 * kKiB;

struct Rig {
  explicit Rig(std::uint64_t seed = 1) : random(seed), loop(random) {}
  Bytes seen(std::uint64_t offset, std::size_t length) const {
    Bytes bytes(length);
    device.peek(offset, bytes);
    return bytes;
  }
  Bytes durable(std::uint64_t offset, std::size_t length) const {
    Bytes bytes(length);
    device.peek_durable(offset, bytes);
    return bytes;
  }

  Random random;
  SimLoop loop;
  FaultDevice device{loop, random, "fault", kSize};
  SyncDevice sync{loop, device};
};

Task<void> store_status(Task<Status> task, std::optional<Status>& into) {
  const Status done = co_await task;
  into = done;
}

/// Starts a request that stays under way until something lets it go.
class Started {
 public:
  Started(Rig& rig, Task<Status> task) : rig_(rig) {
    scope_.spawn(store_status(std::move(task), result_));
  }
  bool finished() const { return result_.has_value(); }
  Status finish() {
    while (!result_ && rig_.loop.step()) {
    }
    return result_.value_or(Status(Error(ErrorCode::kTimedOut)));
  }

 private:
  Rig& rig_;
  TaskScope scope_;
  std::optional<Status> result_;
};

TEST(FaultDevice, AWriteIsVisibleAtOnceAndDurableAfterAFlush_I1) {
  Rig rig;
  ASSERT_TRUE(rig.sync.write(100, filled(50, 3)).ok());
  EXPECT_EQ(rig.seen(100, 50), filled(50, 3));
  EXPECT_EQ(rig.durable(100, 50), filled(50, 0));
  ASSERT_TRUE(rig.sync.flush().ok());
  EXPECT_EQ(rig.durable(100, 50), filled(50, 3));
}

TEST(FaultDevice, FuaIsDurableWithoutAFlush_I1) {
  Rig rig;
  ASSERT_TRUE(rig.sync.write(0, filled(512, 3), WriteFlags{true}).ok());
  EXPECT_EQ(rig.durable(0, 512), filled(512, 3));
  ZeroFlags zero;
  zero.fua = true;
  ASSERT_TRUE(rig.sync.write_zeroes(0, 256, zero).ok());
  EXPECT_EQ(rig.durable(0, 256), filled(256, 0));
}

TEST(FaultDevice, OlderCachedWritesNeverOverwriteANewerFuaWrite_I2) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    Rig rig(seed);
    ASSERT_TRUE(rig.sync.write(0, filled(1024, 1)).ok());
    ASSERT_TRUE(rig.sync.write(0, filled(1024, 2), WriteFlags{true}).ok());
    if (seed % 2 == 0) {
      ASSERT_TRUE(rig.sync.flush().ok());
    }
    rig.device.crash();
    EXPECT_EQ(rig.seen(0, 1024), filled(1024, 2)) << "seed " << seed;
  }
}

TEST(FaultDevice, ACrashDropsTearsOrKeepsUnflushedWritesBySectors) {
  int whole = 0;
  int lost = 0;
  int torn = 0;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    Rig rig(seed);
    ASSERT_TRUE(rig.sync.write(512, filled(4096, 9)).ok());
    rig.device.crash();
    const Bytes left = rig.seen(512, 4096);
    std::size_t kept = 0;
    for (std::size_t sector = 0; sector < 8; ++sector) {
      const Bytes one(left.begin() + static_cast<std::ptrdiff_t>(sector * 512),
                      left.begin() + static_cast<std::ptrdiff_t>(sector * 512 + 512));
      ASSERT_TRUE(one == filled(512, 9) || one == filled(512, 0)) << "a sector was torn";
      kept += one == filled(512, 9) ? 1 : 0;
    }
    ++(kept == 8 ? whole : kept == 0 ? lost : torn);
  }
  EXPECT_GT(whole, 20);
  EXPECT_GT(lost, 20);
  EXPECT_GT(torn, 20);
}

TEST(FaultDevice, FlushedWritesSurviveEveryCrash_I1) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    Rig rig(seed);
    const Bytes bytes = random_bytes(rig.random, 10'000);
    ASSERT_TRUE(rig.sync.write(777, bytes).ok());
    ASSERT_TRUE(rig.sync.flush().ok());
    rig.device.crash();
    EXPECT_EQ(rig.seen(777, bytes.size()), bytes);
  }
}

TEST(FaultDevice, WhatIsUnderWayInACrashFailsAndMayHaveHappened) {
  int happened = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    Rig rig(seed);
    rig.device.stall();
    const Bytes bytes = filled(512, 4);
    Started write(rig, rig.device.write(0, bytes, {}));
    EXPECT_EQ(rig.device.in_flight(), 1u);
    rig.device.crash();
    rig.device.unstall();
    const Status done = write.finish();
    ASSERT_FALSE(done.ok());
    EXPECT_EQ(done.error().code(), ErrorCode::kDisconnected);
    EXPECT_EQ(rig.seen(0, 512), rig.durable(0, 512));
    happened += rig.seen(0, 512) == bytes ? 1 : 0;
    // It never takes effect later, and the device serves again.
    ASSERT_TRUE(rig.sync.write(0, filled(512, 5)).ok());
    EXPECT_EQ(rig.seen(0, 512), filled(512, 5));
  }
  EXPECT_GT(happened, 5);
  EXPECT_LT(happened, 55);
}

TEST(FaultDevice, NothingOfACrashTakesEffectWhenTheDeviceIsAbandonedAfterIt) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    Rig rig(seed);
    rig.device.stall();
    const Bytes bytes = filled(512, 4);
    Started write(rig, rig.device.write(0, bytes, {}));
    rig.device.crash();
    rig.device.abandon();
    EXPECT_FALSE(write.finish().ok());
    EXPECT_EQ(rig.seen(0, 512), rig.durable(0, 512));
  }
}

TEST(FaultDevice, AStalledDeviceHoldsRequestsUntilItIsReleased) {
  Rig rig;
  rig.device.stall();
  const Bytes bytes = filled(512, 4);
  Started write(rig, rig.device.write(0, bytes, {}));
  while (rig.loop.step()) {
  }
  EXPECT_FALSE(write.finished());
  EXPECT_EQ(rig.seen(0, 512), filled(512, 0));
  rig.device.unstall();
  EXPECT_TRUE(write.finish().ok());
  EXPECT_EQ(rig.seen(0, 512), bytes);
}

TEST(FaultDevice, AbandonEndsAStalledDeviceAtOnce_I10) {
  Rig rig;
  rig.device.stall();
  const Bytes bytes = filled(512, 4);
  Started write(rig, rig.device.write(0, bytes, {}));
  rig.device.abandon();
  const Bytes at_once = rig.seen(0, 512);
  const Status done = write.finish();
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().code(), ErrorCode::kDisconnected);
  EXPECT_EQ(rig.seen(0, 512), at_once) << "an effect after abandon()";
  const Status later = rig.sync.write(0, bytes);
  ASSERT_FALSE(later.ok());
  EXPECT_EQ(later.error().code(), ErrorCode::kDisconnected);
}

TEST(FaultDevice, AFailedFlushIsStickyAndLosesTheCache_I11) {
  Rig rig;
  ASSERT_TRUE(rig.sync.write(0, filled(512, 4)).ok());
  rig.device.plan().flush_error_ppm = 1'000'000;
  EXPECT_FALSE(rig.sync.flush().ok());
  rig.device.plan().flush_error_ppm = 0;
  EXPECT_FALSE(rig.sync.flush().ok()) << "a retry proves nothing";
  rig.device.crash();
  EXPECT_EQ(rig.seen(0, 512), filled(512, 0));
  EXPECT_TRUE(rig.sync.flush().ok()) << "opened again";
}

TEST(FaultDevice, WhatAFailedFlushDroppedIsSeenButNotOnTheMedium_I11) {
  Rig rig;
  const auto on_the_medium = [&](std::uint64_t offset) {
    std::vector<std::byte> found(512);
    Started read(rig, rig.device.read_medium(offset, found));
    EXPECT_TRUE(read.finish().ok());
    return found;
  };
  ASSERT_TRUE(rig.sync.write(0, filled(512, 4)).ok());
  EXPECT_EQ(on_the_medium(0), filled(512, 4)) << "the cache is written back first";
  rig.device.plan().flush_error_ppm = 1'000'000;
  EXPECT_FALSE(rig.sync.flush().ok());
  rig.device.plan().flush_error_ppm = 0;
  ASSERT_TRUE(rig.sync.write(512, filled(512, 5)).ok());
  EXPECT_EQ(rig.seen(0, 512), filled(512, 4));
  EXPECT_EQ(on_the_medium(0), filled(512, 0));
  EXPECT_EQ(on_the_medium(512), filled(512, 5));
}

TEST(FaultDevice, AFlushCoversOnlyWhatFinishedBeforeIt) {
  Rig rig;
  rig.device.stall();
  Started flush(rig, rig.device.flush());
  rig.device.unstall();
  // The write finishes first, but it came after the flush.
  ASSERT_TRUE(rig.sync.write(0, filled(512, 4)).ok());
  ASSERT_TRUE(flush.finish().ok());
  EXPECT_EQ(rig.durable(0, 512), filled(512, 0));
}

TEST(FaultDevice, ReadErrorsLeaveNoZerosBehind_I11) {
  Rig rig;
  rig.device.plan().read_error_ppm = 1'000'000;
  Bytes into(512);
  const Status done = run_task(rig.loop, rig.device.read(0, into));
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().code(), ErrorCode::kIo);
  EXPECT_FALSE(is_all_zero(into));
}

TEST(FaultDevice, AFailedWriteMayHaveHappenedInPart) {
  int partial = 0;
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    Rig rig(seed);
    rig.device.plan().write_error_ppm = 1'000'000;
    const Status done = rig.sync.write(0, filled(4096, 8));
    ASSERT_FALSE(done.ok());
    EXPECT_EQ(done.error().code(), ErrorCode::kIo);
    const Bytes left = rig.seen(0, 4096);
    partial += left != filled(4096, 0) && left != filled(4096, 8) ? 1 : 0;
  }
  EXPECT_GT(partial, 10);
}

TEST(FaultDevice, LostTornAndMisdirectedWritesReportSuccess) {
  Rig lost;
  lost.device.plan().lost_write_ppm = 1'000'000;
  ASSERT_TRUE(lost.sync.write(0, filled(4096, 8)).ok());
  EXPECT_EQ(lost.seen(0, 4096), filled(4096, 0));

  Rig torn(3);
  torn.device.plan().torn_write_ppm = 1'000'000;
  ASSERT_TRUE(torn.sync.write(0, filled(16 * kKiB, 8)).ok());
  EXPECT_NE(torn.seen(0, 16 * kKiB), filled(16 * kKiB, 8));
  EXPECT_NE(torn.seen(0, 16 * kKiB), filled(16 * kKiB, 0));

  Rig astray(5);
  astray.device.plan().misdirected_write_ppm = 1'000'000;
  ASSERT_TRUE(astray.sync.write(0, filled(512, 8)).ok());
  EXPECT_EQ(astray.seen(0, 512), filled(512, 0));
  EXPECT_NE(astray.seen(0, kSize), filled(kSize, 0));
}

TEST(FaultDevice, WritesDoNotStrayToWhereSomebodyHasLooked) {
  Rig asked(5);
  asked.device.plan().misdirected_write_ppm = 1'000'000;
  ASSERT_TRUE(asked.sync.extents(0, kSize).ok());
  EXPECT_NE(asked.device.plan().misdirected_write_ppm, 0U) << "nothing was written yet";
  ASSERT_TRUE(asked.sync.write(0, filled(512, 8)).ok());
  EXPECT_EQ(asked.seen(0, 512), filled(512, 0));
  ASSERT_TRUE(asked.sync.extents(0, kSize).ok());
  ASSERT_TRUE(asked.sync.write(0, filled(512, 8)).ok());
  EXPECT_EQ(asked.seen(0, 512), filled(512, 8));
}

TEST(FaultDevice, RunsOutOfSpace) {
  Rig rig;
  rig.device.plan().space_bytes = 2 * MemoryDevice::kPageBytes;
  ASSERT_TRUE(rig.sync.write(0, filled(2 * MemoryDevice::kPageBytes, 1)).ok());
  const Status full = rig.sync.write(2 * MemoryDevice::kPageBytes, filled(1, 1));
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(full.error().code(), ErrorCode::kNoSpace);
  EXPECT_TRUE(rig.sync.write(0, filled(100, 2)).ok()) << "overwriting needs no space";
  ASSERT_TRUE(rig.sync.write_zeroes(0, MemoryDevice::kPageBytes).ok());
  EXPECT_TRUE(rig.sync.write(2 * MemoryDevice::kPageBytes, filled(1, 1)).ok());
}

TEST(FaultDevice, RequestsTakeTheirTimeAndShareTheBandwidth) {
  Rig rig;
  rig.device.plan().min_delay = std::chrono::milliseconds(2);
  rig.device.plan().max_delay = std::chrono::milliseconds(2);
  const TimePoint start = rig.loop.now();
  ASSERT_TRUE(rig.sync.read(0, 512).ok());
  EXPECT_EQ(rig.loop.now() - start, std::chrono::milliseconds(2));

  Rig slow;
  slow.device.plan().bytes_per_second = kMiB;
  const Bytes bytes = filled(128 * kKiB, 1);
  Started first(slow, slow.device.write(0, bytes, {}));
  Started second(slow, slow.device.write(128 * kKiB, bytes, {}));
  ASSERT_TRUE(first.finish().ok());
  ASSERT_TRUE(second.finish().ok());
  EXPECT_EQ(slow.loop.now().time_since_epoch(), std::chrono::milliseconds(250));
}

TEST(FaultDevice, ABufferThatChangesInFlightShows_Trap16) {
  int early = 0;
  int late = 0;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    Rig rig(seed);
    rig.device.stall();
    Bytes buffer = filled(512, 1);
    Started write(rig, rig.device.write(0, buffer, {}));
    std::fill(buffer.begin(), buffer.end(), std::byte{2});
    rig.device.unstall();
    ASSERT_TRUE(write.finish().ok());
    ++(rig.seen(0, 512) == filled(512, 1) ? early : late);
  }
  EXPECT_GT(early, 5);
  EXPECT_GT(late, 5);
}

TEST(FaultDevice, PoisonIsDurable_Trap9) {
  Rig rig;
  rig.device.fill(std::byte{0xA5});
  EXPECT_EQ(rig.durable(0, kSize), filled(kSize, 0xA5));
  EXPECT_FALSE(rig.device.info().zero_initialised);
  rig.device.crash();
  EXPECT_EQ(rig.seen(0, kSize), filled(kSize, 0xA5));
}

TEST(FaultDevice, FastZeroingCanBeRefusedWithoutEffect) {
  Rig rig;
  ASSERT_TRUE(rig.sync.write(0, filled(512, 4)).ok());
  rig.device.mutable_info().can_fast_zero = false;
  ZeroFlags flags;
  flags.fast_only = true;
  const Status done = rig.sync.write_zeroes(0, 512, flags);
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().code(), ErrorCode::kNotSupported);
  EXPECT_EQ(rig.seen(0, 512), filled(512, 4));
}

}  // namespace
}  // namespace blockmig
