// SPDX-License-Identifier: Apache-2.0
#include "sharedfs/shared_image.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace blockmig {
namespace {

constexpr std::uint64_t kChunkBytes = ChunkDigests::kChunkBytes;
/// Of one answer about what is allocated, so that a huge image does not hold the loop.
constexpr std::uint64_t kMaxExtentsBytes = 1 * kTiB;

}  // namespace

SharedImage::SharedImage(EventLoop& loop, std::unique_ptr<ImageSource> source,
                         std::shared_ptr<const ChunkDigests> digests, SharedImageOptions options)
    : loop_(loop),
      source_(std::move(source)),
      digests_(std::move(digests)),
      options_(options),
      abandoned_(loop) {
  info_.name = source_->name();
  info_.size_bytes = digests_->size_bytes();
  info_.preferred_io_bytes = static_cast<std::uint32_t>(kChunkBytes);
  info_.read_only = true;
  info_.can_trim = false;
}

SharedImage::~SharedImage() { BM_CHECK(!opened_); }

Task<Status> SharedImage::open() {
  auto device = co_await source_->open();
  if (!device) co_return device.error();
  opened_ = std::make_shared<Opened>();
  opened_->device = *std::move(device);
  if (opened_->device->info().size_bytes != info_.size_bytes) {
    const std::uint64_t size = opened_->device->info().size_bytes;
    const Status closed = co_await close();
    static_cast<void>(closed);  // nothing was read
    co_return Error(ErrorCode::kMismatch, "image " + info_.name + " has " + std::to_string(size) +
                                              " bytes, its manifest says " +
                                              std::to_string(info_.size_bytes));
  }
  co_return Status();
}

Task<Status> SharedImage::read(std::uint64_t offset, MutableBytes into) {
  assert_range(info_, offset, into.size());
  if (into.empty()) co_return Status();
  const std::uint64_t first = align_down(offset, kChunkBytes);
  const std::uint64_t end = std::min(align_up(offset + into.size(), kChunkBytes), info_.size_bytes);
  const ByteRange chunks{first, end - first};
  if (chunks.length == into.size()) {
    const Status whole = co_await read_whole(chunks, into);
    co_return whole;
  }
  // Only whole chunks can be checked.
  std::vector<std::byte> content(chunks.length);
  const MutableBytes buffer(content);
  const Status read = co_await read_whole(chunks, buffer);
  if (read.ok()) std::memcpy(into.data(), buffer.data() + (offset - first), into.size());
  co_return read;
}

Task<Status> SharedImage::read_whole(ByteRange chunks, MutableBytes into) {
  for (std::uint64_t chunk = chunks.offset / kChunkBytes; chunk * kChunkBytes < chunks.end();
       ++chunk) {
    if (digests_->find(chunk)) continue;
    co_return Error(ErrorCode::kMismatch, "image " + info_.name + " has no digest for offset " +
                                              std::to_string(chunk * kChunkBytes) +
                                              ": what it holds there is out of date");
  }
  const TimePoint deadline = loop_.now() + options_.patience;
  bool stalled = false;
  Status status;
  for (;;) {
    const std::shared_ptr<Opened> opened = opened_;
    status = co_await fetch(chunks, into);
    if (status.ok() || abandoned_.is_set() || loop_.now() >= deadline) break;
    health_ = status.error();
    if (!stalled) ++stats_.stalled;
    stalled = true;
    const TimePoint next = std::min<TimePoint>(loop_.now() + kRetryInterval, deadline);
    const bool given_up = co_await abandoned_.wait_until(next);
    if (given_up) break;
    co_await reopen(opened);
  }
  if (stalled) --stats_.stalled;
  if (status.ok()) {
    if (stats_.stalled == 0) health_.reset();
    stats_.fetched_bytes += chunks.length;
    co_return status;
  }
  health_ = status.error();
  co_return Error(ErrorCode::kIo, status.error().message());
}

Task<Status> SharedImage::fetch(ByteRange chunks, MutableBytes into) {
  const std::shared_ptr<Opened> opened = opened_;
  if (!opened) co_return refused();
  ++opened->readers;
  const Status read = co_await opened->device->read(chunks.offset, into);
  leave(opened);
  if (!read.ok()) {
    ++stats_.failures;
    co_return read.error().with_context("fetching from " + info_.name);
  }
  co_return judge(chunks, into);
}

Status SharedImage::judge(ByteRange chunks, ConstBytes content) {
  for (std::uint64_t at = 0; at < chunks.length; at += kChunkBytes) {
    const ConstBytes chunk = content.subspan(at, std::min(kChunkBytes, chunks.length - at));
    const auto expected = digests_->find((chunks.offset + at) / kChunkBytes);
    if (expected && digest_of(chunk) == *expected) continue;
    ++stats_.mismatches;
    return Error(ErrorCode::kMismatch,
                 "image " + info_.name + " does not hold at offset " +
                     std::to_string(chunks.offset + at) +
                     " what its manifest says: it was changed, or is damaged");
  }
  return {};
}

/// Whatever is wrong may be with our opening of it: a folder mounted again, a file put back.
Task<void> SharedImage::reopen(std::shared_ptr<Opened> failed) {
  if (reopening_ || opened_ != failed) co_return;
  reopening_ = true;
  auto device = co_await source_->open();
  reopening_ = false;
  if (!device) {
    health_ = device.error();
    co_return;
  }
  auto fresh = std::make_shared<Opened>();
  fresh->device = *std::move(device);
  const bool fits = fresh->device->info().size_bytes == info_.size_bytes;
  if (fits && !abandoned_.is_set() && opened_ == failed) {
    opened_.swap(fresh);
  }
  // Now the one that is not wanted any more.
  if (fresh && fresh->readers == 0) {
    auto task = let_go(std::move(fresh));
    closings_.spawn(std::move(task));
  }
}

void SharedImage::leave(const std::shared_ptr<Opened>& opened) {
  if (--opened->readers > 0 || opened == opened_) return;
  auto task = let_go(opened);
  closings_.spawn(std::move(task));
}

Task<void> SharedImage::let_go(std::shared_ptr<Opened> opened) {
  const Status closed = co_await opened->device->close();
  static_cast<void>(closed);  // nothing was ever written
}

Task<Result<std::vector<Extent>>> SharedImage::extents(std::uint64_t offset, std::uint64_t length) {
  std::vector<Extent> found;
  const std::uint64_t end = offset + std::min(length, kMaxExtentsBytes);
  while (offset < end && found.size() < kMaxExtents) {
    const std::uint64_t chunk = offset / kChunkBytes;
    const std::uint64_t last = chunk + digests_->alike(chunk, kMaxExtentsBytes / kChunkBytes) - 1;
    const bool zero = digests_->is_zero(chunk);
    const std::uint64_t here = std::min(digests_->chunk_range(last).end(), end) - offset;
    append_extent(found, Extent{offset, here, zero, zero});
    offset += here;
  }
  co_return found;
}

void SharedImage::abandon() {
  abandoned_.set();
  if (opened_) opened_->device->abandon();
}

Task<Status> SharedImage::close() {
  const std::shared_ptr<Opened> last = std::exchange(opened_, nullptr);
  co_await closings_.join();
  if (!last) co_return Status();
  const Status closed = co_await last->device->close();
  co_return closed;
}

Error SharedImage::refused() const {
  return Error(ErrorCode::kReadOnly, "image " + info_.name + " is data at rest: it is only read");
}

Task<Status> SharedImage::write(std::uint64_t, ConstBytes, WriteFlags) { co_return refused(); }
Task<Status> SharedImage::trim(std::uint64_t, std::uint64_t, WriteFlags) { co_return refused(); }
Task<Status> SharedImage::write_zeroes(std::uint64_t, std::uint64_t, ZeroFlags) {
  co_return refused();
}

}  // namespace blockmig
