// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/visit.h"

#include <gtest/gtest.h>

#include <optional>

#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"
#include "blockmig/io/task_scope.h"

namespace blockmig {
namespace {

Task<void> wait_until_left(const unsigned& inside, Event& left, bool& over) {
  while (inside > 0) co_await left.wait();
  over = true;
}

TEST(Visit, IsCountedForAsLongAsItLives) {
  unsigned inside = 0;
  {
    const Visit one(inside);
    const Visit other(inside);
    EXPECT_EQ(inside, 2u);
  }
  EXPECT_EQ(inside, 0u);
}

TEST(Visit, TheLastOneOutWakesWhoWaits) {
  Random random(1);
  SimLoop loop(random);
  Event left(loop);
  unsigned inside = 0;
  bool over = false;
  std::optional<Visit<unsigned>> one(std::in_place, inside, left);
  std::optional<Visit<unsigned>> other(std::in_place, inside, left);
  TaskScope scope;
  scope.spawn(wait_until_left(inside, left, over));
  one.reset();
  loop.run();
  EXPECT_FALSE(over) << "one is still inside";
  other.reset();
  loop.run();
  EXPECT_TRUE(over);
}

}  // namespace
}  // namespace blockmig
