// SPDX-License-Identifier: Apache-2.0
// Users and groups by name or number. May block: the user database can be remote. Any thread.
#pragma once

#include <cstdint>
#include <string>

#include "blockmig/base/error.h"

namespace blockmig {

/// kInvalid: neither a number nor somebody.
Result<std::uint32_t> user_number(const std::string& text);
Result<std::uint32_t> group_number(const std::string& text);

}  // namespace blockmig
