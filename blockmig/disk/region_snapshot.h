// SPDX-License-Identifier: Apache-2.0
// Sets of chunks in memory and as the journal keeps them, by container, which is a block of
// DirtyFilter. Pure; any thread.
//
// A disk of 16 TiB has 8,192 containers of 4 KiB: what goes over all of them gives up the loop's
// turn in between (I10). A coroutine uses what it is given until it ends.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "bitmap/dirty_bitmap.h"
#include "bitmap/dirty_filter.h"
#include "blockmig/base/function_ref.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task.h"
#include "blockmig/journal/journal.h"

namespace blockmig {

/// How many containers a set of `chunk_count` chunks has.
std::uint32_t container_count(std::uint64_t chunk_count);

/// As the journal keeps the members of a container: without zero bytes at the end, so without any
/// if nothing is set.
RegionContainer container_of(std::uint32_t index, const DirtyFilter::Block& members);

/// Calls `visit(first, end)` for every run of the containers' chunks. kProtocol: a chunk beyond
/// `chunk_count`: what is recorded belongs to another disk.
Status for_each_run(const std::vector<RegionContainer>& containers, std::uint64_t chunk_count,
                    const std::function<void(std::uint64_t first, std::uint64_t end)>& visit);

/// Containers that are looked at in one turn.
inline constexpr std::uint32_t kContainersPerTurn = 64;

/// Makes `into` what a bitmap holds. Each container is of one instant; between two of them may lie
/// turns. At the end of every turn `at_once` may add what belongs to that instant too, of that
/// turn's containers [first, end).
using AddAtOnce = FunctionRef<void(std::uint32_t first, std::uint32_t end)>;
Task<void> copy_dirty(EventLoop& loop, const DirtyBitmap& bitmap, DirtyFilter& into,
                      AddAtOnce at_once);

/// Adds to a batch what must be put and erased so that the journal holds `now`, where it holds
/// `before`; in as many pieces as its limits ask for: a disk of many TiB has more containers than
/// one change may name.
void add_change(JournalBatch& batch, const DirtyFilter& before, const DirtyFilter& now,
                const RegionSetId& set);
/// The same, in turns.
Task<void> add_change_in_turns(EventLoop& loop, JournalBatch& batch, const DirtyFilter& before,
                               const DirtyFilter& now, const RegionSetId& set);

}  // namespace blockmig
