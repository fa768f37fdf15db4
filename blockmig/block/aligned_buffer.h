// SPDX-License-Identifier: Apache-2.0
// AlignedBuffer: memory that O_DIRECT accepts. Its content is unspecified until written.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>

#include "blockmig/base/bytes.h"

namespace blockmig {

class AlignedBuffer final {
 public:
  static constexpr std::size_t kAlignment = 4096;

  explicit AlignedBuffer(std::size_t size)
      : data_(static_cast<std::byte*>(::operator new (size, std::align_val_t{kAlignment}))),
        size_(size) {}

  MutableBytes bytes() { return MutableBytes(data_.get(), size_); }
  void zero() { std::memset(data_.get(), 0, size_); }

 private:
  struct Free {
    void operator()(std::byte* data) const {
      ::operator delete (data, std::align_val_t{kAlignment});
    }
  };
  std::unique_ptr<std::byte, Free> data_;
  std::size_t size_;
};

}  // namespace blockmig
