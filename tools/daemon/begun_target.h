// SPDX-License-Identifier: Apache-2.0
// That a move has begun with a file as its target, noted in the journal before the file is made or
// claimed, with the folder that it is in. A restart that finds neither the file nor that folder
// waits: its filesystem may not be mounted yet. Another file made there would become the disk, and
// the unfinished one be in its place once the filesystem is there (I7).
//
// One note for each disk, as it has one move at a time; one of another epoch or target is that of
// an earlier move. Thread rule: the loop.
#pragma once

#include <string>

#include "blockmig/base/error.h"
#include "blockmig/io/io_loop.h"
#include "blockmig/io/task.h"
#include "blockmig/journal/journal.h"

namespace blockmig {

struct TargetPlan;

/// Nothing where the plan has no journal. `plan` outlives the tasks.
Task<Status> note_begun_target(IoLoop& loop, const TargetPlan& plan);
/// Before the file is removed. Trouble is not told: the note says too much, then.
Task<void> forget_begun_target(const TargetPlan& plan);
/// It was begun, and in another folder than the one that is there now.
Task<Result<bool>> is_begun_elsewhere(IoLoop& loop, const TargetPlan& plan);

/// For a batch's `removed_notes`, whatever the move.
NoteRecord begun_target_note(const std::string& disk, std::string text = {});

/// kNotFound: what a move says that waits for its target.
Error is_away(const TargetPlan& plan);

/// The inode and when it was made: another file of that name has another. Blocks.
std::string identity_of(const std::string& path);

}  // namespace blockmig
