// SPDX-License-Identifier: Apache-2.0
// A job that an operator has paused: the disk stays where it is, and the guest does not notice.
#include <gtest/gtest.h>

#include "tests/unit/migrate/rig.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class PausedMode : public testing::TestWithParam<Mode> {};
INSTANTIATE_TEST_SUITE_P(Modes, PausedMode,
                         testing::Values(Mode::kCold, Mode::kSnapshot, Mode::kDbt, Mode::kMirror,
                                         Mode::kAuto, Mode::kPostcopy, Mode::kHybrid),
                         [](const auto& test) { return std::string(to_string(test.param)); });

/// At whatever moment before its switchover: it stays, guests write, and it ends when resumed.
void pause_after(Mode mode, Duration time) {
  Rig rig;
  rig.target->plan().min_delay = rig.target->plan().max_delay = milliseconds(3);
  const std::string id = rig.start(options_for(mode));
  if (time > Duration::zero()) rig.advance(time);
  if (rig.disk.store_uri() != "test:source") return;
  if (!rig.board.pause(id).ok()) return;  // it has decided
  const std::string why = std::string(to_string(mode)) + " paused after " +
                          std::to_string(std::chrono::duration_cast<milliseconds>(time).count()) +
                          " ms";
  ASSERT_TRUE(rig.write(4096, std::vector<std::byte>(512, std::byte{0x11})).ok()) << why;
  rig.advance(seconds(20));
  EXPECT_EQ(rig.disk.store_uri(), "test:source") << why;
  EXPECT_EQ(rig.board.status(id)->state, JobState::kPaused) << why;
  ASSERT_TRUE(rig.write(8192, std::vector<std::byte>(512, std::byte{0x22})).ok()) << why;
  ASSERT_TRUE(rig.board.resume(id).ok()) << why;
  const JobStatus status = rig.wait(id);
  ASSERT_EQ(status.state, JobState::kDone) << why;
  EXPECT_EQ(rig.disk.store_uri(), "test:target") << why;
  std::byte seen[2];
  rig.target->peek(4096, {seen, 1});
  rig.target->peek(8192, {seen + 1, 1});
  EXPECT_EQ(seen[0], std::byte{0x11}) << why;
  EXPECT_EQ(seen[1], std::byte{0x22}) << why;
}

TEST_P(PausedMode, DoesNotSwitchOverAndLetsWritersGo) {
  for (int i = 0; i < 50; ++i) pause_after(GetParam(), std::chrono::microseconds(1100 * i));
}

TEST_P(PausedMode, EndsWhenAborted_I8) {
  Rig rig;
  const std::string id = rig.start(options_for(GetParam()));
  ASSERT_TRUE(rig.board.pause(id).ok());
  rig.advance(seconds(5));
  ASSERT_TRUE(rig.board.abort(id).ok());
  EXPECT_EQ(rig.wait(id).state, JobState::kAborted);
  EXPECT_EQ(rig.disk.store_uri(), "test:source");
}

/// A guest that overwrites the disk from the end to the beginning.
Task<void> overwrite(EventLoop& loop, Disk& disk, const bool& stop) {
  static const std::vector<std::byte> bytes(4096, std::byte{0x5a});
  const ConstBytes from(bytes);
  const WriteFlags flags{};
  std::uint64_t chunk = 0;
  while (!stop) {
    chunk = (chunk + 63) % 64;
    const Status status = co_await disk.write(chunk * 65536, from, flags);
    EXPECT_TRUE(status.ok());
    co_await sleep_for(loop, milliseconds(5));
  }
}

TEST(PausedAuto, DecidesNothing) {
  Rig rig;
  rig.target->plan().bytes_per_second = 3 * kMiB;
  TaskScope guest;
  bool stop = false;
  guest.spawn(overwrite(rig.loop, rig.disk, stop));
  JobOptions options = options_for(Mode::kAuto);
  options.deadline = seconds(10);
  options.on_stall = OnStall::kPostcopy;
  const std::string id = rig.start(options);
  rig.advance(milliseconds(30));
  ASSERT_TRUE(rig.board.pause(id).ok());
  rig.advance(milliseconds(1));
  const std::size_t decisions = rig.board.status(id)->decisions.size();
  rig.advance(seconds(60));
  const JobStatus held = *rig.board.status(id);
  EXPECT_EQ(held.state, JobState::kPaused);
  EXPECT_EQ(held.decisions.size(), decisions);
  EXPECT_EQ(rig.disk.store_uri(), "test:source");
  ASSERT_TRUE(rig.board.resume(id).ok());
  EXPECT_EQ(rig.wait(id).state, JobState::kDone);
  stop = true;
  rig.advance(milliseconds(100));
}

}  // namespace
}  // namespace blockmig
