// SPDX-License-Identifier: Apache-2.0
// --bwlimit paces the copy. Behind a closed gate nobody waits for it.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/migrate/rig.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;

Task<void> write_often(Rig& rig, const bool& stop, Duration& longest) {
  static const std::vector<std::byte> bytes(4096, std::byte{0x5a});
  const ConstBytes from(bytes);
  const WriteFlags flags{};
  while (!stop) {
    const TimePoint begun = rig.loop.now();
    const Status status = co_await rig.disk.write(0, from, flags);
    EXPECT_TRUE(status.ok());
    longest = std::max(longest, rig.loop.now() - begun);
    co_await sleep_for(rig.loop, milliseconds(12));
  }
}

TEST(FenceRate, ADebtOfTheLastPassIsNotPaidUnderTheFence) {
  Rig rig;
  rig.target->plan().min_delay = rig.target->plan().max_delay = milliseconds(8);
  TaskScope guest;
  bool stop = false;
  Duration longest{};
  guest.spawn(write_often(rig, stop, longest));
  JobOptions options = options_for(Mode::kDbt);
  options.granularity_bytes = kMiB;
  options.bwlimit_bytes_per_second = 256 * kKiB;
  options.max_downtime = milliseconds(100);
  const JobStatus status = rig.wait(rig.start(options));
  stop = true;
  rig.advance(milliseconds(100));
  EXPECT_EQ(status.state, JobState::kDone);
  EXPECT_EQ(status.switchovers_postponed, 0u);
  EXPECT_LE(status.stall_ms, 100.0);
  EXPECT_LE(longest, options.max_downtime);
}

}  // namespace
}  // namespace blockmig
