// SPDX-License-Identifier: Apache-2.0
// Whether what begins like this is an image of another format than raw: served as it is, a guest
// would see its headers in place of its disk. Any thread; the store's for a store.
#pragma once

#include <string_view>

#include "blockmig/base/bytes.h"
#include "blockmig/block/block_device.h"
#include "blockmig/io/task.h"

namespace blockmig {

inline constexpr std::size_t kFormatMagicBytes = 8;

/// "qcow2", "VMDK", "VHDX" …; empty: nothing known begins like that.
std::string_view foreign_format(ConstBytes beginning);
/// The same of what a store begins with; empty, too, where that cannot be read.
Task<std::string_view> look_for_format(BlockDevice& image);

}  // namespace blockmig
