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

void ImageDigest::append_zero_chunks(std::uint64_t count) {
  constexpr std::uint64_t kAtOnce = 4096;
  constexpr std::size_t kWireBytes = 16;
  static const std::vector<std::byte> wires = [] {
    const Digest zero = zero_chunk_digest(ChunkDigests::kChunkBytes);
    std::vector<std::byte> many(kAtOnce * kWireBytes);
    for (std::size_t at = 0; at < many.size(); at += kWireBytes) {
      store_be(many.data() + at, zero.high);
      store_be(many.data() + at + 8, zero.low);
    }
    return many;
  }();
  for (; count > 0; count -= std::min(count, kAtOnce)) {
    chunks_.update(ConstBytes(wires).first(std::min(count, kAtOnce) * kWireBytes));
  }
}

ChunkDigests::ChunkDigests(const ChunkDigests& other)
    : size_bytes_(other.size_bytes_),
      unknown_(other.unknown_),
      changed_pages_(other.changed_pages_) {
  for (const auto& [number, its_page] : other.pages_) {
    pages_.emplace(number, std::make_unique<Page>(*its_page));
  }
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

const ChunkDigests::Page* ChunkDigests::find_page(std::uint64_t chunk) const {
  const auto place = pages_.find(chunk / kPageChunks);
  return place != pages_.end() ? place->second.get() : nullptr;
}

void ChunkDigests::change(std::uint64_t chunk, Known to) {
  Page& its_page = page(chunk);
  if (its_page.changed == 0) changed_pages_.push_back(chunk / kPageChunks);
  its_page.changed |= static_cast<unsigned char>(1U << (chunk % kPageChunks / kGroupChunks));
  Known& known = its_page.known[chunk % kPageChunks];
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
      set_zero(chunk);
    } else {
      set_digest(chunk, digest_of(content));
    }
    bytes = bytes.subspan(here);
    offset += here;
  }
}

std::optional<std::uint64_t> ChunkDigests::first_difference(std::uint64_t offset,
                                                            ConstBytes bytes) const {
  while (!bytes.empty()) {
    const std::uint64_t chunk = offset / kChunkBytes;
    const ByteRange whole = chunk_range(chunk);
    const std::uint64_t here = std::min<std::uint64_t>(bytes.size(), whole.end() - offset);
    const ConstBytes content = bytes.first(here);
    if (here == whole.length) {
      const bool zero = is_zero(chunk);
      const auto expected = find(chunk);
      const bool same = zero ? is_all_zero(content) : !expected || digest_of(content) == *expected;
      if (!same) return offset;
    }
    bytes = bytes.subspan(here);
    offset += here;
  }
  return std::nullopt;
}

void ChunkDigests::set_digest(std::uint64_t chunk, const Digest& digest) {
  BM_CHECK(chunk < chunk_count());
  Page& its_page = page(chunk);
  if (its_page.digests.empty()) its_page.digests.resize(kPageChunks);
  its_page.digests[chunk % kPageChunks] = digest;
  change(chunk, Known::kDigest);
}

void ChunkDigests::set_zeros(std::uint64_t offset, std::uint64_t length) {
  const std::uint64_t end = offset + length;
  while (offset < end) {
    const std::uint64_t chunk = offset / kChunkBytes;
    if (find_page(chunk) == nullptr) {
      offset = (chunk / kPageChunks + 1) * kPageChunks * kChunkBytes;
      continue;
    }
    const ByteRange whole = chunk_range(chunk);
    if (offset == whole.offset && end >= whole.end()) {
      set_zero(chunk);
    } else if (!is_zero(chunk)) {
      change(chunk, Known::kUnknown);
    }
    offset = whole.end();
  }
}

void ChunkDigests::set_zero(std::uint64_t chunk) {
  BM_CHECK(chunk < chunk_count());
  if (find_page(chunk) != nullptr) change(chunk, Known::kZero);
}

std::optional<Digest> ChunkDigests::find(std::uint64_t chunk) const {
  BM_CHECK(chunk < chunk_count());
  const Page* const its_page = find_page(chunk);
  const Known known = its_page != nullptr ? its_page->known[chunk % kPageChunks] : Known::kZero;
  switch (known) {
    case Known::kZero:
      return zero_chunk_digest(chunk_range(chunk).length);
    case Known::kDigest:
      return its_page->digests[chunk % kPageChunks];
    case Known::kUnknown:
      break;
  }
  return std::nullopt;
}

void ChunkDigests::take(const ChunkDigests& from, ByteRange range) {
  for (std::uint64_t at = range.offset; at < range.end(); at += kChunkBytes) {
    const std::uint64_t chunk = at / kChunkBytes;
    const auto digest = from.find(chunk);
    if (from.is_zero(chunk)) {
      set_zero(chunk);
    } else if (digest) {
      set_digest(chunk, *digest);
    } else {
      invalidate(at, 1);
    }
  }
}

bool ChunkDigests::is_zero(std::uint64_t chunk) const {
  BM_CHECK(chunk < chunk_count());
  const Page* const its_page = find_page(chunk);
  return its_page == nullptr || its_page->known[chunk % kPageChunks] == Known::kZero;
}

std::uint64_t ChunkDigests::alike(std::uint64_t chunk, std::uint64_t limit) const {
  const std::uint64_t end = std::min(chunk_count(), chunk + limit);
  const bool zero = is_zero(chunk);
  std::uint64_t next = chunk + 1;
  while (next < end && is_zero(next) == zero) {
    next = find_page(next) != nullptr ? next + 1 : (next / kPageChunks + 1) * kPageChunks;
  }
  return std::min(next, end) - chunk;
}

std::vector<ChunkDigests::Run> ChunkDigests::runs() const {
  std::vector<std::uint64_t> pages;
  pages.reserve(pages_.size());
  for (const auto& [number, its_page] : pages_) pages.push_back(number);
  std::sort(pages.begin(), pages.end());
  std::vector<Run> runs;
  for (const std::uint64_t number : pages) {
    const Page& its_page = *pages_.at(number);
    for (std::uint64_t i = 0; i < kPageChunks; ++i) {
      if (its_page.known[i] == Known::kZero) continue;
      const std::uint64_t chunk = number * kPageChunks + i;
      const bool known = its_page.known[i] == Known::kDigest;
      if (!runs.empty() && runs.back().known == known &&
          runs.back().first + runs.back().count == chunk) {
        ++runs.back().count;
      } else {
        runs.push_back({chunk, 1, known});
      }
    }
  }
  return runs;
}

std::vector<std::uint64_t> ChunkDigests::take_changed() {
  std::vector<std::uint64_t> groups;
  for (const std::uint64_t number : changed_pages_) {
    unsigned char& changed = pages_.at(number)->changed;
    for (std::uint64_t i = 0; i < kPageGroups; ++i) {
      if ((changed >> i & 1U) != 0) groups.push_back(number * kPageGroups + i);
    }
    changed = 0;
  }
  changed_pages_.clear();
  return groups;
}

void ChunkDigests::change_all() {
  changed_pages_.clear();
  for (const auto& [number, its_page] : pages_) {
    changed_pages_.push_back(number);
    for (std::uint64_t i = 0; i < kPageGroups; ++i) {
      const bool there = (number * kPageGroups + i) < group_count();
      if (there) its_page->changed |= static_cast<unsigned char>(1U << i);
    }
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
  const std::uint64_t whole_chunks = size_bytes_ / kChunkBytes;
  for (std::uint64_t chunk = 0; chunk < chunk_count();) {
    if (chunk < whole_chunks && is_zero(chunk)) {
      const std::uint64_t zeros = alike(chunk, whole_chunks - chunk);
      image.append_zero_chunks(zeros);
      chunk += zeros;
    } else {
      image.append_chunk(*find(chunk++));
    }
  }
  return image.finish();
}

}  // namespace blockmig
