// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/file_mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <limits>

#include "blockmig/base/check.h"
#include "blockmig/block/fault_guard.h"

namespace blockmig {
namespace {

// To empty the filled page tables of 32 MiB takes the kernel 1.5 ms.
constexpr std::uint64_t kLeastDropBytes = 2 * kMiB;
constexpr std::uint64_t kMostDropBytes = 32 * kMiB;
constexpr std::chrono::microseconds kQuickDrop(100);

// madvise(2), Linux 5.14; Debian 12's C library has them, older headers do not.
constexpr int kPopulateRead = 22;
constexpr int kPopulateWrite = 23;

/// mincore(2) answers "in memory" for every page to those who may neither write the file nor own
/// it.
bool residency_is_told(int fd) {
  struct stat facts = {};
  if (::fstat(fd, &facts) == 0 && facts.st_uid == ::geteuid()) return true;
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  return ::faccessat(AT_FDCWD, path.c_str(), W_OK, AT_EACCESS) == 0;
}

Error refused(const std::string& name, const std::string& why, int os_errno = 0) {
  return Error(ErrorCode::kNotSupported,
               name + ": cannot be mapped into memory: " + why + "; buffered access can serve it",
               os_errno);
}

}  // namespace

Result<std::unique_ptr<FileMapping>> FileMapping::create(int fd, std::uint64_t size_bytes,
                                                         bool read_only, const std::string& name) {
  BM_CHECK(size_bytes > 0);
  if (size_bytes > std::numeric_limits<std::size_t>::max() / 2) {
    return refused(name, "it is larger than the address space");
  }
  if (!residency_is_told(fd)) {
    return refused(name, "the kernel does not tell this user which of its pages are in memory");
  }
  install_fault_guard();
  const int protection = read_only ? PROT_READ : PROT_READ | PROT_WRITE;
  void* const address = ::mmap(nullptr, size_bytes, protection, MAP_SHARED | MAP_NORESERVE, fd, 0);
  if (address == MAP_FAILED) {
    const int os_errno = errno;
    return refused(name, Error::from_errno(os_errno, "mmap").message(), os_errno);
  }
  // A core dump is not the place for a disk, and a child has no use for its page tables.
  (void)::madvise(address, size_bytes, MADV_DONTDUMP);
  (void)::madvise(address, size_bytes, MADV_DONTFORK);
  const auto page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const MutableBytes bytes(static_cast<std::byte*>(address), size_bytes);
  return std::unique_ptr<FileMapping>(new FileMapping(bytes, page_bytes, read_only));
}

/// Whoever unmaps keeps all threads from mapping, which includes a loop that starts a thread: one
/// call after the other that unmaps filled page tables shut a loop out for 12 ms (256 MiB). So they
/// are emptied first, by pieces, and nobody waits for more than one; larger ones where there is
/// little in them.
FileMapping::~FileMapping() {
  const std::uint64_t pages = div_up(size_bytes(), page_bytes_);
  std::uint64_t piece = kLeastDropBytes / page_bytes_;
  for (std::uint64_t page = 0; page < pages;) {
    const auto begun = std::chrono::steady_clock::now();
    drop(page, piece);
    page += piece;
    const bool quick = std::chrono::steady_clock::now() - begun < kQuickDrop;
    piece =
        quick ? std::min(2 * piece, kMostDropBytes / page_bytes_) : kLeastDropBytes / page_bytes_;
  }
  ::munmap(bytes_.data(), bytes_.size());
}

bool FileMapping::read(std::uint64_t offset, MutableBytes into) const {
  BM_CHECK(fits(offset, into.size(), bytes_.size()));
  return copy_guarded(into, bytes_.subspan(offset, into.size()), bytes_);
}

bool FileMapping::write(std::uint64_t offset, ConstBytes from) {
  BM_CHECK(!read_only_ && fits(offset, from.size(), bytes_.size()));
  return copy_guarded(bytes_.subspan(offset, from.size()), from, bytes_);
}

/// Cut at the end of the file.
MutableBytes FileMapping::pages(std::uint64_t first_page, std::uint64_t pages) const {
  const std::uint64_t begin = std::min<std::uint64_t>(first_page * page_bytes_, bytes_.size());
  const std::uint64_t length = std::min<std::uint64_t>(pages * page_bytes_, bytes_.size() - begin);
  return bytes_.subspan(begin, length);
}

std::uint64_t FileMapping::resident(std::uint64_t first_page) const {
  const MutableBytes asked = pages(first_page, kMaskPages);
  std::array<unsigned char, kMaskPages> told{};
  if (asked.empty() || ::mincore(asked.data(), asked.size(), told.data()) != 0) return 0;
  std::uint64_t mask = 0;
  for (std::uint64_t i = 0; i < kMaskPages; ++i) {
    mask |= static_cast<std::uint64_t>(told[i] & 1) << i;
  }
  return mask;
}

bool FileMapping::populate(std::uint64_t first_page, std::uint64_t count, bool for_writing) {
  const MutableBytes part = pages(first_page, count);
  if (part.empty()) return true;
  if (::madvise(part.data(), part.size(), for_writing ? kPopulateWrite : kPopulateRead) == 0) {
    return true;
  }
  // Kernels before 5.14: reading fills them in one by one then.
  return errno == EINVAL && !for_writing;
}

void FileMapping::drop(std::uint64_t first_page, std::uint64_t count) {
  const MutableBytes part = pages(first_page, count);
  if (!part.empty()) (void)::madvise(part.data(), part.size(), MADV_DONTNEED);
}

}  // namespace blockmig
