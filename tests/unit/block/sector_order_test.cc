// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/sector_order.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <vector>

#include "blockmig/base/random.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"
#include "blockmig/io/task_scope.h"

namespace blockmig {
namespace {

using Access = SectorOrder::Access;

constexpr ByteRange kHere{0, 4096};
/// Of the same unit of 64 KiB, and so of the same stripe.
constexpr ByteRange kBeside{8192, 4096};
/// Another unit that shares kHere's stripe.
constexpr ByteRange kByChance{RangeStripes::kStripes * RangeStripes::kUnitBytes, 4096};

class SectorOrderTest : public testing::Test {
 protected:
  /// Steps the loop until nothing happens at this instant any more.
  void settle() {
    for (int i = 0; i < 50; ++i) loop_.step();
  }
  Task<void> hold(ByteRange range, Access access, std::optional<SectorOrder::Claim>& into) {
    SectorOrder::Claim claim = co_await order_.claim(range, access);
    into.emplace(std::move(claim));
  }
  void begin(ByteRange range, Access access, std::optional<SectorOrder::Claim>& into) {
    auto task = hold(range, access, into);
    scope_.spawn(std::move(task));
    settle();
  }

  Random random_{1};
  SimLoop loop_{random_};
  SectorOrder order_{loop_};
  TaskScope scope_;
};

TEST_F(SectorOrderTest, ARequestWaitsForTheCallsOfOtherThreadsAndRefusesNewOnes_I2) {
  auto inside = std::make_unique<SectorOrder::Call>(order_.try_anywhere(kHere, Access::kRead));
  ASSERT_TRUE(*inside);
  std::optional<SectorOrder::Claim> writing;
  begin(kHere, Access::kWrite, writing);
  EXPECT_FALSE(writing) << "while a thread copies out of the range";
  EXPECT_FALSE(order_.try_anywhere(kHere, Access::kRead)) << "or it could wait for ever";
  inside.reset();
  settle();
  ASSERT_TRUE(writing);
  EXPECT_FALSE(order_.try_anywhere(kHere, Access::kRead));
  EXPECT_FALSE(order_.try_on_loop(kHere, Access::kRead));
  writing.reset();
  EXPECT_TRUE(order_.try_anywhere(kHere, Access::kRead));
}

TEST_F(SectorOrderTest, RequestsOfTheLoopFollowEachOtherInOrderOfArrival_I2) {
  std::optional<SectorOrder::Claim> first;
  std::optional<SectorOrder::Claim> second;
  std::optional<SectorOrder::Claim> elsewhere;
  begin(kHere, Access::kWrite, first);
  begin(kHere, Access::kRead, second);
  begin(kBeside, Access::kWrite, elsewhere);
  EXPECT_TRUE(first);
  EXPECT_FALSE(second);
  EXPECT_TRUE(elsewhere) << "another sector";
  first.reset();
  settle();
  EXPECT_TRUE(second);
}

TEST_F(SectorOrderTest, TheLoopIsNotRefusedForAStripeThatIsSharedByChance) {
  std::optional<SectorOrder::Claim> writing;
  begin(kHere, Access::kWrite, writing);
  ASSERT_TRUE(writing);
  EXPECT_TRUE(order_.try_on_loop(kByChance, Access::kRead));
  EXPECT_TRUE(order_.try_on_loop(kBeside, Access::kWrite));
  EXPECT_FALSE(order_.try_anywhere(kByChance, Access::kRead)) << "threads know stripes only";
}

TEST_F(SectorOrderTest, AloneTheLoopAsksNobodyButItsOwnRequests) {
  order_.share(false);
  EXPECT_TRUE(order_.is_alone());
  const auto reading = order_.try_anywhere(kHere, Access::kWrite);
  EXPECT_TRUE(reading);
  EXPECT_TRUE(order_.try_anywhere(kHere, Access::kWrite)) << "it cannot meet itself";
  std::optional<SectorOrder::Claim> writing;
  begin(kBeside, Access::kWrite, writing);
  ASSERT_TRUE(writing);
  EXPECT_FALSE(order_.try_anywhere(kBeside, Access::kRead))
      << "a request that waits for the kernel";
}

}  // namespace
}  // namespace blockmig
