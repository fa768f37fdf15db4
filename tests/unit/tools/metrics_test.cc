// SPDX-License-Identifier: Apache-2.0
// The page of metrics: its text, and that it comes in time.
#include "tools/daemon/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <thread>

#include "tools/daemon/metrics_page.h"

namespace blockmig {
namespace {

using testing::HasSubstr;
using testing::Not;

/// Series to value, and what HELP and TYPE say of each family. Fails on text that is no page.
struct Page {
  std::map<std::string, double> values;
  std::map<std::string, std::string> types;
  std::set<std::string> helped;

  double at(const std::string& series) const {
    const auto found = values.find(series);
    EXPECT_NE(found, values.end()) << series;
    return found == values.end() ? -1 : found->second;
  }
};

/// The family of a series: without labels, and without what a histogram adds.
std::string family_of(const std::string& series, const Page& page) {
  std::string name = series.substr(0, series.find('{'));
  for (const char* suffix : {"_bucket", "_sum", "_count"}) {
    const std::string base =
        name.ends_with(suffix) ? name.substr(0, name.size() - std::string(suffix).size()) : "";
    const auto type = page.types.find(base);
    if (type != page.types.end() && type->second == "histogram") return base;
  }
  return name;
}

Page parse(const std::string& text) {
  Page page;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string hash;
    std::string kind;
    std::string name;
    if (line.starts_with("#")) {
      words >> hash >> kind >> name;
      if (kind == "TYPE") {
        EXPECT_TRUE(page.types.emplace(name, "").second) << "twice: " << name;
        words >> page.types[name];
      }
      if (kind == "HELP") page.helped.insert(name);
      continue;
    }
    const std::size_t space = line.rfind(' ');
    EXPECT_NE(space, std::string::npos) << line;
    const std::string series = line.substr(0, space);
    EXPECT_TRUE(page.values.emplace(series, std::stod(line.substr(space + 1))).second)
        << "twice: " << series;
  }
  for (const auto& [series, value] : page.values) {
    const std::string family = family_of(series, page);
    EXPECT_TRUE(page.types.contains(family)) << series << " has no type";
    EXPECT_TRUE(page.helped.contains(family)) << series << " has no help";
    EXPECT_EQ(page.types[family] == "counter", family.ends_with("_total")) << family;
  }
  return page;
}

DiskMetrics busy_disk(const std::string& name) {
  DiskMetrics disk;
  disk.name = name;
  disk.size_bytes = 1 << 30;
  disk.epoch = 3;
  disk.clients = 2;
  disk.in_flight = 5;
  for (int i = 0; i < 10; ++i) {
    disk.requests.begin(DiskOp::kRead);
    disk.requests.end(DiskOp::kRead, 100'000ull << i, 4096);  // 100 µs to 51.2 ms
  }
  disk.requests.begin(DiskOp::kWrite);
  disk.requests.fail(DiskOp::kWrite, 1'000, ErrorCode::kNoSpace);
  disk.requests.begin(DiskOp::kZero);
  disk.bitmaps.push_back({"daily", 65536, 7, 7ULL * 65536, true, true, ""});
  disk.throttled_seconds = 1.5;
  return disk;
}

JobStatus job_of(const std::string& disk, JobState state) {
  JobStatus job;
  job.disk = disk;
  job.state = state;
  job.phase = is_final(state) ? Phase::kEnded : Phase::kMirroring;
  job.bytes_copied = 1000;
  job.bytes_copied_first_pass = 800;
  job.bytes_zero = 300;
  job.bytes_mirrored = 50;
  job.remaining_bytes = 600;
  job.rate_bytes_per_second = 400;
  job.dirty_rate_bytes_per_second = 100;
  job.stall_ms = 20;
  job.mismatched_chunks = 2;
  job.pulls_demanded = 4;
  job.pulls_pushed = 6;
  return job;
}

TEST(Metrics, ShowWhatADiskHasServed) {
  MetricsSnapshot snapshot;
  snapshot.disks.push_back(busy_disk("vm1"));
  const Page page = parse(metrics_text(snapshot));
  EXPECT_EQ(page.at(R"(blockmig_nbd_requests_total{disk="vm1",op="read"})"), 10);
  EXPECT_EQ(page.at(R"(blockmig_nbd_requests_total{disk="vm1",op="cache"})"), 0);
  EXPECT_EQ(page.at(R"(blockmig_nbd_errors_total{disk="vm1",op="write",error="no-space"})"), 1);
  EXPECT_EQ(page.at(R"(blockmig_nbd_bytes_total{disk="vm1",direction="read"})"), 40960);
  EXPECT_EQ(page.at(R"(blockmig_nbd_bytes_total{disk="vm1",direction="write"})"), 0);
  EXPECT_EQ(page.at(R"(blockmig_disk_in_flight_requests{disk="vm1",op="zero"})"), 1);
  EXPECT_EQ(page.at(R"(blockmig_nbd_in_flight_requests{disk="vm1"})"), 5);
  EXPECT_EQ(page.at(R"(blockmig_nbd_clients{disk="vm1"})"), 2);
  EXPECT_EQ(page.at(R"(blockmig_disk_dirty_chunks{disk="vm1",bitmap="daily"})"), 7);
  EXPECT_EQ(page.at(R"(blockmig_migration_throttled_seconds_total{disk="vm1"})"), 1.5);
}

TEST(Metrics, AFailedJournalIsZero) {
  MetricsSnapshot snapshot;
  EXPECT_EQ(parse(metrics_text(snapshot)).at("blockmig_journal_healthy"), 1);
  snapshot.daemon.journal_error = "no room";
  EXPECT_EQ(parse(metrics_text(snapshot)).at("blockmig_journal_healthy"), 0);
}

TEST(Metrics, LateDisksAreCounted) {
  MetricsSnapshot snapshot;
  EXPECT_EQ(parse(metrics_text(snapshot)).at("blockmig_late_disks"), 0);
  EXPECT_EQ(parse(metrics_text(snapshot)).at("blockmig_refused_disks"), 0);
  snapshot.daemon.refused_disks = {{"vm3", "it is another's"}};
  EXPECT_EQ(parse(metrics_text(snapshot)).at("blockmig_refused_disks"), 1);
  snapshot.daemon.late_disks = {"vm1", "vm2"};
  EXPECT_EQ(parse(metrics_text(snapshot)).at("blockmig_late_disks"), 2);
}

TEST(Metrics, HistogramsAreInSecondsCumulativeAndComplete) {
  MetricsSnapshot snapshot;
  snapshot.disks.push_back(busy_disk("vm1"));
  const Page page = parse(metrics_text(snapshot));
  const std::string name = "blockmig_nbd_request_duration_seconds";
  const std::string labels = R"({disk="vm1",op="read")";
  EXPECT_EQ(page.at(name + "_count" + labels + "}"), 10);
  EXPECT_NEAR(page.at(name + "_sum" + labels + "}"), 0.1023, 1e-9);
  EXPECT_EQ(page.at(name + "_bucket" + labels + R"(,le="+Inf"})"), 10);
  // 100, 200, 400, 800 µs are below 1 ms, and 51.2 ms below 100 ms.
  EXPECT_EQ(page.at(name + "_bucket" + labels + R"(,le="0.001"})"), 4);
  EXPECT_EQ(page.at(name + "_bucket" + labels + R"(,le="0.1"})"), 10);
  double last = 0;
  int buckets = 0;
  for (const char* bound :
       {"1e-06",  "2.5e-06", "5e-06",  "1e-05", "2.5e-05", "5e-05", "0.0001", "0.00025",
        "0.0005", "0.001",   "0.0025", "0.005", "0.01",    "0.025", "0.05",   "0.1",
        "0.25",   "0.5",     "1",      "2.5",   "5",       "10"}) {
    const double count = page.at(name + "_bucket" + labels + ",le=\"" + bound + "\"}");
    EXPECT_GE(count, last);
    last = count;
    ++buckets;
  }
  EXPECT_EQ(buckets, 22);
}

TEST(Metrics, MigrationsShowOnePhaseAndOneStateAndTotalsOfAllJobs) {
  MetricsSnapshot snapshot;
  snapshot.jobs = {job_of("vm1", JobState::kDone), job_of("vm1", JobState::kFailed),
                   job_of("vm1", JobState::kRunning), job_of("vm2", JobState::kAborted)};
  const Page page = parse(metrics_text(snapshot));
  const auto phase = [&page](const std::string& disk, const std::string& name) {
    return page.at("blockmig_migration_phase{disk=\"" + disk + "\",mode=\"mirror\",phase=\"" +
                   name + "\"}");
  };
  EXPECT_EQ(phase("vm1", "mirroring"), 1);
  EXPECT_EQ(phase("vm1", "copying") + phase("vm1", "preparing") + phase("vm1", "ended"), 0);
  EXPECT_EQ(phase("vm2", "ended"), 1);
  EXPECT_EQ(page.at(R"(blockmig_migration_state{disk="vm1",mode="mirror",state="running"})"), 1);
  EXPECT_EQ(page.at(R"(blockmig_migration_state{disk="vm1",mode="mirror",state="done"})"), 0);
  EXPECT_EQ(page.at(R"(blockmig_migration_jobs_total{disk="vm1",state="done"})"), 1);
  EXPECT_EQ(page.at(R"(blockmig_migration_jobs_total{disk="vm1",state="failed"})"), 1);
  EXPECT_EQ(page.at(R"(blockmig_migration_copied_bytes_total{disk="vm1",pass="first"})"), 2400);
  EXPECT_EQ(page.at(R"(blockmig_migration_copied_bytes_total{disk="vm1",pass="later"})"), 600);
  EXPECT_EQ(page.at(R"(blockmig_migration_zero_bytes_total{disk="vm1"})"), 900);
  EXPECT_EQ(page.at(R"(blockmig_migration_wire_bytes_total{disk="vm1"})"), 2250);
  EXPECT_EQ(page.at(R"(blockmig_verify_mismatched_chunks_total{disk="vm1"})"), 6);
  EXPECT_EQ(page.at(R"(blockmig_postcopy_remote_reads_total{disk="vm1",kind="demand"})"), 12);
  EXPECT_EQ(page.at(R"(blockmig_postcopy_remote_reads_total{disk="vm1",kind="push"})"), 18);
  EXPECT_EQ(page.at(R"(blockmig_migration_remaining_bytes{disk="vm1"})"), 600);
  EXPECT_EQ(page.at(R"(blockmig_migration_remaining_bytes{disk="vm2"})"), 0);
  EXPECT_EQ(page.at(R"(blockmig_migration_eta_seconds{disk="vm1"})"), 2);
  EXPECT_EQ(page.at(R"(blockmig_disk_dirty_rate_bytes_per_second{disk="vm1"})"), 100);
  EXPECT_EQ(page.at(R"(blockmig_migration_switchover_stall_seconds_count{disk="vm1"})"), 1);
  EXPECT_NEAR(page.at(R"(blockmig_migration_switchover_stall_seconds_sum{disk="vm1"})"), 0.02,
              1e-9);
}

TEST(Metrics, AnEtaThatIsNotInSightIsAbsent) {
  MetricsSnapshot snapshot;
  snapshot.jobs = {job_of("vm1", JobState::kRunning)};
  snapshot.jobs[0].dirty_rate_bytes_per_second = 400;
  EXPECT_THAT(metrics_text(snapshot), Not(HasSubstr("blockmig_migration_eta_seconds{")));
}

TEST(Metrics, ReasonsOfTheServerAreAllThereFromTheBeginning) {
  MetricsSnapshot snapshot;
  snapshot.server.accepted = 9;
  snapshot.server.handshake_failures[static_cast<std::size_t>(NbdHandshakeFailure::kTimeout)] = 4;
  snapshot.server.ended[static_cast<std::size_t>(NbdClientEnd::kCut)] = 2;
  snapshot.server.refused_requests = 11;
  const Page page = parse(metrics_text(snapshot));
  EXPECT_EQ(page.at("blockmig_nbd_connections_total"), 9);
  EXPECT_EQ(page.at(R"(blockmig_nbd_handshake_failures_total{reason="timeout"})"), 4);
  EXPECT_EQ(page.at(R"(blockmig_nbd_handshake_failures_total{reason="protocol"})"), 0);
  EXPECT_EQ(page.at(R"(blockmig_nbd_disconnects_total{reason="cut"})"), 2);
  EXPECT_EQ(page.at(R"(blockmig_nbd_refused_connections_total{reason="too-many-connections"})"), 0);
  EXPECT_EQ(page.at("blockmig_nbd_refused_requests_total"), 11);
}

TEST(Metrics, LabelValuesAreEscaped) {
  MetricsSnapshot snapshot;
  snapshot.daemon.version = "a\"b\\c\nd";
  const std::string text = metrics_text(snapshot);
  EXPECT_THAT(text, HasSubstr(R"(version="a\"b\\c\nd")"));
}

TEST(Metrics, TheNumberOfSeriesIsBoundedByTheDisks) {
  const auto series = [](std::size_t disks) {
    MetricsSnapshot snapshot;
    for (std::size_t i = 0; i < disks; ++i) {
      snapshot.disks.push_back(busy_disk("vm" + std::to_string(i)));
      snapshot.disks.back().clients = 1000 * i;
      for (int n = 0; n < 20; ++n) {
        snapshot.jobs.push_back(job_of("vm" + std::to_string(i), JobState::kFailed));
      }
    }
    return parse(metrics_text(snapshot)).values.size();
  };
  EXPECT_EQ(series(3) - series(2), series(2) - series(1));
  EXPECT_LE(series(2) - series(1), 250u);
}

TEST(Metrics, TheProcessIsMeasured) {
  const Page page = parse(process_metrics_text(false));
  EXPECT_EQ(page.at("blockmig_metrics_stale"), 0);
  EXPECT_GT(page.at("process_resident_memory_bytes"), 1 << 20);
  EXPECT_GE(page.at("process_open_fds"), 3);
  EXPECT_GT(page.at("process_max_fds"), page.at("process_open_fds"));
  EXPECT_GE(page.at("process_threads"), 1);
  EXPECT_GT(page.at("process_start_time_seconds"), 1e9);
  EXPECT_EQ(parse(process_metrics_text(true)).at("blockmig_metrics_stale"), 1);
}

MetricsSnapshot snapshot_of(double uptime_seconds) {
  MetricsSnapshot snapshot;
  snapshot.daemon.uptime_seconds = uptime_seconds;
  return snapshot;
}

TEST(MetricsPageTest, ABusyLoopIsNotWaitedForAndAskedOnce) {
  std::optional<MetricsPage::Deliver> held;
  int asked = 0;
  MetricsPage page([&](MetricsPage::Deliver deliver) {
    ++asked;
    if (asked == 1) return deliver(snapshot_of(1));
    held = std::move(deliver);
  });
  EXPECT_EQ(parse(page.text()).at("blockmig_metrics_stale"), 0);
  for (int i = 0; i < 3; ++i) {
    const Page stale = parse(page.text());
    EXPECT_EQ(stale.at("blockmig_metrics_stale"), 1);
    EXPECT_EQ(stale.at("blockmig_uptime_seconds"), 1) << "the last figures that there were";
    EXPECT_GT(stale.at("process_cpu_seconds_total"), 0) << "these do not need the loop";
  }
  EXPECT_EQ(asked, 2) << "questions must not pile up";
  (*held)(snapshot_of(2));
  held.reset();
  const std::string answered = page.text();  // asks anew, and is held again
  EXPECT_EQ(asked, 3);
  EXPECT_EQ(parse(answered).at("blockmig_metrics_stale"), 1);
}

TEST(MetricsPageTest, ALoopThatEndsMeanwhileLeavesAPage) {
  MetricsPage page([](const MetricsPage::Deliver&) {});
  EXPECT_EQ(parse(page.text()).at("blockmig_metrics_stale"), 1);
}

TEST(MetricsPageTest, ScrapesAtTheSameTimeShareOneAnswer) {
  std::atomic<int> asked = 0;
  std::vector<std::thread> helpers;
  std::mutex mutex;
  MetricsPage page([&](MetricsPage::Deliver deliver) {
    const std::lock_guard lock(mutex);
    ++asked;
    helpers.emplace_back([deliver = std::move(deliver)] { deliver(snapshot_of(7)); });
  });
  std::vector<std::thread> scrapers;
  std::atomic<int> complete = 0;
  for (int i = 0; i < 8; ++i) {
    scrapers.emplace_back([&] {
      if (page.text().find("process_threads") != std::string::npos) ++complete;
    });
  }
  for (std::thread& each : scrapers) each.join();
  for (std::thread& each : helpers) each.join();
  EXPECT_EQ(complete, 8);
  EXPECT_LE(asked, 8);
}

}  // namespace
}  // namespace blockmig
