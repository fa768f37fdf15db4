// SPDX-License-Identifier: Apache-2.0
// MigrationService and DiskService with two requests at once, and with a journal that can be held.
#include "tools/daemon/migration_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <utility>
#include <vector>

#include "blockmig/io/run_task.h"
#include "blockmig/io/task_scope.h"
#include "tests/unit/tools/noting_server.h"
#include "tests/unit/tools/scratch.h"
#include "tests/unit/tools/slow_journal.h"
#include "tools/control/json.h"
#include "tools/daemon/closed_move.h"
#include "tools/daemon/job_changes.h"
#include "tools/daemon/restart_service.h"

namespace blockmig {
namespace {

using testing::HasSubstr;

constexpr std::uint64_t kSize = 300001;

std::unique_ptr<IoLoop> make_loop() {
  auto loop = make_io_loop({});
  return loop.ok() ? *std::move(loop) : nullptr;
}

Task<void> end_of(TaskScope& scope) { co_await scope.join(); }

class MigrationServiceTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* const name : {"a", "b"}) {
      scratch_.image(std::string(name) + ".img", kSize);
      ServeRequest request;
      request.disk = name;
      request.source = "file://" + scratch_ / (std::string(name) + ".img");
      ASSERT_TRUE(run_task(*loop_, service_.serve(std::move(request))).ok());
    }
  }
  void TearDown() override {
    run_task(*loop_, jobs_.stop());
    run_task(*loop_, migrations_.finish());
    EXPECT_TRUE(run_task(*loop_, disks_.close_all()).ok());
  }
  MigrateRequest move(const std::string& disk, const std::string& target) const {
    MigrateRequest request;
    request.disk = disk;
    request.target = target;
    request.options.mode = Mode::kDbt;
    return request;
  }
  Task<void> start(MigrateRequest request, std::vector<Result<JobStatus>>& answers) {
    auto started = co_await migrations_.start(std::move(request));
    answers.push_back(std::move(started));
  }
  Task<void> serve(ServeRequest request, std::vector<Result<DiskView>>& answers) {
    auto served = co_await service_.serve(std::move(request));
    answers.push_back(std::move(served));
  }
  Task<void> replace_a() {
    co_await journal_.held.wait();
    std::string name = "a";
    const Status gone = co_await service_.detach(std::move(name), /*forget=*/false);
    EXPECT_TRUE(gone.ok());
    ServeRequest request;
    request.disk = "a";
    const auto again = co_await service_.serve(std::move(request));
    EXPECT_TRUE(again.ok());
    journal_.free.set();
  }
  Task<void> move_a_elsewhere() {
    co_await journal_.held.wait();
    MigrateRequest request = move("a", "file://" + scratch_ / "elsewhere.img");
    const auto moved = co_await migrations_.start(std::move(request));
    EXPECT_TRUE(moved.ok());
    if (moved.ok()) {
      const auto ended = co_await jobs_.wait(moved->id);
      EXPECT_TRUE(ended.ok() && ended->state == JobState::kDone);
    }
    journal_.free.set();
  }
  /// A move of disk a is under way whose journal does not take what `holds` picks, until
  /// `meanwhile` has ended.
  void move_beside(std::function<bool(const JournalBatch&)> holds, Task<void> meanwhile,
                   std::vector<Result<JobStatus>>& answers) {
    journal_.holds = std::move(holds);
    TaskScope both;
    auto moving = start(move("a", "file://" + scratch_ / "new.img"), answers);
    both.spawn(std::move(moving));
    both.spawn(std::move(meanwhile));
    run_task(*loop_, end_of(both));
    ASSERT_EQ(answers.size(), 1U);
    ASSERT_TRUE(answers[0].ok());
    const auto ended = run_task(*loop_, jobs_.wait(answers[0]->id));
    ASSERT_TRUE(ended.ok());
    run_task(*loop_, migrations_.finish());
  }
  Task<void> expect_no_answer_yet(const std::vector<Result<JobStatus>>& answers) {
    co_await journal_.held.wait();
    co_await sleep_for(*loop_, std::chrono::milliseconds(20));
    EXPECT_TRUE(answers.empty());
    journal_.free.set();
  }
  Task<void> abort_a(bool noted) {
    co_await journal_.held.wait();
    std::string disk = "a";
    const auto aborted = co_await migrations_.abort(std::move(disk));
    EXPECT_TRUE(aborted.ok() && aborted->state == JobState::kRunning);
    const auto remembered = co_await load_abort(journal_, aborted->id);
    EXPECT_TRUE(remembered.ok());
    EXPECT_EQ(*remembered, noted);
    journal_.free.set();
  }
  /// Once it is on the board.
  Task<std::string> job_of_a() {
    while (jobs_.job_of("a").empty()) co_await sleep_for(*loop_, std::chrono::milliseconds(1));
    co_return jobs_.job_of("a");
  }
  Task<void> set_rate_of_daemon(std::uint64_t rate) {
    const Status set = co_await migrations_.set_daemon_rate(rate);
    EXPECT_TRUE(set.ok());
  }
  Task<void> set_rate_of_a(std::uint64_t rate) {
    JobChange change;
    change.bwlimit_bytes_per_second = rate;
    const auto changed = co_await migrations_.change("a", change);
    EXPECT_TRUE(changed.ok());
  }
  /// The journal takes the first last, if it may.
  Task<void> both_at_once(Task<void> first, Task<void> second) {
    journal_.hold_first_note = true;
    TaskScope both;
    both.spawn(std::move(first));
    both.spawn(std::move(second));
    co_await journal_.held.wait();
    co_await sleep_for(*loop_, std::chrono::milliseconds(20));  // in which the second may overtake
    journal_.free.set();
    co_await both.join();
  }
  Task<void> set_twice_at_once() {
    const std::string id = co_await job_of_a();
    EXPECT_TRUE(jobs_.pause(id).ok());
    auto first = set_rate_of_a(1000);
    auto second = set_rate_of_a(2000);
    co_await both_at_once(std::move(first), std::move(second));
    JobOptions options;
    const Status applied = co_await apply_job_change(journal_, id, options);
    EXPECT_TRUE(applied.ok());
    EXPECT_EQ(options.bwlimit_bytes_per_second, 2000U);
    EXPECT_TRUE(jobs_.abort(id).ok());
  }
  Task<void> pause_and_set_without_a_journal() {
    const std::string id = co_await job_of_a();
    journal_.fails = [](const JournalBatch& batch) { return !batch.notes.empty(); };
    std::string disk = "a";
    const auto paused = co_await migrations_.pause(std::move(disk));
    EXPECT_THAT(paused.ok() ? std::string() : paused.error().message(),
                HasSubstr("a restart will not know"));
    EXPECT_EQ(jobs_.status(id)->state, JobState::kPaused);
    JobChange change;
    change.bwlimit_bytes_per_second = 1000;
    const auto changed = co_await migrations_.change("a", change);
    EXPECT_FALSE(changed.ok());
    EXPECT_EQ(jobs_.status(id)->bwlimit_bytes_per_second, 1000U);
    const Status rate = co_await migrations_.set_daemon_rate(5000);
    EXPECT_FALSE(rate.ok());
    EXPECT_EQ(jobs_.bandwidth().rate(), 5000U);
    journal_.fails = nullptr;
    EXPECT_TRUE(jobs_.abort(id).ok());
  }
  Task<void> move_c_while_it_comes() {
    co_await journal_.held.wait();
    std::vector<Result<JobStatus>> answers;
    TaskScope moves;
    auto moving = start(move("c", "file://" + scratch_ / "new.img"), answers);
    moves.spawn(std::move(moving));
    co_await sleep_for(*loop_, std::chrono::milliseconds(20));
    EXPECT_TRUE(answers.empty());
    journal_.free.set();
    co_await moves.join();
    EXPECT_TRUE(answers.size() == 1 && answers[0].ok());
  }
  /// The note of it is saved when the end of the job has removed all notes already.
  Task<void> abort_a_and_let_it_end() {
    std::string id = co_await job_of_a();
    const auto aborted = co_await migrations_.abort(id);
    EXPECT_TRUE(aborted.ok() && journal_.held.is_set());
    const auto ended = co_await jobs_.wait(id);
    EXPECT_TRUE(ended.ok() && ended->state == JobState::kAborted);
    co_await sleep_for(*loop_, std::chrono::milliseconds(20));
    journal_.free.set();
  }
  /// A move of disk a is held while its target is looked at, until `overtaking` has ended.
  void expect_changed_meanwhile(Task<void> overtaking) {
    std::vector<Result<JobStatus>> answers;
    journal_.hold_next = true;
    TaskScope both;
    auto moving = start(move("a", "file://" + scratch_ / "new.img"), answers);
    both.spawn(std::move(moving));
    both.spawn(std::move(overtaking));
    run_task(*loop_, end_of(both));
    ASSERT_EQ(answers.size(), 1U);
    ASSERT_FALSE(answers[0].ok());
    EXPECT_EQ(answers[0].error().code(), ErrorCode::kBusy);
    EXPECT_THAT(answers[0].error().message(), HasSubstr("changed meanwhile"));
  }

  Scratch scratch_;
  std::unique_ptr<IoLoop> loop_ = make_loop();
  SlowJournal journal_{*loop_};
  DiskSet disks_;
  JobBoard jobs_{*loop_, journal_};
  NotingServer server_{disks_};
  Log log_{LogForm::kSilent};
  DiskService service_{*loop_, journal_, disks_, jobs_, server_, log_, scratch_ / "nbd.sock"};
  MigrationService migrations_{*loop_, journal_, disks_, service_, jobs_, log_};
};

JobRecord running(const std::string& id, const std::string& disk) {
  JobRecord job;
  job.id = id;
  job.disk = disk;
  job.state = to_string(JobState::kRunning);
  return job;
}

TEST_F(MigrationServiceTest, TheEndOfAnEarlierJobLeavesTheNoteOfTheLatestAlone_I5) {
  JournalBatch batch;
  for (const char* const id : {"job-1", "job-2"}) batch.jobs.push_back(running(id, "a"));
  ASSERT_TRUE(run_task(*loop_, journal_.commit(batch)).ok());
  ASSERT_TRUE(run_task(*loop_, save_closed_move(journal_, "a", {false, "here", "there"})).ok());
  RestartService restarts(*loop_, journal_, disks_, migrations_, log_);
  ASSERT_TRUE(run_task(*loop_, restarts.load()).ok());
  const auto jobs = run_task(*loop_, journal_.load_jobs());
  ASSERT_EQ(jobs->size(), 2U);
  EXPECT_EQ(jobs->front().state, "failed");
  EXPECT_EQ(jobs->back().state, "running");
  const auto closed = run_task(*loop_, load_closed_move(journal_, "a"));
  ASSERT_TRUE(closed.ok() && closed->has_value());
  EXPECT_EQ((*closed)->target, "there");
}

bool is_of_job(const JournalBatch& batch) { return !batch.jobs.empty(); }

// A power loss right behind the answer would take the job with it.
TEST_F(MigrationServiceTest, StartIsAnsweredWhenTheJournalHasTheJob) {
  std::vector<Result<JobStatus>> answers;
  move_beside(is_of_job, expect_no_answer_yet(answers), answers);
}

TEST_F(MigrationServiceTest, AbortIsRememberedUntilTheJobHasEnded) {
  std::vector<Result<JobStatus>> answers;
  move_beside(is_of_job, abort_a(true), answers);
  EXPECT_EQ(answers[0]->id, "job-1");
  EXPECT_FALSE(*run_task(*loop_, load_abort(journal_, "job-1")));
  EXPECT_EQ(run_task(*loop_, journal_.load_jobs())->front().state, "aborted");
}

TEST_F(MigrationServiceTest, AbortThatIsSavedBehindTheEndIsForgottenToo) {
  const auto is_abort = [](const JournalBatch& batch) {
    return !batch.notes.empty() && batch.notes.front().topic == "job-abort";
  };
  std::vector<Result<JobStatus>> answers;
  move_beside(is_abort, abort_a_and_let_it_end(), answers);
  EXPECT_FALSE(*run_task(*loop_, load_abort(journal_, "job-1")));
}

TEST_F(MigrationServiceTest, OfTwoChangesAtOnceTheLastOneIsRemembered) {
  std::vector<Result<JobStatus>> answers;
  move_beside(nullptr, set_twice_at_once(), answers);
}

TEST_F(MigrationServiceTest, OfTwoRatesOfTheDaemonAtOnceTheLastOneIsRemembered) {
  auto first = set_rate_of_daemon(1000);
  auto second = set_rate_of_daemon(2000);
  run_task(*loop_, both_at_once(std::move(first), std::move(second)));
  EXPECT_EQ(*run_task(*loop_, load_daemon_rate(journal_)), 2000U);
}

// It has its effect, but who asked for it must hear that a restart undoes it.
TEST_F(MigrationServiceTest, WhatIsNotRememberedIsAnError_I11) {
  std::vector<Result<JobStatus>> answers;
  move_beside(nullptr, pause_and_set_without_a_journal(), answers);
}

TEST_F(MigrationServiceTest, AbortIsAnsweredAlsoWhereTheJournalHangs_I10) {
  std::vector<Result<JobStatus>> answers;
  move_beside([](const JournalBatch&) { return true; }, abort_a(false), answers);
  EXPECT_FALSE(*run_task(*loop_, load_abort(journal_, "job-1")));
}

TEST_F(MigrationServiceTest, AbortedJobIsNotTakenUpByARestart) {
  JobRecord job = running("job-1", "a");
  job.on_restart = to_string(OnRestart::kResume);
  job.request = to_json(move("a", "file://" + scratch_ / "new.img"));
  JournalBatch batch;
  batch.jobs.push_back(job);
  ASSERT_TRUE(run_task(*loop_, journal_.commit(batch)).ok());
  ASSERT_TRUE(run_task(*loop_, save_abort(journal_, "job-1")).ok());
  RestartService restarts(*loop_, journal_, disks_, migrations_, log_);
  ASSERT_TRUE(run_task(*loop_, restarts.load()).ok());
  Disk& disk = (*disks_.get("a"))->disk();
  ASSERT_TRUE(run_task(*loop_, restarts.prepare(disk, /*same_store=*/true)).ok());
  EXPECT_EQ(run_task(*loop_, journal_.load_jobs())->front().state, "aborted");
  EXPECT_FALSE(*run_task(*loop_, load_abort(journal_, "job-1")));
  EXPECT_EQ(restarts.job_to_take_up("a"), "");
}

TEST_F(MigrationServiceTest, OfTwoMovesToOneStoreAtOnceOneIsRefused) {
  const std::string store = "nbd+unix:///x?socket=" + scratch_ / "nobody.sock";
  std::vector<Result<JobStatus>> answers;
  TaskScope both;
  for (const char* const disk : {"a", "b"}) {
    MigrateRequest request = move(disk, store);
    auto task = start(std::move(request), answers);
    both.spawn(std::move(task));
  }
  run_task(*loop_, end_of(both));
  ASSERT_EQ(answers.size(), 2U);
  ASSERT_EQ(answers[0].ok() + answers[1].ok(), 1);
  const Error refused = answers[answers[0].ok() ? 1 : 0].error();
  EXPECT_EQ(refused.code(), ErrorCode::kBusy);
  EXPECT_THAT(refused.message(), HasSubstr("a move of disk"));
  EXPECT_TRUE(service_.reserved().uses().empty());
}

TEST_F(MigrationServiceTest, StoreThatIsBeingServedIsNoTarget) {
  // The image is there, and nobody's yet; the move begins while its disk is on the way in.
  scratch_.image("c.img", kSize);
  ServeRequest request;
  request.disk = "c";
  request.source = "file://" + scratch_ / "c.img";
  std::vector<Result<DiskView>> served;
  std::vector<Result<JobStatus>> moved;
  TaskScope both;
  MigrateRequest to_c = move("a", "file://" + scratch_ / "c.img");
  auto serving = serve(std::move(request), served);
  auto moving = start(std::move(to_c), moved);
  both.spawn(std::move(serving));
  both.spawn(std::move(moving));
  run_task(*loop_, end_of(both));
  ASSERT_EQ(moved.size(), 1U);
  ASSERT_EQ(served.size(), 1U);
  EXPECT_EQ(moved[0].ok() + served[0].ok(), 1);
}

// Who sees it has no other way to know that the rest of it takes a moment.
TEST_F(MigrationServiceTest, DiskThatIsStillComingIsMovedWhenItHasCome) {
  scratch_.image("c.img", kSize);
  ServeRequest request;
  request.disk = "c";
  request.source = "file://" + scratch_ / "c.img";
  journal_.holds = [](const JournalBatch& batch) {
    return !batch.notes.empty() && batch.notes.back().topic == "serve";  // its last one
  };
  std::vector<Result<DiskView>> served;
  TaskScope both;
  auto serving = serve(std::move(request), served);
  auto moving = move_c_while_it_comes();
  both.spawn(std::move(serving));
  both.spawn(std::move(moving));
  run_task(*loop_, end_of(both));
  EXPECT_TRUE(served.size() == 1 && served[0].ok());
}

TEST_F(MigrationServiceTest, DiskThatIsAnotherByThenIsNotMoved) {
  expect_changed_meanwhile(replace_a());
}

// Its plan says from where, and what has changed since when.
TEST_F(MigrationServiceTest, DiskThatHasMovedByThenIsNotMovedFromWhereItWas) {
  expect_changed_meanwhile(move_a_elsewhere());
}

}  // namespace
}  // namespace blockmig
