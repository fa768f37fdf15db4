// SPDX-License-Identifier: Apache-2.0
#include "bitmap/chunk_set.h"

#include <roaring/containers/containers.h>
#include <roaring/roaring.h>

#include <algorithm>

#include "bitmap/heap_bytes.h"
#include "blockmig/base/check.h"

namespace blockmig {
namespace {

/// Of a bitset container's words.
constexpr std::size_t kBitsetAlignment = 32;

}  // namespace

struct ChunkSet::Bits {
  Bits() : roaring(roaring_bitmap_create()) { BM_CHECK(roaring != nullptr); }
  ~Bits() { roaring_bitmap_free(roaring); }
  Bits(const Bits&) = delete;
  Bits& operator=(const Bits&) = delete;

  roaring_bitmap_t* roaring;
};

ChunkSet::ChunkSet() : bits_(std::make_unique<Bits>()) {}
ChunkSet::~ChunkSet() = default;

void ChunkSet::add_many(const std::vector<std::uint32_t>& chunks) {
  roaring_bitmap_add_many(bits_->roaring, chunks.size(), chunks.data());
}

void ChunkSet::add_range(std::uint64_t first, std::uint64_t end) {
  if (first >= end) return;
  BM_CHECK(end <= 1ULL << 32);
  roaring_bitmap_add_range_closed(bits_->roaring, static_cast<std::uint32_t>(first),
                                  static_cast<std::uint32_t>(end - 1));
}

void ChunkSet::remove_range(std::uint64_t first, std::uint64_t end) {
  if (first >= end) return;
  BM_CHECK(end <= 1ULL << 32);
  roaring_bitmap_remove_range_closed(bits_->roaring, static_cast<std::uint32_t>(first),
                                     static_cast<std::uint32_t>(end - 1));
}

void ChunkSet::clear() { bits_ = std::make_unique<Bits>(); }

std::uint64_t ChunkSet::count() const { return roaring_bitmap_get_cardinality(bits_->roaring); }

void ChunkSet::collect(std::uint64_t from, std::size_t max,
                       std::vector<std::uint32_t>& into) const {
  if (from >= 1ULL << 32) return;
  roaring_uint32_iterator_t at;
  roaring_init_iterator(bits_->roaring, &at);
  if (!roaring_move_uint32_iterator_equalorlarger(&at, static_cast<std::uint32_t>(from))) return;
  constexpr std::size_t kBatch = 4096;
  while (max > 0) {
    const std::size_t want = std::min(max, kBatch);
    const std::size_t have = into.size();
    into.resize(have + want);
    const std::size_t got =
        roaring_read_uint32_iterator(&at, into.data() + have, static_cast<std::uint32_t>(want));
    into.resize(have + got);
    if (got < want) return;
    max -= got;
  }
}

std::vector<std::byte> ChunkSet::to_portable() {
  roaring_bitmap_run_optimize(bits_->roaring);
  std::vector<std::byte> bytes(roaring_bitmap_portable_size_in_bytes(bits_->roaring));
  const std::size_t written =
      roaring_bitmap_portable_serialize(bits_->roaring, reinterpret_cast<char*>(bytes.data()));
  BM_CHECK(written == bytes.size());
  return bytes;
}

bool ChunkSet::from_portable(ConstBytes bytes) {
  roaring_bitmap_t* read = roaring_bitmap_portable_deserialize_safe(
      reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (read == nullptr) return false;
  roaring_bitmap_free(bits_->roaring);
  bits_->roaring = read;
  return true;
}

std::size_t ChunkSet::memory_bytes() const {
  const roaring_array_t& array = bits_->roaring->high_low_container;
  std::size_t bytes = heap_bytes(sizeof(Bits)) + heap_bytes(sizeof(roaring_bitmap_t));
  bytes += heap_bytes(static_cast<std::size_t>(array.allocation_size) *
                      (sizeof(void*) + sizeof(std::uint16_t) + sizeof(std::uint8_t)));
  // A container is two allocations: its header and its content.
  for (int i = 0; i < array.size; ++i) {
    switch (array.typecodes[i]) {
      case ARRAY_CONTAINER_TYPE_CODE: {
        const auto* container = static_cast<const array_container_t*>(array.containers[i]);
        bytes += heap_bytes(sizeof *container) +
                 heap_bytes(static_cast<std::size_t>(container->capacity) * sizeof(std::uint16_t));
        break;
      }
      case RUN_CONTAINER_TYPE_CODE: {
        const auto* container = static_cast<const run_container_t*>(array.containers[i]);
        bytes += heap_bytes(sizeof *container) +
                 heap_bytes(static_cast<std::size_t>(container->capacity) * sizeof(rle16_t));
        break;
      }
      default:
        // The words are aligned, which allocators pay for with room.
        bytes += heap_bytes(sizeof(bitset_container_t)) +
                 heap_bytes(BITSET_CONTAINER_SIZE_IN_WORDS * sizeof(std::uint64_t)) +
                 kBitsetAlignment;
    }
  }
  return bytes;
}

}  // namespace blockmig
