// SPDX-License-Identifier: Apache-2.0
// Named bitmaps in the journal: exact after a restart in order, a superset after a crash, and
// inconsistent where they cannot be trusted.
#include "blockmig/disk/bitmap_keeper.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "blockmig/block/memory_device.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"

namespace blockmig {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::uint64_t kChunk = 4096;
constexpr std::uint64_t kRegion = 16 * kChunk;
constexpr std::uint64_t kSize = 64 * kRegion;
constexpr Duration kInterval = std::chrono::seconds(1);

class BitmapKeeperTest : public testing::Test {
 protected:
  BitmapKeeperTest() { start(kSize); }
  ~BitmapKeeperTest() override { die(); }

  void start(std::uint64_t size, bool read_only = false) {
    auto device = std::make_unique<MemoryDevice>("memory", size);
    device->mutable_info().read_only = read_only;
    disk_ = std::make_unique<Disk>(loop_, "vm1", std::move(device), "test:vm1", 1);
    keeper_ = std::make_unique<BitmapKeeper>(loop_, *journal_, *disk_, kInterval, kRegion);
  }
  /// As kill -9 does.
  void die() {
    if (keeper_ == nullptr) return;
    run_task(loop_, keeper_->abandon());
    static_cast<void>(run_task(loop_, disk_->close()));
    keeper_.reset();
    disk_.reset();
  }
  void end_in_order(const std::string& identity) {
    ASSERT_TRUE(run_task(loop_, disk_->stop()).ok());
    const Status closed = run_task(loop_, keeper_->close(identity));
    ASSERT_TRUE(closed.ok()) << closed.error().message();
    ASSERT_TRUE(run_task(loop_, disk_->close()).ok());
    keeper_.reset();
    disk_.reset();
  }
  void restart(const std::string& identity, bool same_store = true, std::uint64_t size = kSize) {
    start(size);
    const Status opened = run_task(loop_, keeper_->open(same_store, identity));
    ASSERT_TRUE(opened.ok()) << opened.error().message();
  }
  Status add(const std::string& name, bool persistent = true, bool recording = true,
             std::uint32_t granularity = kChunk) {
    BitmapPlan plan{name, granularity, persistent, recording};
    return run_task(loop_, keeper_->add(std::move(plan)));
  }
  void write(std::uint64_t chunk) {
    const std::vector<std::byte> bytes(512, std::byte{7});
    const ConstBytes from(bytes);
    const WriteFlags flags{};
    const Status written = run_task(loop_, disk_->write(chunk * kChunk + 512, from, flags));
    ASSERT_TRUE(written.ok()) << written.error().message();
  }
  /// Two checkpoints without writes: every region has left.
  void rest() { run_task(loop_, sleep_for(loop_, kInterval * 3)); }
  BitmapFacts facts(const std::string& name) {
    for (BitmapFacts& found : keeper_->bitmaps()) {
      if (found.name == name) return found;
    }
    ADD_FAILURE() << "no bitmap " << name;
    return {};
  }
  std::vector<std::uint64_t> marked(const std::string& name) {
    std::vector<std::uint64_t> chunks;
    const BitmapFacts found = facts(name);
    if (found.bitmap == nullptr) return chunks;
    for (std::uint64_t i = 0; i < found.bitmap->chunk_count(); ++i) {
      if (found.bitmap->is_dirty(i)) chunks.push_back(i);
    }
    return chunks;
  }
  std::size_t recorded_sets() {
    const std::string disk = "vm1";
    return run_task(loop_, journal_->load_sets(disk))->size();
  }

  Random random_{1};
  SimLoop loop_{random_};
  std::unique_ptr<Journal> journal_ = make_memory_journal(loop_);
  std::unique_ptr<Disk> disk_;
  std::unique_ptr<BitmapKeeper> keeper_;
};

TEST_F(BitmapKeeperTest, TheIdOfABeginningOutlivesADeathAndIsNoneOfAnInconsistentOne) {
  BitmapPlan plan{"b", kChunk, true, true, "its id"};
  ASSERT_TRUE(run_task(loop_, keeper_->add(std::move(plan))).ok());
  EXPECT_EQ(facts("b").id, "its id");
  die();
  restart("as it is");
  EXPECT_EQ(facts("b").id, "its id");
  end_in_order("as it is");
  restart("changed");
  EXPECT_NE(facts("b").inconsistent, "");
  die();
  restart("changed");
  EXPECT_EQ(facts("b").id, "") << "what the record says now is why it is inconsistent";
}

TEST_F(BitmapKeeperTest, ARestartInOrderChangesNothing) {
  write(1);
  ASSERT_TRUE(add("b").ok());
  write(2);
  write(500);
  end_in_order("as it is");
  restart("as it is");
  EXPECT_THAT(marked("b"), ElementsAre(2, 500));
  write(3);
  EXPECT_THAT(marked("b"), ElementsAre(2, 3, 500));
}

TEST_F(BitmapKeeperTest, AfterACrashActiveRegionsAreMarkedToo_I5) {
  ASSERT_TRUE(add("b").ok());
  write(2);
  rest();
  write(500);  // its region is active: the bitmap on record does not have it
  die();
  restart("whatever a crash leaves");
  std::vector<std::uint64_t> expected = {2};
  for (std::uint64_t i = 496; i < 512; ++i) expected.push_back(i);
  EXPECT_EQ(marked("b"), expected);
}

TEST_F(BitmapKeeperTest, ACrashRightAfterAddMissesNothing_I5) {
  ASSERT_TRUE(add("b").ok());
  write(9);
  die();
  restart("");
  EXPECT_TRUE(facts("b").bitmap->is_dirty(9));
}

TEST_F(BitmapKeeperTest, ADiskAtRestHasNoSurplus) {
  ASSERT_TRUE(add("b").ok());
  write(9);
  rest();
  die();
  restart("");
  EXPECT_THAT(marked("b"), ElementsAre(9));
}

TEST_F(BitmapKeeperTest, TransientOnesAreNotRecordedAndCostNothing) {
  ASSERT_TRUE(add("b", false).ok());
  EXPECT_EQ(disk_->tracking().log(DirtyTracking::Recorded::kNamed), nullptr);
  EXPECT_EQ(recorded_sets(), 0U);
  write(3);
  EXPECT_THAT(marked("b"), ElementsAre(3));
  end_in_order("x");
  restart("x");
  EXPECT_THAT(keeper_->bitmaps(), IsEmpty());
}

TEST_F(BitmapKeeperTest, TheLastOneTakesTheLogWithIt) {
  ASSERT_TRUE(add("a").ok());
  ASSERT_TRUE(add("b").ok());
  EXPECT_NE(disk_->tracking().log(DirtyTracking::Recorded::kNamed), nullptr);
  ASSERT_TRUE(run_task(loop_, keeper_->remove("a")).ok());
  rest();
  EXPECT_NE(disk_->tracking().log(DirtyTracking::Recorded::kNamed), nullptr);
  ASSERT_TRUE(run_task(loop_, keeper_->remove("b")).ok());
  rest();
  EXPECT_EQ(disk_->tracking().log(DirtyTracking::Recorded::kNamed), nullptr);
  EXPECT_EQ(recorded_sets(), 0U);
  ASSERT_TRUE(add("c").ok());
  write(4);
  end_in_order("x");
  restart("x");
  EXPECT_THAT(marked("c"), ElementsAre(4));
}

TEST_F(BitmapKeeperTest, DisabledOnesAreMarkedByMergesOnly) {
  ASSERT_TRUE(add("week", true, false).ok());
  ASSERT_TRUE(add("day").ok());
  write(7);
  EXPECT_THAT(marked("week"), IsEmpty());
  ASSERT_TRUE(run_task(loop_, keeper_->merge("week", {"day"})).ok());
  write(8);
  EXPECT_THAT(marked("week"), ElementsAre(7));
  die();
  restart("");
  EXPECT_THAT(marked("week"), ElementsAre(7));  // no active region is or-ed into it
  EXPECT_FALSE(facts("week").recording);
  write(9);
  EXPECT_THAT(marked("week"), ElementsAre(7));
}

TEST_F(BitmapKeeperTest, AMergeMarksEveryChunkThatOverlaps) {
  ASSERT_TRUE(add("coarse", true, false, 4 * kChunk).ok());
  ASSERT_TRUE(add("fine", true, false).ok());
  ASSERT_TRUE(add("day").ok());
  write(5);
  ASSERT_TRUE(run_task(loop_, keeper_->merge("coarse", {"day"})).ok());
  EXPECT_THAT(marked("coarse"), ElementsAre(1));
  ASSERT_TRUE(run_task(loop_, keeper_->merge("fine", {"coarse"})).ok());
  EXPECT_THAT(marked("fine"), ElementsAre(4, 5, 6, 7));
  const Status none = run_task(loop_, keeper_->merge("fine", {"day", "nothing"}));
  EXPECT_EQ(none.error().code(), ErrorCode::kNotFound);
  EXPECT_THAT(marked("fine"), ElementsAre(4, 5, 6, 7)) << "all sources or none";
}

TEST_F(BitmapKeeperTest, AnImageThatOthersChangedMakesThemInconsistent) {
  ASSERT_TRUE(add("b").ok());
  end_in_order("size 1 changed 2");
  restart("size 1 changed 3");
  EXPECT_THAT(facts("b").inconsistent, HasSubstr("changed while it was not served"));
  EXPECT_EQ(facts("b").bitmap, nullptr);
  EXPECT_EQ(disk_->tracking().find("b"), nullptr);
  EXPECT_EQ(add("b").error().code(), ErrorCode::kBusy);
  ASSERT_TRUE(add("other").ok());
  const Status merged = run_task(loop_, keeper_->merge("other", {"b"}));
  EXPECT_EQ(merged.error().code(), ErrorCode::kPrecondition);
  // It stays so, though nothing has changed since.
  end_in_order("size 1 changed 3");
  restart("size 1 changed 3");
  EXPECT_THAT(facts("b").inconsistent, HasSubstr("changed while it was not served"));
  EXPECT_EQ(facts("other").inconsistent, "");
  ASSERT_TRUE(run_task(loop_, keeper_->remove("b")).ok());
  EXPECT_TRUE(add("b").ok());
}

TEST_F(BitmapKeeperTest, AnotherStoreOrSizeMakesThemInconsistent_Trap11) {
  ASSERT_TRUE(add("b").ok());
  end_in_order("");
  restart("", false);
  EXPECT_THAT(facts("b").inconsistent, HasSubstr("other content"));
  ASSERT_TRUE(run_task(loop_, keeper_->remove("b")).ok());
  ASSERT_TRUE(add("c").ok());
  end_in_order("");
  restart("", true, kSize * 2);
  EXPECT_THAT(facts("c").inconsistent, HasSubstr("another size"));
}

TEST_F(BitmapKeeperTest, OfADiskThatIsServedReadOnlyItIsSaidThatNobodyKnows) {
  ASSERT_TRUE(add("b").ok());
  die();
  start(kSize, true);
  ASSERT_TRUE(run_task(loop_, keeper_->open(false, "")).ok());
  EXPECT_THAT(facts("b").inconsistent, HasSubstr("read-only"));
  EXPECT_THAT(facts("b").inconsistent, Not(HasSubstr("given other content")));
}

TEST_F(BitmapKeeperTest, WhatTheJournalHadToForgetIsInconsistent) {
  ASSERT_TRUE(add("b").ok());
  ASSERT_TRUE(run_task(loop_, journal_->distrust_sets()).ok());
  die();
  restart("");
  EXPECT_THAT(facts("b").inconsistent, HasSubstr("the journal failed"));
  ASSERT_TRUE(run_task(loop_, keeper_->remove("b")).ok());
  die();
  restart("");
  EXPECT_THAT(keeper_->bitmaps(), IsEmpty());
}

TEST_F(BitmapKeeperTest, RemovalOfADiskLeavesNothing) {
  ASSERT_TRUE(add("b").ok());
  end_in_order("x");
  const Result<JournalBatch> removal = run_task(loop_, removal_of_bitmaps(*journal_, "vm1"));
  ASSERT_TRUE(removal.ok());
  ASSERT_TRUE(run_task(loop_, journal_->commit(*removal)).ok());
  EXPECT_EQ(recorded_sets(), 0U);
  restart("y");
  EXPECT_THAT(keeper_->bitmaps(), IsEmpty());
}

TEST_F(BitmapKeeperTest, ADiskLargerThanOneChangeOfTheJournalIsRecorded) {
  die();
  constexpr std::uint64_t kContainerBytes = kChunksPerContainer * kChunk;
  constexpr std::uint64_t kLarge = kContainerBytes * (kMaxContainersPerChange + 10);
  start(kLarge);
  ASSERT_TRUE(add("b").ok());
  BitmapPlan plan{"all", kChunk, false, false};
  auto whole = *DirtyBitmap::create(kLarge, kChunk);
  for (std::uint64_t at = 0; at < kLarge; at += kContainerBytes) whole->mark(at, 1);
  const std::uint64_t count = whole->dirty_count();
  ASSERT_TRUE(keeper_->add_now(std::move(plan), std::move(whole)).ok());
  const Status merged = run_task(loop_, keeper_->merge("b", {"all"}));
  ASSERT_TRUE(merged.ok()) << merged.error().message();
  end_in_order("x");
  restart("x", true, kLarge);
  EXPECT_EQ(facts("b").bitmap->dirty_count(), count);
}

}  // namespace
}  // namespace blockmig
