// SPDX-License-Identifier: Apache-2.0
// Buffer: owned, page-aligned memory for one copy or one mirrored write. Not initialised.
//
// What goes to the target is owned by its target operation, never borrowed from the guest's
// request: the operation may outlive the request (I9), and nobody can change the bytes in flight
// (trap 16). Up to 16 MiB are kept for the process and used again: fresh pages cost more than the
// copy into them. Thread rule: may be made and freed on any thread.
#pragma once

#include <cstddef>
#include <utility>

#include "blockmig/base/bytes.h"

namespace blockmig {

class Buffer final {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t size);
  Buffer(Buffer&& other) noexcept
      : memory_(std::exchange(other.memory_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Buffer();

  std::size_t size() const { return size_; }
  MutableBytes bytes() { return {memory_, size_}; }
  ConstBytes bytes() const { return {memory_, size_}; }

 private:
  std::byte* memory_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace blockmig
