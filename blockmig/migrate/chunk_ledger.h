// SPDX-License-Identifier: Apache-2.0
// ChunkLedger: who is working on which chunk of the target right now.
//
// Two parties write to the target: the copier (whole chunks) and the mirror (the guest's writes).
// Per chunk at most one of them does. The copier takes a chunk only when no mirrored write is under
// way in it; a guest's write is mirrored only when the chunk is neither dirty nor being copied, and
// mirrored writes that overlap go one after the other, because two that run at once could land in
// different orders on the two sides (trap 14). A mirrored write keeps its range until source *and*
// target are done with it, also when the guest has long been answered (I9, trap 15).
//
// Only active chunks have an entry. Thread rule: one loop.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "blockmig/base/bytes.h"
#include "blockmig/io/event.h"
#include "blockmig/io/event_loop.h"

namespace blockmig {

class ChunkLedger;

/// The range of one mirrored write; released by destruction.
class RangeGuard final {
 public:
  RangeGuard(ChunkLedger& ledger, ByteRange range);
  ~RangeGuard();
  RangeGuard(const RangeGuard&) = delete;
  RangeGuard& operator=(const RangeGuard&) = delete;
  const ByteRange& range() const { return range_; }

 private:
  ChunkLedger& ledger_;
  ByteRange range_;
};

class ChunkLedger final {
 public:
  ChunkLedger(EventLoop& loop, std::uint32_t granularity_bytes)
      : granularity_bytes_(granularity_bytes), changed_(loop) {}

  /// False if somebody is at work in the chunk. `exclusive`: guest writes into it wait meanwhile.
  bool try_begin_copy(std::uint32_t chunk, bool exclusive);
  void end_copy(std::uint32_t chunk);

  /// As many chunks from `first` on as nobody is at work in, at most `count`; 0 if the first is
  /// busy. Cheap whatever the count. Ended as one.
  std::uint64_t try_begin_run(std::uint32_t first, std::uint64_t count);
  void end_run(std::uint32_t first, std::uint64_t count);

  /// Any chunk of the range is being copied (or copied exclusively).
  bool copying(ByteRange range) const;
  bool copying_exclusively(ByteRange range) const;
  /// A mirrored write under way touches one of the range's bytes.
  bool overlaps_mirrored(ByteRange range) const;
  bool idle() const { return entries_.empty() && runs_.empty(); }
  /// The chunks that somebody is at work in.
  std::vector<std::uint32_t> busy() const;

  /// Pulsed whenever something ended.
  Event& changed() { return changed_; }

 private:
  friend class RangeGuard;
  struct Entry {
    bool copying = false;
    bool exclusive = false;
    std::vector<const RangeGuard*> mirrored;
  };
  /// 64 bits: the last one of a disk may be the last of 32, and a loop has to go past it.
  std::uint64_t first_chunk(ByteRange range) const { return range.offset / granularity_bytes_; }
  std::uint64_t last_chunk(ByteRange range) const { return (range.end() - 1) / granularity_bytes_; }
  /// Of chunks, claimed as one.
  struct Run {
    std::uint64_t first = 0;
    std::uint64_t end = 0;
  };
  bool in_run(std::uint64_t first, std::uint64_t last) const;
  template <typename Predicate>
  bool any_entry(ByteRange range, Predicate predicate) const;

  std::uint32_t granularity_bytes_;
  Event changed_;
  std::unordered_map<std::uint64_t, Entry> entries_;
  std::vector<Run> runs_;  ///< few, and apart from `entries_`
};

}  // namespace blockmig
