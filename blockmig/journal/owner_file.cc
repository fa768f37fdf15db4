// SPDX-License-Identifier: Apache-2.0
#include "blockmig/journal/owner_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "blockmig/io/durable_file.h"
#include "blockmig/io/file_calls.h"
#include "blockmig/io/unique_fd.h"
#include "blockmig/journal/owner_format.h"

namespace blockmig {
namespace {

namespace format = owner_format;

constexpr std::int64_t kNanosecondsPerSecond = 1'000'000'000;
constexpr mode_t kMode = 0644;  ///< whoever may look at the image may know whose it is

std::int64_t nanoseconds(const struct statx_timestamp& at) {
  return at.tv_sec * kNanosecondsPerSecond + at.tv_nsec;
}

Error cannot(const std::string& what, int os_errno) {
  const bool forbidden = os_errno == EACCES || os_errno == EPERM || os_errno == EROFS;
  const Error error = Error::from_errno(os_errno, what);
  return forbidden ? Error(ErrorCode::kReadOnly, error.message(), os_errno) : error;
}

/// What the two slots hold.
struct Content {
  std::optional<StampSlot> newest;
  std::size_t next_slot = 0;  ///< to be written by the next change
};

Result<Content> read_content(int fd, const std::string& path) {
  std::vector<std::byte> bytes(format::kFileBytes);
  const auto read = read_fully(fd, bytes, 0);
  if (!read) return read.error().with_context("reading " + path);
  bytes.resize(*read);
  Content content;
  std::optional<Error> trouble;
  for (std::size_t slot = 0; slot < 2; ++slot) {
    const std::size_t begin = std::min(slot * format::kSlotBytes, bytes.size());
    const std::size_t length = std::min(format::kSlotBytes, bytes.size() - begin);
    const auto found = decode_stamp(ConstBytes(bytes).subspan(begin, length));
    if (found.ok()) {
      if (content.newest && content.newest->sequence > found->sequence) continue;
      content.newest = *found;
      content.next_slot = 1 - slot;
    } else if (found.error().code() == ErrorCode::kPrecondition) {
      return found.error().with_context(path);
    } else if (found.error().code() != ErrorCode::kNotFound) {
      trouble = found.error();
    }
  }
  // One that is torn beside one that is whole: a change that a crash has cut off.
  if (content.newest || !trouble) return content;
  return trouble->with_context(path +
                               ": nobody can tell from it whose image this is; remove the "
                               "file if you know that nobody else uses the image");
}

/// The file, open and locked, while its name leads to it; an empty descriptor: there is none, and
/// none was to be made.
Result<UniqueFd> open_locked(const std::string& path, bool create) {
  for (;;) {
    const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0);
    UniqueFd fd(::open(path.c_str(), flags, kMode));
    if (!fd && errno == ENOENT && !create) return fd;
    if (!fd) return cannot("cannot open " + path, errno);
    while (::flock(fd.get(), LOCK_EX) != 0) {
      if (errno != EINTR) return Error::from_errno(errno, "cannot lock " + path);
    }
    struct stat facts {};
    if (::fstat(fd.get(), &facts) != 0) return Error::from_errno(errno, "cannot look at " + path);
    if (facts.st_nlink > 0) return fd;  // else it was removed while we waited
  }
}

/// Both slots get their room, so that no later change needs any.
Status fill_up(int fd, const std::string& path) {
  const std::vector<std::byte> zeros(format::kFileBytes);
  const auto written = write_fully(fd, zeros, 0, false);
  if (!written) return written.error().with_context("writing " + path);
  if (*written != zeros.size()) return Error(ErrorCode::kNoSpace, "no space for " + path);
  return {};
}

Status write_slot(int fd, const std::string& path, const Content& before, const OwnerStamp& stamp) {
  const std::uint64_t sequence = before.newest ? before.newest->sequence + 1 : 1;
  const auto bytes = encode_stamp(stamp, sequence);
  if (!bytes) return bytes.error();
  if (!before.newest) {
    const Status filled = fill_up(fd, path);
    if (!filled) return filled;
  }
  const auto written = write_fully(fd, *bytes, before.next_slot * format::kSlotBytes, false);
  if (!written) return written.error().with_context("writing " + path);
  if (*written != bytes->size()) return Error(ErrorCode::kNoSpace, "no space for " + path);
  if (::fsync(fd) != 0) return Error::from_errno(errno, "cannot sync " + path);
  return {};
}

std::optional<OwnerStamp> stamp_of(const Content& content, const ImageIdentity& image) {
  if (!content.newest || content.newest->stamp.image != image) return std::nullopt;
  return content.newest->stamp;
}

}  // namespace

std::string owner_file_of(const std::string& image_path) {
  std::error_code failed;
  const auto real = std::filesystem::canonical(image_path, failed);
  return (failed ? image_path : real.string()) + format::kSuffix;
}

Result<ImageState> look_at_owned_image(const std::string& image_path) {
  struct statx facts {};
  constexpr unsigned kWanted = STATX_TYPE | STATX_INO | STATX_SIZE | STATX_MTIME | STATX_BTIME;
  if (::statx(AT_FDCWD, image_path.c_str(), 0, kWanted, &facts) != 0) {
    return Error::from_errno(errno, "cannot look at " + image_path);
  }
  if (!S_ISREG(facts.stx_mode)) {
    return Error(ErrorCode::kNotSupported,
                 image_path + " is no regular file: nothing can say beside it whose it is");
  }
  ImageState state;
  state.identity.inode = facts.stx_ino;
  if ((facts.stx_mask & STATX_BTIME) != 0) state.identity.born_ns = nanoseconds(facts.stx_btime);
  state.size_bytes = facts.stx_size;
  state.modified_ns = nanoseconds(facts.stx_mtime);
  return state;
}

namespace {

Result<Content> read_content_beside(const std::string& image_path) {
  const std::string path = owner_file_of(image_path);
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd && errno == ENOENT) return Content();
  if (!fd) return cannot("cannot open " + path, errno);
  while (::flock(fd.get(), LOCK_SH) != 0) {
    if (errno != EINTR) return Error::from_errno(errno, "cannot lock " + path);
  }
  return read_content(fd.get(), path);
}

}  // namespace

Result<std::optional<OwnerStamp>> read_stamp(const std::string& image_path) {
  const auto image = look_at_owned_image(image_path);
  if (!image) return image.error();
  const auto content = read_content_beside(image_path);
  if (!content) return content.error();
  return stamp_of(*content, image->identity);
}

Result<std::optional<OwnerStamp>> read_stamp_of_another(const std::string& image_path) {
  const auto image = look_at_owned_image(image_path);
  if (!image) return image.error();
  const auto content = read_content_beside(image_path);
  if (!content) return content.error();
  if (!content->newest || content->newest->stamp.image == image->identity) {
    return std::optional<OwnerStamp>();
  }
  return std::optional<OwnerStamp>(content->newest->stamp);
}

namespace {

/// `fd`: the file, locked.
Result<std::optional<OwnerStamp>> change_file(int fd, const std::string& path,
                                              const ImageIdentity& image,
                                              const StampChange& change) {
  const auto content = read_content(fd, path);
  if (!content) return content.error();
  const std::optional<OwnerStamp> before = stamp_of(*content, image);
  Result<std::optional<OwnerStamp>> wanted = change(before);
  if (!wanted) return wanted.error();
  if (!wanted->has_value()) {
    if (::unlink(path.c_str()) != 0) return cannot("cannot remove " + path, errno);
    const Status synced = sync_folder_of(path);
    if (!synced) return synced.error();
    return before;
  }
  OwnerStamp stamp = **std::move(wanted);
  stamp.image = image;
  if (before == stamp) return before;
  Status written = write_slot(fd, path, *content, stamp);
  if (written && !content->newest) written = sync_folder_of(path);
  if (!written) return written.error();
  return before;
}

}  // namespace

Result<std::optional<OwnerStamp>> change_stamp(const std::string& image_path,
                                               const StampChange& change) {
  const auto image = look_at_owned_image(image_path);
  if (!image) return image.error();
  const std::string path = owner_file_of(image_path);
  Result<UniqueFd> fd = open_locked(path, false);
  if (!fd) return fd.error();
  if (!*fd) {
    const auto wanted = change(std::nullopt);
    if (!wanted || !wanted->has_value()) return wanted;
    fd = open_locked(path, true);
    if (!fd) return fd.error();
  }
  return change_file(fd->get(), path, image->identity, change);
}

}  // namespace blockmig
