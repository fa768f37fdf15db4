// SPDX-License-Identifier: Apache-2.0
// The blocking file calls: whole transfers, as IoLoop promises them. PortableLoop runs them on
// threads; UringLoop shares what follows from a partial result. Thread rule: any thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "blockmig/base/bytes.h"
#include "blockmig/base/error.h"
#include "blockmig/io/io_loop.h"

namespace blockmig {

Result<std::size_t> read_fully(int fd, MutableBytes into, std::uint64_t offset);
Result<std::size_t> write_fully(int fd, ConstBytes from, std::uint64_t offset, bool durable);
Status sync_data(int fd);
Status allocate_range(int fd, AllocateMode mode, std::uint64_t offset, std::uint64_t length);

/// The mode argument of fallocate(2).
int fallocate_mode(AllocateMode mode);
/// What the kernel's answer (0, or a negative errno) means.
Status sync_status(int result);
Status allocate_status(int result, std::uint64_t offset, std::uint64_t length);

/// A transfer in parts: what to ask the kernel for next, and when it is over.
class Transfer final {
 public:
  enum class Kind { kRead, kWrite };

  Transfer(Kind kind, int fd, std::uint64_t offset, std::size_t length)
      : kind_(kind), fd_(fd), offset_(offset), length_(length), finished_(length == 0) {}

  Kind kind() const { return kind_; }
  bool finished() const { return finished_; }
  std::size_t done_bytes() const { return done_; }
  std::uint64_t next_offset() const { return offset_ + done_; }
  /// At most what the kernel takes in one call.
  std::size_t next_length() const;
  /// What the kernel said: a count, or a negative errno.
  void advance(std::int64_t result);
  /// Once finished.
  Result<std::size_t> result() const;

 private:
  void fail(int os_errno);
  bool at_end_of_file() const;

  Kind kind_;
  int fd_;
  std::uint64_t offset_;
  std::size_t length_;
  std::size_t done_ = 0;
  int os_errno_ = 0;
  bool finished_;
};

}  // namespace blockmig
