// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/buffer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <mutex>
#include <vector>

#include "blockmig/base/check.h"

namespace blockmig {
namespace {

constexpr std::size_t kAlignment = 4096;
constexpr std::size_t kSmallestBits = 12;
constexpr std::size_t kLargestBits = 22;  // larger ones are not kept
constexpr std::size_t kKeptBytes = 16 * kMiB;

std::size_t class_bits(std::size_t size) {
  return std::max(kSmallestBits, static_cast<std::size_t>(std::bit_width(size - 1)));
}

std::byte* allocate(std::size_t bits) {
  auto* memory = static_cast<std::byte*>(std::aligned_alloc(kAlignment, std::size_t{1} << bits));
  BM_CHECK(memory != nullptr);
  return memory;
}

/// Free memory, by power of two.
class Store final {
 public:
  std::byte* take(std::size_t bits) {
    if (bits <= kLargestBits) {
      const std::lock_guard lock(mutex_);
      std::vector<std::byte*>& kept = kept_[bits - kSmallestBits];
      if (!kept.empty()) {
        std::byte* memory = kept.back();
        kept.pop_back();
        kept_bytes_ -= std::size_t{1} << bits;
        return memory;
      }
    }
    return allocate(bits);
  }
  void give_back(std::byte* memory, std::size_t bits) {
    if (bits <= kLargestBits) {
      const std::lock_guard lock(mutex_);
      const std::size_t more = kept_bytes_ + (std::size_t{1} << bits);
      if (more <= kKeptBytes) {
        kept_[bits - kSmallestBits].push_back(memory);
        kept_bytes_ = more;
        return;
      }
    }
    std::free(memory);
  }

 private:
  std::mutex mutex_;
  std::array<std::vector<std::byte*>, kLargestBits - kSmallestBits + 1> kept_;
  std::size_t kept_bytes_ = 0;
};

/// Never destroyed: buffers may be freed by what ends after it would.
Store& store() {
  static Store* const kStore = new Store;
  return *kStore;
}

}  // namespace

Buffer::Buffer(std::size_t size) : size_(size) {
  if (size != 0) memory_ = store().take(class_bits(size));
}

Buffer::~Buffer() {
  if (memory_ != nullptr) store().give_back(memory_, class_bits(size_));
}

}  // namespace blockmig
