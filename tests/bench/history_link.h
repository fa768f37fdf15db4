// SPDX-License-Identifier: Apache-2.0
// HistoryLink: one connection of history_client, with its requests in flight.
//
// Lifecycle: made from an open connection; submit() while free_slots(); on_ready() when poll() says
// so; retire() ends the submitting, and idle() tells when close is due. Thread rule: one thread.
// Errors: fatal() is a sentence once the connection is unusable; its requests stay unanswered.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/bench/nbd_connection.h"
#include "tests/bench/sector_history.h"

namespace blockmig::bench {

/// One request of the client. Sectors count from the beginning of its region.
struct HistoryOperation {
  Command command = Command::kRead;
  std::uint64_t first_sector = 0;
  std::uint32_t sectors = 0;
  bool fua = false;
  Tick start = 0;
  std::uint64_t start_ns = 0;
  std::vector<char> data;  ///< what is written, or what was read
};

class HistoryLink {
 public:
  using Completed = std::function<void(HistoryOperation&, std::uint32_t error)>;

  HistoryLink(int fd, unsigned depth, std::uint64_t region_offset, Completed completed);
  ~HistoryLink();
  HistoryLink(const HistoryLink&) = delete;
  HistoryLink& operator=(const HistoryLink&) = delete;

  int fd() const { return fd_; }
  bool can_submit() const { return fatal_.empty() && !retired_ && !free_.empty(); }
  bool idle() const { return in_flight_ == 0; }
  bool wants_to_send() const { return sent_ < out_.size(); }
  void retire() { retired_ = true; }
  bool retired() const { return retired_; }
  const std::string& fatal() const { return fatal_; }
  /// Start of the oldest request in flight, or `otherwise`.
  std::uint64_t oldest_start_ns(std::uint64_t otherwise) const;

  void submit(HistoryOperation operation);
  /// Sends what the socket takes.
  void flush_output();
  /// Receives what is there and reports what is complete.
  void receive();

 private:
  bool parse_header(const char* header);
  void complete(std::uint32_t error);

  struct Slot {
    HistoryOperation operation;
    bool used = false;
  };

  int fd_;
  std::uint64_t region_offset_;
  Completed completed_;
  bool retired_ = false;
  std::string fatal_;
  unsigned in_flight_ = 0;
  std::vector<Slot> slots_;
  std::vector<unsigned> free_;
  std::vector<char> out_;
  std::size_t sent_ = 0;
  std::vector<char> in_;
  std::size_t kept_ = 0;
  std::uint64_t payload_left_ = 0;
  unsigned current_ = 0;
};

}  // namespace blockmig::bench
