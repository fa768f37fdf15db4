// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/store_owners.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <utility>

#include "blockmig/io/offload.h"
#include "blockmig/io/unique_fd.h"
#include "blockmig/migrate/return_record.h"

namespace blockmig {
namespace {

using Stamp = std::optional<OwnerStamp>;

/// The image as it is left: later changes are somebody else's. Synced first: a power loss would
/// take back a time of change that was not, and the image would look like another one.
void note_left(OwnerStamp& stamp, const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd) static_cast<void>(::fsync(fd.get()));  // else a return may be refused, needlessly
  const auto state = look_at_owned_image(path);
  if (!state) return;
  stamp.left_size_bytes = state->size_bytes;
  stamp.left_modified_ns = state->modified_ns;
}

bool is_lived_on(StampState state) {
  return state == StampState::kCurrent || state == StampState::kMoving ||
         state == StampState::kReleased;
}

Status judge_return_now(const Stamp& stamp, const Claimant& who, bool resumed) {
  const auto state = look_at_owned_image(who.image);
  if (!state) return state.error();
  return judge_return(stamp, who, state->size_bytes, state->modified_ns, resumed);
}

}  // namespace

bool StoreOwners::has_stamps(const StoreUri& store) { return store.kind == StoreUri::Kind::kFile; }

bool StoreOwners::is_unstampable(const Error& error) {
  return error.code() == ErrorCode::kReadOnly || error.code() == ErrorCode::kNotSupported;
}

bool StoreOwners::is_of(const Stamp& stamp, const std::string& owner, const std::string& disk) {
  return stamp && stamp->owner == owner && stamp->disk == disk;
}

std::uint64_t record_token(const BitmapKeeper& bitmaps, std::uint64_t epoch) {
  const auto found = find_way_back(bitmaps, epoch);
  const std::string id = found ? found->id : std::string();
  std::uint64_t token = 0;
  const auto read = std::from_chars(id.data(), id.data() + id.size(), token);
  return read.ec == std::errc() && read.ptr == id.data() + id.size() ? token : 0;
}

bool StoreOwners::is_source_of(const Stamp& stamp, const Move& move) const {
  const bool ours = is_of(stamp, id_, move.disk);
  if (stamp) return ours && stamp->epoch < move.epoch && is_lived_on(stamp->state);
  return keeps_state_;
}

std::string place_of(const std::string& state_dir) {
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) host[0] = '?';
  return std::string(host.data()) + ":" + state_dir;
}

Claimant StoreOwners::claimant(const std::string& disk, const StoreUri& store,
                               std::uint64_t epoch) const {
  Claimant claimant;
  claimant.owner = id_;
  claimant.disk = disk;
  claimant.image = store.path;
  claimant.epoch = epoch;
  claimant.incarnation = incarnation(disk);
  const auto stamped = stamped_.find(disk);
  if (stamped != stamped_.end()) claimant.stamped = stamped->second;
  return claimant;
}

OwnerStamp StoreOwners::make_stamp(StampState state, const std::string& disk, std::uint64_t epoch,
                                   const std::string& other_uri) const {
  OwnerStamp stamp;
  stamp.state = state;
  stamp.owner = id_;
  stamp.place = place_;
  stamp.disk = disk;
  stamp.epoch = epoch;
  stamp.incarnation = incarnation(disk);
  stamp.other_uri = other_uri;
  return stamp;
}

Task<Result<Stamp>> StoreOwners::change(const StoreUri& store, StampChange change) {
  const std::string& path = store.path;
  Result<Stamp> before =
      co_await offload(loop_, [&path, &change] { return change_stamp(path, change); });
  if (before.ok()) unstamped_.erase(path);
  co_return std::move(before);
}

void StoreOwners::note_unstamped(const StoreUri& store, const Error& why, const std::string& disk) {
  if (unstamped_.insert_or_assign(store.path, why.message()).second) {
    log_.warning(
        "nothing beside " + store.path +
            " will say whose it is, so another daemon is not kept from it: " + why.message(),
        {disk, "", 0});
  }
}

Task<Status> StoreOwners::change_if_stampable(const StoreUri& store, const std::string& disk,
                                              StampChange change) {
  if (!has_stamps(store)) co_return Status();
  const Result<Stamp> changed = co_await this->change(store, std::move(change));
  if (changed.ok()) co_return Status();
  const bool gone = changed.error().code() == ErrorCode::kNotFound;
  const bool unstampable = is_unstampable(changed.error());
  if (unstampable) note_unstamped(store, changed.error(), disk);
  co_return gone || unstampable ? Status() : Status(changed.error());
}

Task<void> StoreOwners::change_quietly(const StoreUri& store, const std::string& disk,
                                       StampChange change) {
  const Status changed = co_await change_if_stampable(store, disk, std::move(change));
  if (changed.ok()) co_return;
  log_.warning("the stamp beside an image is behind: " + changed.error().message(), {disk, "", 0});
}

Task<void> StoreOwners::change_if(const std::string& store_uri, const std::string& disk,
                                  Condition applies, Change change) {
  const Result<StoreUri> store = parse_store_uri(store_uri);
  if (!store || !has_stamps(*store)) co_return;
  const std::string& path = store->path;
  const auto is_due = [this, &disk, &applies](const Stamp& stamp) {
    return is_of(stamp, id_, disk) && applies(*stamp);
  };
  // Looked at first: mostly nothing is to be done, and then nothing shall be locked or made.
  const Result<Stamp> found = co_await offload(loop_, [&path] { return read_stamp(path); });
  if (!found || !is_due(*found)) co_return;
  StampChange due = [&path, &is_due, &change](const Stamp& stamp) -> Result<Stamp> {
    return is_due(stamp) ? change(*stamp, path) : stamp;
  };
  co_await change_quietly(*store, disk, std::move(due));
}

Task<void> StoreOwners::settle_previous(const std::string& disk, const SourceChoice& now,
                                        bool needed, std::uint64_t record) {
  Condition behind = [&now](const OwnerStamp& stamp) {
    return stamp.epoch < now.epoch && is_lived_on(stamp.state);
  };
  Change settle = [this, &disk, &now, needed, record](const OwnerStamp& stamp,
                                                      const std::string& path) {
    const StampState state = needed ? StampState::kBase : StampState::kLeft;
    OwnerStamp left = make_stamp(state, disk, now.epoch, now.uri);
    if (!needed) left.token = record;
    left.rest_uri = stamp.rest_uri;
    note_left(left, path);
    return Stamp(std::move(left));
  };
  co_await change_if(now.previous_uri, disk, std::move(behind), std::move(settle));
}

Task<void> StoreOwners::release(const std::string& disk, const std::string& store_uri) {
  const Result<StoreUri> store = parse_store_uri(store_uri);
  if (!store) co_return;
  StampChange release = [this, &disk](const Stamp& stamp) -> Result<Stamp> {
    if (!is_of(stamp, id_, disk) || stamp->state != StampState::kCurrent) return stamp;
    if (!keeps_state_) return Stamp();
    OwnerStamp released = *stamp;
    released.state = StampState::kReleased;
    return Stamp(std::move(released));
  };
  co_await change_quietly(*store, disk, std::move(release));
}

Task<void> StoreOwners::forget(const std::string& disk, const std::string& store_uri) {
  const Result<StoreUri> store = parse_store_uri(store_uri);
  if (!store) co_return;
  StampChange forget = [this, &disk](const Stamp& stamp) -> Result<Stamp> {
    return is_of(stamp, id_, disk) && stamp->state == StampState::kReleased ? Stamp() : stamp;
  };
  co_await change_quietly(*store, disk, std::move(forget));
}

Task<Result<std::uint64_t>> StoreOwners::claim_target(const Move& move) {
  std::uint64_t token = 0;
  if (!has_stamps(move.target)) co_return token;
  Claimant who = claimant(move.disk, move.target, move.epoch);
  who.record = move.record;
  StampChange take = [this, &who, &move, &token](const Stamp& stamp) -> Result<Stamp> {
    if (move.settling) return claim_base(stamp, move);
    const auto known = judge_target(stamp, who);
    if (!known) return known.error();
    if (move.returning) {
      const Status returns = judge_return_now(stamp, who, move.resumed);
      if (!returns) return returns.error();
    }
    OwnerStamp target = make_stamp(StampState::kTarget, move.disk, move.epoch, move.source.text);
    target.token = token = *known != 0 ? *known : make_stamp_token();
    return Stamp(std::move(target));
  };
  const Result<Stamp> taken = co_await change(move.target, std::move(take));
  if (taken.ok()) co_return token;
  if (move.returning || !is_unstampable(taken.error())) co_return taken.error();
  // What cannot be changed must not say of the disk's store that it is none.
  const Status said = co_await check_not_target(move.target);
  if (!said) co_return taken.error().with_context(said.error().message());
  note_unstamped(move.target, taken.error(), move.disk);
  co_return std::uint64_t{0};
}

Status StoreOwners::check_return(const Move& move) const {
  if (!has_stamps(move.target)) {
    return Error(ErrorCode::kPrecondition, "nothing beside " + move.target.text +
                                               " says that it is as disk '" + move.disk +
                                               "' has left it: move it there with another mode");
  }
  const Result<Stamp> stamp = read_stamp(move.target.path);
  if (!stamp) return stamp.error();
  Claimant who = claimant(move.disk, move.target, move.epoch);
  who.record = move.record;
  return judge_return_now(*stamp, who, move.resumed);
}

Task<void> StoreOwners::leave_again(const Move& move) {
  StampChange leave = [this, &move](const Stamp& stamp) -> Result<Stamp> {
    const bool ours = is_of(stamp, id_, move.disk) && stamp->state == StampState::kTarget &&
                      stamp->epoch == move.epoch;
    if (!ours) return stamp;
    OwnerStamp left = make_stamp(StampState::kLeft, move.disk, move.epoch - 1, move.source.text);
    left.token = move.record;
    note_left(left, move.target.path);
    return Stamp(std::move(left));
  };
  co_await change_quietly(move.target, move.disk, std::move(leave));
}

Task<Status> StoreOwners::check_not_target(const StoreUri& store) {
  if (!has_stamps(store)) co_return Status();
  const std::string& path = store.path;
  const Result<Stamp> left = co_await offload(loop_, [&path] { return read_stamp(path); });
  if (!left || !*left || (*left)->state != StampState::kTarget) co_return Status();
  co_return Error(ErrorCode::kPrecondition,
                  "the stamp beside " + path +
                      " says that it is an unfinished copy, and cannot be changed: make its folder "
                      "and the stamp writable");
}

Task<Status> StoreOwners::announce(const Move& move) {
  StampChange target = [this, &move](const Stamp& stamp) -> Result<Stamp> {
    if (!is_of(stamp, id_, move.disk)) return stamp;
    OwnerStamp taking = make_stamp(StampState::kTaking, move.disk, move.epoch, move.source.text);
    taking.token = stamp->token;
    return Stamp(std::move(taking));
  };
  // A decision for what still says `target` would leave the disk on what is not served.
  const Status taken = co_await change_if_stampable(move.target, move.disk, std::move(target));
  if (!taken) co_return taken;
  // Nor where that was no error, because nothing can be written there any more.
  const Status changed = co_await check_not_target(move.target);
  if (!changed) co_return changed;
  const bool replaced = co_await is_replaced(move.disk, move.source.path);
  if (replaced) co_return Status();  // what is there is not the disk
  StampChange source = [this, &move](const Stamp& stamp) -> Result<Stamp> {
    if (!is_source_of(stamp, move)) return stamp;
    OwnerStamp moving =
        stamp ? *stamp : make_stamp(StampState::kMoving, move.disk, move.epoch - 1, "");
    moving.state = StampState::kMoving;
    moving.other_uri = move.target.text;
    return Stamp(std::move(moving));
  };
  co_await change_quietly(move.source, move.disk, std::move(source));
  co_return Status();
}

Task<void> StoreOwners::confirm(const Move& move, bool source_needed, std::uint64_t record) {
  StampChange target = [this, &move, source_needed](const Stamp& stamp) -> Result<Stamp> {
    if (!is_of(stamp, id_, move.disk)) return stamp;
    OwnerStamp current = make_stamp(StampState::kCurrent, move.disk, move.epoch, "");
    current.token = stamp->token;
    if (source_needed) current.rest_uri = move.source.text;
    return Stamp(std::move(current));
  };
  co_await change_quietly(move.target, move.disk, std::move(target));
  const bool replaced = co_await is_replaced(move.disk, move.source.path);
  if (replaced) co_return;
  StampChange source = [this, &move, source_needed, record](const Stamp& stamp) -> Result<Stamp> {
    if (!is_source_of(stamp, move)) return stamp;
    const StampState state = source_needed ? StampState::kBase : StampState::kLeft;
    OwnerStamp left = make_stamp(state, move.disk, move.epoch, move.target.text);
    if (!source_needed) left.token = record;
    if (stamp) left.rest_uri = stamp->rest_uri;
    note_left(left, move.source.path);
    return Stamp(std::move(left));
  };
  co_await change_quietly(move.source, move.disk, std::move(source));
}

Task<void> StoreOwners::withdraw(const Move& move) {
  StampChange source = [this, &move](const Stamp& stamp) -> Result<Stamp> {
    if (!is_of(stamp, id_, move.disk) || stamp->state != StampState::kMoving) return stamp;
    OwnerStamp current = *stamp;
    current.state = StampState::kCurrent;
    current.other_uri.clear();
    return Stamp(std::move(current));
  };
  co_await change_quietly(move.source, move.disk, std::move(source));
  StampChange target = [this, &move](const Stamp& stamp) -> Result<Stamp> {
    if (!is_of(stamp, id_, move.disk) || stamp->state != StampState::kTaking) return stamp;
    if (move.settling) {
      return Stamp(make_stamp(StampState::kBase, move.disk, move.epoch - 1, move.source.text));
    }
    OwnerStamp unfinished = *stamp;
    unfinished.state = StampState::kTarget;
    return Stamp(std::move(unfinished));
  };
  co_await change_quietly(move.target, move.disk, std::move(target));
}

Task<void> StoreOwners::drop_target(const Move& move) {
  StampChange drop = [this, &move](const Stamp& stamp) -> Result<Stamp> {
    const bool ours = is_of(stamp, id_, move.disk) && stamp->state == StampState::kTarget;
    return ours ? Stamp() : stamp;
  };
  co_await change_quietly(move.target, move.disk, std::move(drop));
}

Task<void> StoreOwners::leave_unfinished(const std::string& disk, const std::string& target_uri) {
  Condition taking = [](const OwnerStamp& stamp) { return stamp.state == StampState::kTaking; };
  Change leave = [](const OwnerStamp& stamp, const std::string&) {
    OwnerStamp unfinished = stamp;
    unfinished.state = StampState::kTarget;
    return Stamp(std::move(unfinished));
  };
  co_await change_if(target_uri, disk, std::move(taking), std::move(leave));
}

Task<void> StoreOwners::leave_base(const std::string& disk, const std::string& base_uri) {
  Condition fetched_from = [](const OwnerStamp& stamp) { return stamp.state == StampState::kBase; };
  Change leave = [](const OwnerStamp& stamp, const std::string& path) {
    OwnerStamp left = stamp;
    left.state = StampState::kLeft;
    note_left(left, path);
    return Stamp(std::move(left));
  };
  co_await change_if(base_uri, disk, std::move(fetched_from), std::move(leave));
}

std::string StoreOwners::describe(const std::string& store_uri) const {
  const Result<StoreUri> store = parse_store_uri(store_uri);
  if (!store || !has_stamps(*store)) return "not stamped: only files are";
  const auto why = unstamped_.find(store->path);
  return why == unstamped_.end() ? "stamped" : "not stamped: " + why->second;
}

}  // namespace blockmig
