// SPDX-License-Identifier: Apache-2.0
// BufferPool: page-aligned memory for requests and replies, kept for the next one.
//
// Sizes are powers of two. Taking and giving back costs a few nanoseconds; at most `max_idle_bytes`
// lie idle, the rest goes back to the system, and trim() gives back all that is idle. What is small
// and may be held for long has just its size (take_fitting) and comes from the heap. A buffer is
// shared by BufferRefs and returns to its pool with the last of them. The pool outlives its
// buffers. Thread rule: one loop.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "blockmig/base/bytes.h"

namespace blockmig::nbd {

class BufferPool;
class MemoryBudget;

namespace detail {
struct Buffer {
  BufferPool* pool = nullptr;
  std::byte* memory = nullptr;
  std::size_t capacity = 0;
  std::uint32_t references = 0;
  bool of_heap = false;  ///< of any size, and not kept
  Buffer* next_idle = nullptr;
};
}  // namespace detail

/// One share of a buffer; empty when default-constructed or moved from.
class BufferRef final {
 public:
  BufferRef() = default;
  BufferRef(const BufferRef& other) : buffer_(other.buffer_) {
    if (buffer_ != nullptr) ++buffer_->references;
  }
  BufferRef(BufferRef&& other) noexcept : buffer_(std::exchange(other.buffer_, nullptr)) {}
  BufferRef& operator=(BufferRef other) noexcept {
    std::swap(buffer_, other.buffer_);
    return *this;
  }
  ~BufferRef() {
    if (buffer_ != nullptr && --buffer_->references == 0) give_back();
  }

  explicit operator bool() const { return buffer_ != nullptr; }
  std::byte* data() const { return buffer_->memory; }
  std::size_t capacity() const { return buffer_->capacity; }
  /// True if nobody else has a share.
  bool is_sole() const { return buffer_->references == 1; }
  bool shares(const BufferRef& other) const { return buffer_ == other.buffer_; }

 private:
  friend class BufferPool;
  explicit BufferRef(detail::Buffer* buffer) : buffer_(buffer) { ++buffer_->references; }
  void give_back();

  detail::Buffer* buffer_ = nullptr;
};

class BufferPool final {
 public:
  static constexpr std::size_t kMinBytes = 64 * 1024;
  static constexpr std::size_t kPageBytes = 4096;

  /// `budget`: what requests may hold of this and other pools together; null: unlimited.
  explicit BufferPool(std::size_t max_idle_bytes, MemoryBudget* budget = nullptr)
      : max_idle_bytes_(max_idle_bytes), budget_(budget) {}
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  /// At least `bytes`, aligned to a page, contents unspecified.
  BufferRef take(std::size_t bytes);
  /// At most twice `bytes`, for what a slow store may hold for long. Below kMinBytes / 2 it is an
  /// allocation, and not aligned to a page; more is a piece of contiguous memory, if as much may
  /// lie idle (blockmig/base/contiguous_memory.h).
  BufferRef take_fitting(std::size_t bytes);
  /// Gives idle memory back to the system.
  void trim();
  /// The same, but only if nothing was taken since the last call.
  void trim_if_unused();

  /// True if a buffer of this capacity would lie idle when it comes back, and not go to the system.
  bool keeps(std::size_t capacity) const { return idle_bytes_ + capacity <= max_idle_bytes_; }

  MemoryBudget* budget() const { return budget_; }
  std::size_t idle_bytes() const { return idle_bytes_; }
  /// In use and idle together.
  std::size_t total_bytes() const { return total_bytes_; }

 private:
  friend class BufferRef;
  static constexpr std::size_t kClasses = 17;  // 64 KiB … 4 GiB

  void add_contiguous(std::size_t capacity);
  BufferRef make(std::byte* memory, std::size_t capacity, bool of_heap);
  void put_back(detail::Buffer* buffer);
  void destroy(detail::Buffer* buffer);

  const std::size_t max_idle_bytes_;
  MemoryBudget* const budget_;
  std::array<detail::Buffer*, kClasses> idle_{};
  std::size_t idle_bytes_ = 0;
  std::size_t total_bytes_ = 0;
  bool used_ = false;  ///< since the last trim_if_unused()
};

}  // namespace blockmig::nbd
