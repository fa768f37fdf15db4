// SPDX-License-Identifier: Apache-2.0
// nbdload: a lean pipelined NBD client that measures a server. Prints one JSON object.
#include <sched.h>
#include <sys/resource.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/bench/load_worker.h"

namespace blockmig::bench {
namespace {

constexpr int kConnectTimeoutSeconds = 10;
constexpr std::uint64_t kSpareDescriptors = 64;

std::uint64_t ns_of(double seconds) { return static_cast<std::uint64_t>(seconds * 1e9); }

class Run {
 public:
  explicit Run(const LoadOptions& options) : options_(options) {
    for (unsigned i = 0; i < options.threads; ++i) {
      workers_.push_back(std::make_unique<LoadWorker>(options));
    }
  }

  Status connect() {
    for (unsigned i = 0; i < options_.connections; ++i) {
      auto connection = connect_export(options_.endpoint, kConnectTimeoutSeconds);
      if (!connection) {
        return connection.error().with_context("connection " + std::to_string(i + 1));
      }
      LoadWorker& worker = *workers_[i % workers_.size()];
      if (Status s = worker.add(*std::move(connection), mix64(options_.seed + i + 1)); !s) return s;
    }
    return {};
  }

  Status measure() {
    const std::uint64_t count_from = now_ns() + ns_of(options_.warmup_seconds);
    const std::uint64_t end = count_from + ns_of(options_.seconds);
    std::vector<Status> outcomes(workers_.size());
    std::vector<std::thread> threads;
    for (std::size_t i = 1; i < workers_.size(); ++i) {
      threads.emplace_back([&, i] { outcomes[i] = workers_[i]->run(count_from, end); });
    }
    outcomes[0] = workers_[0]->run(count_from, end);
    for (std::thread& t : threads) t.join();
    for (const Status& s : outcomes) {
      if (!s) return s;
    }
    for (const auto& w : workers_) {
      totals_.merge(w->totals());
      cpu_ns_ += static_cast<double>(w->counted_cpu_ns());
      iops_ += static_cast<double>(w->totals().requests) * 1e9 /
               static_cast<double>(w->counted_wall_ns());
    }
    return {};
  }

  bool clean() const { return totals_.errors == 0 && totals_.mismatches == 0; }

  /// What --record asked for.
  Status write_records() const {
    if (options_.record_path.empty()) return {};
    std::FILE* file = std::fopen(options_.record_path.c_str(), "wb");
    if (file == nullptr) return Error::from_errno(errno, "opening " + options_.record_path);
    const std::size_t count = totals_.records.size();
    const bool whole =
        std::fwrite(totals_.records.data(), sizeof(RequestRecord), count, file) == count;
    const int closed = std::fclose(file);
    if (whole && closed == 0) return {};
    return Error(ErrorCode::kIo, "writing " + options_.record_path);
  }

  void print() const {
    const auto us = [&](double q) {
      return static_cast<double>(totals_.latency.quantile(q)) / 1e3;
    };
    std::printf(
        "{\"block\": %u, \"depth\": %u, \"connections\": %u, \"threads\": %u, "
        "\"write_percent\": %u, \"tls\": \"%s\", "
        "\"seconds\": %.3f, \"requests\": %llu, \"issued\": %llu, \"iops\": %.1f, "
        "\"mb_per_second\": %.2f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f, "
        "\"client_cpu_us_per_request\": %.3f, "
        "\"errors\": %llu, \"verified\": %llu, \"mismatches\": %llu, "
        "\"record_begin_ns\": %llu}\n",
        options_.block_bytes, options_.depth, options_.connections, options_.threads,
        options_.write_percent, workers_[0]->tls().c_str(),
        static_cast<double>(workers_[0]->counted_wall_ns()) / 1e9,
        static_cast<unsigned long long>(totals_.requests),
        static_cast<unsigned long long>(totals_.issued), iops_, iops_ * options_.block_bytes / 1e6,
        us(0.5), us(0.99), static_cast<double>(totals_.latency.max()) / 1e3,
        totals_.requests ? cpu_ns_ / 1e3 / static_cast<double>(totals_.requests) : 0.0,
        static_cast<unsigned long long>(totals_.errors),
        static_cast<unsigned long long>(totals_.verified),
        static_cast<unsigned long long>(totals_.mismatches),
        static_cast<unsigned long long>(totals_.record_begin_ns));
  }

 private:
  const LoadOptions& options_;
  std::vector<std::unique_ptr<LoadWorker>> workers_;
  LoadTotals totals_;
  double cpu_ns_ = 0;
  double iops_ = 0;
};

void allow_descriptors(std::uint64_t wanted) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) return;
  limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);  // else connecting says what is wrong
}

std::atomic<bool> interrupted{false};

void stop_on_signals() {
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = true; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);  // the second one ends it at once
  for (const int number : {SIGINT, SIGTERM}) ::sigaction(number, &action, nullptr);
}

int load(int argc, char** argv) {
  auto options = parse_load_options(argc, argv);
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
  stop_on_signals();
  options->interrupted = &interrupted;
  allow_descriptors(options->connections + kSpareDescriptors);
  Run run(*options);
  Status s = run.connect();
  if (s) s = run.measure();
  if (s) s = run.write_records();
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
