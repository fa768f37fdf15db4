// SPDX-License-Identifier: Apache-2.0
// A whole daemon in this process, spoken to through its control interface.
#include "tools/daemon/daemon.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/unit/tools/scratch.h"
#include "tools/control/json.h"
#include "tools/control/state_dir.h"

namespace blockmig {
namespace {

using testing::HasSubstr;

constexpr std::uint64_t kSize = 3 * kMiB + 4097;

class DaemonTest : public testing::Test {
 protected:
  void SetUp() override {
    source_ = scratch_.image("a.img", kSize);
    std::filesystem::create_directory(state_);
    start();
  }
  void TearDown() override { stop(); }

  void start() {
    DaemonOptions options;
    options.state_dir = state_;
    auto daemon = Daemon::start(options, log_, [this] { stop_requested_ = true; });
    ASSERT_TRUE(daemon.ok()) << daemon.error().message();
    daemon_ = *std::move(daemon);
  }
  void stop() {
    if (daemon_ == nullptr) return;
    const Status stopped = daemon_->stop();
    EXPECT_TRUE(stopped.ok());
    daemon_.reset();
  }

  ControlResponse ask(const std::string& method, const std::string& path,
                      const std::string& body = {}) {
    return daemon_->handle({method, path, body});
  }
  Error refusal(const std::string& method, const std::string& path, const std::string& body = {}) {
    const ControlResponse response = ask(method, path, body);
    EXPECT_FALSE(response.ok()) << response.body;
    return error_from_response(response);
  }
  ControlResponse serve(const std::string& disk, const std::string& source, bool force = false) {
    ServeRequest request;
    request.disk = disk;
    request.source = source.empty() ? "" : "file://" + source;
    request.force_source = force;
    return ask("POST", "/v1/disks", to_json(request));
  }
  ControlResponse migrate(const std::string& disk, const std::string& target,
                          std::uint64_t bwlimit = 0, OnRestart on_restart = OnRestart::kResume) {
    MigrateRequest request;
    request.disk = disk;
    request.target = target.find(':') == std::string::npos ? "file://" + target : target;
    request.options.mode = Mode::kDbt;
    request.options.bwlimit_bytes_per_second = bwlimit;
    request.options.on_restart = on_restart;
    return ask("POST", "/v1/jobs", to_json(request));
  }
  /// Until the job has opened its target and copies to it.
  void wait_until_it_copies(const std::string& job) {
    for (;;) {
      const Result<JobStatus> status = job_from_json(ask("GET", "/v1/jobs/" + job).body);
      ASSERT_TRUE(status.ok() && !is_final(status->state));
      if (status->bytes_copied > 0) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  JobStatus wait(const std::string& job) {
    for (;;) {
      const Result<JobStatus> status = job_from_json(ask("GET", "/v1/jobs/" + job).body);
      if (!status.ok() || is_final(status->state)) return status.ok() ? *status : JobStatus{};
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
  DiskView disk(const std::string& name) {
    const Result<DiskView> view = disk_from_json(ask("GET", "/v1/disks/" + name).body);
    return view.ok() ? *view : DiskView{};
  }

  Scratch scratch_;
  std::string state_ = scratch_ / "state";
  std::string source_;
  Log log_{LogForm::kSilent};
  std::atomic<bool> stop_requested_ = false;
  std::unique_ptr<Daemon> daemon_;
};

TEST_F(DaemonTest, MovesADiskAndRemembersWhereAfterARestart_I7) {
  ASSERT_TRUE(serve("vm1", source_).ok());
  EXPECT_EQ(disk("vm1").epoch, 1u);
  const Result<JobStatus> job = job_from_json(migrate("vm1", scratch_ / "b.img").body);
  ASSERT_TRUE(job.ok());
  const JobStatus ended = wait(job->id);
  ASSERT_EQ(ended.state, JobState::kDone) << (ended.error ? ended.error->message() : "");
  EXPECT_EQ(read_file(scratch_ / "b.img"), read_file(source_));
  EXPECT_EQ(disk("vm1").store_uri, "file://" + (scratch_ / "b.img"));
  EXPECT_EQ(disk("vm1").previous_uri, "file://" + source_);
  EXPECT_EQ(disk("vm1").epoch, 2u);
  stop();
  start();
  const Result<JobStatus> remembered = job_from_json(ask("GET", "/v1/jobs/" + job->id).body);
  ASSERT_TRUE(remembered.ok());
  EXPECT_EQ(remembered->state, JobState::kDone);
  EXPECT_EQ(remembered->bytes_copied, ended.bytes_copied);
  // The old source is stale: serving it would lose what was written since.
  const Error stale = error_from_response(serve("vm1", source_));
  EXPECT_EQ(stale.code(), ErrorCode::kPrecondition);
  ASSERT_TRUE(serve("vm1", "").ok());
  EXPECT_EQ(disk("vm1").store_uri, "file://" + (scratch_ / "b.img"));
}

TEST_F(DaemonTest, ForcedSourceBumpsTheEpoch_I3) {
  ASSERT_TRUE(serve("vm1", source_).ok());
  ASSERT_TRUE(ask("DELETE", "/v1/disks/vm1").ok());
  const std::string other = scratch_.image("other.img", kSize, 'k');
  EXPECT_FALSE(serve("vm1", other).ok());
  ASSERT_TRUE(serve("vm1", other, /*force=*/true).ok());
  EXPECT_EQ(disk("vm1").epoch, 2u);
}

TEST_F(DaemonTest, RefusesBadTargetsWithoutChangingAnything) {
  ASSERT_TRUE(serve("vm1", source_).ok());
  const std::string other = scratch_.image("other.img", kSize, 'k');
  ASSERT_TRUE(serve("vm2", other).ok());
  const auto code = [&](const std::string& target) {
    return error_from_response(migrate("vm1", target)).code();
  };
  EXPECT_EQ(code(source_), ErrorCode::kPrecondition);
  EXPECT_EQ(code(other), ErrorCode::kBusy);
  EXPECT_EQ(code(scratch_ / "none/x"), ErrorCode::kNotFound);
  EXPECT_EQ(code("nbd+unix:///vm1?socket=" + nbd_socket_path(state_)), ErrorCode::kPrecondition);
  EXPECT_EQ(ask("GET", "/v1/jobs").body, R"({"jobs":[]})");
  EXPECT_EQ(disk("vm1").epoch, 1u);
}

TEST_F(DaemonTest, ARefusalSaysWhatToDo) {
  ASSERT_TRUE(serve("vm1", source_).ok());
  const auto says = [](const ControlResponse& answer) {
    return error_from_response(answer).message();
  };
  const std::string own = "nbd+unix:///vm1?socket=" + nbd_socket_path(state_);
  EXPECT_THAT(says(serve("vm2", source_)), HasSubstr("by disk 'vm1': name another store"));
  EXPECT_THAT(refusal("POST", "/v1/jobs/vm1/pause").message(),
              HasSubstr("disk 'vm1' has no job: start one with 'blockmig migrate vm1"));
  EXPECT_THAT(refusal("DELETE", "/v1/disks/vm1/bitmaps/b9").message(),
              HasSubstr("no bitmap 'b9' of disk 'vm1': see 'blockmig bitmap ls vm1'"));
  MigrateRequest nowhere;
  nowhere.disk = "vm1";
  nowhere.target = "null:1MiB";
  const Error kept = refusal("POST", "/v1/jobs", to_json(nowhere));
  EXPECT_EQ(kept.code(), ErrorCode::kPrecondition);
  EXPECT_THAT(kept.message(), HasSubstr("keeps nothing: name a file"));
  ServeRequest own_export;
  own_export.disk = "vm2";
  own_export.source = own;
  EXPECT_THAT(refusal("POST", "/v1/disks", to_json(own_export)).message(),
              HasSubstr("name the store behind it"));
  ASSERT_TRUE(migrate("vm1", scratch_ / "b.img", 64 * kKiB).ok());
  for (const Error& busy :
       {error_from_response(migrate("vm1", scratch_ / "c.img")), refusal("DELETE", "/v1/disks/vm1"),
        refusal("POST", "/v1/disks/vm1/settle")}) {
    EXPECT_EQ(busy.code(), ErrorCode::kBusy);
    EXPECT_THAT(busy.message(), HasSubstr("or abort it with 'blockmig abort job-1'"));
  }
}

TEST_F(DaemonTest, FailedMoveLeavesTheDiskAndNoFile_I8) {
  ASSERT_TRUE(serve("vm1", source_).ok());
  const Result<JobStatus> job =
      job_from_json(migrate("vm1", "nbd+unix:///?socket=" + (scratch_ / "none")).body);
  ASSERT_TRUE(job.ok());
  const JobStatus ended = wait(job->id);
  EXPECT_EQ(ended.state, JobState::kFailed);
  ASSERT_TRUE(ended.error.has_value());
  EXPECT_THAT(ended.error->message(), HasSubstr("none"));
  // What the library's function was called says nothing to the user.
  EXPECT_THAT(ended.error->message(), testing::Not(HasSubstr("nbd_")));
  EXPECT_EQ(disk("vm1").store_uri, "file://" + source_);
}

TEST_F(DaemonTest, AbortByDiskRemovesTheHalfTarget_I8) {
  ASSERT_TRUE(serve("vm1", source_).ok());
  const Result<JobStatus> job = job_from_json(migrate("vm1", scratch_ / "b.img", 64 * kKiB).body);
  ASSERT_TRUE(job.ok());
  EXPECT_EQ(error_from_response(migrate("vm1", scratch_ / "c.img")).code(), ErrorCode::kBusy);
  EXPECT_EQ(refusal("DELETE", "/v1/disks/vm1").code(), ErrorCode::kBusy);
  EXPECT_TRUE(ask("POST", "/v1/jobs/vm1/pause").ok());
  EXPECT_TRUE(ask("POST", "/v1/jobs/vm1/resume").ok());
  JobChange change;
  change.bwlimit_bytes_per_second = 128 * kKiB;
  change.priority = Priority::kLow;
  change.max_downtime = std::chrono::milliseconds(500);
  EXPECT_TRUE(ask("POST", "/v1/jobs/vm1/set", to_json(change)).ok());
  const Result<JobStatus> changed = job_from_json(ask("GET", "/v1/jobs/vm1").body);
  ASSERT_TRUE(changed.ok());
  EXPECT_EQ(changed->bwlimit_bytes_per_second, 128 * kKiB);
  EXPECT_EQ(changed->priority, Priority::kLow);
  EXPECT_EQ(changed->max_downtime_ms, 500.0);
  EXPECT_EQ(refusal("POST", "/v1/jobs/vm1/set", "{}").code(), ErrorCode::kInvalid);
  EXPECT_TRUE(ask("POST", "/v1/daemon/set", bwlimit_to_json(256 * kKiB)).ok());
  EXPECT_TRUE(ask("POST", "/v1/jobs/vm1/abort").ok());
  EXPECT_EQ(wait(job->id).state, JobState::kAborted);
  stop();  // waits until what the job left behind is cleared away
  EXPECT_FALSE(std::filesystem::exists(scratch_ / "b.img"));
}

TEST_F(DaemonTest, StoppingAbortsWhatRuns_I8) {
  ASSERT_TRUE(serve("vm1", source_).ok());
  const auto job = job_from_json(
      migrate("vm1", scratch_ / "b.img", 64 * kKiB, /*on_restart=*/OnRestart::kAbort).body);
  ASSERT_TRUE(job.ok());
  wait_until_it_copies(job->id);
  stop();
  EXPECT_FALSE(std::filesystem::exists(scratch_ / "b.img"));
  start();
  ASSERT_TRUE(serve("vm1", "").ok());
  EXPECT_EQ(disk("vm1").store_uri, "file://" + source_);
}

TEST_F(DaemonTest, StoppingSuspendsWhatGoesOnAfterARestart) {
  ASSERT_TRUE(serve("vm1", source_).ok());
  const auto job = job_from_json(migrate("vm1", scratch_ / "b.img", 64 * kKiB).body);
  ASSERT_TRUE(job.ok());
  wait_until_it_copies(job->id);
  stop();
  EXPECT_TRUE(std::filesystem::exists(scratch_ / "b.img"));
}

TEST_F(DaemonTest, AddingADiskThatCannotBeIsRefusedAndLeavesNoRecord) {
  EXPECT_EQ(error_from_response(serve("vm1", "")).code(), ErrorCode::kNotFound);
  EXPECT_EQ(error_from_response(serve("vm1", scratch_ / "none")).code(), ErrorCode::kNotFound);
  ASSERT_TRUE(serve("vm1", source_).ok());
  EXPECT_EQ(error_from_response(serve("vm1", source_)).code(), ErrorCode::kBusy);
  EXPECT_EQ(error_from_response(serve("vm2", source_)).code(), ErrorCode::kBusy);
  EXPECT_EQ(error_from_response(serve("job-4", scratch_ / "none")).code(), ErrorCode::kInvalid);
  EXPECT_EQ(error_from_response(serve("job-x", scratch_ / "none")).code(), ErrorCode::kNotFound);
  ServeRequest request;
  request.disk = "vm3";
  request.source = "file://" + scratch_.image("c.img", kSize);
  request.listen = {"unix:/nonexistent-folder/x.sock"};
  EXPECT_FALSE(ask("POST", "/v1/disks", to_json(request)).ok());
  EXPECT_EQ(error_from_response(serve("vm3", "")).code(), ErrorCode::kNotFound);  // no record
  EXPECT_TRUE(serve("vm3", scratch_ / "c.img").ok());  // and no lock left
}

TEST_F(DaemonTest, ForgetRemovesTheRecord) {
  ASSERT_TRUE(serve("vm1", source_).ok());
  ASSERT_TRUE(ask("DELETE", "/v1/disks/vm1/record").ok());
  EXPECT_EQ(error_from_response(serve("vm1", "")).code(), ErrorCode::kNotFound);
}

TEST_F(DaemonTest, BitmapsComeAndGo) {
  ASSERT_TRUE(serve("vm1", source_).ok());
  const std::string path = "/v1/disks/vm1/bitmaps";
  EXPECT_TRUE(ask("POST", path, to_json(BitmapSpec{"b0", 4096})).ok());
  EXPECT_EQ(refusal("POST", path, to_json(BitmapSpec{"b0", 4096})).code(), ErrorCode::kBusy);
  EXPECT_EQ(refusal("POST", path, to_json(BitmapSpec{"b1", 5000})).code(), ErrorCode::kInvalid);
  const auto bitmaps = bitmaps_from_json(ask("GET", path).body);
  ASSERT_TRUE(bitmaps.ok());
  ASSERT_EQ(bitmaps->size(), 1u);
  EXPECT_EQ((*bitmaps)[0].granularity_bytes, 4096u);
  EXPECT_TRUE(ask("DELETE", path + "/b0").ok());
  EXPECT_EQ(refusal("DELETE", path + "/b0").code(), ErrorCode::kNotFound);
}

TEST_F(DaemonTest, UnknownRequestsAreNotFoundAndBadOnesInvalid) {
  for (const char* path : {"/", "/v1", "/v2/status", "/v1/nothing", "/v1/jobs/x/y/z",
                           "/v1/disks/none", "/v1/jobs/none", "/a/b/c/d/e/f/g/h/i/j"}) {
    EXPECT_EQ(refusal("GET", path).code(), ErrorCode::kNotFound) << path;
  }
  EXPECT_EQ(refusal("POST", "/v1/disks", "{").code(), ErrorCode::kInvalid);
  EXPECT_EQ(refusal("POST", "/v1/jobs", "[]").code(), ErrorCode::kInvalid);
  EXPECT_EQ(refusal("POST", "/v1/clients/x/disconnect").code(), ErrorCode::kInvalid);
  EXPECT_EQ(refusal("POST", "/v1/clients/99/disconnect").code(), ErrorCode::kNotFound);
}

TEST_F(DaemonTest, StopRequestIsPassedOnAndStatusDescribesTheDaemon) {
  const auto overview = overview_from_json(ask("GET", "/v1/status").body);
  ASSERT_TRUE(overview.ok());
  EXPECT_EQ(overview->daemon.state_dir, state_);
  EXPECT_EQ(overview->daemon.pid, static_cast<std::uint64_t>(getpid()));
  EXPECT_TRUE(ask("POST", "/v1/stop").ok());
  EXPECT_TRUE(stop_requested_.load());
}

TEST_F(DaemonTest, AfterStopEveryRequestIsRefused) {
  ASSERT_TRUE(daemon_->stop().ok());
  EXPECT_EQ(refusal("GET", "/v1/status").code(), ErrorCode::kShutdown);
}

TEST(DaemonStart, BadListenAddressIsAnErrorAndLeavesNothingRunning) {
  Scratch scratch;
  Log log(LogForm::kSilent);
  DaemonOptions options;
  options.private_journal = true;
  options.listen = {"unix:/nonexistent-folder/x.sock"};
  EXPECT_FALSE(Daemon::start(options, log, [] {}).ok());
}

}  // namespace
}  // namespace blockmig
