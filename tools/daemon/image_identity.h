// SPDX-License-Identifier: Apache-2.0
// What tells an image from what it was when its disk was last closed. Blocks; any thread.
#pragma once

#include <string>

namespace blockmig {

/// Size and time of the last change of a regular file, which is synced first so that both survive a
/// power loss. Empty for every other store, and where the file cannot be asked: nothing to compare.
std::string image_identity(const std::string& store_uri);

}  // namespace blockmig
