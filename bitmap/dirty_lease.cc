// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "bitmap/bitmap_state.h"
#include "bitmap/dirty_bitmap.h"

namespace blockmig {

/// Exists only while the lease holds chunks.
struct DirtyLease::State {
  State(DirtyBitmap& owner, std::vector<std::uint32_t> taken)
      : bitmap(owner),
        chunks(std::move(taken)),
        acknowledged(chunks.size(), false),
        unacknowledged(chunks.size()) {
    ++bitmap.state_->live_leases;
  }
  ~State() {
    --bitmap.state_->live_leases;
    if (unacknowledged == 0 || planted(PlantedBug::kCopyFailureNotRemarked)) return;
    // Neighbours are marked as one range: a lease that failed as a whole is quick to undo.
    for (std::size_t i = 0; i < chunks.size();) {
      if (acknowledged[i]) {
        ++i;
        continue;
      }
      const std::uint64_t first = chunks[i];
      std::uint64_t end = first + 1;
      for (++i; i < chunks.size() && !acknowledged[i] && chunks[i] == end; ++i) ++end;
      bitmap.mark_chunks(first, end);
    }
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  DirtyBitmap& bitmap;
  const std::vector<std::uint32_t> chunks;
  std::vector<bool> acknowledged;
  std::size_t unacknowledged;
};

DirtyLease::DirtyLease() = default;
DirtyLease::DirtyLease(std::unique_ptr<State> state) : state_(std::move(state)) {}
DirtyLease::DirtyLease(DirtyLease&&) noexcept = default;
DirtyLease& DirtyLease::operator=(DirtyLease&&) noexcept = default;
DirtyLease::~DirtyLease() = default;

bool DirtyLease::empty() const { return state_ == nullptr; }

const std::vector<std::uint32_t>& DirtyLease::chunks() const {
  static const std::vector<std::uint32_t> kNone;
  return state_ ? state_->chunks : kNone;
}

ByteRange DirtyLease::range(std::size_t i) const {
  BM_CHECK(i < chunks().size());
  return state_->bitmap.chunk_range(state_->chunks[i]);
}

void DirtyLease::acknowledge(std::size_t i) {
  BM_CHECK(i < chunks().size());
  if (state_->acknowledged[i]) return;
  state_->acknowledged[i] = true;
  --state_->unacknowledged;
}

void DirtyLease::acknowledge_all() {
  if (!state_) return;
  state_->acknowledged.assign(state_->chunks.size(), true);
  state_->unacknowledged = 0;
}

std::size_t DirtyLease::unacknowledged() const { return state_ ? state_->unacknowledged : 0; }

DirtyLease DirtyBitmap::take(std::vector<std::uint32_t> chunks) {
  if (chunks.empty()) return {};
  for (std::size_t i = 0; i < chunks.size();) {
    const std::uint64_t first = chunks[i];
    std::uint64_t end = first + 1;
    for (++i; i < chunks.size() && chunks[i] == end; ++i) ++end;
    clear_chunks(first, end);
  }
  return DirtyLease(std::make_unique<DirtyLease::State>(*this, std::move(chunks)));
}

}  // namespace blockmig
