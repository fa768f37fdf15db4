// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/descriptor_room.h"

#include <gtest/gtest.h>

namespace blockmig {
namespace {

TEST(DescriptorRoom, ClientsNeverHaveTheLastDescriptors) {
  EXPECT_EQ(connections_within(1'048'576, 16'384), 16'384u) << "there is room for all";
  EXPECT_EQ(connections_within(16'384 + kOwnDescriptors, 16'384), 16'384u);
  EXPECT_EQ(connections_within(16'383 + kOwnDescriptors, 16'384), 16'383u);
  EXPECT_EQ(connections_within(1024, 16'384), 1024 - kOwnDescriptors);
  EXPECT_EQ(connections_within(1024, 100), 100u) << "never more than wanted";
  EXPECT_EQ(connections_within(256, 16'384), 64u) << "a daemon without clients is none";
  EXPECT_EQ(connections_within(0, 16'384), 1u);
}

}  // namespace
}  // namespace blockmig
