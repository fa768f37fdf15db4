// SPDX-License-Identifier: Apache-2.0
#include "blockmig/disk/request_stats.h"

namespace blockmig {

std::string_view to_string(DiskOp op) {
  switch (op) {
    case DiskOp::kRead:
      return "read";
    case DiskOp::kWrite:
      return "write";
    case DiskOp::kFlush:
      return "flush";
    case DiskOp::kTrim:
      return "trim";
    case DiskOp::kZero:
      return "zero";
    case DiskOp::kBlockStatus:
      return "block_status";
    case DiskOp::kCache:
      return "cache";
  }
  return "unknown";
}

void RequestStats::merge(const RequestStats& other) {
  for (std::size_t i = 0; i < ops_.size(); ++i) {
    const PerOp& theirs = other.ops_[i];
    PerOp& ours = ops_[i];
    ours.in_flight.add(theirs.in_flight.value());
    ours.bytes.add(theirs.bytes.value());
    for (std::size_t code = 0; code < kErrorCodes; ++code) {
      ours.errors[code].add(theirs.errors[code].value());
    }
    ours.latency.merge(theirs.latency);
  }
  longest_ns_.raise_to(other.longest_ns_.value());
}

std::uint64_t RequestStats::errors(DiskOp op) const {
  std::uint64_t sum = 0;
  for (const Counter& count : at(op).errors) sum += count.value();
  return sum;
}

std::uint64_t RequestStats::requests() const {
  std::uint64_t sum = 0;
  for (const DiskOp op : kDiskOps) sum += requests(op);
  return sum;
}

std::uint64_t RequestStats::errors() const {
  std::uint64_t sum = 0;
  for (const DiskOp op : kDiskOps) sum += errors(op);
  return sum;
}

std::uint64_t RequestStats::in_flight() const {
  std::uint64_t sum = 0;
  for (const DiskOp op : kDiskOps) sum += in_flight(op);
  return sum;
}

LatencyHistogram RequestStats::latency() const {
  LatencyHistogram all;
  for (const DiskOp op : kDiskOps) all.merge(latency(op));
  return all;
}

}  // namespace blockmig
