// SPDX-License-Identifier: Apache-2.0
// Whole transfers over a file's I/O: short counts continued, the end of the file an error.
// Thread rule: the loop.
#pragma once

#include <cstdint>
#include <string>

#include "blockmig/base/bytes.h"
#include "blockmig/base/error.h"
#include "blockmig/block/file_io.h"

namespace blockmig {

/// Fills `into`. A file that ends before is kIo (somebody cut it), never zeros (I11). `name` is for
/// messages and outlives the task.
Task<Status> read_whole(FileIo& io, int fd, std::uint64_t offset, MutableBytes into,
                        const std::string& name);

/// Writes all of `from`; `durable` as O_DSYNC.
Task<Status> write_whole(FileIo& io, int fd, std::uint64_t offset, ConstBytes from, bool durable,
                         const std::string& name);

}  // namespace blockmig
