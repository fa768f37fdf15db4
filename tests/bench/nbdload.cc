// SPDX-License-Identifier: Apache-2.0
// nbdload: a lean pipelined NBD client that measures a server. One thread; prints one JSON object.
#include <poll.h>
#include <sched.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "tests/bench/load_connection.h"

namespace blockmig::bench {
namespace {

constexpr int kConnectTimeoutSeconds = 10;

struct Interval {
  std::uint64_t wall_ns = 0;
  std::uint64_t cpu_ns = 0;
};

class Run {
 public:
  explicit Run(const LoadOptions& options) : options_(options) {}

  Status connect() {
    for (unsigned i = 0; i < options_.connections; ++i) {
      const auto connection = connect_export(options_.endpoint, kConnectTimeoutSeconds);
      if (!connection) return connection.error();
      if (options_.verify) {
        pattern_ = std::make_unique<BlockPattern>(connection->size_bytes / options_.block_bytes,
                                                  options_.block_bytes);
      }
      connections_.push_back(std::make_unique<LoadConnection>(
          options_, *connection, &totals_, pattern_.get(), mix64(options_.seed + i + 1)));
    }
    return {};
  }

  /// Warm up, count, drain; with verification read everything back.
  Status measure() {
    if (Status s = run_for(options_.warmup_seconds); !s) return s;
    totals_.counting = true;
    const Interval begin{.wall_ns = now_ns(), .cpu_ns = process_cpu_ns()};
    if (Status s = run_for(options_.seconds); !s) return s;
    totals_.counting = false;
    counted_ = {.wall_ns = now_ns() - begin.wall_ns, .cpu_ns = process_cpu_ns() - begin.cpu_ns};
    for (auto& c : connections_) c->stop();
    if (Status s = run_for(1e6); !s) return s;
    if (!pattern_) return {};
    for (auto& c : connections_) c->begin_read_back();
    return run_for(1e6);
  }

  bool clean() const { return totals_.errors == 0 && totals_.mismatches == 0; }

  void print() const {
    const double seconds = static_cast<double>(counted_.wall_ns) / 1e9;
    const auto requests = static_cast<double>(totals_.requests);
    const auto us = [&](double q) {
      return static_cast<double>(totals_.latency.quantile(q)) / 1e3;
    };
    std::printf(
        "{\"block\": %u, \"depth\": %u, \"connections\": %u, \"write_percent\": %u, "
        "\"seconds\": %.3f, \"requests\": %llu, \"issued\": %llu, \"iops\": %.1f, "
        "\"mb_per_second\": %.2f, "
        "\"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f, \"client_cpu_us_per_request\": "
        "%.3f, "
        "\"errors\": %llu, \"verified\": %llu, \"mismatches\": %llu}\n",
        options_.block_bytes, options_.depth, options_.connections, options_.write_percent, seconds,
        static_cast<unsigned long long>(totals_.requests),
        static_cast<unsigned long long>(totals_.issued), requests / seconds,
        requests * options_.block_bytes / seconds / 1e6, us(0.5), us(0.99),
        static_cast<double>(totals_.latency.max()) / 1e3,
        totals_.requests ? static_cast<double>(counted_.cpu_ns) / 1e3 / requests : 0.0,
        static_cast<unsigned long long>(totals_.errors),
        static_cast<unsigned long long>(totals_.verified),
        static_cast<unsigned long long>(totals_.mismatches));
  }

 private:
  bool all_done() const {
    for (const auto& c : connections_) {
      if (!c->done()) return false;
    }
    return true;
  }

  Status run_for(double seconds) {
    const std::uint64_t end = now_ns() + static_cast<std::uint64_t>(seconds * 1e9);
    while (now_ns() < end && !all_done()) {
      for (auto& c : connections_) c->send();
      if (all_done()) break;
      wait_and_receive();
      for (const auto& c : connections_) {
        if (!c->fatal().empty()) return Error(ErrorCode::kDisconnected, c->fatal());
      }
    }
    return {};
  }

  void wait_and_receive() {
    const bool single = connections_.size() == 1 && !connections_[0]->wants_to_send();
    if (single && options_.spin_us == 0) {
      connections_[0]->receive(true);  // one system call instead of two
      return;
    }
    polled_.clear();
    for (const auto& c : connections_) {
      const short events = static_cast<short>(POLLIN | (c->wants_to_send() ? POLLOUT : 0));
      polled_.push_back({.fd = c->fd(), .events = events, .revents = 0});
    }
    const std::uint64_t spin_end = now_ns() + options_.spin_us * 1000ull;
    int ready = 0;
    do {
      ready = ::poll(polled_.data(), polled_.size(), 0);
    } while (ready == 0 && now_ns() < spin_end);
    if (ready == 0) ::poll(polled_.data(), polled_.size(), 100);
    for (std::size_t i = 0; i < polled_.size(); ++i) {
      if (polled_[i].revents & ~POLLOUT) connections_[i]->receive(false);
    }
  }

  const LoadOptions& options_;
  LoadTotals totals_;
  std::unique_ptr<BlockPattern> pattern_;
  std::vector<std::unique_ptr<LoadConnection>> connections_;
  std::vector<pollfd> polled_;
  Interval counted_;
};

int load(int argc, char** argv) {
  const auto options = parse_load_options(argc, argv);
  if (!options) {
    std::fprintf(stderr, "nbdload: %s (--help lists the options)\n",
                 options.error().message().c_str());
    return 2;
  }
  if (options->cpu >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<unsigned>(options->cpu), &set);
    ::sched_setaffinity(0, sizeof set, &set);
  }
  Run run(*options);
  Status s = run.connect();
  if (s) s = run.measure();
  if (!s) {
    std::fprintf(stderr, "nbdload: %s\n", s.error().message().c_str());
    return 1;
  }
  run.print();
  return run.clean() ? 0 : 1;
}

}  // namespace
}  // namespace blockmig::bench

int main(int argc, char** argv) { return blockmig::bench::load(argc, argv); }
