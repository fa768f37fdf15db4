// SPDX-License-Identifier: Apache-2.0
#include "tools/control/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace blockmig {
namespace {

using testing::HasSubstr;

void fill_report(JobStatus& job) {
  job.guest_before = {18, 7.5, 8.25, 9.25};
  job.guest_after = {19, 10.25, 11.25, 12.25};
  job.pace_bytes_per_second = 20;
  job.pace_depth = 21;
  job.guest_share = 0.125;
  job.source_digest = "aa";
  job.target_digest = "bb";
  job.read_back = true;
  job.decisions_dropped = 23;
  job.bytes_unchanged = 24;
  job.earlier_seconds = 13.5;
}

void add_sample_hydration(JobStatus& job) {
  job.bytes_hydrated = 15;
  job.bytes_spared = 16;
  job.pulls_demanded = 17;
  job.pulls_prefetched = 18;
  job.pulls_pushed = 19;
  job.demand_p50_ms = 9.5;
  job.demand_p99_ms = 10.5;
  job.reverse_mirror = true;
  job.depends_on = "both stores";
}

JobStatus sample_job() {
  JobStatus job;
  job.id = "job-7";
  job.disk = "vm1";
  job.mode = Mode::kDbt;
  job.active_mode = Mode::kMirror;
  job.state = JobState::kFailed;
  job.phase = Phase::kEnded;
  job.source_uri = "file:///a";
  job.target_uri = "file:///b";
  job.attempt = 2;
  job.epoch = 5;
  job.error = Error(ErrorCode::kNoSpace, "no room at \"b\"\n");
  job.paused_because = "no room";
  job.target_errors = 31;
  job.target_losses = 32;
  job.mismatched_chunks = 33;
  job.verdict = "not converging";
  job.size_bytes = 18446744073709551615u;
  job.bytes_total = 1;
  job.bytes_copied = 2;
  job.bytes_mirrored = 3;
  job.bytes_zero = 4;
  job.remaining_bytes = 5;
  job.passes = 6;
  job.rate_bytes_per_second = 7;
  job.dirty_rate_bytes_per_second = 8;
  job.throttle_bytes_per_second = 9;
  job.bwlimit_bytes_per_second = 10;
  job.priority = Priority::kHigh;
  job.max_downtime_ms = 23.5;
  job.mirror_deadline_misses = 11;
  job.point_in_time = true;
  job.generations_begun = 16;
  job.generations_complete = 15;
  job.chunks_kept = 17;
  job.mirror_fallbacks = 13;
  job.longest_mirror_wait_ms = 7.5;
  job.switchover_attempts = 12;
  job.checkpoints = 21;
  job.active_regions = 22;
  job.resumed = true;
  job.interrupted_in = "mirroring";
  job.switchovers_postponed = 14;
  job.postponed_ms = 8.5;
  job.decisions = {{0.25, "mirror -> dbt", "most writes missed"}, {1.5, "dbt -> mirror", "why"}};
  job.switched = true;
  job.owner_unknown = true;
  add_sample_hydration(job);
  job.elapsed_seconds = 1.25;
  job.predicted_downtime_ms = 2.5;
  job.stall_ms = 3.5;
  job.longest_request_ms = 4.5;
  job.guest_p50_ms = 5.5;
  job.guest_p99_ms = 6.5;
  fill_report(job);
  return job;
}

TEST(Json, JobSurvivesTheRoundTripFieldByField) {
  const JobStatus job = sample_job();
  const Result<JobStatus> back = job_from_json(to_json(job));
  ASSERT_TRUE(back.ok()) << back.error().message();
  // Every field is in the text, so equal texts are equal values; and the text is not all defaults.
  EXPECT_EQ(to_json(*back), to_json(job));
  EXPECT_EQ(back->size_bytes, job.size_bytes);
  EXPECT_EQ(back->state, JobState::kFailed);
  EXPECT_EQ(back->active_mode, Mode::kMirror);
  ASSERT_TRUE(back->error.has_value());
  EXPECT_EQ(back->error->code(), ErrorCode::kNoSpace);
  EXPECT_EQ(back->error->message(), "no room at \"b\"\n");
  EXPECT_EQ(back->target_digest, "bb");
  EXPECT_DOUBLE_EQ(back->guest_p99_ms, 6.5);
  EXPECT_DOUBLE_EQ(back->guest_after.max_ms, 12.25);
  EXPECT_EQ(back->pace_depth, 21u);
  EXPECT_DOUBLE_EQ(back->guest_share, 0.125);
  EXPECT_EQ(back->decisions, job.decisions);
  EXPECT_EQ(back->decisions_dropped, 23u);
  EXPECT_EQ(back->bytes_unchanged, 24u);
  EXPECT_DOUBLE_EQ(back->earlier_seconds, 13.5);
  EXPECT_TRUE(back->read_back);
}

TEST(Json, JobHasTheFieldsThatScriptsRelyOn) {
  const std::string text = to_json(sample_job());
  for (const char* field : {"id",
                            "disk",
                            "mode",
                            "active_mode",
                            "state",
                            "phase",
                            "error",
                            "verdict",
                            "source",
                            "target",
                            "bytes_copied",
                            "bytes_total",
                            "bytes_mirrored",
                            "bytes_zero",
                            "remaining_bytes",
                            "passes",
                            "rate_bytes_per_second",
                            "dirty_rate_bytes_per_second",
                            "throttle_bytes_per_second",
                            "stall_ms",
                            "longest_request_ms",
                            "guest_p50_ms",
                            "guest_p99_ms",
                            "elapsed_seconds",
                            "predicted_downtime_ms",
                            "checkpoints",
                            "active_regions",
                            "resumed",
                            "interrupted_in",
                            "switchover_attempts",
                            "mirror_deadline_misses",
                            "mirror_fallbacks",
                            "paused_because",
                            "target_errors",
                            "target_losses",
                            "mismatched_chunks",
                            "point_in_time",
                            "generations_begun",
                            "generations_complete",
                            "chunks_kept",
                            "longest_mirror_wait_ms",
                            "switchovers_postponed",
                            "postponed_ms",
                            "decisions",
                            "decisions_dropped",
                            "bytes_unchanged",
                            "earlier_seconds",
                            "digests",
                            "epoch"}) {
    EXPECT_THAT(text, HasSubstr("\"" + std::string(field) + "\":"));
  }
}

TEST(Json, ListsSurviveTheRoundTrip) {
  const std::vector<JobStatus> jobs = {sample_job(), sample_job()};
  const auto jobs_back = jobs_from_json(to_json(jobs));
  ASSERT_TRUE(jobs_back.ok());
  EXPECT_EQ(to_json(*jobs_back), to_json(jobs));

  DiskView disk;
  disk.name = "vm1";
  disk.store_uri = "file:///a";
  disk.previous_uri = "file:///z";
  disk.return_to = "file:///z";
  disk.return_bytes = 65536;
  disk.return_lost = "the disk has another size";
  disk.epoch = 3;
  disk.size_bytes = 100000001;
  disk.read_only = true;
  disk.job = "job-1";
  disk.clients = 2;
  disk.uris = {"nbd+unix:///vm1?socket=/s", "nbd://h/vm1"};
  disk.bitmaps = {{"b0", 65536, 3, 196608, true, false, ""},
                  {"b1", 4096, 0, 0, true, true, "the disk has another size"}};
  disk.p99_ms = 0.5;
  const auto disks_back = disks_from_json(to_json(std::vector<DiskView>{disk}));
  ASSERT_TRUE(disks_back.ok());
  EXPECT_EQ(*disks_back, std::vector<DiskView>{disk});

  ClientView client;
  client.id = 1;
  client.peer = "unix:";
  client.disk = "vm1";
  client.bytes_read = 3;
  const std::vector<ClientView> clients = {client};
  const auto clients_back = clients_from_json(to_json(clients));
  ASSERT_TRUE(clients_back.ok());
  EXPECT_EQ(*clients_back, clients);

  Overview overview{{"0.1", 42, "/s", "io_uring", 1.5, {"unix:/x"}}, {disk}, jobs, clients};
  overview.daemon.journal_error = "no room";
  overview.daemon.late_disks = {"vm2"};
  overview.daemon.refused_disks = {{"vm3", "another daemon has it"}};
  const auto overview_back = overview_from_json(to_json(overview));
  ASSERT_TRUE(overview_back.ok());
  EXPECT_EQ(overview_back->daemon, overview.daemon);
  EXPECT_EQ(overview_back->disks, overview.disks);
  EXPECT_EQ(overview_back->jobs.size(), 2u);
}

TEST(Json, ServeRequestSurvivesTheRoundTrip) {
  ServeRequest request;
  request.disk = "vm1";
  request.source = "file:///a%20b";
  request.listen = {"unix:/x.sock"};
  request.cache = CacheMode::kDirect;
  request.bitmaps = {{"b0", 4096}, {"b1", 8192, false, false}};
  request.description = "my disk";
  request.create_size_bytes = 4096;
  request.force_source = true;
  const auto back = serve_request_from_json(to_json(request));
  ASSERT_TRUE(back.ok()) << back.error().message();
  EXPECT_EQ(to_json(*back), to_json(request));
  EXPECT_EQ(back->bitmaps, request.bitmaps);
  EXPECT_EQ(back->cache, CacheMode::kDirect);
}

TEST(Json, MigrateRequestSurvivesTheRoundTrip) {
  MigrateRequest request;
  request.disk = "vm1";
  request.target = "nbd+unix:///?socket=/s";
  request.options.mode = Mode::kDbt;
  request.options.on_stall = OnStall::kFail;
  request.options.verify = Verify::kFull;
  request.options.granularity_bytes = 4096;
  request.options.copy_depth = 3;
  request.options.copy_request_bytes = 65536;
  request.options.bwlimit_bytes_per_second = 12345;
  request.options.priority = Priority::kLow;
  request.options.mirror_deadline = std::chrono::microseconds(1500);
  request.options.max_guest_latency = std::chrono::microseconds(2500);
  request.options.max_downtime = std::chrono::milliseconds(7);
  request.options.target_timeout = std::chrono::seconds(2);
  request.options.reverse_mirror = false;
  request.options.base_patience = std::chrono::milliseconds(1500);
  request.options.on_restart = OnRestart::kPause;
  request.options.on_target_error = OnTargetError::kPause;
  request.options.retry_for = std::chrono::seconds(5);
  request.options.checkpoint_interval = std::chrono::seconds(4);
  const auto back = migrate_request_from_json(to_json(request));
  ASSERT_TRUE(back.ok()) << back.error().message();
  EXPECT_EQ(to_json(*back), to_json(request));
  EXPECT_EQ(back->options.mirror_deadline, request.options.mirror_deadline);
  EXPECT_EQ(back->options.max_guest_latency, request.options.max_guest_latency);
  EXPECT_EQ(back->options.verify, Verify::kFull);
}

struct BadRequest {
  const char* text;
  const char* says;
};

TEST(Json, BadServeRequestsAreRefusedByName) {
  const BadRequest cases[] = {
      {"", "not JSON"},
      {"[1]", "not an object"},
      {"{}", "'disk' is missing"},
      {R"({"disk":1})", "'disk' must be a string"},
      {R"({"disk":"../x"})", "invalid disk name"},
      {R"({"disk":"a\u0000b"})", "NUL"},
      {R"({"disk":"vm1","sauce":"/a"})", "'sauce' is not known"},
      {R"({"disk":"vm1","source":"gopher://x"})", "unknown scheme"},
      {R"({"disk":"vm1","listen":["fax:1"]})", "fax:1"},
      {R"({"disk":"vm1","listen":"unix:/x"})", "list of strings"},
      {R"({"disk":"vm1","create_size_bytes":-1})", "not negative"},
      {R"({"disk":"vm1","create_size_bytes":1.5})", "whole number"},
      {R"({"disk":"vm1","cache":"magic"})", "not one of: buffered, direct"},
      {R"({"disk":"vm1","read_only":true,"create_size_bytes":5})", "cannot be read-only"},
      {R"({"disk":"vm1","bitmaps":[{"name":"a b"}]})", "invalid bitmap name"},
      {R"({"disk":"vm1","bitmaps":[3]})", "must hold objects"},
  };
  for (const BadRequest& bad : cases) {
    const auto result = serve_request_from_json(bad.text);
    ASSERT_FALSE(result.ok()) << bad.text;
    EXPECT_EQ(result.error().code(), ErrorCode::kInvalid) << bad.text;
    EXPECT_THAT(result.error().message(), HasSubstr(bad.says)) << bad.text;
  }
}

TEST(Json, BackupSurvivesTheRoundTrip) {
  MigrateRequest request;
  request.disk = "vm1";
  request.target = "file:///b";
  request.backup = true;
  request.options.mode = Mode::kSnapshot;
  request.options.point_in_time = true;
  request.options.since_bitmap = "mon";
  request.bitmap = BitmapSpec{"tue", 4096};
  const auto read = migrate_request_from_json(to_json(request));
  ASSERT_TRUE(read.ok()) << read.error().message();
  EXPECT_TRUE(read->backup);
  EXPECT_EQ(read->options.since_bitmap, "mon");
  EXPECT_EQ(read->bitmap, request.bitmap);
}

TEST(Json, BadMigrateRequestsAreRefusedByName) {
  const BadRequest cases[] = {
      {R"({"disk":"vm1"})", "'target' is missing"},
      {R"({"disk":"vm1","target":"/b","mode":"teleport"})",
       "not one of: auto, cold, snapshot, dbt, mirror, postcopy, hybrid, shared, return"},
      {R"({"disk":"vm1","target":"/b","granularity_bytes":5000})", "granularity"},
      {R"({"disk":"vm1","target":"/b","granularity_bytes":4294967296})", "too large"},
      {R"({"disk":"vm1","target":"/b","copy_depth":0})", "copy depth"},
      {R"({"disk":"vm1","target":"/b","max_downtime_ms":-1})", "from 0 to one year"},
      {R"({"disk":"vm1","target":"/b","max_downtime_ms":1e300})", "from 0 to one year"},
      {R"({"disk":"vm1","target":"/b","max_downtime_ms":0})", "longer than zero"},
      {R"({"disk":"vm1","target":"/b","since":"mon"})", "are for backups"},
      {R"({"disk":"vm1","target":"/b","backup":true})", "point in time"},
      {R"({"disk":"vm1","target":"/b","mode":"snapshot","point_in_time":true,"backup":true,)"
       R"("since":"a/b"})",
       "a/b"},
      {R"({"disk":"vm1","target":"/b","mode":"snapshot","point_in_time":true,"backup":true,)"
       R"("since":"mon","bitmap":{"name":"mon"}})",
       "needed until the copy is whole"},
      {R"({"disk":"vm1","target":"/b","mode":"snapshot","point_in_time":true,"backup":true,)"
       R"("bitmap":{"name":"mon","recording":false}})",
       "records from its instant on"},
      {R"({"disk":"vm1","target":"/b","copy_dept":3})", "'copy_dept' is not known"},
  };
  for (const BadRequest& bad : cases) {
    const auto result = migrate_request_from_json(bad.text);
    ASSERT_FALSE(result.ok()) << bad.text;
    EXPECT_THAT(result.error().message(), HasSubstr(bad.says)) << bad.text;
  }
}

TEST(Json, DeeplyNestedAndCutTextIsAnErrorNotACrash) {
  EXPECT_FALSE(serve_request_from_json(std::string(kMaxControlBodyBytes, '[')).ok());
  const std::string good = to_json(sample_job());
  for (std::size_t length = 0; length < good.size(); ++length) {
    EXPECT_FALSE(job_from_json(good.substr(0, length)).ok());
  }
}

TEST(Json, TextThatIsNotUtf8IsReplacedNotThrownAt) {
  JobStatus job = sample_job();
  job.target_uri = "file:///\xff\xfe";
  EXPECT_TRUE(job_from_json(to_json(job)).ok());
}

TEST(Json, ErrorsCrossTheWireWithTheirCode) {
  for (int value = 0; value <= static_cast<int>(ErrorCode::kOverflow); ++value) {
    const Error error(static_cast<ErrorCode>(value), "what: which: do");
    const ControlResponse response = error_response(error);
    EXPECT_FALSE(response.ok());
    const Error back = error_from_response(response);
    EXPECT_EQ(back.code(), error.code());
    EXPECT_EQ(back.message(), error.message());
  }
  EXPECT_EQ(error_from_response({500, "<html>"}).code(), ErrorCode::kProtocol);
}

}  // namespace
}  // namespace blockmig
