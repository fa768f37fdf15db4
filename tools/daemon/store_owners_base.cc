// SPDX-License-Identifier: Apache-2.0
// The stamp of an image that a disk still fetches from, and goes back into (mode `settle`).
#include "blockmig/io/offload.h"
#include "tools/daemon/store_owners.h"

namespace blockmig {
namespace {

using Stamp = std::optional<OwnerStamp>;

}  // namespace

Task<bool> StoreOwners::is_replaced(const std::string& disk, const std::string& path) const {
  const Result<Stamp> before =
      co_await offload(loop_, [&path] { return read_stamp_of_another(path); });
  const bool replaced = before.ok() && is_of(*before, id_, disk) && is_needed(**before);
  co_return replaced;
}

Task<Status> StoreOwners::check_base(const std::string& disk, const StoreUri& base,
                                     std::uint64_t epoch, bool at_rest) {
  if (!has_stamps(base)) co_return Status();
  const std::string& path = base.path;
  const Result<Stamp> stamp = co_await offload(loop_, [&path] { return read_stamp(path); });
  if (!stamp) co_return is_unstampable(stamp.error()) ? Status() : Status(stamp.error());
  Claimant who = claimant(disk, base, epoch);
  if (!stamp->has_value() && !at_rest) {
    const bool replaced = co_await is_replaced(disk, path);
    who.replaced = replaced;
    if (!replaced) {
      log_.warning("nothing says that " + path +
                       ", which the disk still fetches from, is what it "
                       "has left: only its size is known",
                   {disk, "", epoch});
    }
  }
  const Status ours = judge_base(*stamp, who);
  if (!ours || !*stamp || (*stamp)->state != StampState::kTaking) co_return ours;
  // A way back into it that a crash cut off without a decision.
  const std::string other = (*stamp)->other_uri;
  StampChange stays = [this, &disk, epoch, &other](const Stamp& found) -> Result<Stamp> {
    if (!is_of(found, id_, disk) || found->state != StampState::kTaking) return found;
    return Stamp(make_stamp(StampState::kBase, disk, epoch, other));
  };
  co_await change_quietly(base, disk, std::move(stays));
  co_return Status();
}

/// Until the fence the image is the disk's base, whatever of it is written over.
Result<Stamp> StoreOwners::claim_base(const Stamp& stamp, const Move& move) const {
  const Status ours = judge_base(stamp, claimant(move.disk, move.target, move.epoch - 1));
  if (!ours) return ours.error();
  if (stamp && stamp->state == StampState::kBase) return stamp;
  return Stamp(make_stamp(StampState::kBase, move.disk, move.epoch - 1, move.source.text));
}

Status StoreOwners::check_merge(const Move& move) const {
  const Result<Stamp> stamp = read_stamp(move.target.path);
  if (!stamp) return is_unstampable(stamp.error()) ? Status() : Status(stamp.error());
  return judge_base(*stamp, claimant(move.disk, move.target, move.epoch - 1));
}

Task<void> StoreOwners::note_whole(const std::string& disk, const std::string& store_uri) {
  const Result<StoreUri> store = parse_store_uri(store_uri);
  if (!store) co_return;
  StampChange whole = [this, &disk](const Stamp& stamp) -> Result<Stamp> {
    if (!is_of(stamp, id_, disk)) return stamp;
    OwnerStamp without = *stamp;
    without.rest_uri.clear();
    return Stamp(std::move(without));
  };
  co_await change_quietly(*store, disk, std::move(whole));
}

Task<bool> StoreOwners::is_as_left(const std::string& disk, const StoreUri& base,
                                   std::uint64_t size_bytes, std::int64_t modified_ns) const {
  const std::string& path = base.path;
  const Result<Stamp> stamp = co_await offload(loop_, [&path] { return read_stamp(path); });
  if (!stamp || !is_of(*stamp, id_, disk)) co_return false;
  const OwnerStamp& found = **stamp;
  const bool unchanged = found.state == StampState::kBase && found.left_size_bytes == size_bytes &&
                         found.left_modified_ns == modified_ns;
  co_return unchanged;
}

Task<bool> StoreOwners::is_another_ones(const std::string& disk, const StoreUri& store) const {
  const std::string& path = store.path;
  const Result<Stamp> stamp = co_await offload(loop_, [&path] { return read_stamp(path); });
  const bool another = stamp.ok() && stamp->has_value() && !is_of(*stamp, id_, disk);
  co_return another;
}

}  // namespace blockmig
