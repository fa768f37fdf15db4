// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/file_extents.h"

#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace blockmig {
namespace {

struct Found {
  std::uint64_t at = 0;
  int os_errno = 0;
};

Found seek(int fd, std::uint64_t from, int whence) {
  const off_t at = ::lseek(fd, static_cast<off_t>(from), whence);
  if (at < 0) return {0, errno};
  return {static_cast<std::uint64_t>(at), 0};
}

/// The next extent from `at`, cut at `end`.
Result<Extent> next_extent(int fd, std::uint64_t at, std::uint64_t end, const std::string& name) {
  Extent extent{at, end - at, false, false};
  const Found data = seek(fd, at, SEEK_DATA);
  if (data.os_errno == EINVAL || data.os_errno == EOPNOTSUPP) return extent;
  if (data.os_errno == ENXIO || (data.os_errno == 0 && data.at > at)) {
    // ENXIO: nothing but a hole up to the end of the file, which is at or behind `end`.
    if (data.os_errno == 0) extent.length = std::min(end, data.at) - at;
    extent.hole = extent.zero = true;
    return extent;
  }
  if (data.os_errno != 0) return Error::from_errno(data.os_errno, name + ": SEEK_DATA");
  const Found hole = seek(fd, at, SEEK_HOLE);
  if (hole.os_errno != 0) return Error::from_errno(hole.os_errno, name + ": SEEK_HOLE");
  // At the same place when somebody punched it in between: then it counts as data up to the end.
  if (hole.at > at) extent.length = std::min(end, hole.at) - at;
  return extent;
}

}  // namespace

Result<std::vector<Extent>> scan_file_extents(int fd, std::uint64_t offset, std::uint64_t length,
                                              const std::string& name) {
  const std::uint64_t end = offset + length;
  struct stat facts = {};
  if (::fstat(fd, &facts) != 0) return Error::from_errno(errno, name);
  if (S_ISREG(facts.st_mode) && static_cast<std::uint64_t>(facts.st_size) < end) {
    // Behind the end of a file that was cut everything looks like a hole (I11).
    return Error(ErrorCode::kIo, name + ": the file is shorter than when it was opened");
  }
  std::vector<Extent> extents;
  while (offset < end) {
    const auto next = next_extent(fd, offset, end, name);
    if (!next) return next.error();
    append_extent(extents, *next);
    if (extents.size() > BlockDevice::kMaxExtents) {
      extents.pop_back();
      break;
    }
    offset += next->length;
  }
  return extents;
}

bool is_allocated(int fd, ByteRange range) {
  constexpr std::size_t kAskedExtents = 64;
  // The answer's extents follow the question in memory.
  alignas(struct fiemap)
      std::byte memory[sizeof(struct fiemap) + kAskedExtents * sizeof(struct fiemap_extent)] = {};
  auto* const question = reinterpret_cast<struct fiemap*>(memory);
  question->fm_start = range.offset;
  question->fm_length = range.length;
  question->fm_extent_count = kAskedExtents;
  if (::ioctl(fd, FS_IOC_FIEMAP, question) != 0) return false;
  const std::size_t count = std::min<std::size_t>(question->fm_mapped_extents, kAskedExtents);
  std::uint64_t covered = range.offset;
  for (std::size_t i = 0; i < count; ++i) {
    const struct fiemap_extent& extent = question->fm_extents[i];
    // Shared with a snapshot: writing takes new room after all.
    const bool shared = (extent.fe_flags & FIEMAP_EXTENT_SHARED) != 0;
    if (shared || extent.fe_logical > covered) return false;
    covered = std::max<std::uint64_t>(covered, extent.fe_logical + extent.fe_length);
  }
  return covered >= range.end();
}

}  // namespace blockmig
