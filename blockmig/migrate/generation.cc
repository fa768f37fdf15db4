// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/generation.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/base/planted.h"
#include "blockmig/base/units.h"
#include "blockmig/io/visit.h"

namespace blockmig {

Generation::Generation(EventLoop& loop, SyncState& sync, BlockDevice& store,
                       const JobOptions& options, std::unique_ptr<DirtyBitmap> pending)
    : loop_(loop),
      sync_(sync),
      store_(store),
      options_(options),
      pending_(std::move(pending)),
      changed_(loop) {
  pending_->merge(*sync_.dirty);
  sync_.dirty->clear_all();
}

Generation::~Generation() { BM_CHECK(inside_ == 0 && keeping_.running() == 0); }

Task<void> Generation::wait_empty() {
  while (inside_ > 0) co_await changed_.wait();
  co_await keeping_.join();
}

void Generation::set_copied(bool copied) {
  copied_ = copied;
  changed_.pulse();
}

/// For room, counted from a write's arrival.
Duration Generation::patience() const {
  const bool patient = copied_ && options_.on_stall == OnStall::kThrottle;
  return patient ? options_.target_timeout : options_.mirror_deadline;
}

void Generation::tear(const std::string& why) {
  if (torn_) return;
  torn_ = true;
  why_ = why;
  changed_.pulse();
}

void Generation::give_up(const std::string& why) {
  if (!complete()) tear(why);
  sync_.dirty->merge(*pending_);
  pending_->clear_all();
  kept_.clear();
  kept_bytes_ = 0;
  changed_.pulse();
}

bool Generation::needed(std::uint32_t chunk) const {
  if (pending_->is_dirty(chunk)) return true;
  return sync_.ledger.copying(pending_->chunk_range(chunk)) &&
         !planted(PlantedBug::kChunkInFlightNotKept);
}

bool Generation::being_read(ByteRange range) const {
  return std::any_of(reading_.begin(), reading_.end(),
                     [&](const ByteRange& other) { return other.overlaps(range); });
}

/// Starts to keep what of the range must be kept; what the write has to wait for.
Generation::Need Generation::keep_old(ByteRange range) {
  const std::uint64_t granularity = pending_->granularity_bytes();
  const std::uint64_t last = (range.end() - 1) / granularity;
  Need need = being_read(range) ? Need::kWait : Need::kNothing;
  for (std::uint64_t number = range.offset / granularity; number <= last; ++number) {
    const auto chunk = static_cast<std::uint32_t>(number);
    if (!needed(chunk)) continue;
    const auto place = kept_.find(chunk);
    if (place != kept_.end()) {
      if (!place->second->complete && need == Need::kNothing) need = Need::kWait;
      continue;
    }
    const std::uint64_t length = pending_->chunk_range(chunk).length;
    if (kept_bytes_ > 0 && kept_bytes_ + length > options_.snapshot_buffer_bytes) {
      need = Need::kRoom;
      continue;
    }
    auto kept = std::make_shared<Kept>(length);
    kept_.emplace(chunk, kept);
    kept_bytes_ += length;
    ++stats_.chunks_kept;
    auto task = keep(chunk, kept);
    keeping_.spawn(std::move(task));
    if (!kept->complete && need == Need::kNothing) need = Need::kWait;
  }
  return need;
}

Task<void> Generation::keep(std::uint32_t chunk, std::shared_ptr<Kept> kept) {
  const ByteRange range = pending_->chunk_range(chunk);
  const MutableBytes into = kept->content.bytes();
  const Status read = co_await store_.read(range.offset, into);
  if (!read.ok()) {
    tear("reading the source at offset " + std::to_string(range.offset) +
         ", to keep what a write replaces: " + read.error().message());
  }
  kept->complete = true;
  changed_.pulse();
}

/// Returns when the range may be overwritten: its old content is kept, or nobody needs it.
Task<void> Generation::preserve(ByteRange range) {
  const TimePoint arrived = loop_.now();
  while (!torn_) {
    const TimePoint deadline = arrived + patience();
    const Need need = keep_old(range);
    if (need == Need::kNothing) break;
    if (need == Need::kRoom && loop_.now() >= deadline) {
      tear("the guest overwrites faster than the target takes the old content: " +
           format_bytes(kept_bytes_) + " of at most " +
           format_bytes(options_.snapshot_buffer_bytes) + " are kept, and no room came within " +
           format_duration(patience()));
      break;
    }
    // Reading the source ends by itself; only room may fail to come.
    const TimePoint until = need == Need::kRoom ? deadline : TimePoint::max();
    co_await changed_.wait_until(until);
  }
  stats_.longest_wait = std::max(stats_.longest_wait, loop_.now() - arrived);
}

Task<Status> Generation::write(BlockDevice& store, std::uint64_t offset, ConstBytes from,
                               WriteFlags flags, MirrorVisit& /*visit*/) {
  const Visit inside(inside_, changed_);
  const ByteRange range{offset, from.size()};
  sync_.dirty->mark(offset, range.length);
  if (!range.empty() && !planted(PlantedBug::kOldContentNotKept)) co_await preserve(range);
  const Status status = co_await store.write(offset, from, flags);
  sync_.dirty->mark(offset, range.length);
  co_return status;
}

Task<Status> Generation::write_zeroes(BlockDevice& store, std::uint64_t offset,
                                      std::uint64_t length, ZeroFlags flags,
                                      MirrorVisit& /*visit*/) {
  const Visit inside(inside_, changed_);
  const ByteRange range{offset, length};
  sync_.dirty->mark(offset, length);
  if (!range.empty()) co_await preserve(range);
  const Status status = co_await store.write_zeroes(offset, length, flags);
  sync_.dirty->mark(offset, length);
  co_return status;
}

Task<Status> Generation::trim(BlockDevice& store, std::uint64_t offset, std::uint64_t length,
                              WriteFlags flags) {
  const Visit inside(inside_, changed_);
  const ByteRange range{offset, length};
  sync_.dirty->mark(offset, length);
  if (!range.empty()) co_await preserve(range);
  const Status status = co_await store.trim(offset, length, flags);
  sync_.dirty->mark(offset, length);
  co_return status;
}

Task<Status> Generation::flush(BlockDevice& store) {
  const Visit inside(inside_, changed_);
  const Status status = co_await store.flush();
  co_return status;
}

std::optional<std::uint64_t> Generation::urgent() const {
  for (const auto& [chunk, kept] : kept_) {
    if (kept->complete && pending_->is_dirty(chunk)) return chunk;
  }
  return std::nullopt;
}

Task<Status> Generation::read_store(ByteRange range, MutableBytes into) {
  const auto place = reading_.insert(reading_.end(), range);
  const Status status = co_await store_.read(range.offset, into);
  reading_.erase(place);
  changed_.pulse();
  co_return status;
}

/// Each chunk from where its old content is at that moment: memory, or the store.
Task<Status> Generation::read(ByteRange range, MutableBytes into) {
  const std::uint64_t granularity = pending_->granularity_bytes();
  for (std::uint64_t at = range.offset; at < range.end();) {
    const auto chunk = static_cast<std::uint32_t>(at / granularity);
    const auto place = kept_.find(chunk);
    if (place != kept_.end()) {
      const std::shared_ptr<Kept> kept = place->second;
      while (!kept->complete) co_await changed_.wait();
      const ConstBytes old = kept->content.bytes();
      std::memcpy(into.data() + (at - range.offset), old.data(), old.size());
      at += old.size();
      continue;
    }
    std::uint64_t end = at;
    while (end < range.end() && !kept_.contains(static_cast<std::uint32_t>(end / granularity))) {
      end = std::min(align_down(end, granularity) + granularity, range.end());
    }
    const ByteRange part{at, end - at};
    const MutableBytes rest = into.subspan(at - range.offset, part.length);
    const Status status = co_await read_store(part, rest);
    if (!status.ok()) co_return status;
    at = end;
  }
  co_return Status();
}

void Generation::copied(const std::vector<std::uint32_t>& chunks) {
  if (kept_.empty()) return;
  for (const std::uint32_t chunk : chunks) {
    const auto place = kept_.find(chunk);
    if (place == kept_.end()) continue;
    kept_bytes_ -= place->second->content.size();
    kept_.erase(place);
  }
  changed_.pulse();
}

}  // namespace blockmig
