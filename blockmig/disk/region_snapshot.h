// SPDX-License-Identifier: Apache-2.0
// Sets of chunks in memory and as the journal keeps them, by container. Pure; any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "bitmap/dirty_bitmap.h"
#include "bitmap/dirty_filter.h"
#include "blockmig/journal/journal.h"

namespace blockmig {

/// How many containers a set of `chunk_count` chunks has.
std::uint32_t container_count(std::uint64_t chunk_count);

/// What is set in container `index`, without zero bytes at the end: empty if nothing is.
std::vector<std::byte> container_bits(const DirtyFilter& set, std::uint32_t index);

/// Calls `visit(first, end)` for every run of the containers' chunks. kProtocol: a chunk beyond
/// `chunk_count`: what is recorded belongs to another disk.
Status for_each_run(const std::vector<RegionContainer>& containers, std::uint64_t chunk_count,
                    const std::function<void(std::uint64_t first, std::uint64_t end)>& visit);

/// What a bitmap holds now.
void copy_dirty(const DirtyBitmap& bitmap, DirtyFilter& into);

/// What must be put and erased so that the journal holds `now`, where it holds `before`. Nothing
/// bounds its size; add_change() does.
RegionChange change_between(const DirtyFilter& before, const DirtyFilter& now, RegionSetId set);

/// Adds that change to a batch, in as many pieces as its limits ask for: a disk of many TiB has
/// more containers than one change may name.
void add_change(JournalBatch& batch, const DirtyFilter& before, const DirtyFilter& now,
                const RegionSetId& set);

}  // namespace blockmig
