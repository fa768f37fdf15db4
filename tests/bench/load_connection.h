// SPDX-License-Identifier: Apache-2.0
// LoadConnection: one pipelined connection of nbdload.
//
// Lifecycle: make, then step() until done(): it tops up the requests in flight, sends them in one
// system call, receives as much as there is and accounts for every complete reply. stop() ends the
// topping up. Thread rule: one thread. Errors: fatal() is a sentence once the connection is
// unusable.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/bench/block_pattern.h"
#include "tests/bench/latency.h"
#include "tests/bench/load_options.h"
#include "tests/bench/nbd_connection.h"

namespace blockmig::bench {

/// A request that has ended: what happened when, during a migration.
struct RequestRecord {
  std::uint32_t end_us = 0;  ///< since record_begin_ns
  std::uint32_t took_us = 0;
};

/// What all connections of a run count together.
struct LoadTotals {
  LatencyHistogram latency;
  std::uint64_t requests = 0;  ///< completed while counting
  std::uint64_t issued = 0;    ///< ever
  std::uint64_t errors = 0;    ///< error replies
  std::uint64_t mismatches = 0;
  std::uint64_t verified = 0;
  bool counting = false;
  bool recording = false;
  std::uint64_t record_begin_ns = 0;
  std::vector<RequestRecord> records;

  /// Adds what another thread counted.
  void merge(const LoadTotals& other);
};

/// What the buffer of a thread should hold: all that a deep queue of small replies amounts to.
inline constexpr std::size_t kLoadBufferBytes = 256 * 1024;

class LoadConnection {
 public:
  /// `pattern` is null without verification. Owns the connection; `buffer` is for receiving and
  /// serves all connections of a thread.
  LoadConnection(const LoadOptions& options, Connection connection, LoadTotals* totals,
                 BlockPattern* pattern, std::vector<char>* buffer, std::uint64_t seed);
  ~LoadConnection();
  LoadConnection(const LoadConnection&) = delete;
  LoadConnection& operator=(const LoadConnection&) = delete;

  int fd() const { return fd_; }
  /// The protocol version and cipher; empty without TLS.
  std::string tls() const { return tls_ ? tls_->description() : ""; }
  bool wants_to_send() const { return next_iov_ < iov_.size() || (tls_ && tls_->pending()); }
  bool done() const { return !fatal_.empty() || (stopping_ && in_flight_ == 0); }
  void stop() { stopping_ = true; }
  bool has_room() const { return !free_slots_.empty() && !stopping_; }
  /// When the rate allows the next request.
  std::uint64_t next_due_ns() const { return next_due_ns_; }
  const std::string& fatal() const { return fatal_; }
  /// Read back, once each, the blocks that were written; then done.
  void begin_read_back();

  /// Tops up and sends what the socket takes.
  void send();
  /// Receives once, with TLS all that is there; with `block` it sleeps until something arrives.
  /// True if something did.
  bool receive(bool block);

 private:
  struct Slot {
    std::uint64_t block = 0;
    std::uint64_t start_ns = 0;
    bool write = false;
    bool used = false;
  };

  bool chooses_write();
  bool pick_block(bool write, std::uint64_t* block);
  std::uint64_t pick_hot();
  bool due(std::uint64_t now);
  bool pick_read_back(std::uint64_t* block);
  void issue(unsigned slot, std::uint64_t block, bool write, std::uint64_t now);
  void top_up();
  void push_part(void* data, std::size_t size);
  ssize_t send_parts();
  void sent(std::size_t bytes);
  void parse(const char* data, std::size_t size, std::uint64_t now);
  bool parse_header(const char* header, std::uint64_t now);
  void complete(std::uint64_t now);

  const LoadOptions& options_;
  LoadTotals* totals_;
  BlockPattern* pattern_;
  int fd_;
  std::unique_ptr<TlsSession> tls_;
  std::uint64_t blocks_;
  std::uint64_t next_sequential_ = 0;
  std::uint64_t read_back_at_ = 0;
  std::uint64_t next_due_ns_ = 0;
  bool reading_back_ = false;
  bool stopping_ = false;
  unsigned in_flight_ = 0;
  std::string fatal_;
  SplitMix random_;

  std::vector<Slot> slots_;
  std::vector<unsigned> free_slots_;
  /// A ring of request headers, so that those of one batch of reads leave as one piece. It has room
  /// for all in flight, and what is not sent yet is in flight.
  std::vector<char> headers_;
  unsigned next_header_ = 0;
  std::vector<char> payloads_;  ///< a block per slot with verification, else one for all
  std::vector<iovec> iov_;
  std::size_t next_iov_ = 0;

  std::vector<char>& buffer_;
  std::array<char, kReplyBytes> kept_bytes_;  ///< of an incomplete header
  std::size_t kept_ = 0;
  std::vector<char> payload_;  ///< what arrived of the current read, with verification
  std::uint64_t payload_left_ = 0;
  unsigned current_slot_ = 0;
};

}  // namespace blockmig::bench
