// SPDX-License-Identifier: Apache-2.0
// For "there is no such thing" messages: the name that was probably meant. Pure; any thread.
#pragma once

#include <string>
#include <vector>

namespace blockmig {

/// The one of `names` that takes the fewest changes of a letter to reach; empty if none is near (a
/// third of its letters, at least two).
std::string nearest_name(const std::string& wanted, const std::vector<std::string>& names);
/// " (did you mean 'NAME'?)", or nothing.
std::string did_you_mean(const std::string& wanted, const std::vector<std::string>& names);

}  // namespace blockmig
