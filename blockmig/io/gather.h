// SPDX-License-Identifier: Apache-2.0
// Gather: how far a list of buffers has been sent.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <span>

#include "blockmig/base/bytes.h"
#include "blockmig/base/check.h"

namespace blockmig {

class Gather final {
 public:
  /// `parts` is borrowed; empty parts are passed over.
  explicit Gather(std::span<const ConstBytes> parts) : parts_(parts) { pass_finished_parts(); }

  bool finished() const { return index_ == parts_.size(); }
  /// The first unsent bytes that lie together. Not when finished.
  ConstBytes front() const { return parts_[index_].subspan(offset_); }
  /// Describes the unsent bytes, as far as there is room; returns the number of entries.
  std::size_t fill(std::span<iovec> out) const {
    std::size_t count = 0;
    std::size_t offset = offset_;
    for (std::size_t i = index_; i < parts_.size() && count < out.size(); ++i) {
      const ConstBytes rest = parts_[i].subspan(offset);
      offset = 0;
      if (rest.empty()) continue;
      // iovec serves reads too, so it is not const; sending does not write through it.
      out[count++] = iovec{const_cast<std::byte*>(rest.data()), rest.size()};
    }
    return count;
  }
  /// `bytes` more were sent.
  void advance(std::size_t bytes) {
    while (bytes > 0) {
      BM_CHECK(!finished());
      const std::size_t rest = parts_[index_].size() - offset_;
      const std::size_t step = bytes < rest ? bytes : rest;
      offset_ += step;
      bytes -= step;
      pass_finished_parts();
    }
  }

 private:
  void pass_finished_parts() {
    while (index_ < parts_.size() && offset_ == parts_[index_].size()) {
      ++index_;
      offset_ = 0;
    }
  }

  std::span<const ConstBytes> parts_;
  std::size_t index_ = 0;
  std::size_t offset_ = 0;
};

}  // namespace blockmig
