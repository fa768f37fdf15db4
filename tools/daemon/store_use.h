// SPDX-License-Identifier: Apache-2.0
// Who uses which store in this daemon, so that no store is used twice (a second use of one file by
// another process is caught by its lock, with a less helpful message). Thread rule: any; what
// blocks says so.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "blockmig/base/uri.h"
#include "blockmig/block/store_identity.h"
#include "tools/daemon/store_backing.h"

namespace blockmig {

struct StoreUse {
  std::string user;  ///< for messages: "disk 'vm1'", "job 3 (its target)"
  StoreUri uri;
  /// Of a file, once somebody has looked: another look may hang, and find another file.
  std::optional<std::vector<StorePart>> parts = std::nullopt;
  bool coming = false;         ///< somebody is looking at it just now, which may hang
  Identities identities = {};  ///< of an NBD store, and of the disk on it, as far as known
};

/// Where a disk's content is by the journal, served or not.
struct DiskLife {
  std::string disk;
  StoreUri uri;
};

/// True if both name one file (device and inode, through links), or may name one export of one
/// server (host_names.h). A unix and a TCP address of one server are seen to be one once they are
/// open (check_identities()). Blocks (stat, name resolution): call it off the loop.
bool same_store(const StoreUri& a, const StoreUri& b);

/// True if a write to one changes the other: the same store, or files and block devices that are
/// kept in the same bytes (store_backing.h). Blocks.
bool stores_overlap(const StoreUri& a, const StoreUri& b);

/// kBusy naming the user if `wanted` overlaps one of `uses`. Blocks, for those of others only where
/// nobody has looked: files that are coming are compared by name, and by check_found() later.
Status check_unused(const StoreUri& wanted, const std::vector<StoreUse>& uses);
/// The same for a file whose parts are known by now, against those that were found meanwhile. Does
/// not block.
Status check_found(const StoreUri& wanted, const std::vector<StorePart>& parts,
                   const std::vector<StoreUse>& uses);

/// The same for an NBD export, by what its server says it is, where that of another address has
/// said so too. Does not block.
Status check_identities(const StoreUri& wanted, const Identities& identities,
                        const std::vector<StoreUse>& uses);

/// kPrecondition naming the disk if `wanted` is, or overlaps, where a disk lives by the journal:
/// what is there is its only copy, though nothing runs. A file that is missing is nobody's. Blocks.
Status check_not_anothers(const StoreUri& wanted, const std::vector<DiskLife>& lives);

/// True if the NBD URI leads to one of the addresses (SocketAddress::to_string()) that we listen on
/// ourselves. Blocks.
bool is_own_address(const StoreUri& uri, const std::vector<std::string>& addresses);

}  // namespace blockmig
