// SPDX-License-Identifier: Apache-2.0
// DiskService's part in hydration: a disk that a restart finds in the middle of it is opened with
// both stores, and its job goes on.
#include <utility>

#include "blockmig/base/uri.h"
#include "blockmig/io/offload.h"
#include "blockmig/migrate/hydration.h"
#include "blockmig/migrate/pivot.h"
#include "tools/control/json.h"
#include "tools/daemon/disk_service.h"
#include "tools/daemon/folder_at_rest.h"
#include "tools/daemon/folder_merge.h"
#include "tools/daemon/job_changes.h"

namespace blockmig {

Task<Status> DiskService::claim(const ServeRequest& request, SourceChoice& choice,
                                std::unique_ptr<BlockDevice>& source, StoreOwners::Claim& claim) {
  if (owners_ == nullptr) co_return Status();
  const Result<StoreUri> store = parse_store_uri(choice.uri);
  Status ours = store.ok() ? Status() : Status(store.error());
  if (store.ok()) {
    auto claimed = co_await owners_->claim(request, *store, choice);
    if (claimed.ok()) {
      claim = *std::move(claimed);
      choice.epoch = claim.verdict.epoch;
      if (claim.verdict.forced) give_rest_up(request.disk, choice);
    } else {
      ours = claimed.error();
    }
  }
  if (ours.ok()) {
    co_await warn_of_mixture(request, choice);
    co_return ours;
  }
  const Status closed = co_await source->close();
  static_cast<void>(closed);  // nothing was written to it
  source.reset();
  co_return ours;
}

/// Taken by force: what the guest finds there is its business, but it shall be known.
Task<void> DiskService::warn_of_mixture(const ServeRequest& request, const SourceChoice& choice) {
  const Result<StoreUri> store = parse_store_uri(choice.uri);
  const bool may_be = store.ok() && store->kind == StoreUri::Kind::kFile && !choice.known;
  if (!may_be || !request.force_source) co_return;
  const std::string& path = store->path;
  const Status whole = co_await offload(loop_, [&path] { return check_no_mixture(path); });
  if (whole) co_return;
  log_.warning("served by force: " + whole.error().message(), {request.disk, "", choice.epoch});
  if (request.read_only) co_return;
  const Status noted = co_await offload(loop_, [&path] { return disown_mixture(path); });
  if (!noted) log_.warning(noted.error().message(), {request.disk, "", choice.epoch});
}

/// Which chunks are there, only a journal knows that is not to be had.
void DiskService::give_rest_up(const std::string& disk, SourceChoice& choice) {
  if (choice.hydration.empty()) return;
  log_.warning(choice.uri +
                   " is served as it is, by force, but is not whole: what the disk had "
                   "not fetched yet is in " +
                   (choice.previous_uri.empty() ? "its base" : choice.previous_uri) +
                   " alone, and reads of it give what happens to be here",
               {disk, "", choice.epoch});
  choice.hydration.clear();
}

/// What its records say of it now is what has been written there since.
Task<void> DiskService::trust(const std::string& disk, const SourceChoice& choice,
                              const StoreOwners::Claim& claim) {
  const Result<StoreUri> uri = parse_store_uri(choice.uri);
  if (!uri.ok() || !claim.stamped || claim.verdict.continued) co_return;
  co_await owners_->trust(disk, *uri);
}

Task<void> DiskService::give_back(const SourceChoice& choice, StoreOwners::Claim claim) {
  const Result<StoreUri> store = parse_store_uri(choice.uri);
  if (owners_ == nullptr || !store) co_return;
  co_await owners_->give_back(*store, std::move(claim));
}

Task<Result<std::unique_ptr<BlockDevice>>> DiskService::open_rest(
    const ServeRequest& request, const SourceChoice& choice, std::unique_ptr<BlockDevice> source,
    Holds& holds) {
  if (choice.hydration.empty()) co_return std::move(source);
  std::unique_ptr<BlockDevice> base;
  auto opened = co_await open_layer(request, choice, source, base, holds);
  if (opened.ok()) co_return std::move(opened);
  if (source) {
    const Status closed = co_await source->close();
    static_cast<void>(closed);  // nothing was written to it
  }
  if (base) {
    const Status closed = co_await base->close();
    static_cast<void>(closed);
  }
  co_return opened.error();
}

/// Takes both stores; what is left in `source` and `base` after an error is the caller's to close.
Task<Result<std::unique_ptr<BlockDevice>>> DiskService::open_layer(
    const ServeRequest& request, const SourceChoice& choice, std::unique_ptr<BlockDevice>& source,
    std::unique_ptr<BlockDevice>& base, Holds& holds) {
  const Result<std::optional<DiskRecord>> record = co_await journal_.load_disk(request.disk);
  if (!record) co_return record.error();
  const Result<HydrationRecord> rest = co_await load_rest(journal_, **record);
  if (!rest) co_return rest.error();
  Result<std::unique_ptr<BlockDevice>> found = co_await open_base(request, choice, *rest, holds);
  if (!found) {
    co_return found.error().with_context("disk '" + request.disk + "' is not whole at " +
                                         choice.uri + " yet, and the rest is not to be had");
  }
  base = *std::move(found);
  const JobOptions options = options_of(*rest);
  auto layer = co_await open_hydrating(loop_, journal_, **record, *rest, source, base, options);
  if (!layer) co_return layer.error();
  co_return std::unique_ptr<BlockDevice>(*std::move(layer));
}

Task<Result<std::unique_ptr<BlockDevice>>> DiskService::open_base(const ServeRequest& request,
                                                                  const SourceChoice& choice,
                                                                  const HydrationRecord& rest,
                                                                  Holds& holds) {
  const Status ours = co_await check_base(rest, choice.epoch);
  if (!ours.ok()) co_return ours.error();
  if (rest.base_generation != 0) {
    Result<std::unique_ptr<BlockDevice>> at_rest = co_await open_at_rest(loop_, rest);
    co_return std::move(at_rest);
  }
  SourceChoice from;
  from.uri = rest.base_uri;
  from.known = true;
  from.epoch = choice.epoch;
  Result<std::unique_ptr<BlockDevice>> source = co_await open_source(request, from, holds);
  co_return std::move(source);
}

Task<Status> DiskService::check_base(const HydrationRecord& rest, std::uint64_t epoch) {
  const Result<StoreUri> base = parse_store_uri(rest.base_uri);
  if (!base) co_return base.error();
  if (owners_ == nullptr) co_return Status();
  const bool at_rest = rest.base_generation != 0;
  const Status ours = co_await owners_->check_base(rest.disk, *base, epoch, at_rest);
  co_return ours;
}

Task<void> DiskService::hydrate(std::shared_ptr<ServedDisk> disk) {
  auto* const hydrating = hydrating_layer(disk->disk());
  if (hydrating == nullptr) {
    co_await leave_bases(disk);
    co_return;
  }
  const HydrationRecord rest = hydrating->record();
  if (rest.base_generation != 0 && rest.hydrate != Hydrate::kBackground) {
    log_.info("data at rest stays in " + rest.base_uri + ": it is fetched " +
                  std::string(to_string(rest.hydrate)),
              {disk->name(), "", disk->disk().epoch()});
    co_return;
  }
  const auto paused = co_await load_pause(journal_, rest.job);
  if (!paused) log_.warning(paused.error().message(), {disk->name(), rest.job, 0});
  const bool waits = paused.ok() && paused->value_or(false);
  const Result<std::string> id = co_await fetch_rest(disk, waits, /*begins=*/false);
  if (id.ok()) {
    log_.info("goes on with the hydration from " + rest.base_uri,
              {disk->name(), *id, disk->disk().epoch()});
  } else {
    log_.error("hydration does not go on: " + id.error().message(),
               {disk->name(), "", disk->disk().epoch()});
  }
}

/// The disk is whole in its own store: what the end of a daemon, between the record of that and its
/// consequences, has kept manifests and stamps from being told. Then what is recorded of a rest
/// goes, which a move that ended before its decision may have left as well.
Task<void> DiskService::leave_bases(std::shared_ptr<ServedDisk> disk) {
  std::vector<std::string> bases{disk->previous_uri()};
  const auto left = co_await journal_.load_hydration(disk->name());
  const bool recorded = left.ok() && left->has_value();
  if (recorded) bases.push_back((*left)->base_uri);
  co_await finish_manifests(disk, bases);
  for (const std::string& base : bases) {
    const bool is_left = owners_ != nullptr && base != disk->disk().store_uri();
    if (is_left) co_await owners_->leave_base(disk->name(), base);
  }
  if (!recorded) co_return;
  const HydrationRecord record = **left;
  co_await forget_rest(journal_, record);
}

Task<void> DiskService::finish_manifests(std::shared_ptr<ServedDisk> disk,
                                         const std::vector<std::string>& bases) {
  const std::string name = disk->name();
  const std::uint64_t epoch = disk->disk().epoch();
  std::vector<std::string> uris{disk->disk().store_uri()};
  uris.insert(uris.end(), bases.begin(), bases.end());
  for (const std::string& uri : uris) {
    const Result<StoreUri> store = parse_store_uri(uri);
    if (!store || store->kind != StoreUri::Kind::kFile) continue;
    const bool is_its_store = uri == uris.front();
    if (owners_ != nullptr) {
      const bool taken = co_await owners_->is_another_ones(name, *store);
      if (taken) continue;
    }
    const Result<bool> finished = co_await offload(loop_, [&name, &store, epoch, is_its_store] {
      return finish_manifest(store->path, name, epoch, is_its_store);
    });
    if (!finished) log_.warning(finished.error().message(), {name, "", epoch});
  }
}

Result<std::shared_ptr<ServedDisk>> DiskService::find_unsettled(const std::string& name) const {
  auto disk = disks_.get(name);
  if (!disk) return disk.error();
  const Status settled = check_settled(name);
  if (!settled) return settled.error();
  if (!jobs_.job_of(name).empty()) return jobs_.busy_with(name);
  if (hydrating_layer((*disk)->disk()) == nullptr) {
    return Error(ErrorCode::kPrecondition,
                 "disk '" + name + "' is whole at " + (*disk)->disk().store_uri() + " already");
  }
  return disk;
}

Task<Result<std::string>> DiskService::settle(const std::string& name) {
  const auto found = find_unsettled(name);
  if (!found) co_return found.error();
  const HydratingDevice& layer = *hydrating_layer((*found)->disk());
  if (layer.at_rest() && layer.record().hydrate != Hydrate::kBackground) {
    // So that a restart goes on with it. Of a base at rest nobody else changes this record.
    HydrationRecord rest = layer.record();
    rest.hydrate = Hydrate::kBackground;
    const Status saved = co_await journal_.save_hydration(rest);
    if (!saved) co_return saved.error();
  }
  const auto still = find_unsettled(name);
  if (!still) co_return still.error();
  const std::shared_ptr<ServedDisk> disk = *still;
  const Result<std::string> id = co_await fetch_rest(disk, false, /*begins=*/true);
  if (!id) co_return id.error();
  const Result<JobStatus> begun = co_await jobs_.wait_begun(*id);
  if (!begun) co_return begun.error();
  co_return id;
}

Task<Result<std::string>> DiskService::fetch_rest(std::shared_ptr<ServedDisk> disk, bool paused,
                                                  bool begins) {
  auto* const hydrating = hydrating_layer(disk->disk());
  BM_CHECK(hydrating != nullptr);
  const HydrationRecord rest = hydrating->record();
  JobOptions options = options_of(rest);
  std::string request;
  const auto jobs = co_await journal_.load_jobs();
  if (jobs.ok()) {
    for (const JobRecord& job : *jobs) {
      if (job.id != rest.job) continue;
      request = job.request;
      const auto asked = migrate_request_from_json(request);
      if (asked.ok()) options = options_of(rest, asked->options);
      const Result<Mode> mode = parse_mode(job.mode);
      if (mode.ok()) options.mode = *mode;
    }
  }
  const Status changed = co_await apply_job_change(journal_, rest.job, options);
  if (!changed) log_.warning(changed.error().message(), {disk->name(), rest.job, 0});
  // The disk may have left meanwhile, or have become whole.
  const auto still = disks_.get(disk->name());
  if (!still) co_return still.error();
  if (*still != disk || &disk->disk().store() != hydrating) {
    co_return Error(ErrorCode::kBusy, "disk '" + disk->name() + "' has changed meanwhile");
  }
  Result<std::string> id =
      jobs_.hydrate(disk->disk(), *hydrating, options, std::move(request), paused, begins);
  if (id.ok() && follow_) follow_(*id);
  co_return id;
}

}  // namespace blockmig
