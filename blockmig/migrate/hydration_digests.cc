// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/hydration_digests.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "blockmig/base/check.h"
#include "blockmig/base/planted.h"
#include "blockmig/io/cancel.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kChunkBytes = ChunkDigests::kChunkBytes;
/// Read and hashed in one go, about 0.2 ms from the page cache: guests come first.
constexpr std::uint64_t kChunksAtOnce = 8;
constexpr Duration kBetween = std::chrono::microseconds(1);

}  // namespace

Result<std::unique_ptr<HydrationDigests>> HydrationDigests::create(EventLoop& loop, Disk& disk) {
  auto unknown = DirtyBitmap::create(disk.info().size_bytes, kChunkBytes);
  if (!unknown.ok()) return unknown.error();
  return std::unique_ptr<HydrationDigests>(new HydrationDigests(loop, disk, std::move(*unknown)));
}

HydrationDigests::HydrationDigests(EventLoop& loop, Disk& disk,
                                   std::unique_ptr<DirtyBitmap> unknown)
    : loop_(loop), disk_(disk), unknown_(std::move(unknown)), digests_(unknown_->size_bytes()) {
  if (!planted(PlantedBug::kDigestMissesWrites)) disk_.tracking().attach_job(*unknown_);
}

HydrationDigests::~HydrationDigests() { detach(); }

void HydrationDigests::detach() { disk_.tracking().detach_job(unknown_.get()); }

void HydrationDigests::begin_with(ChunkDigests known, const PresenceMap& map) {
  BM_CHECK(known.size_bytes() == digests_.size_bytes());
  digests_ = std::move(known);
  map.add_absent_to(*unknown_);
  for (const ChunkDigests::Run& run : digests_.runs()) {
    if (run.known) continue;
    const ByteRange first = digests_.chunk_range(run.first);
    const ByteRange last = digests_.chunk_range(run.first + run.count - 1);
    unknown_->mark(first.offset, last.end() - first.offset);
  }
}

/// The marks of writes are there before the allocation is looked at (I17).
Task<void> HydrationDigests::begin_from(BlockDevice& local) {
  std::uint64_t offset = 0;
  while (offset < digests_.size_bytes()) {
    const auto extents = co_await local.extents(offset, digests_.size_bytes() - offset);
    if (!extents.ok()) {
      unknown_->mark_all();  // it cannot say what is allocated: everything is
      co_return;
    }
    for (const Extent& extent : *extents) {
      if (!extent.zero) unknown_->mark(extent.offset, extent.length);
      offset = extent.offset + extent.length;
    }
  }
}

void HydrationDigests::pulled(ByteRange range, ConstBytes content) {
  for (std::uint64_t chunk = range.offset / kChunkBytes; chunk * kChunkBytes < range.end();
       ++chunk) {
    const ByteRange whole = digests_.chunk_range(chunk);
    if (whole.offset < range.offset || whole.end() > range.end()) {
      unknown_->mark(whole.offset, whole.length);
      continue;
    }
    if (content.empty()) {
      digests_.set_zero(chunk);
    } else {
      digests_.set(whole.offset, content.subspan(whole.offset - range.offset, whole.length));
    }
    // A write that is under way marks it again when it ends.
    unknown_->clear(whole.offset, whole.length);
  }
}

/// Unknown chunks from `first` on that lie together. `end`: behind them.
Task<Status> HydrationDigests::hash_run(std::uint64_t first, std::uint64_t& end) {
  std::vector<std::uint32_t> chunks;
  const std::uint64_t limit = std::min(unknown_->chunk_count(), first + kChunksAtOnce);
  for (end = first; end < limit && unknown_->is_dirty(end); ++end) {
    chunks.push_back(static_cast<std::uint32_t>(end));
  }
  // The marks first, then the read (I6): a write in between marks them again.
  DirtyLease lease = unknown_->lease_chunks(chunks);
  const std::uint64_t offset = unknown_->chunk_range(first).offset;
  std::vector<std::byte> content(unknown_->chunk_range(end - 1).end() - offset);
  const MutableBytes into(content);
  const Status read = co_await disk_.store().read_once(offset, into);
  if (!read.ok()) co_return read;
  digests_.set(offset, into);
  lease.acknowledge_all();
  co_return read;
}

Task<Status> HydrationDigests::run_pass(Event& stop) {
  const TimePoint begun = loop_.now();
  const std::uint64_t before = unknown_bytes();
  for (auto next = unknown_->next_dirty(0); next && !stop.is_set();) {
    std::uint64_t end = 0;
    const Status hashed = co_await hash_run(*next, end);
    if (!hashed.ok()) co_return hashed;
    next = unknown_->next_dirty(end);
    co_await sleep_for(loop_, kBetween);
  }
  const double seconds = std::chrono::duration<double>(loop_.now() - begun).count();
  if (seconds > 0) {
    bytes_per_second_ = static_cast<std::uint64_t>(static_cast<double>(before) / seconds);
  }
  co_return Status();
}

Task<bool> HydrationDigests::finish(Duration budget) {
  const TimePoint deadline = loop_.now() + budget;
  const double seconds = std::chrono::duration<double>(budget).count();
  const auto affordable =
      static_cast<std::uint64_t>(seconds * static_cast<double>(bytes_per_second_));
  if (unknown_bytes() > std::max(kUnderFenceBytes, affordable)) co_return false;
  for (auto next = unknown_->next_dirty(0); next;) {
    if (loop_.now() > deadline) co_return false;
    std::uint64_t end = 0;
    const Status hashed = co_await hash_run(*next, end);
    if (!hashed.ok()) co_return false;
    next = unknown_->next_dirty(end);
  }
  co_return true;
}

}  // namespace blockmig
