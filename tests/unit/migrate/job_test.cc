// SPDX-License-Identifier: Apache-2.0
// Jobs as their users see them: what they promise in each mode, and what they leave behind.
#include <gtest/gtest.h>

#include "blockmig/base/chunk_digests.h"
#include "tests/unit/migrate/rig.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;

class EveryMode : public testing::TestWithParam<Mode> {};
INSTANTIATE_TEST_SUITE_P(Modes, EveryMode,
                         testing::Values(Mode::kCold, Mode::kSnapshot, Mode::kDbt, Mode::kMirror,
                                         Mode::kAuto),
                         [](const auto& test) { return std::string(to_string(test.param)); });

TEST_P(EveryMode, AnIdleDiskMovesAndTheJournalSaysSo) {
  Rig rig;
  const JobStatus status = rig.wait(rig.start(options_for(GetParam())));
  EXPECT_EQ(status.state, JobState::kDone) << (status.error ? status.error->message() : "");
  EXPECT_TRUE(rig.equal());
  EXPECT_EQ(status.passes, 1u);
  EXPECT_EQ(status.bytes_copied, Rig::kSize);
  EXPECT_EQ(rig.disk.store_uri(), "test:target");
  EXPECT_EQ(rig.disk.epoch(), 2u);
  const auto record = run_task(rig.loop, rig.journal->load_disk("vm1"));
  ASSERT_TRUE(record.ok() && record->has_value());
  EXPECT_EQ((*record)->store_uri, "test:target");
  EXPECT_EQ((*record)->epoch, 2u);
  EXPECT_EQ((*record)->previous_uri, "test:source");
}

TEST_P(EveryMode, APoisonedTargetIsOverwrittenWhereTheSourceIsZero_Trap9) {
  Rig rig;
  std::vector<std::byte> zeros(2 * kMiB);
  rig.source->preload(kMiB, zeros);
  rig.target->fill(std::byte{0xA5});
  rig.target->mutable_info().zero_initialised = false;
  EXPECT_EQ(rig.wait(rig.start(options_for(GetParam()))).state, JobState::kDone);
  EXPECT_TRUE(rig.equal());
}

TEST_P(EveryMode, WritesAfterTheMoveReachTheNewStoreOnly) {
  Rig rig;
  rig.wait(rig.start(options_for(GetParam())));
  ASSERT_TRUE(rig.write(4096, std::vector<std::byte>(512, std::byte{0x11})).ok());
  std::byte seen[1];
  rig.target->peek(4096, seen);
  EXPECT_EQ(seen[0], std::byte{0x11});
  rig.source->peek(4096, seen);
  EXPECT_NE(seen[0], std::byte{0x11});
}

TEST_P(EveryMode, AbortLeavesTheGuestOnTheSource_I8) {
  Rig rig;
  rig.target->plan().bytes_per_second = 100 * kKiB;
  bool discarded = false;
  const std::string id = rig.start(options_for(GetParam()), &discarded);
  rig.advance(milliseconds(200));
  ASSERT_TRUE(rig.board.abort(id).ok());
  const JobStatus status = rig.wait(id);
  EXPECT_EQ(status.state, JobState::kAborted);
  EXPECT_EQ(rig.disk.store_uri(), "test:source");
  EXPECT_EQ(rig.disk.epoch(), 1u);
  EXPECT_TRUE(rig.write(0, std::vector<std::byte>(4096, std::byte{1})).ok());
  EXPECT_EQ(rig.disk.tracking().job(), nullptr);
  EXPECT_EQ(rig.board.unanswered().size(), discarded ? 0u : 1u);
  rig.advance(std::chrono::minutes(5));  // the target does what it was sent
  EXPECT_TRUE(discarded && rig.board.unanswered().empty());
}

TEST_P(EveryMode, AFrozenTargetNeitherHoldsTheAbortNorTheGuest_I10) {
  Rig rig;
  const std::string id = rig.start(options_for(GetParam()));
  rig.target->stall();
  rig.advance(milliseconds(300));
  ASSERT_TRUE(rig.board.abort(id).ok());
  EXPECT_EQ(rig.wait(id).state, JobState::kAborted) << "the target is still frozen here";
  EXPECT_TRUE(rig.target->stalled());
  EXPECT_TRUE(rig.write(0, std::vector<std::byte>(4096, std::byte{1})).ok());
  rig.target->unstall();
}

TEST_P(EveryMode, ADeadTargetFailsTheJobAndNamesTheOffset_I8) {
  Rig rig;
  rig.target->plan().write_error_ppm = 1'000'000;
  JobOptions options = options_for(GetParam());
  options.on_target_error = OnTargetError::kFail;
  const JobStatus status = rig.wait(rig.start(options));
  EXPECT_EQ(status.state, JobState::kFailed);
  ASSERT_TRUE(status.error.has_value());
  EXPECT_NE(status.error->message().find("writing the target at offset"), std::string::npos)
      << status.error->message();
  EXPECT_EQ(rig.disk.store_uri(), "test:source");
}

TEST_P(EveryMode, ASourceReadErrorIsNeverCopiedAsZeros_I11) {
  Rig rig;
  const std::string id = rig.start(options_for(GetParam()));
  rig.source->plan().read_error_ppm = 1'000'000;
  const JobStatus status = rig.wait(id);
  EXPECT_EQ(status.state, JobState::kFailed);
  EXPECT_EQ(rig.disk.epoch(), 1u);
}

TEST_P(EveryMode, AFullTargetFailsWithNoSpaceWhenToldTo) {
  Rig rig;
  rig.target->plan().space_bytes = kMiB;
  JobOptions options = options_for(GetParam());
  options.on_target_error = OnTargetError::kFail;
  const JobStatus status = rig.wait(rig.start(options));
  EXPECT_EQ(status.state, JobState::kFailed);
  ASSERT_TRUE(status.error.has_value());
  EXPECT_EQ(status.error->code(), ErrorCode::kNoSpace);
}

TEST_P(EveryMode, FullVerificationCatchesALostTargetWriteAndNamesTheOffset_I13) {
  Rig rig;
  rig.target->plan().lost_write_ppm = 500'000;
  JobOptions options = options_for(GetParam());
  options.verify = Verify::kFull;
  const JobStatus status = rig.wait(rig.start(options));
  EXPECT_EQ(status.state, JobState::kFailed);
  ASSERT_TRUE(status.error.has_value());
  EXPECT_EQ(status.error->code(), ErrorCode::kMismatch) << status.error->message();
  EXPECT_NE(status.error->message().find("offset"), std::string::npos);
  EXPECT_EQ(rig.disk.store_uri(), "test:source");
}

/// With a guest that writes: slow_flush_test.cc.
TEST_P(EveryMode, ATargetThatFlushesTooSlowlyIsSwitchedToWhenNothingIsToBeFlushed) {
  Rig rig;
  JobOptions options = options_for(GetParam());
  options.max_downtime = milliseconds(20);
  rig.target->plan().min_delay = rig.target->plan().max_delay = milliseconds(60);
  const JobStatus status = rig.wait(rig.start(options));
  EXPECT_EQ(status.state, JobState::kDone);
  EXPECT_EQ(status.switchovers_postponed, 0u);
  EXPECT_LE(status.stall_ms, 20.0);
  EXPECT_EQ(rig.disk.gate().state(), Gate::State::kOpen);
  EXPECT_TRUE(rig.equal());
}

TEST_P(EveryMode, AnAbortedOneSaysWhatItWaitsFor) {
  Rig rig;
  rig.target->plan().bytes_per_second = kMiB;
  const std::string id = rig.start(options_for(GetParam()));
  rig.advance(milliseconds(500));
  rig.source->stall();
  rig.advance(std::chrono::seconds(10));
  ASSERT_TRUE(rig.board.abort(id).ok());
  rig.advance(std::chrono::seconds(10));
  const JobStatus waiting = *rig.board.status(id);
  EXPECT_EQ(waiting.state, JobState::kRunning);
  EXPECT_NE(waiting.verdict.find("being aborted: waits until the source"), std::string::npos);
  EXPECT_NE(waiting.verdict.find("test:source"), std::string::npos) << waiting.verdict;
  rig.source->unstall();
  const JobStatus ended = rig.wait(id);
  EXPECT_EQ(ended.state, JobState::kAborted);
  EXPECT_EQ(ended.verdict.find("being aborted"), std::string::npos);
}

TEST_P(EveryMode, PauseStopsTheCopierAndResumeGoesOn) {
  Rig rig;
  rig.target->plan().bytes_per_second = kMiB;
  const std::string id = rig.start(options_for(GetParam()));
  rig.advance(milliseconds(500));
  ASSERT_TRUE(rig.board.pause(id).ok());
  EXPECT_FALSE(rig.board.pause(id).ok());
  rig.advance(std::chrono::seconds(20));
  const std::uint64_t copied = rig.board.status(id)->bytes_copied;
  rig.advance(std::chrono::seconds(5));
  EXPECT_EQ(rig.board.status(id)->bytes_copied, copied);
  EXPECT_EQ(rig.board.status(id)->state, JobState::kPaused);
  rig.target->plan().bytes_per_second = 0;
  ASSERT_TRUE(rig.board.resume(id).ok());
  EXPECT_EQ(rig.wait(id).state, JobState::kDone);
}

TEST_P(EveryMode, TheDigestOfTheWholeDiskIsReported) {
  Rig rig;
  std::vector<std::byte> content(Rig::kSize);
  rig.source->peek(0, content);
  ChunkDigests expected(Rig::kSize);
  expected.set(0, content);
  const JobStatus status = rig.wait(rig.start(options_for(GetParam())));
  EXPECT_EQ(status.source_digest, expected.image().hex());
  EXPECT_EQ(status.target_digest, expected.image().hex());
}

TEST(Job, ASecondMigrationOfTheSameDiskIsRefusedAndNamesTheFirst) {
  Rig rig;
  const std::string id = rig.start({});
  EXPECT_EQ(rig.start({}), "refused: disk 'vm1' is being migrated by " + id +
                               ": wait for it, or abort it with 'blockmig abort " + id + "'");
  EXPECT_EQ(rig.wait(id).state, JobState::kDone);
}

TEST(Job, TheBoardForgetsTheOldestOfTooManyEndedJobs) {
  Rig rig(4096);
  rig.target = std::make_shared<FaultDevice>(rig.loop, rig.random, "tiny", 1000);
  constexpr std::size_t kMore = 5;
  for (std::size_t i = 0; i < JobBoard::kEndedJobsKept + kMore; ++i) {
    EXPECT_EQ(rig.wait(rig.start({})).state, JobState::kFailed);
  }
  const std::string running = rig.start({});
  // Who waits for a job is told of its end, whatever the board remembers.
  EXPECT_EQ(rig.wait(running).state, JobState::kFailed);
  const auto jobs = rig.board.list();
  EXPECT_EQ(jobs.size(), JobBoard::kEndedJobsKept + 1);
  EXPECT_EQ(jobs.front().id, "job-" + std::to_string(kMore + 1));
  EXPECT_EQ(jobs.back().id, running);
  EXPECT_FALSE(rig.board.status("job-1").ok());
  rig.advance(milliseconds(10));
  EXPECT_EQ(run_task(rig.loop, rig.journal->load_jobs())->size(), jobs.size())
      << "of the records too";
}

TEST(Job, TheBoardForgetsTheOldestOfTooManyRecords) {
  Rig rig;
  JournalBatch batch;
  for (std::size_t i = 1; i <= 2 * JobBoard::kEndedJobsKept; ++i) {
    JobRecord record;
    record.id = "job-" + std::to_string(i);
    record.disk = "vm1";
    record.state = "done";
    batch.jobs.push_back(record);
  }
  // A disk that is not whole goes on by the record of the job that has switched it over.
  HydrationRecord rest;
  rest.disk = "vm1";
  rest.job = "job-7";
  batch.hydrations.push_back(rest);
  DiskRecord disk;
  disk.disk = "vm1";
  batch.disks.push_back(disk);
  ASSERT_TRUE(run_task(rig.loop, rig.journal->commit(batch)).ok());
  ASSERT_TRUE(run_task(rig.loop, rig.board.load()).ok());
  const auto left = run_task(rig.loop, rig.journal->load_jobs());
  ASSERT_EQ(left->size(), JobBoard::kEndedJobsKept + 1);
  for (const JobRecord& record : *left) {
    if (record.id == rest.job) continue;
    EXPECT_GT(std::stoul(record.id.substr(4)), JobBoard::kEndedJobsKept);
  }
}

TEST(Job, ATargetThatIsTooSmallIsRefusedWithBothSizes) {
  Rig rig;
  rig.target = std::make_shared<FaultDevice>(rig.loop, rig.random, "tiny", 1000);
  bool discarded = false;
  const JobStatus status = rig.wait(rig.start({}, &discarded));
  EXPECT_EQ(status.state, JobState::kFailed);
  EXPECT_EQ(status.error->code(), ErrorCode::kPrecondition);
  EXPECT_NE(status.error->message().find("1000 bytes"), std::string::npos);
  EXPECT_NE(status.error->message().find(std::to_string(Rig::kSize)), std::string::npos);
  EXPECT_TRUE(discarded);
}

// (M10)
TEST(Job, ColdParksWritersButNotReaders) {
  Rig rig;
  rig.target->plan().bytes_per_second = kMiB;
  const std::string id = rig.start(options_for(Mode::kCold));
  rig.advance(milliseconds(500));
  TaskScope guest;
  bool written = false;
  const auto write = [](Disk& disk, bool& done) -> Task<void> {
    static const std::vector<std::byte> bytes(4096, std::byte{0x77});
    const ConstBytes from(bytes);
    const WriteFlags flags{};
    const Status status = co_await disk.write(0, from, flags);
    done = status.ok();
  };
  guest.spawn(write(rig.disk, written));
  std::vector<std::byte> bytes(4096);
  const MutableBytes into(bytes);
  EXPECT_TRUE(run_task(rig.loop, rig.disk.read(0, into)).ok());
  rig.advance(milliseconds(500));
  EXPECT_FALSE(written);
  EXPECT_EQ(rig.wait(id).state, JobState::kDone);
  rig.advance(milliseconds(10));
  EXPECT_TRUE(written);
  std::byte seen[1];
  rig.target->peek(0, seen);
  EXPECT_EQ(seen[0], std::byte{0x77}) << "a parked write goes to the new store";
}

TEST(Job, FinalJobsCannotBeAbortedPausedOrResumed) {
  Rig rig;
  const std::string id = rig.start({});
  rig.wait(id);
  EXPECT_EQ(rig.board.abort(id).error().code(), ErrorCode::kPrecondition);
  EXPECT_EQ(rig.board.pause(id).error().code(), ErrorCode::kPrecondition);
  EXPECT_EQ(rig.board.resume(id).error().code(), ErrorCode::kPrecondition);
  EXPECT_EQ(rig.board.abort("job-99").error().code(), ErrorCode::kNotFound);
}

}  // namespace
}  // namespace blockmig
