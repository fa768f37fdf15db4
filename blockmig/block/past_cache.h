// SPDX-License-Identifier: Apache-2.0
// PastCache: reads what a file's medium holds, not what the page cache does: for verifying.
//
// Through a second descriptor with O_DIRECT: the kernel first writes back what is dirty in the
// range, then reads from the medium. Where the filesystem refuses O_DIRECT, the range is written
// back and dropped from the cache instead; what is mapped may stay there. That goes through a
// descriptor of its own too: a write-back that fails is reported once per open file, and whoever
// makes writes durable must not miss it (I11). A tmpfs has no medium below its pages, and reads as
// it is.
//
// Everything blocks. Thread rule: any thread, several at once; close() last.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>

#include "blockmig/base/bytes.h"
#include "blockmig/base/error.h"
#include "blockmig/io/unique_fd.h"

namespace blockmig {

class PastCache final {
 public:
  /// `fd` is open for reading and stays so.
  explicit PastCache(int fd) : fd_(fd) {}

  /// The range lies in the file. Errors name `name`; a file that ends early is one (I11).
  Status read(std::uint64_t offset, MutableBytes into, const std::string& name);
  void close() {
    direct_.reset();
    cached_.reset();
  }

 private:
  Status read_direct(std::uint64_t offset, MutableBytes into, const std::string& name) const;
  Status read_dropped(std::uint64_t offset, MutableBytes into, const std::string& name) const;

  const int fd_;
  std::once_flag opened_;
  UniqueFd direct_;   ///< not open: refused
  UniqueFd cached_;   ///< without O_DIRECT
  int os_errno_ = 0;  ///< why it is not open
};

}  // namespace blockmig
