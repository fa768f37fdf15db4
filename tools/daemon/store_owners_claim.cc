// SPDX-License-Identifier: Apache-2.0
// Who this daemon is, and how a disk's own store becomes its own: the incarnation in the journal,
// then the stamp, then the record (DiskService::publish), then the stamp says that it is there.
#include <algorithm>
#include <charconv>
#include <utility>

#include "blockmig/io/offload.h"
#include "tools/daemon/store_owners.h"

namespace blockmig {
namespace {

using Stamp = std::optional<OwnerStamp>;

constexpr const char* kTopic = "owner";
constexpr const char* kName = "identity";
constexpr const char* kIncarnationTopic = "incarnation";
constexpr const char* kStampedTopic = "stamped";

/// Numbers by disk.
Task<Status> load_numbers(Journal& journal, const char* topic,
                          std::map<std::string, std::uint64_t>& numbers) {
  const auto notes = co_await journal.load_notes(topic);
  if (!notes) co_return notes.error();
  for (const NoteRecord& note : *notes) {
    const char* const end = note.text.data() + note.text.size();
    const auto read = std::from_chars(note.text.data(), end, numbers[note.name]);
    if (read.ec == std::errc() && read.ptr == end) continue;
    co_return Error(ErrorCode::kProtocol, "journal: the note '" + std::string(topic) +
                                              "' of disk '" + note.name + "' is no number");
  }
  co_return Status();
}

}  // namespace

NoteRecord incarnation_note(const std::string& disk, std::uint64_t incarnation) {
  return {kIncarnationTopic, disk, std::to_string(incarnation)};
}

NoteRecord stamped_note(const std::string& disk, std::uint64_t incarnation) {
  return {kStampedTopic, disk, std::to_string(incarnation)};
}

Task<Status> StoreOwners::open() {
  const Status counted = co_await load_numbers(journal_, kIncarnationTopic, incarnations_);
  if (!counted) co_return counted;
  const Status stamped = co_await load_numbers(journal_, kStampedTopic, stamped_);
  if (!stamped) co_return stamped;
  const auto notes = co_await journal_.load_notes(kTopic);
  if (!notes) co_return notes.error();
  for (const NoteRecord& note : *notes) {
    if (note.name == kName) id_ = note.text;
  }
  if (!id_.empty()) co_return Status();
  id_ = make_owner_id();
  JournalBatch batch;
  batch.notes.push_back({kTopic, kName, id_});
  const Status saved = co_await journal_.commit(batch);
  co_return saved;
}

std::uint64_t StoreOwners::incarnation(const std::string& disk) const {
  const auto found = incarnations_.find(disk);
  return found == incarnations_.end() ? 0 : found->second;
}

Task<Status> StoreOwners::advance(const std::string& disk, std::uint64_t beyond) {
  const std::uint64_t next = std::max(incarnation(disk), beyond) + 1;
  JournalBatch batch;
  batch.notes.push_back(incarnation_note(disk, next));
  const Status saved = co_await journal_.commit(batch);
  if (saved) incarnations_[disk] = std::max(incarnation(disk), next);
  co_return saved;
}

Task<void> StoreOwners::note_stamped(const std::string& disk) {
  const std::uint64_t now = incarnation(disk);
  JournalBatch batch;
  batch.notes.push_back(stamped_note(disk, now));
  const Status saved = co_await journal_.commit(batch);
  if (saved) {
    stamped_[disk] = now;
    co_return;
  }
  log_.warning("an image that is put back to an earlier state may not be known as one: " +
                   saved.error().message(),
               {disk, "", 0});
}

Task<void> StoreOwners::renew(const std::string& disk, const StoreUri& store) {
  if (!has_stamps(store)) co_return;
  const Status advanced = co_await advance(disk, 0);
  if (!advanced) {
    log_.warning(
        "an older copy of the journal will not be known as one: " + advanced.error().message(),
        {disk, "", 0});
    co_return;
  }
  bool written = false;
  StampChange renew = [this, &disk, &written](const Stamp& stamp) -> Result<Stamp> {
    // `taking`: the switchover to it could not be confirmed.
    const bool lives =
        is_of(stamp, id_, disk) &&
        (stamp->state == StampState::kCurrent || stamp->state == StampState::kMoving ||
         stamp->state == StampState::kTaking || stamp->state == StampState::kReleased);
    written = lives;
    if (!lives) return stamp;
    OwnerStamp newer = *stamp;
    newer.incarnation = incarnation(disk);
    return Stamp(std::move(newer));
  };
  // Synced when it returns; unstampable is no error.
  const Result<Stamp> changed = co_await change(store, std::move(renew));
  if (changed.ok() && written) co_await note_stamped(disk);
  if (changed.ok() || changed.error().code() == ErrorCode::kNotFound) co_return;
  if (is_unstampable(changed.error())) {
    note_unstamped(store, changed.error(), disk);
  } else {
    log_.warning("the stamp beside an image is behind: " + changed.error().message(),
                 {disk, "", 0});
  }
}

Task<Result<StoreOwners::Claim>> StoreOwners::claim(const ServeRequest& request,
                                                    const StoreUri& store,
                                                    const SourceChoice& choice) {
  Claim claim;
  claim.verdict.epoch = choice.epoch;
  if (!has_stamps(store)) co_return claim;
  Claimant who = claimant(request.disk, store, choice.epoch);
  who.known = choice.known;
  who.partial = choice.known && !choice.hydration.empty();
  who.force = request.force_source;
  who.read_only = request.read_only;
  // Looked at first: who is refused must not become as new as who is not.
  const std::string& path = store.path;
  const Result<Stamp> found = co_await offload(loop_, [&path] { return read_stamp(path); });
  if (!found && !is_unstampable(found.error())) co_return found.error();
  if (found && !found->has_value() && who.partial) {
    const bool replaced = co_await is_replaced(request.disk, path);
    who.replaced = replaced;
  }
  if (found) {
    const auto verdict = judge_serve(*found, who);
    if (!verdict) co_return verdict.error();
    claim.verdict = *verdict;
    // Also where it cannot be changed any more. No stamp, and none to be had, says nothing.
    claim.judged = request.read_only || found->has_value();
  }
  if (request.read_only) co_return claim;
  if (found) {
    const bool mine = is_of(*found, id_, request.disk);
    const std::uint64_t seen = mine ? (*found)->incarnation : 0;
    const Status advanced = co_await advance(request.disk, seen);
    if (!advanced) co_return advanced.error().with_context("cannot record its incarnation");
  }
  std::string rest_uri;
  if (!choice.hydration.empty()) {
    const auto rest = co_await journal_.load_hydration(request.disk);
    if (!rest) co_return rest.error();
    if (rest->has_value()) rest_uri = (*rest)->base_uri;
  }
  const Status taken = co_await take(std::move(who), store, std::move(rest_uri), claim);
  if (taken.ok()) co_await note_stamped(request.disk);
  if (taken.ok()) co_return claim;
  if (!is_unstampable(taken.error())) co_return taken.error();
  note_unstamped(store, taken.error(), request.disk);
  claim.guarded = claim.judged;
  co_return claim;
}

Task<Status> StoreOwners::take(Claimant who, const StoreUri& store, std::string rest_uri,
                               Claim& claim) {
  ServeVerdict judged;
  StampChange take = [this, &who, &rest_uri, &judged](const Stamp& stamp) -> Result<Stamp> {
    const auto verdict = judge_serve(stamp, who);
    if (!verdict) return verdict.error();
    judged = *verdict;
    OwnerStamp mine = make_stamp(StampState::kCurrent, who.disk, verdict->epoch, "");
    if (verdict->continued) mine.token = stamp->token;
    mine.unrecorded = mine.unpublished = !verdict->continued;
    if (!verdict->forced) mine.rest_uri = rest_uri;
    return Stamp(std::move(mine));
  };
  const Result<Stamp> before = co_await change(store, std::move(take));
  if (!before) co_return before.error();
  claim.verdict = judged;
  claim.judged = claim.stamped = true;
  claim.before = *before;
  if (judged.rolled_back) {
    log_.warning("image " + store.path + " is older than the journal (incarnation " +
                     std::to_string((*before)->incarnation) + ", the journal has " +
                     std::to_string(who.incarnation) +
                     "): it was put back to an earlier state, so nothing that is recorded of its "
                     "bitmaps and moves is believed",
                 {who.disk, "", judged.epoch});
  }
  co_return Status();
}

Task<void> StoreOwners::trust(const std::string& disk, const StoreUri& store) {
  StampChange trust = [this, &disk](const Stamp& stamp) -> Result<Stamp> {
    Stamp trusted = stamp;
    if (is_of(stamp, id_, disk)) trusted->unrecorded = trusted->unpublished = false;
    return trusted;
  };
  co_await change_quietly(store, disk, std::move(trust));
}

Task<Status> StoreOwners::distrust(const std::string& disk, const StoreUri& store) {
  const Error unstamped(ErrorCode::kPrecondition, "no stamp beside " + store.text);
  if (!has_stamps(store)) co_return unstamped;
  StampChange distrust = [this, &disk, &unstamped](const Stamp& stamp) -> Result<Stamp> {
    if (!is_of(stamp, id_, disk)) return unstamped;
    Stamp distrusted = stamp;
    distrusted->unrecorded = true;
    return distrusted;
  };
  const Result<Stamp> changed = co_await change(store, std::move(distrust));
  co_return changed.ok() ? Status() : Status(changed.error());
}

Task<Status> StoreOwners::distrust_target(const std::string& disk, const StoreUri& target) {
  const Error unstamped(ErrorCode::kPrecondition, "no stamp beside " + target.text);
  if (!has_stamps(target)) co_return unstamped;
  StampChange distrust = [this, &disk, &unstamped](const Stamp& stamp) -> Result<Stamp> {
    const bool ours = is_of(stamp, id_, disk) &&
                      (stamp->state == StampState::kTarget || stamp->state == StampState::kTaking);
    if (!ours) return unstamped;
    Stamp used_anew = stamp;
    used_anew->token = make_stamp_token();
    return used_anew;
  };
  const Result<Stamp> changed = co_await change(target, std::move(distrust));
  co_return changed.ok() ? Status() : Status(changed.error());
}

Task<void> StoreOwners::give_back(const StoreUri& store, Claim claim) {
  if (!claim.stamped) co_return;
  const std::string disk;
  // The store is closed: somebody else may have claimed it by now.
  StampChange restore = [this, &claim](const Stamp& now) -> Result<Stamp> {
    if (!now || now->owner != id_) return now;
    Stamp before = claim.before;
    // The journal stays as far as it is.
    if (is_of(before, now->owner, now->disk)) before->incarnation = now->incarnation;
    return before;
  };
  co_await change_quietly(store, disk, std::move(restore));
}

}  // namespace blockmig
