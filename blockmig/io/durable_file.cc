// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/durable_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "blockmig/io/file_calls.h"
#include "blockmig/io/unique_fd.h"

namespace blockmig {

std::string parent_folder(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Status sync_folder(const std::string& folder) {
  const UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return Error::from_errno(errno, "cannot sync " + folder);
  if (::fsync(fd.get()) != 0 && errno != EINVAL) {
    return Error::from_errno(errno, "cannot sync " + folder);
  }
  return {};
}

Status sync_folder_of(const std::string& path) { return sync_folder(parent_folder(path)); }

Status write_durably(const std::string& path, ConstBytes bytes, mode_t mode) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  if (!fd) return Error::from_errno(errno, "cannot create " + path);
  const auto written = write_fully(fd.get(), bytes, 0, false);
  if (!written) return written.error().with_context("writing " + path);
  if (*written != bytes.size()) return Error(ErrorCode::kNoSpace, "writing " + path + ": no space");
  if (::fsync(fd.get()) != 0) return Error::from_errno(errno, "cannot sync " + path);
  return {};
}

Status put_in_place(const std::string& staged, const std::string& path) {
  if (std::rename(staged.c_str(), path.c_str()) != 0) {
    return Error::from_errno(errno, "cannot replace " + path);
  }
  return sync_folder_of(path);
}

Status replace_file(const std::string& path, ConstBytes bytes, mode_t mode) {
  const std::string staged = path + ".new";
  Status replaced = write_durably(staged, bytes, mode);
  if (replaced.ok()) replaced = put_in_place(staged, path);
  // Renamed, it has that name no more.
  if (!replaced.ok()) ::unlink(staged.c_str());
  return replaced;
}

}  // namespace blockmig
