// SPDX-License-Identifier: Apache-2.0
// A new store that cannot keep what is fetched, as when it is full: the base still has it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/migrate/hydrating_rig.h"

namespace blockmig {
namespace {

class FullStore : public HydratingRig {
 protected:
  FullStore() { options.patience = std::chrono::seconds(30); }
};

TEST_F(FullStore, ReadersGetFromTheBaseWhatCannotBeKept_I8) {
  open(false);
  local->plan().write_error_ppm = 1'000'000;
  const TimePoint begun = loop.now();
  expect_content(7 * kChunk + 100, 3 * kChunk);
  expect_content(20 * kChunk, 512);
  EXPECT_LT(loop.now() - begun, std::chrono::seconds(1)) << "nobody waits for the patience to end";
  EXPECT_EQ(device->map().absent_chunks(), 33U);
  EXPECT_THAT(device->trouble(), testing::HasSubstr("filling the new store at offset"));
}

TEST_F(FullStore, WhatIsReadIsKeptAgainWhenThereIsRoom) {
  open(false);
  local->plan().write_error_ppm = 1'000'000;
  expect_content(7 * kChunk, 512);
  local->plan().write_error_ppm = 0;
  expect_content(7 * kChunk, 512);
  push_until_whole();
  EXPECT_EQ(device->trouble(), "");
  expect_content(0, kSize);
}

}  // namespace
}  // namespace blockmig
