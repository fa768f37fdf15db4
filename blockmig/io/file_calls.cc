// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/file_calls.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <string>

namespace blockmig {
namespace {

/// Linux moves at most 0x7ffff000 bytes in a call; a round GiB keeps what follows aligned.
constexpr std::size_t kMaxCallBytes = kGiB;

std::string place(const char* operation, std::uint64_t offset, std::uint64_t length) {
  return std::string(operation) + " of " + std::to_string(length) + " bytes at " +
         std::to_string(offset);
}

bool is_no_space(int os_errno) { return code_from_errno(os_errno) == ErrorCode::kNoSpace; }

}  // namespace

std::size_t Transfer::next_length() const { return std::min(length_ - done_, kMaxCallBytes); }

void Transfer::advance(std::int64_t result) {
  if (result == -EINTR || result == -EAGAIN) return;
  if (result < 0) {
    fail(static_cast<int>(-result));
    return;
  }
  done_ += static_cast<std::size_t>(result);
  if (done_ == length_) {
    finished_ = true;
  } else if (result == 0) {
    // The end of the file; a write that takes nothing and says nothing is a broken filesystem.
    if (kind_ == Kind::kWrite) os_errno_ = EIO;
    finished_ = true;
  }
}

void Transfer::fail(int os_errno) {
  finished_ = true;
  const bool is_write = kind_ == Kind::kWrite;
  // A disk that became full: the bytes before were taken.
  if (is_write && done_ > 0 && is_no_space(os_errno)) return;
  // With O_DIRECT the rest of a read that met an odd end of file is not aligned: that is no error.
  if (!is_write && done_ > 0 && os_errno == EINVAL && at_end_of_file()) return;
  os_errno_ = os_errno;
}

bool Transfer::at_end_of_file() const {
  struct stat status {};
  if (::fstat(fd_, &status) != 0 || !S_ISREG(status.st_mode)) return false;
  return next_offset() >= static_cast<std::uint64_t>(status.st_size);
}

Result<std::size_t> Transfer::result() const {
  if (os_errno_ == 0) return done_;
  const char* operation = kind_ == Kind::kRead ? "read" : "write";
  return Error::from_errno(os_errno_, place(operation, offset_, length_));
}

Result<std::size_t> read_fully(int fd, MutableBytes into, std::uint64_t offset) {
  Transfer transfer(Transfer::Kind::kRead, fd, offset, into.size());
  while (!transfer.finished()) {
    const ssize_t got = ::pread(fd, into.data() + transfer.done_bytes(), transfer.next_length(),
                                static_cast<off_t>(transfer.next_offset()));
    transfer.advance(got < 0 ? -errno : got);
  }
  return transfer.result();
}

Result<std::size_t> write_fully(int fd, ConstBytes from, std::uint64_t offset, bool durable) {
  Transfer transfer(Transfer::Kind::kWrite, fd, offset, from.size());
  while (!transfer.finished()) {
    // iovec is shared with reads, so it is not const; the kernel does not write to it.
    const iovec part{const_cast<std::byte*>(from.data()) + transfer.done_bytes(),
                     transfer.next_length()};
    const ssize_t put = ::pwritev2(fd, &part, 1, static_cast<off_t>(transfer.next_offset()),
                                   durable ? RWF_DSYNC : 0);
    transfer.advance(put < 0 ? -errno : put);
  }
  return transfer.result();
}

Status sync_data(int fd) { return sync_status(::fdatasync(fd) == 0 ? 0 : -errno); }

Status sync_status(int result) {
  if (result == 0) return {};
  return Error::from_errno(-result, "fdatasync");
}

int fallocate_mode(AllocateMode mode) {
  switch (mode) {
    case AllocateMode::kReserve:
      return FALLOC_FL_KEEP_SIZE;
    case AllocateMode::kPunchHole:
      return FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    case AllocateMode::kZeroRange:
      return FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
  }
  return 0;
}

Status allocate_range(int fd, AllocateMode mode, std::uint64_t offset, std::uint64_t length) {
  if (length == 0) return {};
  int failed = 0;
  do {
    failed = ::fallocate(fd, fallocate_mode(mode), static_cast<off_t>(offset),
                         static_cast<off_t>(length));
  } while (failed != 0 && errno == EINTR);
  return allocate_status(failed == 0 ? 0 : -errno, offset, length);
}

Status allocate_status(int result, std::uint64_t offset, std::uint64_t length) {
  if (result == 0) return {};
  return Error::from_errno(-result, place("fallocate", offset, length));
}

}  // namespace blockmig
