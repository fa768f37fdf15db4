// SPDX-License-Identifier: Apache-2.0
// LoadWorker: some of nbdload's connections and the loop that drives them, on one thread.
//
// Lifecycle: add() the connections, run() once, read the figures. One connection is driven by
// blocking receives, one system call less each time; one that spins asks its socket, several use
// epoll. Thread rule: run() on any one thread, the rest before or after it. Units: nanoseconds.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/bench/load_connection.h"

namespace blockmig::bench {

class LoadWorker {
 public:
  /// `options` must outlive the worker.
  explicit LoadWorker(const LoadOptions& options);
  ~LoadWorker();
  LoadWorker(const LoadWorker&) = delete;
  LoadWorker& operator=(const LoadWorker&) = delete;

  Status add(Connection connection, std::uint64_t seed);
  /// Loads the server until `end_ns` of now_ns(), counting from `count_from_ns`; then drains and,
  /// with verification, reads back what was written.
  Status run(std::uint64_t count_from_ns, std::uint64_t end_ns);

  const LoadTotals& totals() const { return totals_; }
  /// Of the counted time.
  std::uint64_t counted_wall_ns() const { return counted_wall_ns_; }
  std::uint64_t counted_cpu_ns() const { return counted_cpu_ns_; }
  /// See LoadConnection::tls().
  std::string tls() const { return connections_.empty() ? "" : connections_[0]->tls(); }

 private:
  Status run_until(std::uint64_t end_ns);
  Status run_alone(std::uint64_t end_ns);
  Status run_several(std::uint64_t end_ns);
  Status watch_all();
  bool interrupted(std::uint64_t end_ns) const;
  void wait_for_turn(const LoadConnection& c, std::uint64_t end_ns);
  void receive_spinning(LoadConnection& c, std::uint64_t end_ns);
  Status push(std::size_t which);
  int wait(std::uint64_t end_ns);
  void watch(std::size_t which, bool for_sending);

  const LoadOptions& options_;
  LoadTotals totals_;
  std::unique_ptr<BlockPattern> pattern_;
  std::vector<char> buffer_;
  std::vector<std::unique_ptr<LoadConnection>> connections_;
  std::vector<bool> watched_for_sending_;
  std::size_t done_ = 0;  ///< connections that are done, in the present phase
  int epoll_fd_;
  std::uint64_t counted_wall_ns_ = 0;
  std::uint64_t counted_cpu_ns_ = 0;
};

}  // namespace blockmig::bench
