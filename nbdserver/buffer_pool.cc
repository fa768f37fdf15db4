// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/buffer_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <new>

#include "blockmig/base/check.h"
#include "blockmig/base/contiguous_memory.h"

namespace blockmig::nbd {
namespace {

std::size_t class_of(std::size_t capacity) {
  return static_cast<std::size_t>(std::countr_zero(capacity / BufferPool::kMinBytes));
}

/// Whole pages from the kernel: the allocator's own header in front of each buffer would keep a
/// page of every idle connection, and its arenas keep what was freed.
std::byte* map_pages(std::size_t bytes) {
  void* const pages =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) throw std::bad_alloc();
  return static_cast<std::byte*>(pages);
}

}  // namespace

void BufferRef::give_back() { buffer_->pool->put_back(buffer_); }

BufferPool::~BufferPool() {
  trim();
  BM_CHECK(total_bytes_ == 0);
}

BufferRef BufferPool::take(std::size_t bytes) {
  const std::size_t capacity = std::bit_ceil(std::max(bytes, kMinBytes));
  const std::size_t size_class = class_of(capacity);
  BM_CHECK(size_class < kClasses);
  used_ = true;
  detail::Buffer*& head = idle_[size_class];
  if (head != nullptr) {
    detail::Buffer* buffer = head;
    head = std::exchange(buffer->next_idle, nullptr);
    idle_bytes_ -= capacity;
    return BufferRef(buffer);
  }
  return make(map_pages(capacity), capacity, false);
}

BufferRef BufferPool::take_fitting(std::size_t bytes) {
  if (2 * bytes >= kMinBytes) {
    add_contiguous(std::bit_ceil(std::max(bytes, kMinBytes)));
    return take(bytes);
  }
  return make(static_cast<std::byte*>(::operator new(bytes)), bytes, true);
}

/// Cuts a contiguous piece up if no buffer of the size is idle and all but one of the new ones may
/// be. They are unmapped one by one.
void BufferPool::add_contiguous(std::size_t capacity) {
  if (capacity >= kContiguousBytes || idle_[class_of(capacity)] != nullptr) return;
  if (idle_bytes_ + kContiguousBytes - capacity > max_idle_bytes_) return;
  std::byte* const memory = map_contiguous();
  for (std::size_t at = 0; at < kContiguousBytes; at += capacity) {
    make(memory + at, capacity, false);  // and at once idle
  }
}

BufferRef BufferPool::make(std::byte* memory, std::size_t capacity, bool of_heap) {
  auto* buffer = new detail::Buffer;
  buffer->pool = this;
  buffer->capacity = capacity;
  buffer->memory = memory;
  buffer->of_heap = of_heap;
  total_bytes_ += capacity;
  return BufferRef(buffer);
}

void BufferPool::put_back(detail::Buffer* buffer) {
  if (buffer->of_heap || !keeps(buffer->capacity)) return destroy(buffer);
  detail::Buffer*& head = idle_[class_of(buffer->capacity)];
  buffer->next_idle = head;
  head = buffer;
  idle_bytes_ += buffer->capacity;
}

void BufferPool::trim_if_unused() {
  if (!std::exchange(used_, false)) trim();
}

void BufferPool::trim() {
  for (detail::Buffer*& head : idle_) {
    while (head != nullptr) {
      detail::Buffer* buffer = std::exchange(head, head->next_idle);
      idle_bytes_ -= buffer->capacity;
      destroy(buffer);
    }
  }
}

void BufferPool::destroy(detail::Buffer* buffer) {
  total_bytes_ -= buffer->capacity;
  if (buffer->of_heap) {
    ::operator delete(buffer->memory);
  } else {
    BM_CHECK(::munmap(buffer->memory, buffer->capacity) == 0);
  }
  delete buffer;
}

}  // namespace blockmig::nbd
