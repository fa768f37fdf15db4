// SPDX-License-Identifier: Apache-2.0
// DirectoryLock: one process at a time works in a folder (two daemons on one journal, I3).
//
// Held from take() until destroyed or the process ends, however it ends. Not inherited by programs
// that the process starts. Any thread.
#pragma once

#include <memory>
#include <string>

#include "blockmig/base/error.h"

namespace blockmig {

class DirectoryLock final {
 public:
  /// Locks the file "lock" in `directory`, which must exist. kBusy: held, also by this process;
  /// names the folder and the holder.
  static Result<std::unique_ptr<DirectoryLock>> take(const std::string& directory);
  ~DirectoryLock();
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;

 private:
  explicit DirectoryLock(int fd) : fd_(fd) {}
  const int fd_;
};

}  // namespace blockmig
