// SPDX-License-Identifier: Apache-2.0
// The activity log: what it records, when a write waits, and what a failing journal does to it.
#include "blockmig/disk/activity_log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "blockmig/base/random.h"
#include "blockmig/disk/region_snapshot.h"
#include "blockmig/disk/tracking.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/journal/forwarding_journal.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kRegion = 4096;
constexpr std::uint64_t kRegions = 16;

/// Counts commits, and fails them when told to.
class CountingJournal final : public ForwardingJournal {
 public:
  explicit CountingJournal(EventLoop& loop) : ForwardingJournal(make_memory_journal(loop)) {}
  Task<Status> commit(const JournalBatch& batch) override {
    ++commits;
    for (const RegionChange& change : batch.regions) {
      most_containers = std::max(most_containers, change.put.size() + change.erase.size());
    }
    const bool fails = failures > 0;
    if (fails) --failures;
    if (!fails || failures_happen) {
      const Status saved = co_await inner().commit(batch);
      if (!saved.ok()) co_return saved;
    }
    if (fails) co_return Error(ErrorCode::kIo, "planned");
    co_return Status();
  }
  Task<Status> distrust_sets() override {
    ++distrusted;
    on_distrust();
    if (distrust_fails) co_return Error(ErrorCode::kIo, "planned");
    const Status done = co_await inner().distrust_sets();
    co_return done;
  }

  int commits = 0;
  std::size_t most_containers = 0;  ///< of one change
  int failures = 0;
  bool failures_happen = false;
  int distrusted = 0;
  bool distrust_fails = false;
  std::function<void()> on_distrust = [] {};
};

class ActivityLogTest : public testing::Test {
 protected:
  static std::uint64_t at(std::uint64_t region) { return region * kRegion; }
  Status activate(std::uint64_t region) {
    return run_task(loop_, log_.activate(at(region), kRegion));
  }
  /// Retires what nobody touched; true if the journal took it.
  Status retire(bool all = false) {
    log_.begin_retire(all);
    return run_task(loop_, log_.commit(JournalBatch()));
  }
  std::vector<std::uint64_t> recorded() {
    std::vector<std::uint64_t> regions;
    const auto sets = run_task(loop_, journal_.load_sets("d"));
    if (!sets.ok() || sets->empty()) return {999};
    const auto containers = run_task(loop_, journal_.load_regions("d", "active"));
    const Status walked =
        for_each_run(*containers, kRegions, [&](std::uint64_t first, std::uint64_t end) {
          for (std::uint64_t i = first; i < end; ++i) regions.push_back(i);
        });
    EXPECT_TRUE(walked.ok());
    return regions;
  }

  Random random_{1};
  SimLoop loop_{random_};
  CountingJournal journal_{loop_};
  ActivityLog log_{loop_, journal_, {"d", "active"}, kRegions* kRegion - 5, kRegion};
};

using Regions = std::vector<std::uint64_t>;

TEST_F(ActivityLogTest, OnlyTheFirstWriteIntoAColdRegionCommits_I5) {
  EXPECT_FALSE(log_.covers(at(3), 1));
  EXPECT_TRUE(activate(3).ok());
  EXPECT_EQ(journal_.commits, 1);
  EXPECT_EQ(recorded(), (Regions{3}));
  EXPECT_TRUE(log_.covers(at(3), kRegion));
  EXPECT_FALSE(log_.covers(at(3), kRegion + 1));
  EXPECT_TRUE(activate(3).ok());
  EXPECT_EQ(journal_.commits, 1);
}

Task<void> activate_into(ActivityLog& log, std::uint64_t offset, int& done) {
  const Status active = co_await log.activate(offset, 1);
  if (active.ok()) ++done;
}

TEST_F(ActivityLogTest, ManyWhoWaitShareCommits) {
  TaskScope scope;
  int done = 0;
  for (std::uint64_t i = 0; i < kRegions; ++i) {
    auto task = activate_into(log_, at(i), done);
    scope.spawn(std::move(task));
  }
  loop_.run();
  EXPECT_EQ(done, static_cast<int>(kRegions));
  EXPECT_EQ(journal_.commits, 2) << "one for the first, one for those who came meanwhile";
}

TEST_F(ActivityLogTest, RegionsLeaveWhenNobodyTouchedThem) {
  EXPECT_TRUE(activate(1).ok());
  EXPECT_TRUE(activate(2).ok());
  EXPECT_TRUE(retire().ok());
  EXPECT_EQ(recorded(), (Regions{1, 2})) << "touched since they became active";
  EXPECT_TRUE(log_.covers(at(2), 1));
  EXPECT_TRUE(retire().ok());
  EXPECT_EQ(recorded(), (Regions{2}));
  EXPECT_FALSE(log_.covers(at(1), 1));
  EXPECT_TRUE(retire(true).ok());
  EXPECT_EQ(recorded(), Regions());
}

TEST_F(ActivityLogTest, AWriteBeforeTheCommitTakesItsRegionBackAtNoCost) {
  log_.activate_all();
  log_.begin_retire(false);
  EXPECT_FALSE(log_.covers(at(5), 1));
  EXPECT_TRUE(activate(5).ok());
  EXPECT_EQ(journal_.commits, 0);
  EXPECT_TRUE(run_task(loop_, log_.commit(JournalBatch())).ok());
  EXPECT_EQ(recorded(), (Regions{5}));
  EXPECT_TRUE(log_.covers(at(5), 1));
}

TEST_F(ActivityLogTest, WhatIsCancelledIsActiveAgain) {
  log_.activate_all();
  log_.begin_retire(true);
  log_.cancel_retire();
  EXPECT_EQ(log_.active_regions(), kRegions);
  EXPECT_TRUE(log_.covers(0, kRegions * kRegion - 5));
}

// Whether a failed commit happened is not known: both must be right.
TEST_F(ActivityLogTest, AFailedCommitLosesNoRegion_I11) {
  for (const bool happened : {false, true}) {
    SCOPED_TRACE(happened);
    ActivityLog log(loop_, journal_, {"d", "active"}, kRegions * kRegion, kRegion);
    log.activate_all();
    journal_.failures = 1;
    journal_.failures_happen = happened;
    log.begin_retire(true);
    EXPECT_FALSE(run_task(loop_, log.commit(JournalBatch())).ok());
    EXPECT_FALSE(log.covers(at(4), 1)) << "perhaps recorded as cold";
    EXPECT_TRUE(run_task(loop_, log.activate(at(4), 1)).ok());
    EXPECT_TRUE(log.covers(at(4), 1));
    EXPECT_EQ(recorded().size(), kRegions) << "whatever was recorded before, all count as active";
  }
}

TEST_F(ActivityLogTest, AJournalThatKeepsFailingIsDistrustedAndWritesGoOn_I8) {
  EXPECT_TRUE(activate(1).ok());
  journal_.failures = 1000;
  EXPECT_TRUE(activate(2).ok());
  EXPECT_EQ(journal_.distrusted, 1);
  EXPECT_EQ(recorded(), (Regions{999})) << "the set is void";
  EXPECT_TRUE(activate(3).ok());
  EXPECT_FALSE(retire().ok()) << "nothing is recorded any more";
}

TEST_F(ActivityLogTest, NothingLeavesALogThatWasGivenUp_I8) {
  EXPECT_TRUE(activate(1).ok());
  journal_.failures = 1000;
  EXPECT_TRUE(activate(2).ok());
  const int commits = journal_.commits;
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(retire(i == 2).ok()) << "and the next one begins all the same";
    EXPECT_EQ(log_.active_regions(), kRegions);
    EXPECT_TRUE(log_.covers(at(5), kRegion)) << "a write has nothing to wait for";
  }
  EXPECT_EQ(journal_.commits, commits);
}

TEST_F(ActivityLogTest, WhatBeganToLeaveWhileTheLogWasGivenUpComesBack_I8) {
  EXPECT_TRUE(activate(1).ok());
  EXPECT_TRUE(retire().ok());  // from now on nobody has touched it
  journal_.failures = 1000;
  journal_.on_distrust = [this] { log_.begin_retire(false); };
  EXPECT_TRUE(activate(2).ok());
  EXPECT_TRUE(log_.covers(at(1), 1));
  EXPECT_FALSE(run_task(loop_, log_.commit(JournalBatch())).ok());
  EXPECT_FALSE(retire().ok());
  EXPECT_EQ(log_.active_regions(), kRegions);
}

TEST_F(ActivityLogTest, AWriteThatCanNeitherBeRecordedNorDistrustedFails_I5) {
  journal_.failures = 1000;
  journal_.distrust_fails = true;
  EXPECT_FALSE(activate(2).ok());
  EXPECT_FALSE(log_.covers(at(2), 1));
}

TEST_F(ActivityLogTest, ARestartFindsItsRegionsActive) {
  EXPECT_TRUE(activate(2).ok());
  EXPECT_TRUE(activate(9).ok());
  ActivityLog next(loop_, journal_, {"d", "active"}, kRegions * kRegion, kRegion);
  const auto containers = run_task(loop_, journal_.load_regions("d", "active"));
  ASSERT_TRUE(next.load(*containers).ok());
  EXPECT_TRUE(next.covers(at(9), 1));
  EXPECT_FALSE(next.covers(at(3), 1));
  ActivityLog smaller(loop_, journal_, {"d", "active"}, 4 * kRegion, kRegion);
  EXPECT_FALSE(smaller.load(*containers).ok()) << "recorded of another disk";
}

// A region's size is recorded in 32 bits: beyond 128 TiB there are more of them instead.
TEST_F(ActivityLogTest, ADiskOfAnySizeHasRegions) {
  for (const unsigned shift : {40u, 47u, 48u, 56u}) {
    const std::uint64_t size = (std::uint64_t{1} << shift) + 4096;
    ActivityLog log(loop_, journal_, {"large", "active"}, size, 0);
    EXPECT_LE(log.region_bytes(), std::uint64_t{1} << 31);
    EXPECT_EQ(log.description().granularity_bytes, log.region_bytes());
    EXPECT_GE(log.region_count() * log.region_bytes(), size);
  }
}

TEST_F(ActivityLogTest, ManyRegionsAreRecordedInChangesOfABoundedSize) {
  constexpr std::uint64_t kContainers = kMaxContainersPerChange + 3;
  constexpr std::uint64_t kMany = kContainers * kChunksPerContainer;
  ActivityLog log(loop_, journal_, {"large", "active"}, kMany * kRegion, kRegion);
  log.activate_all();
  ASSERT_TRUE(run_task(loop_, log.record(JournalBatch())).ok());
  EXPECT_EQ(run_task(loop_, journal_.load_regions("large", "active"))->size(), kContainers);
  EXPECT_LE(journal_.most_containers, kMaxContainersPerChange);
}

}  // namespace
}  // namespace blockmig
