// SPDX-License-Identifier: Apache-2.0
// The locks that keep two programs from using one image at the same time.
//
// All are open-file-description locks (fcntl(2), F_OFD_SETLK): they belong to the descriptor and
// vanish with it, also when the process is killed. Two sets are taken:
//
//  - Ours: one byte at kOwnLockByte, exclusive for a writer, shared for readers. Keeps a second
//    blockmig out (I3).
//  - QEMU's protocol (QEMU's block/file-posix.c, "raw_check_lock_bytes"): whoever uses permission i
//    holds a shared lock on byte 100+i, whoever does not let others use permission i holds one on
//    byte 200+i (0 consistent read, 1 write, 2 write unchanged, 3 resize). We let nobody else write
//    or resize, and refuse an image that somebody writes, or that somebody wants unchanged. We do
//    not declare our own writing, so that `qemu-img info` and `compare` can look at a disk that is
//    being served.
//
// Thread rule: any. Both calls block as system calls on a file do, but never for another's lock.
#pragma once

#include <cstdint>
#include <string>

#include "blockmig/base/error.h"

namespace blockmig {

inline constexpr std::int64_t kOwnLockByte = std::int64_t{1} << 62;
inline constexpr std::int64_t kQemuUsesBase = 100;
inline constexpr std::int64_t kQemuForbidsBase = 200;

/// Takes the locks on `fd`, which stays locked until it is closed; after a failure, close it too.
/// kBusy names `path` and says by whose protocol it is in use.
Status lock_image(int fd, const std::string& path, bool read_only);

/// Whether any open descriptor has our lock on what `path` leads to: for who has an image open, and
/// wants to know whether it is still there. kNotFound and the like where nothing can be opened.
Result<bool> is_locked_image(const std::string& path);

}  // namespace blockmig
