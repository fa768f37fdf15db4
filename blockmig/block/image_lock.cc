// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/image_lock.h"

#include <fcntl.h>

#include <cerrno>

#include "blockmig/io/unique_fd.h"

namespace blockmig {
namespace {

enum QemuPermission : std::int64_t {
  kConsistentRead = 0,
  kWrite = 1,
  kWriteUnchanged = 2,
  kResize = 3
};

struct flock one_byte(short type, std::int64_t at) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = at;
  lock.l_len = 1;
  return lock;
}

Status take(int fd, short type, std::int64_t at, const std::string& path) {
  struct flock lock = one_byte(type, at);
  if (::fcntl(fd, F_OFD_SETLK, &lock) == 0) return {};
  if (errno == EAGAIN || errno == EACCES) {
    return Error(ErrorCode::kBusy, path + ": in use by another process", EAGAIN);
  }
  return Error::from_errno(errno, path + ": cannot lock");
}

/// Fails if any other descriptor holds a lock on the byte.
Status require_free(int fd, std::int64_t at, const std::string& path, const char* why) {
  struct flock lock = one_byte(F_WRLCK, at);
  if (::fcntl(fd, F_OFD_GETLK, &lock) != 0) {
    return Error::from_errno(errno, path + ": cannot test the lock");
  }
  if (lock.l_type == F_UNLCK) return {};
  return Error(ErrorCode::kBusy, path + ": in use by another process (" + why + ")", EAGAIN);
}

}  // namespace

Status lock_image(int fd, const std::string& path, bool read_only) {
  const Status own = take(fd, read_only ? F_RDLCK : F_WRLCK, kOwnLockByte, path);
  if (!own) return own;
  // Take first, test then: of two that start together at least one sees the other.
  for (const std::int64_t permission : {kWrite, kResize}) {
    const Status taken = take(fd, F_RDLCK, kQemuForbidsBase + permission, path);
    if (!taken) return taken;
  }
  const Status nobody_writes =
      require_free(fd, kQemuUsesBase + kWrite, path, "a QEMU program writes to it");
  if (!nobody_writes) return nobody_writes;
  const Status may_read = require_free(fd, kQemuForbidsBase + kConsistentRead, path,
                                       "a QEMU program forbids reading it");
  if (!may_read || read_only) return may_read;
  const Status may_resize =
      require_free(fd, kQemuUsesBase + kResize, path, "a QEMU program resizes it");
  if (!may_resize) return may_resize;
  return require_free(fd, kQemuForbidsBase + kWrite, path, "a QEMU program forbids writing to it");
}

Result<bool> is_locked_image(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd) return Error::from_errno(errno, path);
  struct flock lock = one_byte(F_WRLCK, kOwnLockByte);
  if (::fcntl(fd.get(), F_OFD_GETLK, &lock) != 0) {
    return Error::from_errno(errno, path + ": cannot test the lock");
  }
  return lock.l_type != F_UNLCK;
}

}  // namespace blockmig
