// SPDX-License-Identifier: Apache-2.0
// InlineFile: reads and writes of a file that are done on the spot, by the calling thread.
//
// In order of preference: a copy from or to the mapping, where there is one and the pages are known
// to be at hand (mapped_pages.h); preadv2 with RWF_NOWAIT; plain calls whose time is watched, where
// the filesystem refuses NOWAIT (inline_policy.h). What is not done here is for the loop's
// asynchronous I/O, which also gives every error its message.
//
// Thread rule: any thread. The caller keeps overlapping requests apart (range_stripes.h).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "blockmig/base/bytes.h"
#include "blockmig/base/function_ref.h"
#include "blockmig/block/inline_policy.h"
#include "blockmig/block/mapped_pages.h"

namespace blockmig {

class InlineFile final {
 public:
  /// `fd` is the caller's and stays open as long as requests come; `pages` may be null.
  InlineFile(int fd, std::unique_ptr<MappedPages> pages) : fd_(fd), pages_(std::move(pages)) {}

  enum class Again : unsigned char { kLikely, kUnlikely };
  /// Bytes done, from the beginning; the rest is not in memory, or an error. What is not likely to
  /// be read again earns its pages no place in the page tables.
  std::size_t read(std::uint64_t offset, MutableBytes into, Again again = Again::kLikely);
  struct Written {
    std::size_t bytes = 0;
    int os_errno = 0;  ///< not zero: the kernel refused, and not for want of time
  };
  Written write(std::uint64_t offset, ConstBytes from);

  /// As BlockDevice::lend_now(), borrow_now() and fill_now(): of the mapping, where its pages are
  /// at hand.
  bool lend(std::uint64_t offset, std::size_t length, FunctionRef<bool(ConstBytes)> use);
  ConstBytes borrow(std::uint64_t offset, std::size_t length);
  bool fill(std::uint64_t offset, std::size_t length, FunctionRef<std::size_t(MutableBytes)> fill);

  /// Before and after the range is deallocated by other means.
  void forget(ByteRange range);
  /// Before the file is synced.
  void cleaned();
  /// Takes the mapping away. Last call; no request is in flight.
  void unmap() { pages_.reset(); }

 private:
  bool write_mapped(std::uint64_t offset, ConstBytes from);
  template <typename Call>
  ssize_t measured(std::size_t bytes, Call call);

  const int fd_;
  std::unique_ptr<MappedPages> pages_;
  InlinePolicy policy_;
  std::atomic<bool> nowait_reads_{true};  ///< until the filesystem refuses RWF_NOWAIT
};

}  // namespace blockmig
