// SPDX-License-Identifier: Apache-2.0
// What an export says it is, so that one disk which is reached by two addresses is known as one.
//
// A blockmig server lists identities as metadata contexts "blockmig:identity:DIGITS", where it is
// asked for "blockmig:identity:": that of the disk first, then those of the NBD stores that it is
// kept on, as their servers said when they were connected. So what two stores share is what a write
// to one changes in the other, however long the chain between them. Other servers have none, and
// what is wrong in an answer says nothing. Pure; any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace blockmig {

inline constexpr std::string_view kIdentityQuery = "blockmig:identity:";
/// Of one export; further ones, deeper in a chain, are not passed on.
inline constexpr std::size_t kMaxIdentities = 16;

using Identities = std::vector<std::string>;

/// Of a disk of the daemon whose state folder is `owner` (make_owner_id()): the same as long as the
/// folder is. Says nothing of either, or of where the disk's data is.
std::string disk_identity(std::string_view owner, std::string_view disk);
/// Unless it is among them, is none, or there is no room.
void add_identity(Identities& to, std::string_view identity);
void add_identities(Identities& to, const Identities& more);
bool share_identity(const Identities& a, const Identities& b);

}  // namespace blockmig
