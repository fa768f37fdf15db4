// SPDX-License-Identifier: Apache-2.0
// What DiskService says about disks, clients and bitmaps: snapshots taken on the loop.
#include <chrono>
#include <map>
#include <utility>

#include "blockmig/base/uri.h"
#include "blockmig/block/store_health.h"
#include "blockmig/io/offload.h"
#include "blockmig/migrate/hydrating_device.h"
#include "tools/daemon/backup_file.h"
#include "tools/daemon/disk_service.h"
#include "tools/daemon/folder_merge.h"

namespace blockmig {
namespace {

double milliseconds(std::uint64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1e6; }

std::vector<DiskOpView> op_views(const RequestStats& stats) {
  std::vector<DiskOpView> views;
  for (const DiskOp op : kDiskOps) {
    const LatencyHistogram& latency = stats.latency(op);
    DiskOpView view;
    view.op = to_string(op);
    view.requests = latency.count();
    view.errors = stats.errors(op);
    view.bytes = stats.bytes(op);
    view.in_flight = stats.in_flight(op);
    view.p50_ms = milliseconds(latency.quantile_ns(0.5));
    view.p99_ms = milliseconds(latency.quantile_ns(0.99));
    view.max_ms = milliseconds(latency.max_ns());
    views.push_back(std::move(view));
  }
  return views;
}

ClientView client_view(const NbdClientInfo& client) {
  ClientView view;
  view.id = client.id;
  view.peer = client.peer;
  view.disk = client.export_name;
  view.requests = client.requests;
  view.bytes_read = client.bytes_read;
  view.bytes_written = client.bytes_written;
  view.in_flight = client.in_flight;
  view.errors = client.counters.errors.value();
  view.refused = client.counters.refused.value();
  for (const NbdOp op : kNbdOps) view.requests_by_op[to_string(op)] = client.counters.of(op);
  view.connected_seconds = std::chrono::duration<double>(client.connected).count();
  view.idle_seconds = std::chrono::duration<double>(client.idle).count();
  view.tls = client.tls;
  view.identity = client.identity;
  view.style = client.style;
  return view;
}

}  // namespace

DiskView DiskService::view(ServedDisk& served) const {
  const Disk& disk = served.disk();
  const RequestStats stats = disk.stats();
  DiskView view;
  view.name = disk.name();
  view.store_uri = disk.store_uri();
  view.trouble = trouble_of(served.disk().store());
  view.previous_uri = served.previous_uri();
  view.epoch = disk.epoch();
  if (const auto back = find_way_back(served.bitmaps(), disk.epoch())) {
    view.return_lost = back->inconsistent;
    if (back->changed != nullptr) view.return_to = view.previous_uri;
    if (back->changed != nullptr) view.return_bytes = back->changed->dirty_bytes();
  }
  if (owners_ != nullptr && !served.read_only()) view.stamp = owners_->describe(view.store_uri);
  view.size_bytes = disk.info().size_bytes;
  view.read_only = served.read_only();
  view.description = served.description();
  view.job = jobs_.job_of(disk.name());
  for (const NbdClientInfo& client : server_.clients()) {
    if (client.export_name == disk.name()) ++view.clients;
  }
  for (const std::string& address : addresses()) {
    view.uris.push_back(export_uri(address, disk.name(), tls_required_));
  }
  view.bitmaps = bitmap_views(served);
  const LatencyHistogram latency = stats.latency();
  view.requests = stats.requests();
  view.errors = stats.errors();
  view.bytes_read = stats.bytes(DiskOp::kRead);
  view.bytes_written = stats.bytes_written();
  view.p50_ms = milliseconds(latency.quantile_ns(0.5));
  view.p99_ms = milliseconds(latency.quantile_ns(0.99));
  view.max_ms = milliseconds(latency.max_ns());
  view.in_flight = stats.in_flight();
  view.rate = rates_.of(disk.name());
  view.ops = op_views(stats);
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
    views.push_back(client_view(client));
  }
  return views;
}

void DiskService::add_metrics(MetricsSnapshot& snapshot) const {
  snapshot.server = server_.stats();
  std::map<std::string, DiskMetrics> by_name;
  for (const auto& served : disks_.disks()) {
    Disk& disk = served->disk();
    DiskMetrics& metrics = by_name[disk.name()];
    metrics.name = disk.name();
    metrics.size_bytes = disk.info().size_bytes;
    metrics.epoch = disk.epoch();
    metrics.requests = disk.stats();
    metrics.bitmaps = bitmap_views(*served);
    metrics.throttled_seconds =
        std::chrono::duration<double>(disk.write_throttle().waited()).count();
  }
  for (const NbdClientInfo& client : server_.clients()) {
    const auto found = by_name.find(client.export_name);
    if (found == by_name.end()) {
      if (client.export_name.empty()) ++snapshot.negotiating;
      continue;
    }
    ++found->second.clients;
    found->second.in_flight += client.in_flight;
  }
  for (auto& [name, metrics] : by_name) snapshot.disks.push_back(std::move(metrics));
}

std::vector<std::string> DiskService::addresses() const {
  std::vector<std::string> texts;
  for (const SocketAddress& address : server_.addresses()) texts.push_back(address.to_string());
  return texts;
}

std::vector<StoreUse> DiskService::uses_if(
    const std::string& except, bool its_base_too,
    FunctionRef<bool(const std::string& uri, bool coming)> matters) const {
  std::vector<StoreUse> uses;
  const auto add = [this, &uses, &matters](std::string user, const std::string& text,
                                           const std::string& identity = {}) {
    if (!matters(text, false)) return;
    Result<StoreUri> uri = parse_store_uri(text);
    if (!uri.ok()) return;
    auto parts = reserved_.find_parts(*uri);
    Identities identities;
    add_identity(identities, identity);
    add_identities(identities, reserved_.find_identities(*uri));
    uses.push_back({std::move(user), *std::move(uri), std::move(parts), false, identities});
  };
  for (const auto& disk : disks_.disks()) {
    const bool counts = disk->name() != except;
    const auto* const layer = hydrating_layer(disk->disk());
    if (layer == nullptr && !matters(disk->disk().store_uri(), false)) continue;
    const std::string user = "disk '" + disk->name() + "'";
    if (counts) add(user, disk->disk().store_uri(), disk->identity());
    if (layer != nullptr && (counts || its_base_too)) {
      add(user + ", which is not whole without it ('blockmig settle')", layer->record().base_uri);
    }
  }
  for (const auto& disk : disks_.closing()) {
    const std::string user = "disk '" + disk->name() + "', which is being closed";
    add(user, disk->disk().store_uri(), disk->identity());
    const auto* const layer = hydrating_layer(disk->disk());
    if (layer != nullptr) add(user, layer->record().base_uri);
  }
  for (const StoreUse& use : reserved_.uses()) {
    if (!matters(use.uri.text, use.coming)) continue;
    uses.push_back(use);
    uses.back().identities = reserved_.find_identities(use.uri);
  }
  for (const JobStatus& job : jobs_.list()) {
    if (is_final(job.state) || job.disk == except) continue;
    add(job.id + " of disk '" + job.disk + "', as its target", job.target_uri);
    if (job.phase == Phase::kHydrating) {
      add(job.id + " of disk '" + job.disk + "', which still needs it", job.source_uri);
    }
  }
  for (const Unanswered::Place& place : jobs_.unanswered()) {
    add(place.job + " of disk '" + place.disk +
            "', which has ended: its server has not answered all that it was sent, and may still "
            "write it",
        place.uri);
  }
  return uses;
}

void DiskService::forget_unused_stores() {
  if (!reserved_.knows_much()) return;
  std::set<std::string> used;
  for (const StoreUse& use : uses("")) used.insert(use.uri.text);
  reserved_.keep_only(used);
}

/// In `holds`, when nobody else uses it.
Task<Status> DiskService::take_source(const ServeRequest& request, const SourceChoice& choice,
                                      const StoreUri& uri, Holds& holds) {
  // Files that somebody has looked at, or is looking at, are compared by check_parts().
  const bool is_a_file = uri.kind == StoreUri::Kind::kFile;
  const std::vector<StoreUse> used =
      uses_if("", false, [this, &uri, is_a_file](const std::string& text, bool coming) {
        return !is_a_file || text == uri.text || (!coming && !reserved_.knows_parts(text));
      });
  holds.push_back(
      reserved_.reserve({"disk '" + request.disk + "', which is being added", uri, {}}));
  const std::size_t hold = holds.size() - 1;
  const std::vector<std::string> own = addresses();
  std::vector<StorePart> parts;
  Status free = co_await offload(loop_, [&]() -> Status {
    if (is_own_address(uri, own)) {
      return Error(ErrorCode::kPrecondition,
                   uri.text + " is an export of this daemon itself: name the store behind it");
    }
    const bool is_file = uri.kind == StoreUri::Kind::kFile;
    if (is_file) parts = parts_of(uri.path);
    // A disk that has moved there since is none of a backup's business.
    Status whole = is_file && choice.epoch <= 1 ? check_restorable(uri.path) : Status();
    const bool new_here = is_file && !choice.known;
    if (whole && new_here && !request.force_source) whole = check_no_mixture(uri.path);
    return whole ? check_unused(uri, used) : whole;
  });
  if (free) free = check_parts(uri, parts);
  if (free) holds[hold].found(std::move(parts));
  forget_unused_stores();
  co_return free;
}

Status DiskService::check_parts(const StoreUri& uri, const std::vector<StorePart>& parts) const {
  const std::set<std::string> near = reserved_.beside(parts);
  if (near.empty()) return {};
  return check_found(uri, parts, uses_if("", false, [&near](const std::string& text, bool) {
                       return near.contains(text);
                     }));
}

}  // namespace blockmig
