// SPDX-License-Identifier: Apache-2.0
#include "sharedfs/rest_digests.h"

#include <utility>
#include <vector>

#include "blockmig/base/planted.h"
#include "sharedfs/image_scan.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kChunkBytes = ChunkDigests::kChunkBytes;

bool rests(const DirtyBitmap& rest, std::uint64_t chunk) {
  return rest.is_dirty(chunk * kChunkBytes / rest.granularity_bytes());
}

}  // namespace

Task<Status> RestDigests::hash(BlockDevice& store, const DirtyBitmap& rest, CancelSource& cancel) {
  BM_CHECK(rest.granularity_bytes() >= kChunkBytes);
  ScanOptions scan;
  scan.cancel = &cancel;
  scan.wanted = [&rest](std::uint64_t chunk) { return rests(rest, chunk); };
  const Status scanned = co_await scan_image(loop_, store, digests_, std::move(scan));
  co_return scanned;
}

Task<Result<std::shared_ptr<ChunkDigests>>> RestDigests::describe(BlockDevice& store,
                                                                  const DirtyBitmap& rest) {
  const bool again = std::exchange(described_, true);
  if (again && planted(PlantedBug::kDigestsOfBeforeFence)) {
    co_return std::make_shared<ChunkDigests>(digests_);
  }
  for (const ChunkDigests::Run& run : digests_.runs()) {
    for (std::uint64_t chunk = run.first; chunk < run.first + run.count; ++chunk) {
      if (!rests(rest, chunk)) digests_.invalidate(chunk * kChunkBytes, 1);
    }
  }
  const std::uint64_t size = digests_.size_bytes();
  std::uint64_t offset = 0;
  while (offset < size) {
    const auto extents = co_await store.extents(offset, size - offset);
    if (!extents.ok()) co_return extents.error();
    const std::vector<Extent>& list = *extents;
    for (const Extent& extent : list) {
      const std::uint64_t end = extent.offset + extent.length;
      offset = end;
      if (extent.zero) continue;
      for (std::uint64_t chunk = extent.offset / kChunkBytes; chunk * kChunkBytes < end; ++chunk) {
        if (!rests(rest, chunk)) digests_.invalidate(chunk * kChunkBytes, 1);
      }
    }
  }
  co_return std::make_shared<ChunkDigests>(digests_);
}

}  // namespace blockmig
