// SPDX-License-Identifier: Apache-2.0
// DiskService: what the journal knows of disks that are not served.
#include <algorithm>
#include <utility>

#include "blockmig/base/uri.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/migrate/hydration.h"
#include "tools/daemon/begun_target.h"
#include "tools/daemon/disk_service.h"
#include "tools/daemon/recorded_disks.h"
#include "tools/daemon/restart_service.h"
#include "tools/daemon/takeover.h"

namespace blockmig {
namespace {

constexpr Duration kArrivalPatience = std::chrono::seconds(2);
constexpr Duration kArrivalPoll = std::chrono::milliseconds(10);

}  // namespace

Task<Result<std::vector<DiskLife>>> DiskService::lives_of_others(const std::string& disk) {
  const auto records = co_await journal_.load_disks();
  if (!records) co_return records.error();
  std::vector<DiskLife> lives;
  for (const DiskRecord& record : *records) {
    if (record.disk == disk || disks_.get(record.disk).ok()) continue;
    Result<StoreUri> store = parse_store_uri(record.store_uri);
    if (store.ok()) lives.push_back({record.disk, *std::move(store)});
    if (record.hydration.empty()) continue;
    const Result<HydrationRecord> rest = co_await load_rest(journal_, record);
    if (!rest) continue;  // said when it is served; another's move must not fail for it
    Result<StoreUri> base = parse_store_uri(rest->base_uri);
    if (base.ok()) lives.push_back({record.disk, *std::move(base)});
  }
  co_return std::move(lives);
}

Status DiskService::check_settled(const std::string& disk) const {
  const std::string next = restarts_ != nullptr ? restarts_->job_to_take_up(disk) : std::string();
  if (next.empty() && !arriving_.contains(disk)) return {};
  return Error(ErrorCode::kBusy, "disk '" + disk + "' is being taken up" +
                                     (next.empty() ? "" : " with its unfinished move, " + next) +
                                     ": try again in a moment");
}

Task<void> DiskService::wait_settled(const std::string& disk) {
  const TimePoint until = loop_.now() + kArrivalPatience;
  while (!check_settled(disk) && loop_.now() < until) co_await sleep_for(loop_, kArrivalPoll);
}

std::string DiskService::why_late(const std::string& disk) const {
  return recorded_ == nullptr ? std::string() : recorded_->failure_of(disk);
}

Status DiskService::check_listening(const std::vector<std::string>& addresses,
                                    const ListenProtection& before) const {
  std::vector<std::string> opened = addresses;
  const bool by_default = server_.addresses().empty() && wanted_addresses_.empty();
  if (opened.empty() && by_default && !default_listen_.empty()) {
    opened.push_back("unix:" + default_listen_);
  }
  for (const std::string& text : opened) {
    const Result<SocketAddress> address = SocketAddress::parse(text);
    if (!address) return address.error();
    const auto& wanted = wanted_addresses_;
    if (std::find(wanted.begin(), wanted.end(), address->to_string()) != wanted.end()) continue;
    const Status kept = check_kept(*address, before, own_listening_.protection);
    if (kept) continue;
    return Error(kept.error().code(), kept.error().message() + ", or with --listen " +
                                          address->to_string() + " to listen there as it is");
  }
  return {};
}

bool DiskService::give_up_late(const std::string& name) {
  return (takeover_ != nullptr && takeover_->give_up(name)) ||
         (recorded_ != nullptr && recorded_->give_up(name));
}

Task<Status> DiskService::forget_unserved(const std::string& name) {
  const auto reservation = disks_.reserve(name);
  if (!reservation) co_return reservation.error();
  const Result<std::optional<DiskRecord>> record = co_await journal_.load_disk(name);
  if (!record) co_return record.error();
  if (!record->has_value()) co_return Error(ErrorCode::kNotFound, "no such disk: '" + name + "'");
  if (restarts_ != nullptr) {
    std::string disk = name;
    const Status ended = co_await restarts_->end_without_disk(std::move(disk));
    if (!ended) co_return ended.error();
  }
  const bool moves = restarts_ != nullptr && restarts_->may_have_record(name);
  if (moves || !(*record)->hydration.empty()) {
    co_return Error(
        ErrorCode::kPrecondition,
        "disk '" + name + "' is not served, and " +
            (moves ? "its move has not ended" : "not whole at " + (*record)->store_uri) +
            ": 'blockmig serve " + name + "'" +
            (moves ? ", or 'blockmig abort " + name + "'," : "") + " first");
  }
  const std::string store_uri = (*record)->store_uri;
  const Status forgotten = co_await forget_records(name, store_uri);
  if (forgotten) log_.info("forgotten", {name, "", 0});
  co_return forgotten;
}

Task<Status> DiskService::forget_serving(const std::string& name) {
  JournalBatch batch;
  batch.removed_notes.push_back({"serve", name, ""});
  batch.removed_notes.push_back({kListenTopic, name, ""});
  const Status recorded = co_await journal_.commit(batch);
  co_return recorded;
}

Task<Status> DiskService::forget_records(const std::string& name, const std::string& store_uri) {
  Result<JournalBatch> batch = co_await removal_of_bitmaps(journal_, name);
  if (!batch) co_return batch.error();
  batch->removed_notes.push_back({"serve", name, ""});
  batch->removed_notes.push_back({kListenTopic, name, ""});
  batch->removed_notes.push_back(incarnation_note(name, 0));
  batch->removed_notes.push_back(stamped_note(name, 0));
  batch->removed_notes.push_back(begun_target_note(name));
  batch->removed_disks.push_back(name);
  const Status recorded = co_await journal_.commit(*batch);
  if (recorded && owners_ != nullptr) co_await owners_->forget(name, store_uri);
  co_return recorded;
}

}  // namespace blockmig
