// SPDX-License-Identifier: Apache-2.0
// PresenceMap: which chunks of a disk's new store are filled, after a post-copy switchover.
//
// A chunk is absent (its content is in the base), or present. Nothing leads back. What became
// present is *fresh* until its durable form was saved; the durable form may lag behind and never
// runs ahead: durable present(c) implies durable data(c) (I12). So a save takes the fresh chunks
// first, then makes the data durable, then writes the containers, then acknowledges.
//
// Kept as the set of absent chunks: it shrinks, and a sparse disk has few of them. Thread rule: one
// loop. Offsets and lengths are bytes, within the disk (checked).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "bitmap/dirty_bitmap.h"
#include "blockmig/base/bytes.h"
#include "blockmig/base/error.h"
#include "blockmig/journal/journal.h"

namespace blockmig {

class PresenceMap final {
 public:
  /// Everything present. kInvalid as DirtyBitmap::create().
  static Result<std::unique_ptr<PresenceMap>> create(std::uint64_t size_bytes,
                                                     std::uint32_t granularity_bytes);
  /// What a journal has saved. kProtocol: chunks beyond the disk.
  static Result<std::unique_ptr<PresenceMap>> load(std::uint64_t size_bytes,
                                                   std::uint32_t granularity_bytes,
                                                   const std::vector<RegionContainer>& saved);

  /// Before the first request: the chunks of `absent` (same size) are in the base.
  void set_absent(const DirtyBitmap& absent);
  /// Before the first request: a container's absent chunks are those of `absent` (same size and
  /// granularity), no others. Costs what differs; false: nothing does.
  bool follow(std::uint32_t index, const DirtyBitmap& absent);
  /// Of the disk, empty ones included.
  std::uint32_t container_count() const {
    return static_cast<std::uint32_t>(absent_->block_count());
  }
  /// Adds to `set` (same size) what is absent.
  void add_absent_to(DirtyBitmap& set) const { set.merge(*absent_); }

  std::uint32_t granularity_bytes() const { return absent_->granularity_bytes(); }
  std::uint64_t absent_bytes() const { return absent_->dirty_bytes(); }
  std::uint64_t absent_chunks() const { return absent_->dirty_count(); }
  bool whole() const { return absent_->dirty_count() == 0; }
  bool is_present(std::uint64_t chunk) const { return !absent_->is_dirty(chunk); }
  bool all_present(ByteRange range) const {
    return !absent_->any_dirty(range.offset, range.length);
  }
  bool all_absent(ByteRange range) const;
  std::optional<std::uint64_t> next_absent(std::uint64_t chunk) const {
    return absent_->next_dirty(chunk);
  }
  ByteRange chunk_range(std::uint64_t chunk) const { return absent_->chunk_range(chunk); }
  /// The whole chunks that the range touches.
  ByteRange outwards(ByteRange range) const;
  /// The whole chunks that lie within the range; the disk's end counts as a chunk's end.
  ByteRange inwards(ByteRange range) const;
  /// `dirty` runs are absent; as DirtyBitmap::runs().
  std::vector<DirtyBitmap::Run> runs(ByteRange range, std::size_t max_runs) const {
    return absent_->runs(range.offset, range.length, max_runs);
  }

  /// The whole chunks within the range are filled now. Those that were absent become fresh.
  void set_present(ByteRange range);

  /// Present, with a durable form that may still say absent (saves under way not counted).
  bool has_fresh(ByteRange range) const { return fresh_->any_dirty(range.offset, range.length); }
  bool has_fresh() const { return fresh_->dirty_count() != 0; }
  /// The first step of a save: what it will cover. Fresh again unless acknowledged.
  DirtyLease take_fresh();
  /// The containers in which `chunks` (ascending) lie.
  static std::vector<std::uint32_t> containers_of(const std::vector<std::uint32_t>& chunks);
  /// What the durable form of a container must say: what is absent, and what is fresh. Empty bits:
  /// erase it.
  RegionContainer durable_form(std::uint32_t index) const;
  /// All containers that are not empty.
  std::vector<RegionContainer> durable_form() const;

  std::size_t memory_bytes() const { return absent_->memory_bytes() + fresh_->memory_bytes(); }

 private:
  PresenceMap(std::unique_ptr<DirtyBitmap> absent, std::unique_ptr<DirtyBitmap> fresh)
      : absent_(std::move(absent)), fresh_(std::move(fresh)) {}

  std::unique_ptr<DirtyBitmap> absent_;
  std::unique_ptr<DirtyBitmap> fresh_;
};

}  // namespace blockmig
