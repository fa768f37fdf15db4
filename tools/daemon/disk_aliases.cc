// SPDX-License-Identifier: Apache-2.0
// DiskService: one NBD export under two addresses, by what its server says it is.
#include <map>
#include <utility>

#include "blockmig/block/nbd_device.h"
#include "blockmig/block/store_health.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/migrate/hydrating_device.h"
#include "tools/daemon/disk_service.h"

namespace blockmig {
namespace {

/// Of all of them together: a server that does not answer is what it said last.
constexpr Duration kAskTimeout = std::chrono::seconds(2);

}  // namespace

Task<Status> DiskService::check_alias(const StoreUri& wanted, const BlockDevice& device,
                                      const std::string& disk, const std::vector<DiskLife>& lives) {
  if (wanted.kind != StoreUri::Kind::kNbd) co_return Status();
  Identities identities = identities_of(device);
  // Not for each of the disks that a start serves: what they have said is new.
  const bool moves = disks_.get(disk).ok();
  if (moves && !identities.empty()) co_await ask_again(wanted, lives);
  // No await from here on: of two that look at the same time, one finds the other.
  Status alone = compare(wanted, identities, disk, lives);
  if (alone) reserved_.note(wanted, std::move(identities));
  co_return alone;
}

/// What is below a store may have moved since its server was asked.
Task<void> DiskService::ask_again(const StoreUri& wanted, const std::vector<DiskLife>& lives) {
  std::map<std::string, StoreUri> stores;
  for (const StoreUse& use : uses("")) {
    if (!reserved_.find_identities(use.uri).empty()) stores.emplace(use.uri.text, use.uri);
  }
  for (const DiskLife& life : lives) {
    if (life.uri.kind == StoreUri::Kind::kNbd) stores.emplace(life.uri.text, life.uri);
  }
  stores.erase(wanted.text);
  TaskScope scope;
  for (const auto& [text, store] : stores) scope.spawn(ask(store));
  co_await scope.join();
}

Task<void> DiskService::ask(StoreUri store) {
  const Result<Identities> said = co_await ask_nbd_identities(loop_, store.text, kAskTimeout);
  if (said.ok()) reserved_.note(store, *said);
}

Status DiskService::compare(const StoreUri& wanted, const Identities& identities,
                            const std::string& disk, const std::vector<DiskLife>& lives) const {
  if (identities.empty()) return {};  // nobody shares nothing
  Identities own;
  std::string place;
  if (owners_ != nullptr) add_identity(own, disk_identity(owners_->id(), disk));
  if (const auto served = disks_.get(disk); served.ok()) {
    const std::string store = (*served)->disk().store_uri();
    const auto* const layer = hydrating_layer((*served)->disk());
    for (const std::string& text : {store, layer == nullptr ? store : layer->record().base_uri}) {
      const Result<StoreUri> uri = parse_store_uri(text);
      if (uri.ok()) add_identities(own, reserved_.find_identities(*uri));
    }
    place = ", which lives on " + store;
  }
  const std::string found = wanted.text + " is, by another address, ";
  if (share_identity(identities, own)) {
    return Error(ErrorCode::kPrecondition,
                 found + "disk '" + disk + "' itself" + place + ": name another store");
  }
  for (const DiskLife& life : lives) {
    if (!share_identity(identities, reserved_.find_identities(life.uri))) continue;
    return Error(ErrorCode::kPrecondition,
                 found + "where disk '" + life.disk + "' lives by the journal (" + life.uri.text +
                     "), though it is not served now: name another store; or let that disk go, "
                     "with 'blockmig detach " +
                     life.disk + " --forget'");
  }
  return check_identities(wanted, identities, uses(disk));
}

}  // namespace blockmig
