// SPDX-License-Identifier: Apache-2.0
// Metrics of the NBD server and of the disks that it serves.
#include "tools/daemon/metric_families.h"
#include "tools/daemon/metrics.h"

namespace blockmig {
namespace {

using Family = MetricFamilies::Family;

std::string text_of(std::string_view name) { return std::string(name); }

MetricLabels disk_op(const DiskMetrics& disk, DiskOp op) {
  return {{"disk", disk.name}, {"op", text_of(to_string(op))}};
}

void add_requests(const MetricsSnapshot& snapshot, MetricFamilies& families) {
  Family requests = families.counter("blockmig_nbd_requests_total",
                                     "Requests that a disk has ended, with or without error. Of "
                                     "BLOCK_STATUS one for each context that the store is asked "
                                     "for, of CACHE one for each 256 KiB.");
  for (const DiskMetrics& disk : snapshot.disks) {
    for (const DiskOp op : kDiskOps) requests.add(disk.requests.requests(op), disk_op(disk, op));
  }
  Family errors = families.counter("blockmig_nbd_errors_total",
                                   "Requests that a disk has ended with an error, by its kind.");
  for (const DiskMetrics& disk : snapshot.disks) {
    for (const DiskOp op : kDiskOps) {
      for (std::size_t code = 0; code < RequestStats::kErrorCodes; ++code) {
        const auto error = static_cast<ErrorCode>(code);
        const std::uint64_t count = disk.requests.errors(op, error);
        MetricLabels labels = disk_op(disk, op);
        labels.push_back({"error", text_of(to_string(error))});
        // The common kind is there from the beginning, so that its first increase can be seen.
        if (count != 0 || error == ErrorCode::kIo) errors.add(count, std::move(labels));
      }
    }
  }
  Family durations = families.histogram(
      "blockmig_nbd_request_duration_seconds",
      "Time from a request's arrival at its disk to its result, waiting for a migration included.");
  for (const DiskMetrics& disk : snapshot.disks) {
    for (const DiskOp op : kDiskOps) {
      const LatencyHistogram& latency = disk.requests.latency(op);
      if (latency.count() != 0) durations.add(latency, disk_op(disk, op));
    }
  }
}

void add_bytes(const MetricsSnapshot& snapshot, MetricFamilies& families) {
  Family bytes = families.counter("blockmig_nbd_bytes_total",
                                  "Data that clients read from or wrote to a disk.");
  for (const DiskMetrics& disk : snapshot.disks) {
    bytes.add(disk.requests.bytes(DiskOp::kRead), {{"disk", disk.name}, {"direction", "read"}});
    bytes.add(disk.requests.bytes(DiskOp::kWrite), {{"disk", disk.name}, {"direction", "write"}});
  }
  Family ranges = families.counter("blockmig_nbd_range_bytes_total",
                                   "Bytes that requests without data were about.");
  for (const DiskMetrics& disk : snapshot.disks) {
    for (const DiskOp op : {DiskOp::kTrim, DiskOp::kZero, DiskOp::kBlockStatus, DiskOp::kCache}) {
      ranges.add(disk.requests.bytes(op), disk_op(disk, op));
    }
  }
}

void add_clients(const MetricsSnapshot& snapshot, MetricFamilies& families) {
  Family clients = families.gauge("blockmig_nbd_clients", "Clients that are connected to a disk.");
  Family in_flight = families.gauge("blockmig_nbd_in_flight_requests",
                                    "Requests taken from clients and not answered yet.");
  Family at_disk = families.gauge("blockmig_disk_in_flight_requests",
                                  "Requests that have arrived at a disk and not ended yet.");
  for (const DiskMetrics& disk : snapshot.disks) {
    clients.add(disk.clients, {{"disk", disk.name}});
    in_flight.add(disk.in_flight, {{"disk", disk.name}});
    for (const DiskOp op : kDiskOps) at_disk.add(disk.requests.in_flight(op), disk_op(disk, op));
  }
  families.gauge("blockmig_nbd_negotiating_connections", "Connections that serve no disk yet.")
      .add(snapshot.negotiating);
}

void add_connections(const NbdServerStats& server, MetricFamilies& families) {
  families.counter("blockmig_nbd_connections_total", "Connections that were accepted.")
      .add(server.accepted);
  Family refused = families.counter("blockmig_nbd_refused_connections_total",
                                    "Connections that were closed before a byte was exchanged.");
  for (std::size_t i = 0; i < kNbdRefusalReasons; ++i) {
    refused.add(server.refused[i], {{"reason", to_string(static_cast<NbdRefusalReason>(i))}});
  }
  Family failures = families.counter("blockmig_nbd_handshake_failures_total",
                                     "Connections that ended without coming to a disk.");
  for (const NbdHandshakeFailure failure : kNbdHandshakeFailures) {
    failures.add(server.handshake_failures[static_cast<std::size_t>(failure)],
                 {{"reason", to_string(failure)}});
  }
  Family ended = families.counter("blockmig_nbd_disconnects_total",
                                  "Clients of a disk that are gone, and why.");
  for (const NbdClientEnd end : kNbdClientEnds) {
    ended.add(server.ended[static_cast<std::size_t>(end)], {{"reason", to_string(end)}});
  }
  families
      .counter("blockmig_nbd_refused_requests_total",
               "Requests answered with an error before they came to a disk.")
      .add(server.refused_requests);
  families.counter("blockmig_nbd_tls_sessions_total", "TLS handshakes that succeeded.")
      .add(server.tls_sessions);
}

}  // namespace

void add_nbd_metrics(const MetricsSnapshot& snapshot, MetricFamilies& families) {
  add_requests(snapshot, families);
  add_bytes(snapshot, families);
  add_clients(snapshot, families);
  add_connections(snapshot.server, families);
}

void add_disk_metrics(const MetricsSnapshot& snapshot, MetricFamilies& families) {
  Family sizes = families.gauge("blockmig_disk_size_bytes", "Size of a disk.");
  Family epochs = families.gauge("blockmig_disk_epoch",
                                 "How often a disk's content has changed its place, from 1.");
  Family dirty = families.gauge("blockmig_disk_dirty_chunks",
                                "Changed chunks in a bitmap that a user asked for.");
  Family dirty_bytes = families.gauge("blockmig_disk_dirty_bytes", "Bytes of those chunks.");
  Family throttled = families.counter("blockmig_migration_throttled_seconds_total",
                                      "Time that a disk's writes were held back by a migration.");
  for (const DiskMetrics& disk : snapshot.disks) {
    sizes.add(disk.size_bytes, {{"disk", disk.name}});
    epochs.add(disk.epoch, {{"disk", disk.name}});
    for (const BitmapView& bitmap : disk.bitmaps) {
      dirty.add(bitmap.dirty_chunks, {{"disk", disk.name}, {"bitmap", bitmap.name}});
      dirty_bytes.add(bitmap.dirty_bytes, {{"disk", disk.name}, {"bitmap", bitmap.name}});
    }
    throttled.add(disk.throttled_seconds, {{"disk", disk.name}});
  }
}

}  // namespace blockmig
