// SPDX-License-Identifier: Apache-2.0
// What the status shows of disks and clients: as JSON, whole; as tables, for people.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tools/cli/tables.h"
#include "tools/control/json.h"

namespace blockmig {
namespace {

using testing::HasSubstr;
using testing::Not;

DiskView busy_disk() {
  DiskView disk;
  disk.name = "vm1";
  disk.store_uri = "file:///a";
  disk.requests = 12;
  disk.errors = 1;
  disk.in_flight = 3;
  disk.p50_ms = 0.1;
  disk.p99_ms = 2;
  disk.max_ms = 40;
  disk.rate = {1234.4, 4096, 8192, 0.05, 1.5, 20};
  disk.ops = {{"read", 10, 0, 40960, 2, 0.1, 1, 2}, {"write", 2, 1, 512, 1, 3, 4, 40}, {}};
  disk.ops.back().op = "trim";
  return disk;
}

ClientView busy_client() {
  ClientView client;
  client.id = 7;
  client.peer = "tcp:192.0.2.7:4711";
  client.disk = "vm1";
  client.requests = 12;
  client.bytes_read = 4096;
  client.errors = 2;
  client.refused = 1;
  client.requests_by_op = {{"read", 10}, {"write", 2}};
  client.connected_seconds = 90.5;
  client.idle_seconds = 3;
  client.tls = true;
  client.identity = "CN=host";
  return client;
}

TEST(StatusJson, DisksAndClientsSurviveTheRoundTripWhole) {
  Overview overview;
  overview.disks = {busy_disk()};
  overview.clients = {busy_client()};
  const Result<Overview> back = overview_from_json(to_json(overview));
  ASSERT_TRUE(back.ok()) << back.error().message();
  EXPECT_EQ(back->disks, overview.disks);
  EXPECT_EQ(back->clients, overview.clients);
}

TEST(StatusJson, OfAnOlderDaemonIsUnderstood) {
  const Result<Overview> back = overview_from_json(
      R"({"daemon":{"version":"0"},"disks":[{"name":"vm1","requests":5}],"jobs":[]})");
  ASSERT_TRUE(back.ok()) << back.error().message();
  EXPECT_EQ(back->disks[0].requests, 5u);
  EXPECT_EQ(back->disks[0].rate, DiskRate{});
  EXPECT_TRUE(back->clients.empty());
}

TEST(StatusJson, HostileFieldsAreErrorsThatNameThem) {
  const auto refusal = [](const std::string& members) {
    const Result<DiskView> disk = disk_from_json(R"({"name":"vm1",)" + members + "}");
    return disk.ok() ? std::string() : disk.error().message();
  };
  EXPECT_THAT(refusal(R"("rate":5)"), HasSubstr("rate"));
  EXPECT_THAT(refusal(R"("rate":{"p50_ms":"x"})"), HasSubstr("p50_ms"));
  EXPECT_THAT(refusal(R"("ops":[{"requests":1}])"), HasSubstr("op"));
  EXPECT_THAT(refusal(R"("ops":{})"), HasSubstr("ops"));
  const auto clients = clients_from_json(R"({"clients":[{"id":1,"requests_by_op":{"read":-1}}]})");
  ASSERT_FALSE(clients.ok());
  EXPECT_THAT(clients.error().message(), HasSubstr("requests_by_op"));
}

TEST(StatusTables, TheOverviewShowsRatesLatenciesAndClients) {
  Overview overview;
  overview.disks = {busy_disk()};
  overview.clients = {busy_client()};
  const std::string text = overview_text(overview, false);
  EXPECT_THAT(text, HasSubstr("REQUESTS/S"));
  EXPECT_THAT(text, HasSubstr("1234"));
  EXPECT_THAT(text, HasSubstr("4 KiB/s"));
  EXPECT_THAT(text, HasSubstr("8 KiB/s"));
  EXPECT_THAT(text, HasSubstr("1.5 ms"));
  EXPECT_THAT(text, HasSubstr("192.0.2.7:4711"));
  overview.clients.clear();
  EXPECT_THAT(overview_text(overview, false), Not(HasSubstr("PEER")));
}

TEST(StatusTables, TheOverviewSaysThatTheJournalHasFailed) {
  Overview overview;
  EXPECT_THAT(overview_text(overview, false), Not(HasSubstr("journal")));
  overview.daemon.journal_error = "no room";
  EXPECT_THAT(overview_text(overview, false), HasSubstr("the journal has failed"));
  EXPECT_THAT(overview_text(overview, false), HasSubstr("no room"));
}

TEST(StatusTables, TheOverviewNamesLateDisks) {
  Overview overview;
  EXPECT_THAT(overview_text(overview, false), Not(HasSubstr("late")));
  overview.daemon.late_disks = {"vm2"};
  EXPECT_THAT(overview_text(overview, false), HasSubstr("disk 'vm2' is late"));
}

TEST(StatusTables, TheOverviewNamesRefusedDisksAndWhy) {
  Overview overview;
  overview.daemon.refused_disks = {{"vm3", "another daemon has it"}};
  EXPECT_THAT(overview_text(overview, false),
              HasSubstr("disk 'vm3' was served before, and is not now: another daemon has it\n"));
}

TEST(StatusTables, TroubleIsShownWhereverTheDiskIs) {
  Overview overview;
  overview.disks = {busy_disk()};
  overview.disks[0].trouble.clear();
  overview.disks[0].stamp = "stamped";
  JobStatus job;
  job.state = JobState::kRunning;
  EXPECT_THAT(overview_text(overview, false), Not(HasSubstr("trouble")));
  EXPECT_EQ(lines_beside_job(overview.disks[0], job), "");
  overview.disks[0].trouble = "it is away";
  overview.disks[0].stamp = "not stamped: read-only";
  EXPECT_THAT(overview_text(overview, false), HasSubstr("has trouble: it is away\n"));
  EXPECT_THAT(trouble_lines(overview.disks), HasSubstr("has trouble: it is away\n"));
  EXPECT_THAT(lines_beside_job(overview.disks[0], job), HasSubstr("it is away"));
  EXPECT_THAT(lines_beside_job(overview.disks[0], job), HasSubstr("not stamped: read-only"));
}

TEST(StatusTables, TheWayBackIsShownBesideAJobThatHasEnded) {
  DiskView disk;
  disk.return_to = "file:///z";
  JobStatus job;
  job.state = JobState::kRunning;
  EXPECT_THAT(lines_beside_job(disk, job), Not(HasSubstr("way back")));
  job.state = JobState::kDone;
  EXPECT_THAT(lines_beside_job(disk, job), HasSubstr("changed since file:///z"));
}

TEST(Status, OverviewShowsWhatRunsAndTheLastMoveOfEachDisk) {
  Overview overview;
  const auto add = [&overview](const std::string& id, const std::string& disk, JobState state) {
    JobStatus job;
    job.id = id;
    job.disk = disk;
    job.state = state;
    overview.jobs.push_back(job);
  };
  add("job-1", "vm1", JobState::kDone);
  add("job-2", "vm2", JobState::kFailed);
  add("job-3", "vm1", JobState::kAborted);
  add("job-4", "vm1", JobState::kRunning);
  const std::string text = overview_text(overview, false);
  EXPECT_THAT(text, Not(HasSubstr("job-1")));
  EXPECT_THAT(text, HasSubstr("job-2"));
  EXPECT_THAT(text, Not(HasSubstr("job-3")));
  EXPECT_THAT(text, HasSubstr("job-4"));
  EXPECT_THAT(text, HasSubstr("2 earlier: 'blockmig ls jobs'"));
}

TEST(StatusTables, ADisksKindsOfRequestsAreShownIfItHasHadAny) {
  const std::string table = ops_table(busy_disk());
  EXPECT_THAT(table, HasSubstr("read"));
  EXPECT_THAT(table, HasSubstr("write"));
  EXPECT_THAT(table, Not(HasSubstr("trim")));
  EXPECT_EQ(ops_table(DiskView{}), "");
}

TEST(StatusTables, ColumnsLineUpWhereCharactersHaveSeveralBytes) {
  EXPECT_EQ(render_table({{"A", "B"}, {"12 µs", "x"}, {"12 ms", "y"}}),
            "A      B\n12 µs  x\n12 ms  y\n");
}

}  // namespace
}  // namespace blockmig
