// SPDX-License-Identifier: Apache-2.0
#include "blockmig/base/chunk_digests.h"

#include <algorithm>
#include <array>
#include <vector>

#include "blockmig/base/check.h"
#include "blockmig/base/endian.h"

namespace blockmig {

Digest zero_chunk_digest(std::uint64_t length) {
  static const std::vector<std::byte> zeros(ChunkDigests::kChunkBytes);
  static const Digest whole = digest_of(zeros);
  BM_CHECK(length <= zeros.size());
  return length == zeros.size() ? whole : digest_of(ConstBytes(zeros).first(length));
}

void ImageDigest::append(ConstBytes content) {
  while (!content.empty()) {
    const ConstBytes chunk =
        content.first(std::min<std::size_t>(content.size(), ChunkDigests::kChunkBytes));
    append_chunk(is_all_zero(chunk) ? zero_chunk_digest(chunk.size()) : digest_of(chunk));
    content = content.subspan(chunk.size());
  }
}

void ImageDigest::append_chunk(const Digest& digest) {
  std::array<std::byte, 16> wire;
  store_be(wire.data(), digest.high);
  store_be(wire.data() + 8, digest.low);
  chunks_.update(wire);
}

ByteRange ChunkDigests::chunk_range(std::uint64_t chunk) const {
  const std::uint64_t offset = chunk * kChunkBytes;
  return {offset, std::min(kChunkBytes, size_bytes_ - offset)};
}

ChunkDigests::Page& ChunkDigests::page(std::uint64_t chunk) {
  auto& slot = pages_[chunk / kPageChunks];
  if (!slot) slot = std::make_unique<Page>();
  return *slot;
}

void ChunkDigests::change(std::uint64_t chunk, Known to) {
  Known& known = page(chunk).known[chunk % kPageChunks];
  if (known == Known::kUnknown) --unknown_;
  if (to == Known::kUnknown) ++unknown_;
  known = to;
}

void ChunkDigests::set(std::uint64_t offset, ConstBytes bytes) {
  while (!bytes.empty()) {
    const std::uint64_t chunk = offset / kChunkBytes;
    const ByteRange whole = chunk_range(chunk);
    const std::uint64_t here = std::min<std::uint64_t>(bytes.size(), whole.end() - offset);
    const ConstBytes content = bytes.first(here);
    if (here != whole.length) {
      change(chunk, Known::kUnknown);
    } else if (is_all_zero(content)) {
      if (pages_.contains(chunk / kPageChunks)) change(chunk, Known::kZero);
    } else {
      page(chunk).digests[chunk % kPageChunks] = digest_of(content);
      change(chunk, Known::kDigest);
    }
    bytes = bytes.subspan(here);
    offset += here;
  }
}

void ChunkDigests::invalidate(std::uint64_t offset, std::uint64_t length) {
  if (length == 0) return;
  for (auto chunk = offset / kChunkBytes; chunk <= (offset + length - 1) / kChunkBytes; ++chunk) {
    change(chunk, Known::kUnknown);
  }
}

std::optional<ByteRange> ChunkDigests::next_unknown(std::uint64_t offset) const {
  if (unknown_ == 0) return std::nullopt;
  for (std::uint64_t chunk = offset / kChunkBytes; chunk < chunk_count();) {
    const auto place = pages_.find(chunk / kPageChunks);
    if (place == pages_.end()) {
      chunk = (chunk / kPageChunks + 1) * kPageChunks;
      continue;
    }
    if (place->second->known[chunk % kPageChunks] == Known::kUnknown) return chunk_range(chunk);
    ++chunk;
  }
  return std::nullopt;
}

Digest ChunkDigests::image() const {
  BM_CHECK(unknown_ == 0);
  ImageDigest image;
  for (std::uint64_t chunk = 0; chunk < chunk_count(); ++chunk) {
    const auto place = pages_.find(chunk / kPageChunks);
    Digest digest;
    if (place == pages_.end() || place->second->known[chunk % kPageChunks] == Known::kZero) {
      digest = zero_chunk_digest(chunk_range(chunk).length);
    } else {
      digest = place->second->digests[chunk % kPageChunks];
    }
    image.append_chunk(digest);
  }
  return image.finish();
}

}  // namespace blockmig
