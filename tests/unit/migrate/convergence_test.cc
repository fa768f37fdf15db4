// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/convergence.h"

#include <gtest/gtest.h>

#include "blockmig/base/bytes.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

PassRecord pass(std::uint64_t copied_mib, std::uint64_t dirtied_mib, std::uint64_t remaining_mib,
                Duration took) {
  PassRecord record;
  record.copied_bytes = copied_mib * kMiB;
  record.dirtied_bytes = dirtied_mib * kMiB;
  record.remaining_bytes = remaining_mib * kMiB;
  record.took = took;
  return record;
}

TEST(Convergence, NothingIsSaidBeforeTheFirstPass) {
  EXPECT_EQ(judge_convergence({}, {}).verdict, Verdict::kConverging);
}

TEST(Convergence, WithoutAPassTheDowntimeIsWhatItCostsAnyway) {
  ConvergenceLimits limits;
  limits.fixed_cost = milliseconds(3);
  EXPECT_EQ(judge_convergence({}, limits).predicted_downtime, milliseconds(3));
}

TEST(Convergence, ReadyWhenTheRestFitsTheDowntimeBudget) {
  const auto judgement = judge_convergence({pass(1000, 5, 5, seconds(1))}, {});
  EXPECT_EQ(judgement.verdict, Verdict::kReady);
  EXPECT_LE(judgement.predicted_downtime, milliseconds(6));
}

TEST(Convergence, NothingRemainingIsReadyAtAnyRate) {
  EXPECT_EQ(judge_convergence({pass(0, 0, 0, milliseconds(1))}, {}).verdict, Verdict::kReady);
}

TEST(Convergence, AnotherPassThatSparesTheGuestMuchIsWorthIt) {
  ConvergenceLimits limits;
  limits.max_downtime = milliseconds(100);
  // 80 ms, but a fifth of what it was.
  auto judgement = judge_convergence(
      {pass(1000, 400, 400, seconds(1)), pass(400, 80, 80, milliseconds(400))}, limits);
  EXPECT_EQ(judgement.verdict, Verdict::kReady);
  EXPECT_TRUE(judgement.worth_another_pass);
  // It does not become much less.
  judgement = judge_convergence(
      {pass(400, 80, 80, milliseconds(400)), pass(80, 70, 70, milliseconds(80))}, limits);
  EXPECT_EQ(judgement.verdict, Verdict::kReady);
  EXPECT_FALSE(judgement.worth_another_pass);
  // It is little.
  judgement = judge_convergence(
      {pass(400, 80, 80, milliseconds(400)), pass(80, 10, 10, milliseconds(80))}, limits);
  EXPECT_FALSE(judgement.worth_another_pass);
}

TEST(Convergence, FixedCostsCountAgainstTheBudget) {
  ConvergenceLimits limits;
  limits.fixed_cost = milliseconds(99);
  EXPECT_EQ(judge_convergence({pass(1000, 5, 5, seconds(1))}, limits).verdict,
            Verdict::kConverging);
}

TEST(Convergence, ShrinkingRemaindersConverge) {
  const auto judgement =
      judge_convergence({pass(1000, 800, 800, seconds(1)), pass(800, 600, 600, seconds(1)),
                         pass(600, 450, 450, seconds(1)), pass(450, 300, 300, seconds(1))},
                        {});
  EXPECT_EQ(judgement.verdict, Verdict::kConverging);
}

TEST(Convergence, ThreePassesWithoutHeadwayAreHopelessAndTheNumbersAreNamed) {
  const auto judgement =
      judge_convergence({pass(1000, 800, 800, seconds(10)), pass(800, 790, 790, seconds(8)),
                         pass(790, 800, 800, seconds(8)), pass(800, 800, 800, seconds(8))},
                        {});
  EXPECT_EQ(judgement.verdict, Verdict::kNotConverging);
  EXPECT_NE(judgement.reason.find("not converging"), std::string::npos);
  EXPECT_NE(judgement.reason.find("800 MiB remain"), std::string::npos) << judgement.reason;
  EXPECT_NE(judgement.reason.find("100 MiB/s"), std::string::npos) << judgement.reason;
}

TEST(Convergence, OnePassOfHeadwayStartsTheCountAnew) {
  const auto judgement =
      judge_convergence({pass(1000, 800, 800, seconds(10)), pass(800, 790, 790, seconds(8)),
                         pass(790, 400, 400, seconds(8)), pass(400, 400, 400, seconds(8))},
                        {});
  EXPECT_EQ(judgement.verdict, Verdict::kConverging);
}

TEST(Convergence, ConvergingIsSaidOfWhatShrinksOnly) {
  const auto told = [](const std::vector<PassRecord>& passes) {
    const auto judgement = judge_convergence(passes, {});
    EXPECT_EQ(judgement.verdict, Verdict::kConverging);
    return judgement.reason.substr(0, judgement.reason.find(':'));
  };
  EXPECT_EQ(told({pass(1000, 800, 800, seconds(10))}), "converging");
  EXPECT_EQ(told({pass(1000, 1040, 1000, seconds(10))}), "no headway yet");
  EXPECT_EQ(told({pass(1000, 800, 800, seconds(10)), pass(800, 700, 700, seconds(8))}),
            "converging");
  EXPECT_EQ(told({pass(1000, 800, 800, seconds(10)), pass(800, 790, 790, seconds(8))}),
            "no headway yet");
}

TEST(Convergence, SwitchoversThatKeepFailingAreHopelessToo) {
  ConvergenceLimits limits;
  limits.postponed = 3;
  EXPECT_EQ(judge_convergence({pass(1000, 5, 5, seconds(1))}, limits).verdict,
            Verdict::kNotConverging);
}

TEST(Convergence, EarlyLongRunsDoNotPromiseFastScatteredOnes) {
  // 1000 MiB/s in the bulk pass, 10 MiB/s since: 5 MiB take half a second, not 5 ms.
  const auto judgement = judge_convergence(
      {pass(1000, 50, 50, seconds(1)), pass(50, 20, 20, seconds(5)), pass(20, 5, 5, seconds(2))},
      {});
  EXPECT_EQ(judgement.verdict, Verdict::kConverging);
}

TEST(GuestLimit, StepsAreAFifthAndStartFromWhatTheGuestDid) {
  EXPECT_EQ(next_guest_limit(0, 100 * kMiB, 100 * kMiB), 80 * kMiB);
  EXPECT_EQ(next_guest_limit(80 * kMiB, 100 * kMiB, 100 * kMiB), 64 * kMiB);
}

TEST(GuestLimit, HalvesWhileTheGuestIsFarAheadOfTheTarget) {
  EXPECT_EQ(next_guest_limit(0, 100 * kMiB, 10 * kMiB), 50 * kMiB);
  EXPECT_EQ(next_guest_limit(20 * kMiB, 100 * kMiB, 10 * kMiB), 16 * kMiB);
}

TEST(GuestLimit, IsCappedAndNeverZero) {
  EXPECT_EQ(next_guest_limit(5 * kMiB, 100 * kMiB, 80 * kMiB), 5 * kMiB);
  EXPECT_EQ(next_guest_limit(kMiB, 100 * kMiB, 8 * kMiB), kMiB);
  EXPECT_EQ(next_guest_limit(0, 100 * kKiB, 8 * kMiB), 80 * kKiB);
  EXPECT_GT(next_guest_limit(1, 1, 1), 0u);
}

// A switchover may be late for a store that is slow, too.
TEST(GuestLimit, AGuestThatWritesNothingIsNotHeldBack) {
  EXPECT_EQ(next_guest_limit(0, 0, 100 * kMiB), 0u);
}

TEST(GuestLimit, WhereTheTargetsRateIsNotKnownATwentiethIsTheLeastToo) {
  EXPECT_EQ(next_guest_limit(0, 100 * kMiB, 0), 80 * kMiB);
  EXPECT_EQ(next_guest_limit(5 * kMiB, 100 * kMiB, 0), 5 * kMiB);
}

TEST(GuestLimit, BeginsWithWhatTheGuestDoesNotWithAPauseOfIts) {
  PassRecord bulk = pass(1000, 800, 800, seconds(10));
  bulk.guest_bytes = 800 * kMiB;
  PassRecord quiet = pass(0, 0, 0, milliseconds(2));
  EXPECT_NEAR(static_cast<double>(guest_rate({bulk, quiet})), 80.0 * kMiB, 1.0 * kMiB);
  quiet.guest_bytes = kMiB;
  EXPECT_NEAR(static_cast<double>(guest_rate({bulk, quiet})), 500.0 * kMiB, 1.0 * kMiB);
  EXPECT_EQ(guest_rate({}), 0u);
}

}  // namespace
}  // namespace blockmig
