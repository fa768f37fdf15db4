// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/buffer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <vector>

#include "blockmig/base/check.h"

namespace blockmig {
namespace {

constexpr std::size_t kAlignment = 4096;
constexpr std::size_t kSmallestBits = 12;
constexpr std::size_t kLargestBits = 22;  // larger ones are not kept
constexpr std::size_t kKeptBytesPerClass = 8 * kMiB;

std::size_t class_bits(std::size_t size) {
  return std::max(kSmallestBits, static_cast<std::size_t>(std::bit_width(size - 1)));
}

/// Free memory of one thread, by power of two.
class Store final {
 public:
  ~Store() {
    for (auto& kept : kept_) {
      for (std::byte* memory : kept) std::free(memory);
      kept.clear();
    }
    closed_ = true;
  }
  std::byte* take(std::size_t bits) {
    if (bits <= kLargestBits && !closed_ && !kept_[bits - kSmallestBits].empty()) {
      std::byte* memory = kept_[bits - kSmallestBits].back();
      kept_[bits - kSmallestBits].pop_back();
      return memory;
    }
    auto* memory = static_cast<std::byte*>(std::aligned_alloc(kAlignment, std::size_t{1} << bits));
    BM_CHECK(memory != nullptr);
    return memory;
  }
  void give_back(std::byte* memory, std::size_t bits) {
    if (bits <= kLargestBits && !closed_) {
      auto& kept = kept_[bits - kSmallestBits];
      if ((kept.size() + 1) << bits <= kKeptBytesPerClass) {
        kept.push_back(memory);
        return;
      }
    }
    std::free(memory);
  }

 private:
  std::array<std::vector<std::byte*>, kLargestBits - kSmallestBits + 1> kept_;
  bool closed_ = false;  // buffers freed by destructors that run after the thread's store
};

thread_local Store store;

}  // namespace

Buffer::Buffer(std::size_t size) : size_(size) {
  if (size != 0) memory_ = store.take(class_bits(size));
}

Buffer::~Buffer() {
  if (memory_ != nullptr) store.give_back(memory_, class_bits(size_));
}

}  // namespace blockmig
