// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/turns.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "blockmig/base/random.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"
#include "blockmig/io/task_scope.h"

namespace blockmig {
namespace {

using testing::ElementsAre;

class TurnsTest : public testing::Test {
 protected:
  void wait(const std::string& origin, const std::string& name) {
    tasks_.spawn(take(origin, name));
    settle();
  }
  Task<void> take(std::string origin, std::string name) {
    co_await turns_.take(std::move(origin));
    order_.push_back(name);
  }
  void settle() { run_task(loop_, sleep_for(loop_, std::chrono::milliseconds(1))); }
  void give(int times) {
    for (int i = 0; i < times; ++i) {
      turns_.give();
      settle();
    }
  }

  Random random_{1};
  SimLoop loop_{random_};
  Turns turns_{loop_};
  TaskScope tasks_;
  std::vector<std::string> order_;
};

TEST_F(TurnsTest, OneAtATimeAndInOrder) {
  for (const char* const name : {"1", "2", "3"}) wait("a", name);
  EXPECT_THAT(order_, ElementsAre("1"));
  give(2);
  EXPECT_THAT(order_, ElementsAre("1", "2", "3"));
  give(1);
  EXPECT_FALSE(turns_.is_taken());
}

TEST_F(TurnsTest, ACrowdOfOneOriginDelaysOthersByATurnEach_I16) {
  for (const char* const name : {"b1", "b2", "b3", "b4", "b5"}) wait("b", name);
  wait("c", "c1");
  wait("a", "a1");
  wait("c", "c2");
  give(7);
  EXPECT_THAT(order_, ElementsAre("b1", "a1", "b2", "c1", "b3", "c2", "b4", "b5"));
  give(1);
}

}  // namespace
}  // namespace blockmig
