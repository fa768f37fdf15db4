// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/merge_target.h"

#include <algorithm>
#include <utility>

#include "blockmig/base/digest.h"
#include "blockmig/base/planted.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kChunkBytes = ChunkDigests::kChunkBytes;
constexpr std::size_t kAllRuns = SIZE_MAX;

/// The layer may be gone.
Error given_up() { return Error(ErrorCode::kDisconnected, "the image was given up"); }

}  // namespace

MergeTarget::MergeTarget(std::unique_ptr<BlockDevice> image, HydratingDevice& layer,
                         const ChunkDigests* known)
    : image_(std::move(image)), info_(image_->info()), layer_(layer) {
  info_.zero_initialised = false;
  if (known != nullptr) known_.emplace(*known);
}

Task<Status> MergeTarget::read(std::uint64_t offset, MutableBytes into) {
  return image_->read(offset, into);
}

Task<Status> MergeTarget::read_medium(std::uint64_t offset, MutableBytes into) {
  return image_->read_medium(offset, into);
}

std::vector<ByteRange> MergeTarget::present_parts(ByteRange range) const {
  std::vector<ByteRange> parts;
  for (const DirtyBitmap::Run& run : layer_.map().runs(range, kAllRuns)) {
    if (!run.dirty) parts.push_back(run.range);
  }
  return parts;
}

/// Before a chunk of the image changes: a restart must not look for it there any more.
Task<Status> MergeTarget::keep_in_layer(ByteRange range) {
  if (abandoned_) co_return given_up();
  if (!layer_.needs_save(range) || planted(PlantedBug::kMergeBeforePresence)) co_return Status();
  const Status saved = co_await layer_.save();
  if (abandoned_) co_return given_up();
  co_return saved;
}

/// What of the content the image is not known to hold; that is not known from now on.
std::vector<ByteRange> MergeTarget::unequal_parts(std::uint64_t offset, ConstBytes content) {
  const ByteRange whole{offset, content.size()};
  if (!known_) return {whole};
  std::vector<ByteRange> parts;
  for (std::uint64_t at = offset; at < whole.end();) {
    const ByteRange chunk = known_->chunk_range(at / kChunkBytes);
    const std::uint64_t end = std::min(chunk.end(), whole.end());
    const bool covered = at == chunk.offset && end == chunk.end();
    const ConstBytes here = content.subspan(at - offset, end - at);
    const auto held = covered ? known_->find(at / kChunkBytes) : std::nullopt;
    if (held && digest_of(here) == *held) {
      bytes_spared_ += here.size();
    } else if (!parts.empty() && parts.back().end() == at) {
      parts.back().length += here.size();
    } else {
      parts.push_back({at, here.size()});
    }
    at = end;
  }
  for (const ByteRange& part : parts) known_->invalidate(part.offset, part.length);
  return parts;
}

Task<Status> MergeTarget::write(std::uint64_t offset, ConstBytes from, WriteFlags flags) {
  if (abandoned_) co_return given_up();
  const std::vector<ByteRange> present = present_parts({offset, from.size()});
  for (const ByteRange& kept : present) {
    const Status safe = co_await keep_in_layer(kept);
    if (!safe.ok()) co_return safe;
    const ConstBytes content = from.subspan(kept.offset - offset, kept.length);
    const std::vector<ByteRange> parts = unequal_parts(kept.offset, content);
    for (const ByteRange& part : parts) {
      const ConstBytes here = from.subspan(part.offset - offset, part.length);
      const Status written = co_await image_->write(part.offset, here, flags);
      if (!written.ok()) co_return written;
      if (planted(PlantedBug::kMergeBelievesUnflushed) && known_) known_->set(part.offset, here);
    }
  }
  co_return Status();
}

Task<Status> MergeTarget::trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) {
  const ZeroFlags zeros{.fua = flags.fua};
  const Status zeroed = co_await write_zeroes(offset, length, zeros);
  co_return zeroed;
}

Task<Status> MergeTarget::write_zeroes(std::uint64_t offset, std::uint64_t length,
                                       ZeroFlags flags) {
  if (abandoned_) co_return given_up();
  const std::vector<ByteRange> present = present_parts({offset, length});
  for (const ByteRange& part : present) {
    const Status safe = co_await keep_in_layer(part);
    if (!safe.ok()) co_return safe;
    if (known_) known_->invalidate(part.offset, part.length);
    const Status zeroed = co_await image_->write_zeroes(part.offset, part.length, flags);
    if (!zeroed.ok()) co_return zeroed;
  }
  co_return Status();
}

Task<Status> MergeTarget::flush() { return image_->flush(); }

Task<Result<std::vector<Extent>>> MergeTarget::extents(std::uint64_t offset, std::uint64_t length) {
  return image_->extents(offset, length);
}

void MergeTarget::abandon() {
  abandoned_ = true;
  image_->abandon();
}

void MergeTarget::withdraw() {
  abandoned_ = true;
  image_->withdraw();
}

Task<Status> MergeTarget::revive() {
  abandoned_ = false;
  return image_->revive();
}

Task<Status> MergeTarget::close() { return image_->close(); }

}  // namespace blockmig
