// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/past_cache.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "blockmig/block/aligned_buffer.h"
#include "blockmig/block/open_file.h"
#include "blockmig/io/file_calls.h"

namespace blockmig {
namespace {

/// No medium that we know wants more.
constexpr std::uint64_t kAlignment = 4096;
constexpr std::uint64_t kPieceBytes = kMiB;

Error ends_early(const std::string& name, std::uint64_t offset) {
  return Error(ErrorCode::kIo, name + ": ends early, at " + std::to_string(offset));
}

}  // namespace

Status PastCache::read(std::uint64_t offset, MutableBytes into, const std::string& name) {
  std::call_once(opened_, [this] {
    direct_ = reopen(fd_, O_RDONLY | O_DIRECT);
    cached_ = reopen(fd_, O_RDONLY);
    if (!cached_) os_errno_ = errno;
  });
  return direct_ ? read_direct(offset, into, name) : read_dropped(offset, into, name);
}

Status PastCache::read_direct(std::uint64_t offset, MutableBytes into,
                              const std::string& name) const {
  AlignedBuffer piece(kPieceBytes);
  while (!into.empty()) {
    const std::uint64_t begin = align_down(offset, kAlignment);
    const std::uint64_t end =
        std::min(align_up(offset + into.size(), kAlignment), begin + kPieceBytes);
    // The last block of a file with an odd size comes short.
    const ssize_t count =
        pread(direct_.get(), piece.bytes().data(), end - begin, static_cast<off_t>(begin));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EINVAL) return read_dropped(offset, into, name);
    if (count < 0) {
      return Error::from_errno(errno, name + ": direct read at " + std::to_string(begin));
    }
    const std::uint64_t reached = begin + static_cast<std::uint64_t>(count);
    if (reached <= offset) return ends_early(name, offset);
    const std::uint64_t here = std::min<std::uint64_t>(reached - offset, into.size());
    std::memcpy(into.data(), piece.bytes().data() + (offset - begin), here);
    offset += here;
    into = into.subspan(here);
  }
  return {};
}

Status PastCache::read_dropped(std::uint64_t offset, MutableBytes into,
                               const std::string& name) const {
  if (!cached_) return Error::from_errno(os_errno_, name + ": a descriptor for verifying");
  const int fd = cached_.get();
  const std::uint64_t begin = align_down(offset, kAlignment);
  const auto length = static_cast<off_t>(align_up(offset + into.size(), kAlignment) - begin);
  const unsigned wait_for_all =
      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
  if (sync_file_range(fd, static_cast<off_t>(begin), length, wait_for_all) != 0 &&
      errno != ESPIPE && errno != EINVAL && errno != ENOSYS) {
    return Error::from_errno(errno, name + ": writing back at " + std::to_string(begin));
  }
  posix_fadvise(fd, static_cast<off_t>(begin), length, POSIX_FADV_DONTNEED);
  const auto count = read_fully(fd, into, offset);
  if (!count) return count.error().with_context(name);
  return *count == into.size() ? Status() : ends_early(name, offset + *count);
}

}  // namespace blockmig
