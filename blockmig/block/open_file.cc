// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/open_file.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/stat.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "blockmig/base/bytes.h"
#include "blockmig/block/hung_filesystem.h"
#include "blockmig/block/image_lock.h"
#include "blockmig/io/durable_file.h"

namespace blockmig {
namespace {

// O_DIRECT's requirement where the kernel does not tell (before Linux 6.1): what every medium
// accepts.
constexpr std::uint32_t kSafeAlignment = 4096;
// So often a file may be replaced while it is being opened.
constexpr int kMaxReplaced = 100;

Error open_error(const std::string& path, int os_errno) {
  if (os_errno == EISDIR) return Error(ErrorCode::kInvalid, path + ": is a directory", os_errno);
  if (os_errno == ENOTDIR || os_errno == ELOOP || os_errno == ENAMETOOLONG) {
    return Error(ErrorCode::kInvalid, Error::from_errno(os_errno, path).message(), os_errno);
  }
  if (os_errno == EBUSY) {
    return Error(ErrorCode::kBusy, path + ": in use (mounted, or part of another device)", EBUSY);
  }
  return Error::from_errno(os_errno, path);
}

/// Opens, or creates where the options ask for it. O_NONBLOCK: opening a FIFO must not wait.
Result<UniqueFd> open_or_create(const std::string& path, const FileDeviceOptions& options,
                                bool* created) {
  const int access = (options.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  if (options.create_size_bytes != 0 && !options.read_only) {
    UniqueFd fd(::open(path.c_str(), access | O_CREAT | O_EXCL, 0666));
    if (fd) {
      *created = true;
      return fd;
    }
    if (errno != EEXIST) return open_error(path, errno);
    if (options.exclusive_create) {
      return Error(ErrorCode::kPrecondition, path + ": already exists", EEXIST);
    }
  }
  UniqueFd fd(::open(path.c_str(), access));
  if (!fd) return open_error(path, errno);
  return fd;
}

/// Linux opens a block device that is read-only for writing, and fails the first write.
Status check_writable(int fd, const std::string& path) {
  int read_only = 0;
  if (::ioctl(fd, BLKROGET, &read_only) != 0) return Error::from_errno(errno, path);
  if (read_only == 0) return {};
  return Error(ErrorCode::kReadOnly,
               path + ": is a read-only block device: 'blockdev --setrw " + path +
                   "' makes it writable where its medium allows that; what is only to be read "
                   "is served with --read-only");
}

/// Only regular files and block devices are disks.
Status check_kind(OpenedFile& file, const std::string& path, const FileDeviceOptions& options) {
  struct stat facts = {};
  if (::fstat(file.fd.get(), &facts) != 0) return Error::from_errno(errno, path);
  if (S_ISDIR(facts.st_mode)) return Error(ErrorCode::kInvalid, path + ": is a directory", EISDIR);
  if (!S_ISREG(facts.st_mode) && !S_ISBLK(facts.st_mode)) {
    return Error(ErrorCode::kInvalid, path + ": neither a regular file nor a block device");
  }
  file.block_device = S_ISBLK(facts.st_mode);
  if (file.block_device && !options.read_only) {
    const Status writable = check_writable(file.fd.get(), path);
    if (!writable) return writable;
  }
  if (file.block_device && options.lock && !options.read_only) {
    // The kernel's own claim: refuses a device that is mounted or part of another one.
    UniqueFd claimed(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_EXCL));
    if (!claimed) return open_error(path, errno);
    file.fd = std::move(claimed);
    return {};
  }
  const int flags = ::fcntl(file.fd.get(), F_GETFL);
  if (flags < 0 || ::fcntl(file.fd.get(), F_SETFL, flags & ~O_NONBLOCK) != 0) {
    return Error::from_errno(errno, path);
  }
  return {};
}

Status measure_size(OpenedFile& file, const std::string& path) {
  if (file.block_device) {
    if (::ioctl(file.fd.get(), BLKGETSIZE64, &file.size_bytes) != 0) {
      return Error::from_errno(errno, path + ": size");
    }
    return {};
  }
  struct stat facts = {};
  if (::fstat(file.fd.get(), &facts) != 0) return Error::from_errno(errno, path + ": size");
  file.size_bytes = static_cast<std::uint64_t>(facts.st_size);
  return {};
}

/// Gives a new file its size and makes it durable (I1), or checks an existing one's.
Status settle_size(OpenedFile& file, const std::string& path, const FileDeviceOptions& options) {
  if (file.created) {
    if (::ftruncate(file.fd.get(), static_cast<off_t>(options.create_size_bytes)) != 0) {
      return Error::from_errno(errno, path + ": cannot create with " +
                                          std::to_string(options.create_size_bytes) + " bytes");
    }
    if (::fsync(file.fd.get()) != 0) return Error::from_errno(errno, path + ": fsync");
    const Status folder = sync_folder_of(path);
    if (!folder) return folder;
  }
  const Status measured = measure_size(file, path);
  if (!measured || options.create_size_bytes == 0) return measured;
  const bool right = file.block_device ? file.size_bytes >= options.create_size_bytes
                                       : file.size_bytes == options.create_size_bytes;
  if (right) return {};
  return Error(ErrorCode::kPrecondition, path + ": exists with " + std::to_string(file.size_bytes) +
                                             " bytes, needed are " +
                                             std::to_string(options.create_size_bytes));
}

/// statx(2) with STATX_DIOALIGN, which Debian 12's C library does not name yet.
bool ask_direct_alignment(int fd, std::uint32_t* offset, std::uint32_t* memory) {
  struct statx facts;
  std::memset(&facts, 0, sizeof facts);
  if (::syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &facts) != 0) return false;
  if ((facts.stx_mask & STATX_DIOALIGN) == 0) return false;
  *offset = facts.stx_dio_offset_align;
  *memory = facts.stx_dio_mem_align;
  return true;
}

Status set_up_direct(OpenedFile& file, const std::string& path, const FileDeviceOptions& options) {
  if (options.cache != CacheMode::kDirect) return {};
  const Error refused(ErrorCode::kNotSupported, path + ": direct I/O is not possible here");
  const int flags = ::fcntl(file.fd.get(), F_GETFL);
  if (flags < 0 || ::fcntl(file.fd.get(), F_SETFL, flags | O_DIRECT) != 0) return refused;
  file.offset_alignment = file.memory_alignment = kSafeAlignment;
  int sector = 0;
  if (file.block_device && ::ioctl(file.fd.get(), BLKSSZGET, &sector) == 0 && sector > 0) {
    file.offset_alignment = static_cast<std::uint32_t>(sector);
  } else {
    ask_direct_alignment(file.fd.get(), &file.offset_alignment, &file.memory_alignment);
  }
  if (!std::has_single_bit(file.offset_alignment) || !std::has_single_bit(file.memory_alignment)) {
    return refused;  // zero: the kernel says that this file cannot do it
  }
  if (file.size_bytes % file.offset_alignment == 0) return {};
  file.buffered_fd = reopen(file.fd.get(), options.read_only ? O_RDONLY : O_RDWR);
  if (!file.buffered_fd) return Error::from_errno(errno, path + ": second descriptor");
  // Only the tail goes this way: read-ahead before it would be waste.
  (void)::posix_fadvise(file.buffered_fd.get(), 0, 0, POSIX_FADV_RANDOM);
  return {};
}

Status set_up_flushes(OpenedFile& file, const std::string& path, const FileDeviceOptions& options) {
  if (options.read_only) return {};
  file.sync_fd = reopen(file.fd.get(), O_RDWR);
  if (file.sync_fd) return {};
  return Error::from_errno(errno, path + ": a descriptor for flushes");
}

/// In tmpfs what is in memory is the medium.
bool is_in_memory(int fd) {
  struct statfs facts = {};
  return ::fstatfs(fd, &facts) == 0 && facts.f_type == TMPFS_MAGIC;
}

Status set_up_map(OpenedFile& file, const std::string& path, const FileDeviceOptions& options) {
  if (options.cache != CacheMode::kMap || file.size_bytes == 0 || file.may_hang) return {};
  auto mapping = FileMapping::create(file.fd.get(), file.size_bytes, options.read_only, path);
  if (!mapping) return mapping.error();
  const bool has_holes = !file.block_device && !is_in_memory(file.fd.get());
  auto pages = MappedPages::create(*std::move(mapping), file.fd.get(), has_holes);
  if (!pages) return pages.error().with_context(path);
  file.pages = *std::move(pages);
  return {};
}

bool block_device_zeroes_fast(int fd) {
  struct stat facts = {};
  if (::fstat(fd, &facts) != 0) return false;
  char path[96];
  std::snprintf(path, sizeof path, "/sys/dev/block/%u:%u/queue/write_zeroes_max_bytes",
                major(facts.st_rdev), minor(facts.st_rdev));
  const UniqueFd limit(::open(path, O_RDONLY | O_CLOEXEC));
  char text[32] = {};
  if (!limit || ::read(limit.get(), text, sizeof text - 1) <= 0) return false;
  return text[0] != '0';
}

/// Whether holes can be punched, tried where it changes nothing: behind the end. The file keeps its
/// time of the last change, which tells others (and a disk's bitmaps) whether it is what it was.
bool probe_punch(const OpenedFile& file, const FileDeviceOptions& options) {
  if (options.read_only) return false;
  if (file.block_device) return block_device_zeroes_fast(file.fd.get());
  constexpr std::uint64_t kBlock = 4096;
  const auto behind = static_cast<off_t>(align_up(file.size_bytes, kBlock));
  struct stat before {};
  const bool known = ::fstat(file.fd.get(), &before) == 0;
  const bool punches =
      ::fallocate(file.fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, behind, kBlock) == 0;
  const struct timespec times[2] = {{0, UTIME_OMIT}, before.st_mtim};
  // Who may not set it has a file that looks changed, which is the safe side.
  if (known && ::futimens(file.fd.get(), times) != 0) return punches;
  return punches;
}

/// Opens and locks the file that the name leads to: one that its owner removes before he lets it go
/// is open here without a name, and no disk could be found there again (I1).
Status open_and_lock(OpenedFile& file, const std::string& path, const FileDeviceOptions& options) {
  for (int tries = 0; tries < kMaxReplaced; ++tries) {
    file = {};
    auto fd = open_or_create(path, options, &file.created);
    if (!fd) return fd.error();
    file.fd = std::move(*fd);
    const Status kind = check_kind(file, path, options);
    if (!kind || !options.lock) return kind;
    const Status locked = lock_image(file.fd.get(), path, options.read_only);
    if (!locked || file.block_device) return locked;
    struct stat named = {};
    struct stat held = {};
    if (::fstat(file.fd.get(), &held) != 0) return Error::from_errno(errno, path);
    const bool there = ::stat(path.c_str(), &named) == 0;
    if (there && named.st_dev == held.st_dev && named.st_ino == held.st_ino) return {};
    file.created = false;  // it is not there to be removed
  }
  return Error(ErrorCode::kBusy, path + ": is replaced again and again");
}

Status set_up(OpenedFile& file, const std::string& path, const FileDeviceOptions& options) {
  const Status opened = open_and_lock(file, path, options);
  if (!opened) return opened;
  const Status sized = settle_size(file, path, options);
  if (!sized) return sized;
  file.may_hang = file_may_hang(file.fd.get());
  const Status direct = set_up_direct(file, path, options);
  if (!direct) return direct;
  const Status flushes = set_up_flushes(file, path, options);
  if (!flushes) return flushes;
  const Status mapped = set_up_map(file, path, options);
  if (!mapped) return mapped;
  file.can_punch = probe_punch(file, options);
  return {};
}

}  // namespace

Result<OpenedFile> open_file(const std::string& path, const FileDeviceOptions& options) {
  OpenedFile file;
  const Status ready = set_up(file, path, options);
  if (ready) return file;
  if (file.created) ::unlink(path.c_str());
  return ready.error();
}

UniqueFd reopen(int fd, int flags) {
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  return UniqueFd(::open(path.c_str(), flags | O_CLOEXEC));
}

DeviceInfo info_of(const OpenedFile& file, const std::string& path,
                   const FileDeviceOptions& options) {
  DeviceInfo info;
  info.name = path;
  info.size_bytes = file.size_bytes;
  info.read_only = options.read_only;
  info.can_trim = !options.read_only && (file.can_punch || file.block_device);
  info.can_fast_zero = file.can_punch;
  info.zero_initialised = file.created;
  info.reads_medium = true;
  info.may_hang = file.may_hang;
  return info;
}

int discard(int fd, ByteRange range) {
  std::uint64_t span[2] = {range.offset, range.length};
  return ::ioctl(fd, BLKDISCARD, span) == 0 ? 0 : errno;
}

}  // namespace blockmig
