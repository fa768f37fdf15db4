// SPDX-License-Identifier: Apache-2.0
// ClosedMove: what both stores of a suspended move were when their daemon ended in order.
//
// An orderly end gives the images back to anybody; who has written to one of them since has marked
// nothing, so a restart believes what the move has recorded only if both are as they were (I5). The
// source's half goes before the disk's first client, the target's before it is written to: after a
// crash there is nothing to compare, and the stamps say that nobody else had the images. Thread
// rule: the journal's loop.
#pragma once

#include <optional>
#include <string>

#include "blockmig/base/error.h"
#include "blockmig/io/task.h"
#include "blockmig/journal/journal.h"

namespace blockmig {

/// image_identity() of each; empty where nothing tells one content from another, which is not
/// believed then.
struct ClosedMove {
  bool served = false;  ///< again since: `source` says nothing any more
  std::string source;
  std::string target;
};

Task<Status> save_closed_move(Journal& journal, std::string disk, ClosedMove move);
/// Nothing: the daemon before did not end in order, or had no move of that disk.
Task<Result<std::optional<ClosedMove>>> load_closed_move(Journal& journal, std::string disk);
/// For a batch's `notes`; or for its `removed_notes`, whatever the move.
NoteRecord closed_move_note(const std::string& disk, const ClosedMove& move = {});

}  // namespace blockmig
