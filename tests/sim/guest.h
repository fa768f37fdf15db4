// SPDX-License-Identifier: Apache-2.0
// Guest: a client of the simulated disk. Reads, writes, zeroes, trims and flushes at random,
// several requests at once, and tells the history what it asked and what it was told.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "blockmig/base/random.h"
#include "blockmig/block/block_device.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task_scope.h"
#include "history.h"

namespace blockmig::sim {

struct GuestPlan {
  std::uint64_t max_request_sectors = 64;
  Duration max_think{};           ///< pause between requests of one worker
  std::uint32_t hot_percent = 0;  ///< share of requests that go to the first sixteenth of the disk
  std::uint32_t flush_percent = 8;  ///< share of requests, at most 8; the rest of the 8 are reads
};

class Guest final {
 public:
  Guest(EventLoop& loop, Random& random, BlockDevice& disk, History& history, const GuestPlan& plan)
      : loop_(loop), random_(random), disk_(disk), history_(history), plan_(plan) {}

  /// One worker: a request at a time until stop().
  Task<void> work();
  void stop() { stopped_ = true; }
  /// Its daemon is gone: what it hears from here on means nothing.
  void cut() { stopped_ = cut_ = true; }
  /// Asks for nothing, for now.
  void rest(bool on) { resting_ = on; }
  /// The store below has failed a flush, and cannot make good for it (I11).
  std::function<bool()> flush_must_fail = [] { return false; };

  /// The first illegal thing seen; empty if none.
  const std::string& violation() const { return violation_; }
  std::uint64_t requests() const { return requests_; }
  std::uint64_t errors() const { return errors_; }
  /// Of these, of flushes.
  std::uint64_t flush_errors() const { return flush_errors_; }
  /// Of the reads that were answered since the last call.
  Duration take_longest_read() { return std::exchange(longest_read_, Duration()); }
  /// Of the requests that were answered.
  Duration longest() const { return longest_; }

 private:
  struct Range {
    std::uint64_t first = 0;
    std::uint64_t count = 0;
    ByteRange bytes;
  };
  Range draw_range();
  Task<void> read_once();
  void check_content(const Range& range, ConstBytes bytes, std::uint64_t begun,
                     std::uint64_t ended);
  Task<void> write_once(bool fua);
  Task<void> zero_once(bool trim);
  Task<void> flush_once();
  void complain(const std::string& text) {
    if (violation_.empty()) violation_ = text;
  }

  EventLoop& loop_;
  Random& random_;
  BlockDevice& disk_;
  History& history_;
  GuestPlan plan_;
  std::string violation_;
  std::uint64_t requests_ = 0;
  std::uint64_t errors_ = 0;
  std::uint64_t flush_errors_ = 0;
  Duration longest_{};
  Duration longest_read_{};
  bool resting_ = false;
  bool stopped_ = false;
  bool cut_ = false;
};

}  // namespace blockmig::sim
