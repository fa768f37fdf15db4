// SPDX-License-Identifier: Apache-2.0
// ClientCounters: what one client has asked for since it connected.
//
// Written by the connection's loop; a copy is a snapshot that any thread may take. Commands that
// are not listed count as kOther: the number of values is bounded whatever a client sends.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "blockmig/base/counter.h"
#include "nbdserver/memory_standing.h"
#include "nbdserver/wire.h"

namespace blockmig {

enum class NbdOp : std::uint8_t {
  kRead,
  kWrite,
  kFlush,
  kTrim,
  kZero,
  kBlockStatus,
  kCache,
  kOther,
};
inline constexpr std::array kNbdOps = {NbdOp::kRead,  NbdOp::kWrite, NbdOp::kFlush,
                                       NbdOp::kTrim,  NbdOp::kZero,  NbdOp::kBlockStatus,
                                       NbdOp::kCache, NbdOp::kOther};
/// "read", "write", "flush", "trim", "zero", "block_status", "cache", "other".
const char* to_string(NbdOp op);
NbdOp nbd_op(nbd::Command command);

struct ClientCounters {
  std::array<Counter, kNbdOps.size()> requests;  ///< taken from the client
  Counter errors;                                ///< answered with an error, refused ones included
  Counter refused;        ///< not even tried: wrong, not allowed, or during a shutdown
  Counter bytes_read;     ///< sent as data or as holes
  Counter bytes_written;  ///< received and written
  Counter in_flight;      ///< requests taken and not answered on the wire yet
  nbd::MemoryStanding memory;

  // The writer's.
  void count(nbd::Command command) { requests[static_cast<std::size_t>(nbd_op(command))].add(); }

  std::uint64_t of(NbdOp op) const { return requests[static_cast<std::size_t>(op)].value(); }
  std::uint64_t all_requests() const {
    std::uint64_t sum = 0;
    for (const Counter& count : requests) sum += count.value();
    return sum;
  }
};

}  // namespace blockmig
