// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/hung_filesystem.h"

#include <sys/vfs.h>

#include <algorithm>
#include <array>

namespace blockmig {
namespace {

// By number: <linux/magic.h> has not all of them, and not the same ones everywhere.
constexpr std::array<std::uint32_t, 22> kMayHang = {
    0x00006969,  // NFS
    0x0000517B,  // SMB
    0xFF534D42,  // CIFS
    0xFE534D42,  // SMB 2
    0x65735546,  // FUSE, virtiofs
    0x01021997,  // 9p
    0x00C36400,  // Ceph
    0x01161970,  // GFS, GFS2
    0x7461636F,  // OCFS2
    0x0BD00BD0,  // Lustre
    0x5346414F,  // AFS
    0x6B414653,  // AFS of the kernel
    0x73757245,  // Coda
    0x0000564C,  // NCP
    0x786F4256,  // VirtualBox's shared folders
    0xBACBACBC,  // VMware's shared folders
    0x7C7C6673,  // Parallels' shared folders
    0x47504653,  // GPFS
    0xAAD7AAEA,  // PanFS
    0x19830326,  // BeeGFS (FhGFS)
    0x20030528,  // OrangeFS (PVFS2)
    0xBEEFDEAD,  // StorNext
};

}  // namespace

bool filesystem_may_hang(std::uint32_t type) {
  return std::find(kMayHang.begin(), kMayHang.end(), type) != kMayHang.end();
}

bool file_may_hang(int fd) {
  struct statfs facts = {};
  // The field is signed, and of several widths; the numbers have 32 bits.
  return ::fstatfs(fd, &facts) == 0 &&
         filesystem_may_hang(static_cast<std::uint32_t>(facts.f_type));
}

}  // namespace blockmig
