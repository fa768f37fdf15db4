// SPDX-License-Identifier: Apache-2.0
#include "bitmap/dirty_bitmap.h"

#include <algorithm>
#include <bit>
#include <string>
#include <utility>

#include "bitmap/bitmap_state.h"
#include "bitmap/heap_bytes.h"

namespace blockmig {
namespace {

/// Up to here a range is logged chunk by chunk; a longer one goes to Roaring as a range.
constexpr std::uint64_t kLoggedRangeChunks = 32;

/// Calls `change` with each run of set bits, as [first, end) from `base` on.
template <typename Change>
void for_each_run(const DirtyFilter::Block& words, std::uint64_t base, const Change& change) {
  std::uint64_t first = 0;
  std::uint64_t end = 0;
  for (std::uint64_t i = 0; i < words.size(); ++i) {
    for (std::uint64_t left = words[i]; left != 0;) {
      const auto skip = static_cast<unsigned>(std::countr_zero(left));
      const auto length = static_cast<unsigned>(std::countr_one(left >> skip));
      const std::uint64_t at = i * 64 + skip;
      if (at != end) {
        if (first != end) change(base + first, base + end);
        first = at;
      }
      end = at + length;
      left = skip + length == 64 ? 0 : left >> (skip + length) << (skip + length);
    }
  }
  if (first != end) change(base + first, base + end);
}

}  // namespace

Result<std::unique_ptr<DirtyBitmap>> DirtyBitmap::create(std::uint64_t size_bytes,
                                                         std::uint32_t granularity_bytes) {
  if (!std::has_single_bit(granularity_bytes) || granularity_bytes < kMinGranularityBytes ||
      granularity_bytes > kMaxGranularityBytes) {
    return Error(ErrorCode::kInvalid, "dirty bitmap: granularity " +
                                          std::to_string(granularity_bytes) +
                                          " is not a power of two in 4096 … 1048576");
  }
  if (div_up(size_bytes, granularity_bytes) > 1ULL << 32) {
    return Error(ErrorCode::kInvalid, "dirty bitmap: " + std::to_string(size_bytes) +
                                          " bytes are more than 2^32 chunks of " +
                                          std::to_string(granularity_bytes));
  }
  return std::unique_ptr<DirtyBitmap>(new DirtyBitmap(size_bytes, granularity_bytes));
}

DirtyBitmap::DirtyBitmap(std::uint64_t size_bytes, std::uint32_t granularity_bytes)
    : size_bytes_(size_bytes),
      shift_(static_cast<unsigned>(std::countr_zero(granularity_bytes))),
      filter_(div_up(size_bytes, granularity_bytes)),
      state_(std::make_unique<State>()) {}

DirtyBitmap::~DirtyBitmap() { BM_CHECK(state_->live_leases == 0); }

ByteRange DirtyBitmap::chunk_range(std::uint64_t chunk) const {
  BM_CHECK(chunk < chunk_count());
  const std::uint64_t offset = chunk << shift_;
  return {offset, std::min<std::uint64_t>(granularity_bytes(), size_bytes_ - offset)};
}

void DirtyBitmap::mark_chunks(std::uint64_t first, std::uint64_t end) {
  if (first >= end) return;
  if (end - first > kLoggedRangeChunks) {
    const std::uint64_t fresh = filter_.set_range(first, end);
    if (fresh > 0) state_->set.add_range(first, end);
    return;
  }
  for (std::uint64_t chunk = first; chunk < end; ++chunk) {
    if (!filter_.set(chunk)) continue;
    state_->log.push_back(static_cast<std::uint32_t>(chunk));
    if (state_->log.size() == kMarkLogChunks) fold();
  }
}

void DirtyBitmap::fold() const {
  std::vector<std::uint32_t>& log = state_->log;
  if (log.empty()) return;
  std::sort(log.begin(), log.end());
  state_->set.add_many(log);
  log.clear();
}

void DirtyBitmap::clear_chunks(std::uint64_t first, std::uint64_t end) {
  if (first >= end || filter_.clear_range(first, end) == 0) return;
  // Before the removal: a logged chunk that is folded in later would come back.
  fold();
  state_->set.remove_range(first, end);
}

void DirtyBitmap::mark_all() {
  filter_.set_range(0, chunk_count());
  state_->log.clear();
  state_->set.clear();
  state_->set.add_range(0, chunk_count());
}

void DirtyBitmap::clear_all() {
  catch_up();
  filter_.clear_range(0, chunk_count());
  state_->log.clear();
  state_->set.clear();
}

void DirtyBitmap::clear(std::uint64_t offset, std::uint64_t length) {
  BM_CHECK(fits(offset, length, size_bytes_));
  catch_up();
  const std::uint64_t first = div_up(offset, granularity_bytes());
  const std::uint64_t end =
      offset + length == size_bytes_ ? chunk_count() : (offset + length) >> shift_;
  clear_chunks(first, end);
}

bool DirtyBitmap::any_dirty(std::uint64_t offset, std::uint64_t length) const {
  BM_CHECK(fits(offset, length, size_bytes_));
  if (length == 0) return false;
  catch_up();
  const std::uint64_t end = ((offset + length - 1) >> shift_) + 1;
  return filter_.next_set(offset >> shift_, end) != end;
}

std::uint64_t DirtyBitmap::dirty_bytes() const {
  catch_up();
  if (chunk_count() == 0) return 0;
  const std::uint64_t last = chunk_count() - 1;
  const std::uint64_t missing =
      filter_.test(last) ? granularity_bytes() - chunk_range(last).length : 0;
  return (dirty_count() << shift_) - missing;
}

std::optional<std::uint64_t> DirtyBitmap::next_dirty(std::uint64_t from) const {
  catch_up();
  const std::uint64_t end = chunk_count();
  const std::uint64_t found = filter_.next_set(from, end);
  if (found == end || from >= end) return std::nullopt;
  return found;
}

DirtyLease DirtyBitmap::lease(std::uint64_t from_chunk, std::size_t max_chunks) {
  catch_up();
  fold();
  std::vector<std::uint32_t> chunks;
  state_->set.collect(from_chunk, max_chunks, chunks);
  return take(std::move(chunks));
}

DirtyLease DirtyBitmap::lease_chunks(const std::vector<std::uint32_t>& chunks) {
  std::vector<std::uint32_t> dirty;
  for (const std::uint32_t chunk : chunks) {
    if (is_dirty(chunk)) dirty.push_back(chunk);
  }
  std::sort(dirty.begin(), dirty.end());
  dirty.erase(std::unique(dirty.begin(), dirty.end()), dirty.end());
  return take(std::move(dirty));
}

void DirtyBitmap::merge(const DirtyBitmap& other) {
  BM_CHECK(other.size_bytes_ == size_bytes_);
  if (&other == this) return;
  other.catch_up();
  const std::uint64_t end = other.chunk_count();
  for (std::uint64_t first = other.filter_.next_set(0, end); first < end;) {
    const std::uint64_t stop = other.filter_.next_clear(first, end);
    const std::uint64_t begin_bytes = first << other.shift_;
    const std::uint64_t end_bytes = std::min(size_bytes_, stop << other.shift_);
    mark_chunks(begin_bytes >> shift_, ((end_bytes - 1) >> shift_) + 1);
    first = other.filter_.next_set(stop, end);
  }
}

void DirtyBitmap::subtract(const DirtyBitmap& other) {
  BM_CHECK(other.size_bytes_ == size_bytes_ && &other != this);
  catch_up();
  other.catch_up();
  const std::uint64_t end = other.chunk_count();
  auto mine = next_dirty(0);
  while (mine) {
    const std::uint64_t from = *mine << shift_;
    const std::uint64_t first = other.filter_.next_set(from >> other.shift_, end);
    if (first == end) return;
    const std::uint64_t stop = other.filter_.next_clear(first, end);
    const std::uint64_t begin_bytes = first << other.shift_;
    const std::uint64_t end_bytes = std::min(size_bytes_, stop << other.shift_);
    clear(begin_bytes, end_bytes - begin_bytes);
    mine = next_dirty(div_up(end_bytes, granularity_bytes()));
  }
}

bool DirtyBitmap::copy_block(std::size_t block, const DirtyBitmap& other) {
  BM_CHECK(other.size_bytes_ == size_bytes_ && other.shift_ == shift_);
  catch_up();
  other.catch_up();
  if (filter_.same_block(other.filter_, block)) return false;
  Block fresh{};
  Block gone{};
  other.filter_.add_block(block, fresh);
  filter_.add_block(block, gone);
  for (std::size_t i = 0; i < fresh.size(); ++i) {
    const std::uint64_t both = fresh[i] & gone[i];
    fresh[i] ^= both;
    gone[i] ^= both;
  }
  const std::uint64_t base = block * DirtyFilter::kBlockChunks;
  for_each_run(gone, base,
               [this](std::uint64_t from, std::uint64_t to) { clear_chunks(from, to); });
  for_each_run(fresh, base,
               [this](std::uint64_t from, std::uint64_t to) { mark_chunks(from, to); });
  return true;
}

std::vector<DirtyBitmap::Run> DirtyBitmap::runs(std::uint64_t offset, std::uint64_t length,
                                                std::size_t max_runs) const {
  BM_CHECK(fits(offset, length, size_bytes_));
  std::vector<Run> result;
  if (length == 0) return result;
  catch_up();
  const std::uint64_t end_bytes = offset + length;
  const std::uint64_t end = ((end_bytes - 1) >> shift_) + 1;
  std::uint64_t at = offset >> shift_;
  while (at < end && result.size() < max_runs) {
    const bool dirty = filter_.test(at);
    const std::uint64_t stop = dirty ? filter_.next_clear(at, end) : filter_.next_set(at, end);
    const std::uint64_t from = std::max(offset, at << shift_);
    const std::uint64_t to = std::min(end_bytes, stop << shift_);
    result.push_back({{from, to - from}, dirty});
    at = stop;
  }
  return result;
}

std::size_t DirtyBitmap::memory_bytes() const {
  return heap_bytes(sizeof *this) + heap_bytes(sizeof(State)) + filter_.memory_bytes() +
         state_->set.memory_bytes() + heap_bytes(state_->log.capacity() * sizeof(std::uint32_t));
}

}  // namespace blockmig
