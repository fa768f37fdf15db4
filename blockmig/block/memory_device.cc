// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/memory_device.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "blockmig/base/check.h"

namespace blockmig {

MemoryDevice::MemoryDevice(std::string name, std::uint64_t size_bytes) {
  info_.name = std::move(name);
  info_.size_bytes = size_bytes;
  info_.can_fast_zero = true;
  info_.zero_initialised = true;
}

MemoryDevice::~MemoryDevice() = default;

Task<Status> MemoryDevice::read(std::uint64_t offset, MutableBytes into) {
  peek(offset, into);
  co_return Status();
}

Task<Status> MemoryDevice::write(std::uint64_t offset, ConstBytes from, WriteFlags) {
  poke(offset, from);
  co_return Status();
}

Task<Status> MemoryDevice::flush() { co_return Status(); }

Task<Status> MemoryDevice::trim(std::uint64_t offset, std::uint64_t length, WriteFlags) {
  assert_range(info_, offset, length);
  const std::uint64_t begin = align_up(offset, kPageBytes);
  const std::uint64_t end = offset + length == info_.size_bytes
                                ? info_.size_bytes
                                : align_down(offset + length, kPageBytes);
  if (begin < end) poke_zeroes(begin, end - begin, true);
  co_return Status();
}

Task<Status> MemoryDevice::write_zeroes(std::uint64_t offset, std::uint64_t length,
                                        ZeroFlags flags) {
  poke_zeroes(offset, length, !flags.no_hole);
  co_return Status();
}

Task<Result<std::vector<Extent>>> MemoryDevice::extents(std::uint64_t offset,
                                                        std::uint64_t length) {
  co_return peek_extents(offset, length);
}

Task<Status> MemoryDevice::close() { co_return Status(); }

void MemoryDevice::peek(std::uint64_t offset, MutableBytes into) const {
  assert_range(info_, offset, into.size());
  while (!into.empty()) {
    const std::uint64_t within = offset % kPageBytes;
    const std::size_t count = std::min<std::uint64_t>(into.size(), kPageBytes - within);
    const auto page = pages_.find(offset / kPageBytes);
    if (page == pages_.end()) {
      std::memset(into.data(), 0, count);
    } else {
      std::memcpy(into.data(), page->second.data() + within, count);
    }
    into = into.subspan(count);
    offset += count;
  }
}

void MemoryDevice::poke(std::uint64_t offset, ConstBytes from) {
  assert_range(info_, offset, from.size());
  while (!from.empty()) {
    const std::uint64_t within = offset % kPageBytes;
    const std::size_t count = std::min<std::uint64_t>(from.size(), kPageBytes - within);
    std::memcpy(page_for_write(offset / kPageBytes).data() + within, from.data(), count);
    from = from.subspan(count);
    offset += count;
  }
}

void MemoryDevice::poke_zeroes(std::uint64_t offset, std::uint64_t length, bool deallocate) {
  assert_range(info_, offset, length);
  const std::uint64_t end = offset + length;
  while (offset < end) {
    const std::uint64_t index = offset / kPageBytes;
    const std::uint64_t page_end = std::min((index + 1) * kPageBytes, info_.size_bytes);
    const std::uint64_t stop = std::min(end, page_end);
    const auto page = pages_.find(index);
    if (page == pages_.end()) {
      if (!deallocate) page_for_write(index);
    } else if (deallocate && offset == index * kPageBytes && stop == page_end) {
      pages_.erase(page);
    } else {
      std::memset(page->second.data() + offset % kPageBytes, 0, stop - offset);
    }
    offset = stop;
    if (deallocate) {
      // Skip the hole at once: a disk may have terabytes of it.
      const auto next = pages_.lower_bound(div_up(offset, kPageBytes));
      const std::uint64_t next_offset = next == pages_.end() ? end : next->first * kPageBytes;
      if (offset % kPageBytes == 0) offset = std::max(offset, std::min(end, next_offset));
    }
  }
}

void MemoryDevice::fill(std::byte value) {
  const std::uint64_t count = div_up(info_.size_bytes, kPageBytes);
  for (std::uint64_t i = 0; i < count; ++i) {
    Page& page = page_for_write(i);
    std::fill(page.begin(), page.end(), value);
  }
  info_.zero_initialised = false;
}

void MemoryDevice::assign(const MemoryDevice& other) {
  BM_CHECK(info_.size_bytes == other.info_.size_bytes);
  pages_ = other.pages_;
}

std::uint64_t MemoryDevice::missing_bytes(std::uint64_t offset, std::uint64_t length) const {
  assert_range(info_, offset, length);
  if (length == 0) return 0;
  const std::uint64_t first = offset / kPageBytes;
  const std::uint64_t last = (offset + length - 1) / kPageBytes;
  std::uint64_t missing = last - first + 1;
  for (auto page = pages_.lower_bound(first); page != pages_.end() && page->first <= last; ++page) {
    --missing;
  }
  return missing * kPageBytes;
}

std::vector<Extent> MemoryDevice::peek_extents(std::uint64_t offset, std::uint64_t length,
                                               std::size_t most) const {
  assert_range(info_, offset, length);
  std::vector<Extent> result;
  const std::uint64_t end = offset + length;
  auto page = pages_.lower_bound(offset / kPageBytes);
  while (offset < end) {
    const std::uint64_t data = page == pages_.end() ? end : page->first * kPageBytes;
    Extent next;
    next.offset = offset;
    if (data > offset) {
      next.hole = next.zero = true;
      next.length = std::min(data, end) - offset;
    } else {
      next.length = std::min((page->first + 1) * kPageBytes, end) - offset;
      ++page;
    }
    offset += next.length;
    append_extent(result, next);
    if (result.size() > std::min(most, kMaxExtents)) {
      result.pop_back();
      break;
    }
  }
  return result;
}

MemoryDevice::Page& MemoryDevice::page_for_write(std::uint64_t index) {
  Page& page = pages_[index];
  if (page.empty()) page.resize(kPageBytes);
  return page;
}

}  // namespace blockmig
