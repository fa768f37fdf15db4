// SPDX-License-Identifier: Apache-2.0
#include "bitmap/bitmap_codec.h"

#include <cstring>
#include <string>
#include <utility>

#include "bitmap/bitmap_format.h"
#include "bitmap/bitmap_state.h"
#include "bitmap/roaring_format.h"
#include "blockmig/base/crc32c.h"
#include "blockmig/base/endian.h"

namespace blockmig {
namespace {

using namespace bitmap_format;  // NOLINT: the constants of this file's one format

Error damaged(const std::string& what) {
  return Error(ErrorCode::kProtocol, "bitmap frame: " + what);
}

/// Everything but the payload's content and the bitmap's own limits.
Status check_frame(ConstBytes frame) {
  if (frame.size() < kHeaderBytes + kCrcBytes) {
    return damaged("truncated at " + std::to_string(frame.size()) + " bytes");
  }
  if (std::memcmp(frame.data() + kMagicAt, kMagic.data(), kMagic.size()) != 0) {
    return damaged("this is not a bitmap (magic)");
  }
  // Before the version: what is damaged must not pass for something newer.
  const std::size_t crc_at = frame.size() - kCrcBytes;
  if (crc32c(frame.first(crc_at)) != load_le<std::uint32_t>(frame.data() + crc_at)) {
    return damaged("damaged or truncated (checksum)");
  }
  const auto version = load_le<std::uint16_t>(frame.data() + kVersionAt);
  if (version > kVersion) {
    return Error(ErrorCode::kPrecondition, "bitmap frame: version " + std::to_string(version) +
                                               " is newer than " + std::to_string(kVersion));
  }
  if (version != kVersion) return damaged("version 0");
  if (load_le<std::uint16_t>(frame.data() + kFlagsAt) != 0) return damaged("unknown flags");
  const auto payload_bytes = load_le<std::uint64_t>(frame.data() + kPayloadBytesAt);
  if (payload_bytes != frame.size() - kHeaderBytes - kCrcBytes) {
    return damaged("payload length " + std::to_string(payload_bytes) + " in a frame of " +
                   std::to_string(frame.size()) + " bytes");
  }
  return {};
}

}  // namespace

/// The codec's access to a bitmap's parts.
class BitmapCodec final {
 public:
  static std::vector<std::byte> payload(const DirtyBitmap& bitmap) {
    bitmap.fold();
    return bitmap.state_->set.to_portable();
  }

  static Status fill(DirtyBitmap& bitmap, ConstBytes payload) {
    DirtyFilter& filter = bitmap.filter_;
    const Status walked = walk_portable(
        payload, bitmap.chunk_count(),
        [&filter](std::uint64_t first, std::uint64_t end) { filter.set_range(first, end); });
    if (!walked) return walked;
    // The same bytes by two readers must be the same set: the filter and Roaring never disagree.
    ChunkSet& set = bitmap.state_->set;
    if (!set.from_portable(payload) || set.count() != filter.count()) {
      return damaged("payload is not a Roaring bitmap");
    }
    return {};
  }
};

std::vector<std::byte> encode_bitmap(const DirtyBitmap& bitmap) {
  const std::vector<std::byte> payload = BitmapCodec::payload(bitmap);
  std::vector<std::byte> frame(kHeaderBytes + payload.size() + kCrcBytes);
  std::memcpy(frame.data() + kMagicAt, kMagic.data(), kMagic.size());
  store_le<std::uint16_t>(frame.data() + kVersionAt, kVersion);
  store_le<std::uint16_t>(frame.data() + kFlagsAt, 0);
  store_le<std::uint32_t>(frame.data() + kGranularityAt, bitmap.granularity_bytes());
  store_le<std::uint64_t>(frame.data() + kSizeAt, bitmap.size_bytes());
  store_le<std::uint64_t>(frame.data() + kDirtyCountAt, bitmap.dirty_count());
  store_le<std::uint64_t>(frame.data() + kPayloadBytesAt, payload.size());
  std::memcpy(frame.data() + kHeaderBytes, payload.data(), payload.size());
  const std::size_t crc_at = frame.size() - kCrcBytes;
  store_le<std::uint32_t>(frame.data() + crc_at, crc32c(ConstBytes(frame).first(crc_at)));
  return frame;
}

Result<BitmapFrameInfo> frame_info(ConstBytes frame) {
  if (const Status checked = check_frame(frame); !checked) return checked.error();
  BitmapFrameInfo info;
  info.size_bytes = load_le<std::uint64_t>(frame.data() + kSizeAt);
  info.granularity_bytes = load_le<std::uint32_t>(frame.data() + kGranularityAt);
  info.dirty_count = load_le<std::uint64_t>(frame.data() + kDirtyCountAt);
  return info;
}

Result<std::unique_ptr<DirtyBitmap>> decode_bitmap(ConstBytes frame) {
  const auto info = frame_info(frame);
  if (!info) return info.error();
  auto bitmap = DirtyBitmap::create(info->size_bytes, info->granularity_bytes);
  if (!bitmap) return damaged(bitmap.error().message());
  const ConstBytes payload = frame.subspan(kHeaderBytes, frame.size() - kHeaderBytes - kCrcBytes);
  if (const Status filled = BitmapCodec::fill(**bitmap, payload); !filled) return filled.error();
  if ((*bitmap)->dirty_count() != info->dirty_count) {
    return damaged("dirty count " + std::to_string(info->dirty_count) + ", but the payload has " +
                   std::to_string((*bitmap)->dirty_count()));
  }
  return bitmap;
}

}  // namespace blockmig
