// SPDX-License-Identifier: Apache-2.0
// The planted bugs by name, each with the arguments under which `sim` finds it within 2,000 seeds.
// Most are found in a few dozen; the rarest, clean-before-target-flush, in one of 470.
// CMakeLists.txt makes the test sim.finds.NAME of every row: one line each. `unit FILTER`: that is
// a layer below the simulated stores, and the unit test must fail (tests/unit/planted). Pure.
#pragma once

#include <array>

#include "blockmig/base/planted.h"

namespace blockmig::sim {

struct NamedBug {
  const char* name;
  PlantedBug bug;
  /// Where it needs a world of its own, a mode that is drawn too rarely among all of them, or first
  /// seeds without a long wait.
  const char* arguments;
};

inline constexpr auto kBugs = std::to_array<NamedBug>({
    {"write-bypasses-closed-gate", PlantedBug::kWriteBypassesClosedGate, ""},
    {"dirty-check-before-drain", PlantedBug::kDirtyCheckBeforeDrain, ""},
    {"clear-mark-after-read", PlantedBug::kClearMarkAfterRead, ""},
    {"failed-write-unmarked", PlantedBug::kFailedWriteUnmarked, "--mode mirror"},
    {"mark-rounds-down", PlantedBug::kMarkRoundsDown, ""},
    {"target-assumed-zero", PlantedBug::kTargetAssumedZero, ""},
    {"zeroes-not-mirrored", PlantedBug::kZeroesNotMirrored, ""},
    {"small-write-overtakes", PlantedBug::kSmallWriteOvertakes, ""},
    {"timed-out-write-loses-range", PlantedBug::kTimedOutWriteLosesRange, "--mode mirror"},
    {"copy-failure-not-remarked", PlantedBug::kCopyFailureNotRemarked, ""},
    {"flush-source-only", PlantedBug::kFlushSourceOnly, ""},
    {"turned-away-acknowledged", PlantedBug::kTurnedAwayAcknowledged, ""},
    {"deadline-from-submission", PlantedBug::kDeadlineFromSubmission, ""},
    {"rest-keeps-copied", PlantedBug::kRestKeepsCopied, ""},
    {"digests-of-before-fence", PlantedBug::kDigestsOfBeforeFence, "--mode shared"},
    {"mirror-end-forgotten", PlantedBug::kMirrorEndForgotten, "--mode hydration"},
    {"paused-switches", PlantedBug::kPausedSwitches, ""},
    {"discard-after-close", PlantedBug::kDiscardAfterClose, ""},
    {"copy-buffer-flips", PlantedBug::kCopyBufferFlips, ""},
    {"mirror-not-verified", PlantedBug::kMirrorNotVerified, "--mode mirror --verify full"},
    {"read-back-believes-copies", PlantedBug::kReadBackBelievesCopies, ""},
    {"old-content-not-kept", PlantedBug::kOldContentNotKept, ""},
    {"chunk-in-flight-not-kept", PlantedBug::kChunkInFlightNotKept, ""},
    {"unmarked-after-completion", PlantedBug::kUnmarkedAfterCompletion, ""},
    {"pull-overwrites-newer", PlantedBug::kPullOverwritesNewer, "--mode hydration"},
    {"zeros-overwrite-newer", PlantedBug::kZerosOverwriteNewer, "--mode hydration"},
    {"presence-before-data", PlantedBug::kPresenceBeforeData, "--mode hydration"},
    {"absent-reads-as-found", PlantedBug::kAbsentReadsAsFound, "--mode hydration"},
    {"partial-write-no-fetch", PlantedBug::kPartialWriteNoFetch, "--mode hydration"},
    {"base-not-flushed", PlantedBug::kBaseNotFlushed, "--mode hydration"},
    {"switch-not-announced", PlantedBug::kSwitchNotAnnounced, ""},
    {"switch-confirmed-early", PlantedBug::kSwitchConfirmedEarly, ""},
    {"return-record-late", PlantedBug::kReturnRecordLate, "--mode return"},
    {"return-copies-nothing", PlantedBug::kReturnCopiesNothing, "--mode return"},
    {"rest-saved-before-fence", PlantedBug::kRestSavedBeforeFence, ""},
    {"whole-before-job-ends", PlantedBug::kWholeBeforeJobEnds, ""},
    {"activity-log-skipped", PlantedBug::kActivityLogSkipped, "--mode dbt"},
    {"clean-before-target-flush", PlantedBug::kCleanBeforeTargetFlush, ""},
    {"clean-before-source-flush", PlantedBug::kCleanBeforeSourceFlush, "--mode restarts"},
    {"pending-not-recorded", PlantedBug::kPendingNotRecorded, "--mode snapshot"},
    {"rest-not-recorded", PlantedBug::kRestNotRecorded, "--mode shared"},
    {"digests-before-marks", PlantedBug::kDigestsBeforeMarks, "--mode restarts --verify digest"},
    {"digests-recorded-once", PlantedBug::kDigestsRecordedOnce, "--mode restarts --verify digest"},
    {"retire-without-quiesce", PlantedBug::kRetireWithoutQuiesce, "--mode bitmaps"},
    {"active-regions-forgotten", PlantedBug::kActiveRegionsForgotten, "--mode bitmaps"},
    {"bitmap-retires-early", PlantedBug::kBitmapRetiresEarly, "--mode bitmaps"},
    {"bitmap-begins-unflushed", PlantedBug::kBitmapBeginsUnflushed, "--mode bitmaps"},
    {"bitmap-trusts-any-image", PlantedBug::kBitmapTrustsAnyImage, "--mode bitmaps"},
    {"holes-not-asked-again", PlantedBug::kHolesNotAskedAgain, ""},
    {"stale-jobs-come-back", PlantedBug::kStaleJobsComeBack, "--mode return"},
    {"pull-buffer-flips", PlantedBug::kPullBufferFlips, "--mode hydration"},
    {"digest-misses-writes", PlantedBug::kDigestMissesWrites, "--mode hydration"},
    {"merge-before-presence", PlantedBug::kMergeBeforePresence, "--mode settle"},
    {"merge-manifest-late", PlantedBug::kMergeManifestLate, "--mode settle"},
    {"fsync-retried-and-believed", PlantedBug::kFsyncRetriedAndBelieved, ""},
    {"retires-after-journal", PlantedBug::kRetiresAfterJournal, "--mode journal"},
    {"log-goes-before-record", PlantedBug::kLogGoesBeforeRecord, "--mode restarts"},
    {"refusal-is-unknown", PlantedBug::kRefusalIsUnknown, "--mode journal"},
    {"unknown-owner-discarded", PlantedBug::kUnknownOwnerDiscarded, "--mode journal"},
    {"reconnect-keeps-unflushed-clean", PlantedBug::kReconnectKeepsUnflushedClean, ""},
    {"flush-error-not-passed-on", PlantedBug::kFlushErrorNotPassedOn, "--mode source"},
    {"lost-source-retried", PlantedBug::kLostSourceRetried, "--mode source"},
    {"fence-has-no-deadline", PlantedBug::kFenceHasNoDeadline, "--mode source"},
    {"rest-not-flushed", PlantedBug::kRestNotFlushed, "--mode shared"},
    {"jobs-of-other-disks-count", PlantedBug::kJobsOfOtherDisksCount, "--mode twins"},
    {"since-armed-late", PlantedBug::kSinceArmedLate, "--mode backup"},
    {"scan-before-arm", PlantedBug::kScanBeforeArm, "--mode snapshot"},
    {"admitted-uncounted", PlantedBug::kAdmittedUncounted, "--mode dbt"},
    {"part-error-overwritten", PlantedBug::kPartErrorOverwritten, "--mode hydration"},
    {"neither-sent-nor-marked", PlantedBug::kNeitherSentNorMarked, "--mode mirror"},
    {"copier-shares-buffer", PlantedBug::kCopierSharesBuffer, ""},
    {"flush-covers-later", PlantedBug::kFlushCoversLater, "--mode restarts"},
    {"job-ends-after-decision", PlantedBug::kJobEndsAfterDecision, "--sweep --mode dbt --first 2"},
    {"absent-is-a-hole", PlantedBug::kAbsentIsAHole, "--mode overlay"},
    {"merge-believes-unflushed", PlantedBug::kMergeBelievesUnflushed, "--mode settle"},
    {"edges-not-held", PlantedBug::kEdgesNotHeld, "unit *Trap8*"},
    {"journal-not-synced", PlantedBug::kJournalNotSynced, "unit JournalSyncTest.*Trap19"},
    {"damage-is-a-torn-tail", PlantedBug::kDamageIsATornTail, "unit JournalCrashTest.*Trap19"},
});

constexpr bool every_bug_has_a_name() {
  for (int bug = static_cast<int>(PlantedBug::kNone) + 1; bug < static_cast<int>(PlantedBug::kEnd);
       ++bug) {
    int rows = 0;
    for (const NamedBug& named : kBugs) rows += static_cast<int>(named.bug) == bug ? 1 : 0;
    if (rows != 1) return false;
  }
  return true;
}
static_assert(every_bug_has_a_name(), "a new bug needs a row above: its test comes from there");

}  // namespace blockmig::sim
