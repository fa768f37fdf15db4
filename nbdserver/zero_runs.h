// SPDX-License-Identifier: Apache-2.0
// ZeroRuns: splits read data into runs of zeros, which travel as holes, and runs of data.
//
// The data is looked at in blocks of kBlockBytes of the export; a block with anything in it is
// recognised by its first bytes in nearly all cases, so looking is cheap where nothing is won.
// Pure; any thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "blockmig/base/bytes.h"

namespace blockmig::nbd {

class ZeroRuns final {
 public:
  static constexpr std::size_t kBlockBytes = 64 * 1024;

  struct Run {
    std::size_t begin = 0;  ///< within the data
    std::size_t length = 0;
    bool zero = false;
  };

  /// `offset` is where the data lies in the export; no run is longer than `max_run_bytes`.
  ZeroRuns(ConstBytes data, std::uint64_t offset, std::size_t max_run_bytes)
      : data_(data), offset_(offset), max_run_bytes_(max_run_bytes) {}

  /// The next run, in order; nothing at the end.
  std::optional<Run> next() {
    if (begin_ == data_.size()) return std::nullopt;
    Run run{begin_, block_at(begin_), false};
    run.zero = block_is_zero(begin_, run.length);
    while (run.begin + run.length < data_.size()) {
      const std::size_t at = run.begin + run.length;
      const std::size_t more = block_at(at);
      if (run.length + more > max_run_bytes_ || block_is_zero(at, more) != run.zero) break;
      run.length += more;
    }
    run.length = std::min(run.length, max_run_bytes_);
    begin_ = run.begin + run.length;
    return run;
  }

 private:
  /// From data position `at` to the next border of a block of the export, or the end.
  std::size_t block_at(std::size_t at) const {
    const std::uint64_t into_block = (offset_ + at) % kBlockBytes;
    return std::min(static_cast<std::size_t>(kBlockBytes - into_block), data_.size() - at);
  }
  /// Each block is asked for once: the answer for the block that ended a run is kept.
  bool block_is_zero(std::size_t at, std::size_t length) {
    if (at != asked_at_ || length != asked_length_) {
      asked_at_ = at;
      asked_length_ = length;
      answer_ = is_all_zero(data_.subspan(at, length));
    }
    return answer_;
  }

  ConstBytes data_;
  std::uint64_t offset_;
  std::size_t max_run_bytes_;
  std::size_t begin_ = 0;
  std::size_t asked_at_ = SIZE_MAX;
  std::size_t asked_length_ = 0;
  bool answer_ = false;
};

}  // namespace blockmig::nbd
