// SPDX-License-Identifier: Apache-2.0
// What DiskService says about disks, clients and bitmaps: snapshots taken on the loop.
#include <utility>

#include "blockmig/base/uri.h"
#include "tools/daemon/disk_service.h"

namespace blockmig {
namespace {

double milliseconds(std::uint64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1e6; }

std::vector<BitmapView> bitmap_views(const Disk& disk) {
  std::vector<BitmapView> views;
  for (const std::string& name : disk.tracking().names()) {
    const DirtyBitmap* bitmap = disk.tracking().find(name);
    if (bitmap == nullptr) continue;
    views.push_back(
        {name, bitmap->granularity_bytes(), bitmap->dirty_count(), bitmap->dirty_bytes()});
  }
  return views;
}

}  // namespace

DiskView DiskService::view(ServedDisk& served) const {
  const Disk& disk = served.disk();
  const DiskStats& stats = disk.stats();
  DiskView view;
  view.name = disk.name();
  view.store_uri = disk.store_uri();
  view.previous_uri = served.previous_uri();
  view.epoch = disk.epoch();
  view.size_bytes = disk.info().size_bytes;
  view.read_only = served.read_only();
  view.description = served.description();
  view.job = jobs_.job_of(disk.name());
  for (const NbdClientInfo& client : server_.clients()) {
    if (client.export_name == disk.name()) ++view.clients;
  }
  for (const std::string& address : addresses()) {
    view.uris.push_back(export_uri(address, disk.name()));
  }
  view.bitmaps = bitmap_views(disk);
  for (const std::uint64_t count : stats.requests) view.requests += count;
  for (const std::uint64_t count : stats.errors) view.errors += count;
  view.bytes_read = stats.bytes_read;
  view.bytes_written = stats.bytes_written;
  view.p50_ms = milliseconds(stats.latency.quantile_ns(0.5));
  view.p99_ms = milliseconds(stats.latency.quantile_ns(0.99));
  return view;
}

std::vector<DiskView> DiskService::views() const {
  std::vector<DiskView> views;
  for (const auto& disk : disks_.disks()) views.push_back(view(*disk));
  return views;
}

std::vector<ClientView> DiskService::clients() const {
  std::vector<ClientView> views;
  for (const NbdClientInfo& client : server_.clients()) {
    views.push_back({client.id, client.peer, client.export_name, client.requests, client.bytes_read,
                     client.bytes_written, client.in_flight});
  }
  return views;
}

std::vector<std::string> DiskService::addresses() const {
  std::vector<std::string> texts;
  for (const SocketAddress& address : server_.addresses()) texts.push_back(address.to_string());
  return texts;
}

Result<std::vector<BitmapView>> DiskService::bitmaps(const std::string& name) const {
  const auto disk = disks_.get(name);
  if (!disk) return disk.error();
  return bitmap_views((*disk)->disk());
}

Status DiskService::add_bitmap(const std::string& name, const BitmapSpec& spec) {
  const auto disk = disks_.get(name);
  if (!disk) return disk.error();
  DirtyTracking& tracking = (*disk)->disk().tracking();
  if (tracking.find(spec.name) != nullptr) {
    return Error(ErrorCode::kBusy,
                 "disk '" + name + "' has a bitmap '" + spec.name + "' already: remove it first");
  }
  if (tracking.names().size() >= kMaxBitmapsPerDisk) {
    return Error(ErrorCode::kPrecondition, "disk '" + name + "' has " +
                                               std::to_string(kMaxBitmapsPerDisk) +
                                               " bitmaps already, the most that it may have");
  }
  auto bitmap = DirtyBitmap::create((*disk)->disk().info().size_bytes, spec.granularity_bytes);
  if (!bitmap) return bitmap.error().with_context("bitmap '" + spec.name + "'");
  return tracking.add(spec.name, *std::move(bitmap));
}

Status DiskService::remove_bitmap(const std::string& name, const std::string& bitmap) {
  const auto disk = disks_.get(name);
  if (!disk) return disk.error();
  DirtyTracking& tracking = (*disk)->disk().tracking();
  if (tracking.find(bitmap) == nullptr) {
    return Error(ErrorCode::kNotFound, "disk '" + name + "' has no bitmap '" + bitmap + "'");
  }
  return tracking.remove(bitmap);
}

std::vector<StoreUse> DiskService::uses(const std::string& except) const {
  std::vector<StoreUse> uses;
  const auto add = [&uses](std::string user, const std::string& text) {
    Result<StoreUri> uri = parse_store_uri(text);
    if (uri.ok()) uses.push_back({std::move(user), *std::move(uri)});
  };
  for (const auto& disk : disks_.disks()) {
    if (disk->name() != except) add("disk '" + disk->name() + "'", disk->disk().store_uri());
  }
  for (const JobStatus& job : jobs_.list()) {
    if (is_final(job.state) || job.disk == except) continue;
    add(job.id + " of disk '" + job.disk + "', as its target", job.target_uri);
  }
  return uses;
}

}  // namespace blockmig
