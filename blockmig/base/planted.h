// SPDX-License-Identifier: Apache-2.0
// Planted bugs: traps that real systems fell into (CONTRIBUTING.md), and what else would break an
// invariant, kept behind a switch so that the simulator, or a unit test, can prove that it finds
// it.
//
// In the product planted() is a constant false and the wrong branch is compiled away. Only the
// bm_*_planted variants of the layers, which the simulator and unit_planted link, carry the
// branches. Which trap has which: tests/sim/README.md.
#pragma once

#ifdef BLOCKMIG_COMPILED_ONCE
#error "a file that sees planted.h is PLANTED in its layer's CMakeLists.txt"
#endif

namespace blockmig {

enum class PlantedBug : int {
  kNone = 0,
  kWriteBypassesClosedGate,  ///< trap 2: a new connection's write slips in during the switchover
  kDirtyCheckBeforeDrain,    ///< trap 3: the last dirty set is taken before in-flight writes ended
  kClearMarkAfterRead,       ///< trap 4: the mark is cleared after the chunk was read (I6)
  kFailedWriteUnmarked,      ///< trap 5: a failed, perhaps partial, write leaves no mark
  kMarkRoundsDown,           ///< trap 6/7: the tail of a write that ends inside a chunk is unmarked
  kTargetAssumedZero,        ///< trap 9: zero extents are skipped on a target that holds old data
  kZeroesNotMirrored,        ///< trap 10: write_zeroes and trim reach the source only
  kSmallWriteOvertakes,      ///< trap 14: overlapping mirrored writes are not ordered
  kTimedOutWriteLosesRange,  ///< trap 15 / I9: a late target write may land on a newer one
  kCopyFailureNotRemarked,   ///< a lease that was not acknowledged does not mark again
  kFlushSourceOnly,          ///< trap 17: the target is not flushed before the decision
  kTurnedAwayAcknowledged,   ///< a write that had to leave by the gate again is not made (I1)
  kDeadlineFromSubmission,   ///< the time a mirrored write waited for its turn is not counted (I10)
  kRestKeepsCopied,          ///< shared: a chunk that was written stays at rest as well
  kCopyBufferFlips,          ///< a bit of the copier's buffer flips, and nobody looks (I13)
  kMirrorNotVerified,        ///< a mirrored write leaves a chunk that was read back verified
  kReadBackBelievesCopies,   ///< `full` takes what it has sent for what has arrived
  kOldContentNotKept,        ///< snapshot: a write does not wait until the old content is kept
  kChunkInFlightNotKept,     ///< snapshot: a chunk with the copier counts as copied
  kActivityLogSkipped,       ///< a write into a cold region does not wait for its record (I5)
  kCleanBeforeTargetFlush,   ///< a chunk is recorded clean before the target made it durable
  kPendingNotRecorded,  ///< snapshot: what a generation has still to copy is recorded clean (I5)
  kRestNotRecorded,     ///< shared: what stays at rest is recorded as if the target had it (I5)
  kCleanBeforeSourceFlush,   ///< … before the source did: after a power loss it is older there
  kDigestsBeforeMarks,       ///< the digests of a checkpoint are older than what it calls clean
  kDigestsRecordedOnce,      ///< what is recorded of a chunk stays when it has been copied again
  kRetireWithoutQuiesce,     ///< a region is recorded cold while a write to it is under way
  kUnmarkedAfterCompletion,  ///< one-sided tracking: no second mark when a write completes
  kZerosOverwriteNewer,      ///< I12: so does a push of zeros
  kActiveRegionsForgotten,   ///< a restart does not or the active regions into a named bitmap (I5)
  kBitmapRetiresEarly,       ///< a named bitmap is recorded while a write to it is under way
  kBitmapBeginsUnflushed,    ///< a named bitmap begins on writes that a power loss may undo
  kBitmapTrustsAnyImage,     ///< a named bitmap is believed of an image that others have changed
  kPullOverwritesNewer,      ///< I12: a pull lands on what a write has put there meanwhile
  kPresenceBeforeData,       ///< I12: a chunk is durably present before its data is durable
  kAbsentReadsAsFound,       ///< post-copy: an absent chunk is read where it is not yet
  kPartialWriteNoFetch,      ///< post-copy: a part of an absent chunk makes it present
  kBaseNotFlushed,           ///< I1: a flush forgets what only the old store has
  kSwitchNotAnnounced,       ///< I3: the old store still says that the disk lives there
  kSwitchConfirmedEarly,     ///< I3: the new store says so before the decision
  kReturnRecordLate,         ///< I5: the way back is recorded only after the switchover
  kReturnCopiesNothing,      ///< the record of the way back is not looked at
  kRestSavedBeforeFence,     ///< post-copy: chunks dirtied after the journal was told are missing
                             ///< there
  kWholeBeforeJobEnds,       ///< I7: that the new store is whole is recorded without the job's end
  kFsyncRetriedAndBelieved,  ///< I11: a flush that works after one that failed is believed
  kHolesNotAskedAgain,       ///< a hole that the guest has written to since is zeroed at the target
  kStaleJobsComeBack,        ///< I7: an older job whose end was not recorded is taken up again
  kPullBufferFlips,          ///< a bit of what was fetched flips, and nobody looks (I13)
  kDigestMissesWrites,       ///< I13: what the guest writes while it hydrates is not hashed again
  kMergeBeforePresence,    ///< settle: the image changes where a restart would still fetch from it
  kMergeManifestLate,      ///< settle: the image changes before its manifest says so
  kRetiresAfterJournal,    ///< I8: regions leave the activity log when nothing can bring them back
  kLogGoesBeforeRecord,    ///< I5: a record that a restart will believe is not kept true any more
  kRefusalIsUnknown,       ///< I8: a decision that was refused counts as one that may have happened
  kUnknownOwnerDiscarded,  ///< I3: a target is removed that the journal may name as the owner
  kReconnectKeepsUnflushedClean,  ///< what a lost connection had not made durable counts as there
  kMirrorEndForgotten,  ///< I1: a write that the base lacks is acknowledged before that is recorded
  kPausedSwitches,      ///< a job that an operator has paused switches over
  kDiscardAfterClose,   ///< what is discarded may be the next move's target by then (I9)
  kDigestsOfBeforeFence,    ///< shared: a chunk that changed before the fence keeps its digest
  kFlushErrorNotPassedOn,   ///< I11: a mirror answers a flush that the source has failed
  kLostSourceRetried,       ///< a source that is gone for good is asked for ever
  kFenceHasNoDeadline,      ///< I8: the gate stays closed until the source has answered
  kMergeBelievesUnflushed,  ///< I11: settle does not write again what a failed flush has taken
  kAbsentIsAHole,   ///< what an overlay has not fetched yet is not allocated: a move leaves it out
  kSinceArmedLate,  ///< I5: what is written between a backup's scan and its instant is left out
  kRestNotFlushed,  ///< I1: what stays at rest is only in the source's cache at the decision
  kJobsOfOtherDisksCount,  ///< I7: a later job of another disk proves that this one has ended
  kJobEndsAfterDecision,   ///< I7: a second commit says that the job has ended, not the decision
  kScanBeforeArm,  ///< I17: what is written between the scan and the arming of a move is untracked
  kAdmittedUncounted,     ///< trap 1: who has found the gate open is counted only later
  kPartErrorOverwritten,  ///< trap 12: what the base has taken makes good the store's error
  kNeitherSentNorMarked,  ///< trap 13: while nobody waits for the target, nothing is marked for it
  kCopierSharesBuffer,  ///< trap 16: the next read goes where the target still takes its bytes from
  kFlushCoversLater,    ///< trap 18: what is written while a flush is under way counts as flushed
  kEdgesNotHeld,  ///< trap 8: a read-modify-write does not keep others from the rest of its blocks
  kJournalNotSynced,   ///< trap 19: RocksDB's default
  kDamageIsATornTail,  ///< trap 19: damage in the middle of the journal's log ends it there
  kEnd,                ///< no bug: one more than the last
};

#if defined(BLOCKMIG_PLANTED_BUGS) && BLOCKMIG_PLANTED_BUGS
extern PlantedBug planted_bug;  ///< set by the simulator before a run; never changed within one
inline bool planted(PlantedBug bug) { return planted_bug == bug; }
#else
constexpr bool planted(PlantedBug) { return false; }
#endif

}  // namespace blockmig
