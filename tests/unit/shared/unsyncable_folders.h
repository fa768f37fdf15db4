// SPDX-License-Identifier: Apache-2.0
// UnsyncableFolders: as on a filesystem that cannot sync folders and says EINVAL, for as long as it
// lives. This fsync() takes the place of the C library's in the test program: one of its files may
// include this.
#pragma once

#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

namespace blockmig {

class UnsyncableFolders final {
 public:
  UnsyncableFolders() { refused = 0; }
  ~UnsyncableFolders() { refused = -1; }
  UnsyncableFolders(const UnsyncableFolders&) = delete;
  UnsyncableFolders& operator=(const UnsyncableFolders&) = delete;

  /// How often a folder was to be synced since; -1: none of these lives.
  static inline std::atomic<int> refused{-1};
};

}  // namespace blockmig

extern "C" int fsync(int fd) {
  struct stat facts = {};
  const bool folder = ::fstat(fd, &facts) == 0 && S_ISDIR(facts.st_mode);
  if (folder && blockmig::UnsyncableFolders::refused.load() >= 0) {
    ++blockmig::UnsyncableFolders::refused;
    errno = EINVAL;
    return -1;
  }
  return static_cast<int>(::syscall(SYS_fsync, fd));
}
