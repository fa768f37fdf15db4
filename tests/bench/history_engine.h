// SPDX-License-Identifier: Apache-2.0
// HistoryEngine: the guest that history_client plays. It keeps requests of all kinds in flight on
// several connections, opens new ones all the time, and holds each sector read against its history.
//
//   running --hold()--> draining --all answered--> flushing --answered--> held
//   held --resume()--> running
//   held --scan()--> scanning --> held
//
// Lifecycle: make, start(), then step() for ever; failures are counted, not thrown: see figures().
// Thread rule: one thread, but for Connector's own.
#pragma once

#include <poll.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/bench/block_pattern.h"
#include "tests/bench/connector.h"
#include "tests/bench/history_link.h"
#include "tests/bench/history_options.h"
#include "tests/bench/latency.h"
#include "tests/bench/sector_history.h"
#include "tests/bench/sector_stamp.h"

namespace blockmig::bench {

enum class EngineState { kRunning, kDraining, kFlushing, kHeld, kScanning };

/// Since the beginning, but for what reset_figures() resets.
struct HistoryFigures {
  LatencyHistogram latency;        ///< of answered requests; reset
  LatencyHistogram handshakes;     ///< reset
  std::uint64_t requests = 0;      ///< answered; reset
  std::uint64_t reset_ns = 0;      ///< when the above began
  std::uint64_t errors = 0;        ///< error replies, lost connections, refused connections
  std::uint64_t violations = 0;    ///< sectors that no register could have returned
  std::uint64_t torn = 0;          ///< with --tolerate-torn: read beside a write, and a bit of both
  std::uint64_t sectors_read = 0;  ///< checked
  std::uint64_t connections = 0;   ///< opened
  std::string first_error;
};

class HistoryEngine {
 public:
  explicit HistoryEngine(const HistoryOptions& options);
  ~HistoryEngine();
  HistoryEngine(const HistoryEngine&) = delete;
  HistoryEngine& operator=(const HistoryEngine&) = delete;

  /// Opens the first connections. kPrecondition if the region is not within the export.
  Status start();
  /// Works for at most `timeout_ms`, or until one of `extra_fds` is readable.
  void step(int timeout_ms, const std::vector<int>& extra_fds);

  EngineState state() const { return state_; }
  void hold();
  void resume();
  /// Reads the whole region once. Only while held.
  void scan();
  /// Holds the region of a file against the history; the number of wrong sectors. Only while held.
  Result<std::uint64_t> check_file(const std::string& path);

  const HistoryFigures& figures() const { return figures_; }
  /// The longest wait of a request or handshake, answered or not, since the last reset.
  std::uint64_t longest_wait_ns() const;
  void reset_figures();
  std::uint64_t unanswered() const;
  std::uint64_t region_bytes() const { return sectors_ * kSectorBytes; }

 private:
  void adopt(const Connection& connection);
  void renew();
  void advance();
  void fill_links();
  bool next_operation(HistoryOperation* out);
  void choose_range(HistoryOperation* operation);
  void prepare_write(HistoryOperation* operation);
  void completed(HistoryOperation& operation, std::uint32_t error);
  void check_sectors(std::uint64_t first, const char* data, std::uint64_t count, Tick start,
                     const std::string& where);
  void failed(const std::string& what);
  bool all_idle() const;
  void drop_finished_links();

  const HistoryOptions options_;
  Connector connector_;
  EngineState state_ = EngineState::kRunning;
  std::uint64_t sectors_ = 0;
  std::uint16_t export_flags_ = 0;
  std::unique_ptr<SectorHistory> history_;
  std::vector<std::unique_ptr<HistoryLink>> links_;  ///< oldest first
  std::vector<pollfd> polled_;
  SplitMix random_;
  HistoryFigures figures_;
  double credit_ = 0;  ///< requests that --rate allows now
  std::uint64_t credited_ns_ = 0;
  std::uint64_t renewed_ns_ = 0;
  std::uint64_t refused_ns_ = 0;  ///< when a new connection failed last
  std::uint64_t scan_next_ = 0;
  bool flush_sent_ = false;
  bool flush_answered_ = false;
};

}  // namespace blockmig::bench
