// SPDX-License-Identifier: Apache-2.0
// The bytes of a DirtyBitmap: for the journal, for export files and for peers. Layout in FORMAT.md.
//
// A frame is magic, version, size, granularity, dirty count, payload length, payload (Roaring's
// portable format), CRC32C over everything before it. Bytes are hostile until the checksum and
// every length was checked; nothing is allocated before that. Afterwards a frame can make the
// reader allocate what its disk may cost: 12 bytes per 32,768 chunks, and 4 KiB for each such block
// that it touches; a caller that knows the disk refuses another size with frame_info() before it
// decodes. Pure functions; the bitmap's thread.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "bitmap/dirty_bitmap.h"
#include "blockmig/base/bytes.h"
#include "blockmig/base/error.h"

namespace blockmig {

std::vector<std::byte> encode_bitmap(const DirtyBitmap& bitmap);
/// kProtocol: damaged or truncated, with the place. kPrecondition: a newer version.
Result<std::unique_ptr<DirtyBitmap>> decode_bitmap(ConstBytes frame);

/// What a frame says about itself, after its checksum and lengths were checked. Errors as
/// decode_bitmap().
struct BitmapFrameInfo {
  std::uint64_t size_bytes = 0;
  std::uint32_t granularity_bytes = 0;
  std::uint64_t dirty_count = 0;
};
Result<BitmapFrameInfo> frame_info(ConstBytes frame);

}  // namespace blockmig
