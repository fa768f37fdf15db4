// SPDX-License-Identifier: Apache-2.0
// Where the bytes of a file or block device are in the end: below loop devices, partitions and
// stacked devices, so that one store under two names is seen.
//
//   partition      a range of its disk
//   loop device    a range of its file or device
//   stacked        (device mapper, RAID, bcache) some of each device below it; nobody says which
//
// Two logical volumes of one group are therefore two stores; each overlaps the device that they are
// on. Not seen: what a network or a file system is kept on (the kernel refuses a mounted device).
// Thread rule: any; parts_of() blocks.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace blockmig {

/// Bytes of one file or block device.
struct StorePart {
  dev_t device = 0;  ///< of the file, or the block device itself
  ino_t inode = 0;   ///< 0: a block device
  std::uint64_t begin = 0;
  std::uint64_t end = UINT64_MAX;
  bool exact = true;  ///< false: some of these bytes only
};

inline constexpr const char* kBlockDevices = "/sys/dev/block";

/// The path's own bytes first, then what they are kept in. Empty: there is no such file or device.
std::vector<StorePart> parts_of(const std::string& path);
/// Of a block device; `devices` is where the kernel describes them.
std::vector<StorePart> parts_of(dev_t device, const std::string& devices = kBlockDevices);

/// True if a write to one changes the other, for what is known.
bool overlap(const std::vector<StorePart>& a, const std::vector<StorePart>& b);

}  // namespace blockmig
