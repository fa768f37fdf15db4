// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/store_use.h"

#include <sys/stat.h>

#include "blockmig/io/stream.h"
#include "tools/daemon/host_names.h"

namespace blockmig {
namespace {

bool same_file(const std::string& a, const std::string& b) {
  if (a == b) return true;
  struct stat first {};
  struct stat second {};
  if (stat(a.c_str(), &first) != 0 || stat(b.c_str(), &second) != 0) return false;
  if (S_ISBLK(first.st_mode) && S_ISBLK(second.st_mode)) return first.st_rdev == second.st_rdev;
  return first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

Error in_use(const StoreUri& wanted, const StoreUse& use) {
  return Error(ErrorCode::kBusy, wanted.text + " is in use by " + use.user +
                                     ": name another store, or end that use first");
}

bool is_used(const StoreUri& wanted, const std::vector<StorePart>& parts, const StoreUse& use) {
  const bool files = wanted.kind == StoreUri::Kind::kFile && use.uri.kind == StoreUri::Kind::kFile;
  if (!files) return same_store(wanted, use.uri);
  if (wanted.path == use.uri.path) return true;
  if (use.parts) return overlap(parts, *use.parts);
  return !use.coming && overlap(parts, parts_of(use.uri.path));
}

}  // namespace

bool same_store(const StoreUri& a, const StoreUri& b) {
  if (a.kind != b.kind) return false;
  if (a.kind == StoreUri::Kind::kFile) return same_file(a.path, b.path);
  if (a.kind == StoreUri::Kind::kNull) return false;  // there is nothing to share
  if (a.export_name != b.export_name || a.socket_path.empty() != b.socket_path.empty())
    return false;
  if (!a.socket_path.empty()) return same_file(a.socket_path, b.socket_path);
  return a.port == b.port && may_be_same_host(a.host, b.host);
}

bool stores_overlap(const StoreUri& a, const StoreUri& b) {
  if (same_store(a, b)) return true;
  const bool files = a.kind == StoreUri::Kind::kFile && b.kind == StoreUri::Kind::kFile;
  return files && overlap(parts_of(a.path), parts_of(b.path));
}

Status check_unused(const StoreUri& wanted, const std::vector<StoreUse>& uses) {
  std::vector<StorePart> parts;
  if (wanted.kind == StoreUri::Kind::kFile) parts = parts_of(wanted.path);
  for (const StoreUse& use : uses) {
    if (is_used(wanted, parts, use)) return in_use(wanted, use);
  }
  return {};
}

Status check_found(const StoreUri& wanted, const std::vector<StorePart>& parts,
                   const std::vector<StoreUse>& uses) {
  for (const StoreUse& use : uses) {
    if (use.parts && overlap(parts, *use.parts)) return in_use(wanted, use);
  }
  return {};
}

Status check_identities(const StoreUri& wanted, const Identities& identities,
                        const std::vector<StoreUse>& uses) {
  for (const StoreUse& use : uses) {
    if (use.uri.text == wanted.text || !share_identity(identities, use.identities)) continue;
    return Error(ErrorCode::kBusy, wanted.text + " is, by another address, in use by " + use.user +
                                       " (" + use.uri.text +
                                       "): name another store, or end that use first");
  }
  return {};
}

Status check_not_anothers(const StoreUri& wanted, const std::vector<DiskLife>& lives) {
  struct stat facts {};
  const bool is_file = wanted.kind == StoreUri::Kind::kFile;
  if (is_file && stat(wanted.path.c_str(), &facts) != 0) return {};
  for (const DiskLife& life : lives) {
    if (!stores_overlap(wanted, life.uri)) continue;
    return Error(ErrorCode::kPrecondition,
                 wanted.text + " is where disk '" + life.disk +
                     "' lives by the journal, though it is not served now: name another target; "
                     "or let that disk go, with 'blockmig detach " +
                     life.disk + " --forget'");
  }
  return {};
}

bool is_own_address(const StoreUri& uri, const std::vector<std::string>& addresses) {
  if (uri.kind != StoreUri::Kind::kNbd) return false;
  for (const std::string& text : addresses) {
    const Result<SocketAddress> address = SocketAddress::parse(text);
    if (!address) continue;
    if (address->family == SocketAddress::Family::kUnix) {
      if (!uri.socket_path.empty() && same_file(uri.socket_path, address->path)) return true;
    } else if (uri.socket_path.empty() && uri.port == address->port &&
               leads_to_listener(uri.host, address->host)) {
      return true;
    }
  }
  return false;
}

}  // namespace blockmig
