// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/choose_mode.h"

#include <gtest/gtest.h>

#include "blockmig/base/bytes.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

struct Row {
  const char* what;
  std::uint64_t remaining_mib, write_mib, dirty_mib, hot_mib, target_mib;
  bool mirror_missed, dbt_hopeless;
  int time_left_seconds;
  Mode mode;
  const char* unmet;  ///< how it begins
};

constexpr Row kRows[] = {
    {"an idle guest", 10'000, 0, 0, 0, 500, false, false, 0, Mode::kDbt, ""},
    {"a quiet guest", 10'000, 10, 50, 100, 500, false, false, 0, Mode::kDbt, ""},
    {"a guest as fast as the target", 10'000, 450, 500, 2'000, 500, false, false, 0, Mode::kMirror,
     ""},
    {"small writes all over the disk", 10'000, 40, 640, 4'000, 500, false, false, 0, Mode::kMirror,
     ""},
    {"a hot spot that fits the downtime", 10'000, 400, 600, 40, 500, false, false, 0, Mode::kDbt,
     ""},
    {"a hot spot that does not", 10'000, 400, 600, 60, 500, false, false, 0, Mode::kMirror, ""},
    {"passes that made no headway", 10'000, 10, 50, 100, 500, false, true, 0, Mode::kMirror, ""},
    {"a mirror that missed", 10'000, 450, 500, 40, 500, true, false, 0, Mode::kDbt, ""},
    {"neither", 10'000, 450, 500, 2'000, 500, true, false, 0, Mode::kDbt, "the downtime"},
    {"neither, tried both", 10'000, 1, 1, 1, 500, true, true, 0, Mode::kDbt, "the downtime"},
    {"in time either way", 10'000, 10, 300, 100, 500, false, false, 100, Mode::kDbt, ""},
    {"in time only by mirror", 10'000, 10, 300, 100, 500, false, false, 30, Mode::kMirror, ""},
    {"not in time", 10'000, 10, 300, 100, 500, false, false, 10, Mode::kDbt, "the deadline"},
    {"a target that takes nothing", 10'000, 10, 10, 100, 0, false, false, 0, Mode::kMirror, ""},
};

TEST(ChooseMode, Table) {
  for (const Row& row : kRows) {
    ModeInputs inputs;
    inputs.remaining_bytes = row.remaining_mib * kMiB;
    inputs.write_rate = row.write_mib * kMiB;
    inputs.dirty_rate = row.dirty_mib * kMiB;
    inputs.hot_bytes = row.hot_mib * kMiB;
    inputs.target_rate = row.target_mib * kMiB;
    inputs.mirror_missed = row.mirror_missed;
    inputs.dbt_hopeless = row.dbt_hopeless;
    inputs.max_downtime = milliseconds(100);
    inputs.time_left = seconds(row.time_left_seconds);
    const ModeChoice choice = choose_mode(inputs);
    EXPECT_EQ(to_string(choice.mode), to_string(row.mode)) << row.what << ": " << choice.why;
    EXPECT_EQ(choice.unmet.empty(), *row.unmet == '\0') << row.what << ": " << choice.unmet;
    EXPECT_TRUE(choice.unmet.starts_with(row.unmet)) << row.what << ": " << choice.unmet;
    EXPECT_NE(choice.why.find(std::to_string(row.write_mib)), std::string::npos) << choice.why;
  }
}

/// --on-stall postcopy.
TEST(ChooseMode, PostcopyIsTheLastResortAndOnlyWhereItIsAllowed) {
  for (const Row& row : kRows) {
    ModeInputs inputs;
    inputs.remaining_bytes = row.remaining_mib * kMiB;
    inputs.write_rate = row.write_mib * kMiB;
    inputs.dirty_rate = row.dirty_mib * kMiB;
    inputs.hot_bytes = row.hot_mib * kMiB;
    inputs.target_rate = row.target_mib * kMiB;
    inputs.mirror_missed = row.mirror_missed;
    inputs.dbt_hopeless = row.dbt_hopeless;
    inputs.max_downtime = milliseconds(100);
    inputs.time_left = seconds(row.time_left_seconds);
    inputs.postcopy_allowed = true;
    const ModeChoice choice = choose_mode(inputs);
    const Mode expected = *row.unmet == '\0' ? row.mode : Mode::kPostcopy;
    EXPECT_EQ(to_string(choice.mode), to_string(expected)) << row.what << ": " << choice.why;
    // What it needs at least, 20 s here, can still be too much.
    EXPECT_EQ(choice.unmet.empty(), row.time_left_seconds != 10) << row.what;
  }
}

TEST(ChooseMode, AMirrorThatMakesTheGuestWaitTooLongIsNoChoice) {
  ModeInputs inputs;
  inputs.remaining_bytes = 10'000 * kMiB;
  inputs.write_rate = inputs.dirty_rate = 450 * kMiB;
  inputs.hot_bytes = 2'000 * kMiB;
  inputs.target_rate = 500 * kMiB;
  inputs.max_downtime = milliseconds(100);
  inputs.max_guest_latency = milliseconds(5);
  EXPECT_EQ(choose_mode(inputs).mode, Mode::kMirror) << "it has not been tried";
  inputs.mirror_slow = true;
  const ModeChoice forced = choose_mode(inputs);
  EXPECT_EQ(forced.mode, Mode::kMirror);
  EXPECT_TRUE(forced.unmet.starts_with("the guest's latency")) << forced.unmet;
  inputs.postcopy_allowed = true;
  const ModeChoice choice = choose_mode(inputs);
  EXPECT_EQ(choice.mode, Mode::kPostcopy);
  EXPECT_EQ(choice.unmet, "");
  EXPECT_NE(choice.why.find("longer than 5"), std::string::npos) << choice.why;
  inputs.dirty_rate = 10 * kMiB;
  EXPECT_EQ(choose_mode(inputs).mode, Mode::kDbt) << "there is a way that is cheaper";
}

TEST(ChooseMode, HeatThatIsNotKnownIsNotTakenForCold) {
  ModeInputs inputs;
  inputs.remaining_bytes = 10'000 * kMiB;
  inputs.write_rate = inputs.dirty_rate = inputs.target_rate = 500 * kMiB;
  inputs.max_downtime = milliseconds(100);
  EXPECT_EQ(choose_mode(inputs).mode, Mode::kDbt) << "known: nothing is written twice";
  inputs.heat_is_known = false;
  EXPECT_EQ(choose_mode(inputs).mode, Mode::kMirror);
  inputs.remaining_bytes = 40 * kMiB;
  EXPECT_EQ(choose_mode(inputs).mode, Mode::kDbt) << "no more than there is";
}

TEST(ChooseMode, AStreamOverTheWholeDiskIsNotWrittenAgainAndAgainAndLeavesNothingAll) {
  ModeInputs inputs;
  inputs.remaining_bytes = 10'000 * kMiB;
  inputs.write_rate = inputs.dirty_rate = inputs.cold_rate = 600 * kMiB;
  inputs.target_rate = 500 * kMiB;
  inputs.max_downtime = milliseconds(100);
  EXPECT_EQ(choose_mode(inputs).mode, Mode::kMirror);
  inputs.hot_bytes = 40 * kMiB;
  inputs.cold_rate = 60 * kMiB;
  EXPECT_EQ(choose_mode(inputs).mode, Mode::kDbt) << "what is not hot is little";
}

TEST(ModeSwitch, TheFirstModeWasAGuessAndMayBeLeftSoon) {
  const TimePoint start{std::chrono::hours(1)};
  ModeSwitch mode(Mode::kDbt, start);
  EXPECT_FALSE(mode.offer(Mode::kMirror, start + milliseconds(100), false));
  EXPECT_TRUE(mode.offer(Mode::kMirror, start + milliseconds(200), false));
  EXPECT_FALSE(mode.offer(Mode::kDbt, start + milliseconds(300), false));
  EXPECT_FALSE(mode.offer(Mode::kDbt, start + milliseconds(400), false)) << "one that was chosen";
}

TEST(ModeSwitch, ChangesWhenTheSameIsChosenTwiceAndTheModeHadItsTime) {
  const TimePoint start{std::chrono::hours(1)};
  ModeSwitch mode(Mode::kDbt, start);
  EXPECT_FALSE(mode.offer(Mode::kMirror, start + seconds(5), false)) << "once is no reason";
  EXPECT_FALSE(mode.offer(Mode::kDbt, start + seconds(6), false));
  EXPECT_FALSE(mode.offer(Mode::kMirror, start + seconds(7), false)) << "not in a row";
  EXPECT_TRUE(mode.offer(Mode::kMirror, start + seconds(8), false));
  EXPECT_EQ(mode.mode(), Mode::kMirror);
  EXPECT_FALSE(mode.offer(Mode::kDbt, start + seconds(9), false));
  EXPECT_TRUE(mode.offer(Mode::kDbt, start + milliseconds(9'900), false));
  EXPECT_FALSE(mode.offer(Mode::kMirror, start + seconds(10), false));
  EXPECT_FALSE(mode.offer(Mode::kMirror, start + milliseconds(11'800), false)) << "longer now";
  EXPECT_TRUE(mode.offer(Mode::kMirror, start + seconds(12), false));
}

TEST(ModeSwitch, WhatHasFailedIsLeftAtOnce) {
  const TimePoint start{std::chrono::hours(1)};
  ModeSwitch mode(Mode::kDbt, start);
  EXPECT_TRUE(mode.offer(Mode::kMirror, start, true));
  EXPECT_FALSE(mode.offer(Mode::kMirror, start, true));
}

}  // namespace
}  // namespace blockmig
