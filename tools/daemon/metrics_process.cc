// SPDX-License-Identifier: Apache-2.0
// The metrics that every process has, by the names that Prometheus' client libraries use. From
// /proc/self (proc(5)).
#include <dirent.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <fstream>
#include <optional>
#include <sstream>

#include "tools/daemon/metric_families.h"
#include "tools/daemon/metrics.h"

namespace blockmig {
namespace {

double seconds_of(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/// The field of /proc/self/stat with proc(5)'s number, from 3 on; the second may hold blanks.
std::optional<double> stat_field(int number) {
  const std::string line = first_line("/proc/self/stat");
  const std::size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(line.substr(name_end + 1));
  std::string field;
  for (int i = 3; i <= number; ++i) {
    if (!(fields >> field)) return std::nullopt;
  }
  std::istringstream text(field);
  double value = 0;
  if (!(text >> value)) return std::nullopt;
  return value;
}

/// When the system was started, in seconds since 1970.
std::optional<double> boot_time() {
  std::ifstream file("/proc/stat");
  for (std::string line; std::getline(file, line);) {
    std::istringstream fields(line);
    std::string name;
    double value = 0;
    if (fields >> name >> value && name == "btime") return value;
  }
  return std::nullopt;
}

std::optional<std::uint64_t> open_descriptors() {
  DIR* const folder = opendir("/proc/self/fd");
  if (folder == nullptr) return std::nullopt;
  std::uint64_t count = 0;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is this function's own
  while (const dirent* entry = readdir(folder)) count += entry->d_name[0] != '.' ? 1 : 0;
  closedir(folder);
  return count - 1;  // the folder's own
}

void add_times(MetricFamilies& families) {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) == 0) {
    families.counter("process_cpu_seconds_total", "User and system time used.")
        .add(seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime));
  }
  constexpr int kStartTime = 22;  // in ticks since the system was started
  const auto started = stat_field(kStartTime);
  const auto booted = boot_time();
  if (started && booted) {
    families.gauge("process_start_time_seconds", "When the process began, since 1970.")
        .add(*booted + *started / static_cast<double>(sysconf(_SC_CLK_TCK)));
  }
}

void add_memory(MetricFamilies& families) {
  constexpr int kVirtualBytes = 23;
  constexpr int kResidentPages = 24;
  constexpr int kThreads = 20;
  if (const auto bytes = stat_field(kVirtualBytes)) {
    families.gauge("process_virtual_memory_bytes", "Address space in use.").add(*bytes);
  }
  if (const auto pages = stat_field(kResidentPages)) {
    families.gauge("process_resident_memory_bytes", "Memory in use.")
        .add(*pages * static_cast<double>(sysconf(_SC_PAGESIZE)));
  }
  if (const auto threads = stat_field(kThreads)) {
    families.gauge("process_threads", "Threads.").add(*threads);
  }
}

void add_descriptors(MetricFamilies& families) {
  if (const auto count = open_descriptors()) {
    families.gauge("process_open_fds", "Open file descriptors.").add(*count);
  }
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    families.gauge("process_max_fds", "Most file descriptors that may be open.")
        .add(static_cast<double>(limit.rlim_cur));
  }
}

}  // namespace

std::string process_metrics_text(bool stale) {
  MetricFamilies families;
  families
      .gauge("blockmig_metrics_stale",
             "1: the daemon was too busy to answer in time; blockmig's figures are older ones.")
      .add(stale ? 1.0 : 0.0);
  add_times(families);
  add_memory(families);
  add_descriptors(families);
  return families.text();
}

}  // namespace blockmig
