// SPDX-License-Identifier: Apache-2.0
#include "blockmig/disk/region_snapshot.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "blockmig/base/random.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"
#include "blockmig/io/task_scope.h"
#include "tests/unit/shared/join_all.h"

namespace blockmig {
namespace {

constexpr std::uint32_t kGranularity = 4096;

/// The journal's containers of one set.
using Containers = std::map<std::uint32_t, RegionContainer>;

void record_into(const JournalBatch& batch, Containers& containers) {
  for (const RegionChange& change : batch.regions) {
    for (const RegionContainer& put : change.put) containers[put.index] = put;
    for (const std::uint32_t index : change.erase) containers.erase(index);
  }
}

void expect_same(const DirtyFilter& set, const Containers& containers) {
  std::vector<RegionContainer> all;
  for (const auto& entry : containers) all.push_back(entry.second);
  DirtyFilter read(set.chunk_count());
  ASSERT_TRUE(for_each_run(all, set.chunk_count(), [&](std::uint64_t first, std::uint64_t end) {
                read.set_range(first, end);
              }).ok());
  ASSERT_EQ(read.count(), set.count());
  for (std::size_t i = 0; i < set.block_count(); ++i) ASSERT_TRUE(read.same_block(set, i)) << i;
}

TEST(RegionSnapshot, ChangesTurnWhatIsRecordedIntoWhatIsNow) {
  constexpr std::uint64_t kChunks = 3 * kChunksPerContainer + 77;
  Random random(1);
  SimLoop loop(random);
  for (int round = 0; round < 20; ++round) {
    DirtyFilter before(kChunks);
    DirtyFilter now(kChunks);
    for (int i = 0; i < 5; ++i) {
      const std::uint64_t first = random.below(kChunks);
      before.set_range(first, std::min(first + random.below(5000), kChunks));
      const std::uint64_t other = random.below(kChunks);
      now.set_range(other, std::min(other + random.below(50'000), kChunks));
      now.set(random.below(kChunks));
    }
    const DirtyFilter nothing(kChunks);
    Containers containers;
    JournalBatch first;
    add_change(first, nothing, before, {"d", "x"});
    record_into(first, containers);
    JournalBatch second;
    run_task(loop, add_change_in_turns(loop, second, before, now, {"d", "x"}));
    record_into(second, containers);
    expect_same(now, containers);
  }
}

TEST(RegionSnapshot, AChangeNamesNoMoreContainersThanItMay) {
  constexpr std::uint32_t kCount = 2 * kMaxContainersPerChange + 3;
  DirtyFilter now(std::uint64_t{kCount} * kChunksPerContainer);
  for (std::uint32_t i = 0; i < kCount; ++i) now.set(std::uint64_t{i} * kChunksPerContainer + i);
  const DirtyFilter nothing(now.chunk_count());
  JournalBatch batch;
  add_change(batch, nothing, now, {"d", "x"});
  ASSERT_EQ(batch.regions.size(), 3u);
  EXPECT_EQ(batch.regions[0].put.size(), kMaxContainersPerChange);
  EXPECT_EQ(batch.regions[2].put.size(), 3u);
  Containers containers;
  record_into(batch, containers);
  expect_same(now, containers);
}

Task<void> count_turns(EventLoop& loop, const bool& ended, int& turns) {
  while (!ended) {
    ++turns;
    co_await sleep_for(loop, std::chrono::nanoseconds(1));
  }
}

/// What a job has: chunks that are dirty, and some that are being copied, which are not.
struct Work {
  std::unique_ptr<DirtyBitmap> dirty;
  std::set<std::uint64_t> busy;
};

/// Copies chunks in vain while somebody looks: at no time is one neither dirty nor busy.
Task<void> copy_in_vain(EventLoop& loop, Random& random, Work& work, const bool& ended) {
  while (!ended) {
    const auto chunk =
        static_cast<std::uint32_t>(random.below(work.dirty->block_count()) * kChunksPerContainer);
    std::optional<DirtyLease> lease(work.dirty->lease_chunks({chunk}));
    if (!lease->empty()) work.busy.insert(chunk);
    co_await sleep_for(loop, std::chrono::nanoseconds(1 + random.below(4)));
    if (!lease->empty()) work.busy.erase(chunk);
    lease.reset();
  }
}

Task<void> look(EventLoop& loop, Work& work, DirtyFilter& into, bool& ended) {
  const auto add_busy = [&](std::uint32_t, std::uint32_t) {
    for (const std::uint64_t chunk : work.busy) into.set(chunk);
  };
  co_await copy_dirty(loop, *work.dirty, into, add_busy);
  ended = true;
}

// Found by measuring: a look at a disk of 16 TiB held its loop up for a second.
TEST(RegionSnapshot, ALookAtALargeDiskGivesUpTheLoopAndMissesNothing_I10) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    Random random(seed);
    SimLoop loop(random);
    constexpr std::uint64_t kContainers = 10 * kContainersPerTurn + 5;
    constexpr std::uint64_t kBytes = kContainers * kChunksPerContainer * kGranularity - 512;
    Work work{*DirtyBitmap::create(kBytes, kGranularity), {}};
    work.dirty->mark(0, kBytes);
    DirtyFilter seen(work.dirty->chunk_count());
    bool ended = false;
    int turns = 0;
    TaskScope scope;
    for (int i = 0; i < 64; ++i) scope.spawn(copy_in_vain(loop, random, work, ended));
    scope.spawn(count_turns(loop, ended, turns));
    run_task(loop, look(loop, work, seen, ended));
    run_task(loop, join_all(scope));
    EXPECT_GE(turns, 10);
    ASSERT_EQ(seen.count(), seen.chunk_count()) << "seed " << seed;
  }
}

}  // namespace
}  // namespace blockmig
