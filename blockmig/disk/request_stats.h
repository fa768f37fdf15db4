// SPDX-License-Identifier: Apache-2.0
// RequestStats: what a disk's requests were and how long they took, by kind.
//
// Each thread that serves requests of a disk has an instance of its own and is its only writer;
// whoever reads copies or merges them. So counting costs a few uncontended nanoseconds: begin() one
// store, end() four, done_now() three. A copy is a snapshot. Thread rule: begin(), end(), fail()
// and what is done_now() by one thread; everything const by any thread; merge() on a snapshot.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "blockmig/base/counter.h"
#include "blockmig/base/error.h"
#include "blockmig/base/latency_histogram.h"

namespace blockmig {

enum class DiskOp : unsigned char { kRead, kWrite, kFlush, kTrim, kZero, kBlockStatus, kCache };
inline constexpr std::array kDiskOps = {DiskOp::kRead, DiskOp::kWrite, DiskOp::kFlush,
                                        DiskOp::kTrim, DiskOp::kZero,  DiskOp::kBlockStatus,
                                        DiskOp::kCache};

/// "read", "write", "flush", "trim", "zero", "block_status", "cache": metrics' label values.
std::string_view to_string(DiskOp op);

class RequestStats final {
 public:
  static constexpr std::size_t kErrorCodes = static_cast<std::size_t>(ErrorCode::kOverflow) + 1;

  // The writer's. Every begin() is followed by one end() or fail(). `nanoseconds` from arrival to
  // result; `bytes` of the request's range.
  void begin(DiskOp op) { at(op).in_flight.add(); }
  void end(DiskOp op, std::uint64_t nanoseconds, std::uint64_t bytes) {
    PerOp& counters = at(op);
    counters.bytes.add(bytes);
    ended(counters, nanoseconds);
  }
  void fail(DiskOp op, std::uint64_t nanoseconds, ErrorCode error) {
    PerOp& counters = at(op);
    counters.errors[static_cast<std::size_t>(error)].add();
    ended(counters, nanoseconds);
  }

  // Of requests that were served on the spot, and so never in flight; the writer's too.
  void done_now(DiskOp op, std::chrono::nanoseconds took, std::uint64_t bytes) {
    PerOp& counters = at(op);
    counters.bytes.add(bytes);
    took_time(counters, static_cast<std::uint64_t>(took.count()));
  }
  /// A write that arrives in parts: `last` makes it one request.
  void filled_now(std::chrono::nanoseconds took, std::uint64_t bytes, bool last) {
    PerOp& counters = at(DiskOp::kWrite);
    counters.bytes.add(bytes);
    if (last) took_time(counters, static_cast<std::uint64_t>(took.count()));
  }

  /// Adds another thread's; the in-flight numbers too.
  void merge(const RequestStats& other);

  /// Ended, with or without error.
  std::uint64_t requests(DiskOp op) const { return at(op).latency.count(); }
  std::uint64_t errors(DiskOp op, ErrorCode error) const {
    return at(op).errors[static_cast<std::size_t>(error)].value();
  }
  std::uint64_t errors(DiskOp op) const;
  /// Of requests that succeeded.
  std::uint64_t bytes(DiskOp op) const { return at(op).bytes.value(); }
  std::uint64_t in_flight(DiskOp op) const { return at(op).in_flight.value(); }
  const LatencyHistogram& latency(DiskOp op) const { return at(op).latency; }

  // Of all kinds together.
  std::uint64_t requests() const;
  std::uint64_t errors() const;
  std::uint64_t in_flight() const;
  LatencyHistogram latency() const;
  /// What the guest changed: written and zeroed bytes.
  std::uint64_t bytes_written() const { return bytes(DiskOp::kWrite) + bytes(DiskOp::kZero); }

  /// The longest that a request took since the last call, by one reader at a time.
  std::uint64_t take_longest_ns() { return longest_ns_.take(); }

 private:
  struct PerOp {
    Counter in_flight;
    Counter bytes;
    std::array<Counter, kErrorCodes> errors;
    LatencyHistogram latency;
  };

  PerOp& at(DiskOp op) { return ops_[static_cast<std::size_t>(op)]; }
  const PerOp& at(DiskOp op) const { return ops_[static_cast<std::size_t>(op)]; }
  void ended(PerOp& counters, std::uint64_t nanoseconds) {
    counters.in_flight.sub();
    took_time(counters, nanoseconds);
  }
  void took_time(PerOp& counters, std::uint64_t nanoseconds) {
    counters.latency.record(nanoseconds);
    longest_ns_.raise_to(nanoseconds);
  }

  std::array<PerOp, kDiskOps.size()> ops_;
  Counter longest_ns_;
};

}  // namespace blockmig
