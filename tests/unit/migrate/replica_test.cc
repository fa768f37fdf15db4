// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/replica.h"

#include <gtest/gtest.h>

#include "rig.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;

class ReplicaTest : public testing::Test {
 protected:
  ReplicaTest() : store_(std::make_shared<FaultDevice>(loop_, random_, "target", 1 * kMiB)) {
    store_->plan().min_delay = store_->plan().max_delay = milliseconds(100);
  }
  Task<void> ask() {
    const auto found = co_await replica_.extents(0, 4096);
    answered_ = found.ok();
  }

  Random random_{1};
  SimLoop loop_{random_};
  std::shared_ptr<FaultDevice> store_;
  Replica replica_{loop_, std::make_unique<SharedDevice>(store_)};
  TaskScope asking_;
  bool answered_ = false;
};

// The simulator found a base that was connected again while it had not answered this.
TEST_F(ReplicaTest, WhatItIsAskedIsInFlightToo) {
  EXPECT_EQ(replica_.in_flight(), 0u);
  asking_.spawn(ask());
  EXPECT_EQ(replica_.in_flight(), 1u);
  const TimePoint soon = loop_.now() + milliseconds(50);
  EXPECT_FALSE(run_task(loop_, replica_.idle_until(soon)));
  const TimePoint later = loop_.now() + milliseconds(100);
  EXPECT_TRUE(run_task(loop_, replica_.idle_until(later)));
  EXPECT_TRUE(answered_);
  EXPECT_EQ(replica_.in_flight(), 0u);
}

}  // namespace
}  // namespace blockmig
