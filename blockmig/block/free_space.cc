// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/free_space.h"

#include <sys/statvfs.h>

#include <cerrno>

#include "blockmig/io/durable_file.h"

namespace blockmig {

Result<std::uint64_t> free_space_bytes(const std::string& path) {
  struct statvfs facts = {};
  int failed = ::statvfs(path.c_str(), &facts);
  if (failed != 0 && errno == ENOENT) failed = ::statvfs(parent_folder(path).c_str(), &facts);
  if (failed != 0) return Error::from_errno(errno, path + ": free space");
  return static_cast<std::uint64_t>(facts.f_bavail) * static_cast<std::uint64_t>(facts.f_frsize);
}

}  // namespace blockmig
