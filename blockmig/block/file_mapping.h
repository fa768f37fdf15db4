// SPDX-License-Identifier: Apache-2.0
// FileMapping: a file mapped shared, and what can be asked and told of its pages.
//
// Copies touch the page cache itself, so they and pread/pwrite see the same bytes at once, and
// fdatasync covers them. Nothing is read or written beyond the file's size: the rest of the last
// page stays zero. Only the kernel's page tables cost memory: eight bytes per page touched.
//
// Thread rule: any thread, but for the construction and destruction. What keeps a sector's reads
// and writes apart is the caller's (range_stripes.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "blockmig/base/bytes.h"
#include "blockmig/base/error.h"

namespace blockmig {

class FileMapping final {
 public:
  /// Maps all `size_bytes` (not zero) of the descriptor, which may be closed afterwards.
  /// kNotSupported: this file cannot be mapped, the address space is too small, or the kernel does
  /// not tell this user which pages are in memory (mincore(2): a file that is neither ours nor
  /// writable for us). `name` is for messages.
  static Result<std::unique_ptr<FileMapping>> create(int fd, std::uint64_t size_bytes,
                                                     bool read_only, const std::string& name);
  ~FileMapping();
  FileMapping(const FileMapping&) = delete;
  FileMapping& operator=(const FileMapping&) = delete;

  std::uint64_t page_bytes() const { return page_bytes_; }
  std::uint64_t size_bytes() const { return bytes_.size(); }
  bool read_only() const { return read_only_; }

  /// False: a page could not be had (fault_guard.h); a part may have been copied. May block where a
  /// page is not in memory, or not writable.
  [[nodiscard]] bool read(std::uint64_t offset, MutableBytes into) const;
  [[nodiscard]] bool write(std::uint64_t offset, ConstBytes from);

  /// Where the range lies in memory.
  MutableBytes bytes(ByteRange range) const { return bytes_.subspan(range.offset, range.length); }

  /// Which of the 64 pages from page number `first_page` on are in memory, lowest bit first; those
  /// behind the end are not.
  std::uint64_t resident(std::uint64_t first_page) const;
  /// Fills in the page tables of pages `first_page` … `first_page + pages`, for reading or for
  /// writing too (which dirties the pages, and allocates holes). Does not block for reading if the
  /// pages are in memory. False: not all of them.
  bool populate(std::uint64_t first_page, std::uint64_t pages, bool for_writing);
  /// Takes their page tables away; contents stay in the page cache. Accesses bring them back.
  void drop(std::uint64_t first_page, std::uint64_t pages);

  static constexpr std::uint64_t kMaskPages = 64;

 private:
  FileMapping(MutableBytes bytes, std::uint64_t page_bytes, bool read_only)
      : bytes_(bytes), page_bytes_(page_bytes), read_only_(read_only) {}
  MutableBytes pages(std::uint64_t first_page, std::uint64_t pages) const;

  MutableBytes bytes_;
  std::uint64_t page_bytes_;
  bool read_only_;
};

}  // namespace blockmig
