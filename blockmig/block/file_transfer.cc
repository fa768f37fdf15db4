// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/file_transfer.h"

#include <cerrno>

namespace blockmig {
namespace {

std::string describe(const std::string& name, const char* verb, std::uint64_t offset) {
  return name + ": " + verb + " at " + std::to_string(offset);
}

}  // namespace

Task<Status> read_whole(FileIo& io, int fd, std::uint64_t offset, MutableBytes into,
                        const std::string& name) {
  while (!into.empty()) {
    const auto count = co_await io.read_at(fd, into, offset);
    if (!count) co_return count.error().with_context(name);
    if (*count == 0) {
      co_return Error(ErrorCode::kIo, describe(name, "read", offset) +
                                          ": the file is shorter than when it was opened");
    }
    into = into.subspan(*count);
    offset += *count;
  }
  co_return Status();
}

Task<Status> write_whole(FileIo& io, int fd, std::uint64_t offset, ConstBytes from, bool durable,
                         const std::string& name) {
  while (!from.empty()) {
    const auto count = co_await io.write_at(fd, from, offset, durable);
    if (!count) co_return count.error().with_context(name);
    // No progress and no reason: the kernel does so when the medium is full.
    if (*count == 0) co_return Error::from_errno(ENOSPC, describe(name, "write", offset));
    from = from.subspan(*count);
    offset += *count;
  }
  co_return Status();
}

}  // namespace blockmig
