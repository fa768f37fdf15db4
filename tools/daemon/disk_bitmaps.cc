// SPDX-License-Identifier: Apache-2.0
// DiskService: a disk's named bitmaps, as the control socket asks for them.
#include <set>
#include <utility>

#include "bitmap/bitmap_codec.h"
#include "blockmig/journal/owner_stamp.h"
#include "tools/control/handover_state.h"
#include "tools/daemon/disk_service.h"

namespace blockmig {
namespace {

BitmapPlan plan_of(const BitmapSpec& spec) {
  return {spec.name, spec.granularity_bytes, spec.persistent, spec.recording, make_owner_id()};
}

/// The engine's own are nobody's to use.
Status check_users(const std::string& disk, const std::string& bitmap) {
  if (!is_return_record(bitmap)) return {};
  return Error(ErrorCode::kInvalid, "disk '" + disk + "': bitmaps whose name begins like '" +
                                        bitmap + "' are blockmig's own (mode return)");
}

/// Says once which disk it is about.
Error of_disk(const Error& error, const std::string& name) {
  const std::string disk = "disk '" + name + "'";
  return error.message().find(disk) != std::string::npos ? error : error.with_context(disk);
}

}  // namespace

std::vector<BitmapView> bitmap_views(const ServedDisk& disk) {
  std::vector<BitmapView> views;
  for (const BitmapFacts& facts : disk.bitmaps().bitmaps()) {
    if (is_return_record(facts.name)) continue;
    BitmapView view;
    view.name = facts.name;
    view.granularity_bytes = facts.granularity_bytes;
    if (facts.bitmap != nullptr) view.dirty_chunks = facts.bitmap->dirty_count();
    if (facts.bitmap != nullptr) view.dirty_bytes = facts.bitmap->dirty_bytes();
    view.persistent = facts.persistent;
    view.recording = facts.recording && facts.bitmap != nullptr;
    view.inconsistent = facts.inconsistent;
    view.id = facts.id;
    views.push_back(std::move(view));
  }
  return views;
}

Status check_new_bitmaps(const std::vector<BitmapSpec>& specs, std::uint64_t size_bytes) {
  std::set<std::string> names;
  for (const BitmapSpec& spec : specs) {
    if (!names.insert(spec.name).second) {
      return Error(ErrorCode::kInvalid, "bitmap '" + spec.name + "' is named twice");
    }
    const auto bitmap = DirtyBitmap::create(size_bytes, spec.granularity_bytes);
    if (!bitmap) return bitmap.error().with_context("bitmap '" + spec.name + "'");
  }
  return {};
}

Status add_transient_bitmaps(ServedDisk& disk, const std::vector<BitmapSpec>& specs) {
  for (const BitmapSpec& spec : specs) {
    const Status users = check_users(disk.name(), spec.name);
    if (!users) return users;
    BitmapPlan plan = plan_of(spec);
    plan.persistent = false;
    auto bitmap = DirtyBitmap::create(disk.disk().info().size_bytes, spec.granularity_bytes);
    if (!bitmap) return bitmap.error().with_context("bitmap '" + spec.name + "'");
    const Status added = disk.bitmaps().add_now(std::move(plan), *std::move(bitmap));
    if (!added) return added;
  }
  return {};
}

Status add_handed_over_bitmaps(ServedDisk& disk, const std::vector<HandoverBitmap>& bitmaps,
                               bool same, Log& log) {
  if (!same && !bitmaps.empty()) {
    log.error("its bitmaps that were handed over are gone: somebody else has had its image since",
              {disk.name(), "", 0});
    return {};
  }
  for (const HandoverBitmap& bitmap : bitmaps) {
    const auto frame = std::as_bytes(std::span(bitmap.frame.data(), bitmap.frame.size()));
    auto decoded = decode_bitmap(frame);
    if (!decoded.ok()) return decoded.error().with_context("bitmap '" + bitmap.name + "'");
    BitmapPlan plan;
    plan.name = bitmap.name;
    plan.granularity_bytes = (*decoded)->granularity_bytes();
    plan.persistent = false;
    plan.recording = bitmap.recording;
    plan.id = bitmap.id;
    const Status added = disk.bitmaps().add_now(std::move(plan), *std::move(decoded));
    if (!added.ok()) return added;
  }
  return {};
}

Result<std::vector<BitmapView>> DiskService::bitmaps(const std::string& name) const {
  const auto disk = disks_.get(name);
  if (!disk) return disk.error();
  return bitmap_views(**disk);
}

Task<Status> DiskService::add_bitmap(const std::string& name, const BitmapSpec& spec) {
  const auto disk = disks_.get(name);
  if (!disk) co_return disk.error();
  const Status users = check_users(name, spec.name);
  if (!users) co_return users;
  for (const BitmapFacts& facts : (*disk)->bitmaps().bitmaps()) {
    if (facts.name != spec.name) continue;
    co_return Error(ErrorCode::kBusy, "disk '" + name + "' has a bitmap '" + spec.name +
                                          "' already: remove it first");
  }
  if (bitmap_views(**disk).size() >= kMaxBitmapsPerDisk) {
    co_return Error(ErrorCode::kPrecondition, "disk '" + name + "' has " +
                                                  std::to_string(kMaxBitmapsPerDisk) +
                                                  " bitmaps already, the most that it may have");
  }
  BitmapPlan plan = plan_of(spec);
  const Status added = co_await (*disk)->bitmaps().add(std::move(plan));
  co_return added;
}

Task<Status> DiskService::remove_bitmap(const std::string& name, const std::string& bitmap) {
  const auto disk = disks_.get(name);
  if (!disk) co_return disk.error();
  const Status users = check_users(name, bitmap);
  if (!users) co_return users;
  std::string asked = bitmap;
  const Status removed = co_await (*disk)->bitmaps().remove(std::move(asked));
  if (!removed) co_return of_disk(removed.error(), name);
  co_return removed;
}

Task<Status> DiskService::merge_bitmaps(const std::string& name, const std::string& target,
                                        const std::vector<std::string>& sources) {
  const auto disk = disks_.get(name);
  if (!disk) co_return disk.error();
  std::string into = target;
  std::vector<std::string> from = sources;
  Status users = check_users(name, into);
  for (const std::string& source : from) {
    if (users) users = check_users(name, source);
  }
  if (!users) co_return users;
  const Status merged = co_await (*disk)->bitmaps().merge(std::move(into), std::move(from));
  if (!merged) co_return of_disk(merged.error(), name);
  co_return merged;
}

}  // namespace blockmig
