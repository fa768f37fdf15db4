// SPDX-License-Identifier: Apache-2.0
// A persistent bitmap in a world: what a user of it may rely on (I5).
//
// Its user has read the disk when it began, and later reads what it marks: so every chunk that
// differs from then must be marked, whoever wrote it and whatever has crashed since. That also
// covers what a power loss has undone.
#include <algorithm>

#include "world.h"

namespace blockmig::sim {
namespace {

const std::string kBitmap = "since";

const DirtyBitmap* find_bitmap(const BitmapKeeper& keeper) {
  for (const BitmapFacts& facts : keeper.bitmaps()) {
    if (facts.name == kBitmap) return facts.bitmap;
  }
  return nullptr;
}

}  // namespace

Task<void> World::begin_bitmap() {
  const Duration wait = std::chrono::microseconds(random_.between(1, 20000));
  co_await sleep_for(loop_, wait);
  BitmapPlan plan;
  plan.name = kBitmap;
  plan.granularity_bytes = 4096u << random_.below(5);
  const Status added = co_await keeper_->add(plan);
  if (!added.ok()) complain("a bitmap did not begin: " + added.error().message());
  bitmap_begun_with_.resize(size_bytes_);
  owner_->peek(0, bitmap_begun_with_);
}

Task<void> World::reopen_keeper() {
  if (options_.returns) {
    co_await reopen_records();
  } else if (options_.backups) {
    co_await reopen_backups();
  } else if (options_.bitmaps) {
    co_await reopen_bitmap();
  }
}

Task<void> World::reopen_bitmap() {
  std::string nothing_to_compare;
  const Status opened = co_await keeper_->open(true, std::move(nothing_to_compare));
  if (!opened.ok()) blame("a bitmap cannot be taken up: " + opened.error().message());
  if (crashed_) co_return;
  check_bitmap("after a crash");
}

std::vector<std::byte> World::content_of_disk() const {
  constexpr std::uint64_t kPiece = 4096;  // no chunk in mid-hydration is smaller
  std::vector<std::byte> content(size_bytes_);
  for (std::uint64_t at = 0; at < size_bytes_; at += kPiece) {
    const std::uint64_t length = std::min(kPiece, size_bytes_ - at);
    holder(at).peek(at, MutableBytes(content).subspan(at, length));
  }
  return content;
}

void World::check_bitmap(const std::string& when) {
  const DirtyBitmap* const bitmap = find_bitmap(*keeper_);
  if (bitmap == nullptr) {
    // A journal that failed was told to forget it, and says so.
    const auto all = keeper_->bitmaps();
    const bool told = !all.empty() && !all.front().inconsistent.empty();
    if (!told) complain("the bitmap is gone " + when + " (I5)");
    return;
  }
  std::vector<std::byte> now = content_of_disk();
  for (std::uint64_t chunk = 0; chunk < bitmap->chunk_count(); ++chunk) {
    if (bitmap->is_dirty(chunk)) continue;
    const ByteRange range = bitmap->chunk_range(chunk);
    const auto begin = now.begin() + static_cast<std::ptrdiff_t>(range.offset);
    const auto end = begin + static_cast<std::ptrdiff_t>(range.length);
    const auto then = bitmap_begun_with_.begin() + static_cast<std::ptrdiff_t>(range.offset);
    const auto place = std::mismatch(begin, end, then);
    if (place.first == end) continue;
    return complain("offset " + std::to_string(place.first - now.begin()) +
                    " differs from when the bitmap began, and is not marked " + when + " (I5)");
  }
}

/// The guest has stopped. A restart in order: exactly what was there, or, where the image is said
/// to be another by then, nothing that could be believed.
Task<void> World::close_bitmap() {
  co_await workers_->join();
  co_await board_->stop();
  const Status stopped = co_await disk_->stop();
  if (!stopped.ok()) note("the last flush failed");
  check_bitmap("at the end");
  const DirtyBitmap* const before = find_bitmap(*keeper_);
  if (before == nullptr) co_return;
  const std::vector<DirtyBitmap::Run> runs = before->runs(0, size_bytes_, SIZE_MAX);
  std::string identity = "as it is";
  const Status closed = co_await keeper_->close(std::move(identity));
  const bool exact = closed.ok();  // else as after a crash: no mark is missing
  journal_.save_error_ppm = 0;
  journal_.reopen();
  const bool changed = exact && random_.chance(1, 2);
  Disk next(loop_, "disk", std::make_unique<SharedDevice>(owner_), disk_->store_uri(),
            disk_->epoch());
  keeper_ = std::make_unique<BitmapKeeper>(loop_, journal_, next, std::chrono::seconds(1));
  std::string found = changed ? "written to" : "as it is";
  const Status opened = co_await keeper_->open(true, std::move(found));
  if (!opened.ok()) complain("the bitmap cannot be taken up: " + opened.error().message());
  const DirtyBitmap* const after = find_bitmap(*keeper_);
  if (changed && after != nullptr) complain("a bitmap is believed of a changed image (I5)");
  if (!changed) check_bitmap("after a restart in order");
  if (exact && after != nullptr && after->runs(0, size_bytes_, SIZE_MAX) != runs) {
    complain("a restart in order changed the bitmap");
  }
  co_await keeper_->abandon();
  keeper_.reset();
}

}  // namespace blockmig::sim
