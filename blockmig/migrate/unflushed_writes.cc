// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/unflushed_writes.h"

#include <utility>

#include "blockmig/base/planted.h"

namespace blockmig {

Result<std::unique_ptr<UnflushedWrites>> UnflushedWrites::create(std::uint64_t size_bytes,
                                                                 std::uint32_t granularity_bytes) {
  auto since = DirtyBitmap::create(size_bytes, granularity_bytes);
  if (!since.ok()) return since.error();
  auto covered = DirtyBitmap::create(size_bytes, granularity_bytes);
  if (!covered.ok()) return covered.error();
  return std::unique_ptr<UnflushedWrites>(
      new UnflushedWrites(std::move(*since), std::move(*covered)));
}

std::uint64_t UnflushedWrites::flush_begins() {
  if (followed_ != 0) return 0;
  // What a flush that failed had to cover is still not durable.
  covered_->merge(*since_);
  since_->clear_all();
  followed_ = ++last_number_;
  return followed_;
}

void UnflushedWrites::flush_worked(std::uint64_t number) {
  if (number == 0 || number != followed_) return;
  followed_ = 0;
  covered_->clear_all();
  if (planted(PlantedBug::kFlushCoversLater)) since_->clear_all();
}

void UnflushedWrites::flush_ended(std::uint64_t number) {
  if (number != 0 && number == followed_) followed_ = 0;
}

std::uint64_t UnflushedWrites::lose_into(DirtyBitmap& dirty) {
  const std::uint64_t lost = bytes();
  dirty.merge(*since_);
  dirty.merge(*covered_);
  since_->clear_all();
  covered_->clear_all();
  // A flush that began before cannot speak for what is written from now on.
  followed_ = 0;
  return lost;
}

}  // namespace blockmig
