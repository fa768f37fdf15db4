// SPDX-License-Identifier: Apache-2.0
// Whether what begins like this is an image of another format than raw: served as it is, a guest
// would see its headers in place of its disk. Pure; any thread.
#pragma once

#include <string_view>

#include "blockmig/base/bytes.h"

namespace blockmig {

inline constexpr std::size_t kFormatMagicBytes = 8;

/// "qcow2", "VMDK", "VHDX" …; empty: nothing known begins like that.
std::string_view foreign_format(ConstBytes beginning);

}  // namespace blockmig
