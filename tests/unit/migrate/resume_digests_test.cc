// SPDX-License-Identifier: Apache-2.0
// A job that a restart goes on with knows the digests of what it believes to be equal, and in which
// phase it was interrupted.
#include <gtest/gtest.h>

#include "blockmig/base/chunk_digests.h"
#include "blockmig/migrate/checkpoint.h"
#include "tests/unit/migrate/rig.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;

constexpr std::uint64_t kChunk = ChunkDigests::kChunkBytes;

JobOptions move(Verify verify) {
  JobOptions options;
  options.mode = Mode::kDbt;
  options.verify = verify;
  options.bwlimit_bytes_per_second = 512 * kKiB;
  options.copy_request_bytes = kChunk;
  options.checkpoint_interval = milliseconds(50);
  options.activity_region_bytes = kChunk;
  options.on_restart = OnRestart::kResume;
  return options;
}

/// The first life copies a part, in order, and ends; what follows is the next one's.
struct TwoLives : Rig {
  explicit TwoLives(Verify verify) : options(move(verify)) {
    auto opener = std::make_unique<TestOpener>(target);
    id = *board.start(disk, std::move(opener), options, "as asked");
    advance(milliseconds(2000));
    EXPECT_EQ(journal_phase(), "copying");
    run_task(loop, board.stop(JobBoard::AtStop::kSuspend));
    run_task(loop, board.leave_disks());
    target->reopen();
    auto found = run_task(loop, recover(*journal, disk, id, loop));
    EXPECT_TRUE(found.ok() && !found->empty());
    recovered = *std::move(found);
  }
  ~TwoLives() {
    run_task(loop, next.stop());
    run_task(loop, next.leave_disks());
  }
  std::string journal_phase() {
    const auto jobs = run_task(loop, journal->load_jobs());
    return jobs.ok() && jobs->size() == 1 ? jobs->front().phase : "not one job";
  }
  JobStatus go_on() {
    options.bwlimit_bytes_per_second = 0;
    const auto jobs = run_task(loop, journal->load_jobs());
    auto opener = std::make_unique<TestOpener>(target);
    const auto resumed =
        next.resume_recorded(disk, std::move(opener), options, jobs->front(), recovered);
    EXPECT_TRUE(resumed.ok());
    return *run_task(loop, next.wait(id));
  }
  /// Of the source as it is now.
  std::string digest() const {
    std::vector<std::byte> content(source->info().size_bytes);
    source->peek(0, content);
    ImageDigest image;
    image.append(content);
    return image.finish().hex();
  }
  std::vector<DigestContainer> recorded() {
    return *run_task(loop, journal->load_digests({"vm1", "job/" + id}, 0));
  }

  JobOptions options;
  std::string id;
  RecoveredTracking recovered;
  JobBoard next{loop, *journal};
};

/// The source cannot be read any more where everything was copied before the restart.
TEST(ResumedDigests, WhatWasVerifiedIsNotReadAgain_I13) {
  TwoLives lives(Verify::kDigest);
  ASSERT_FALSE(lives.recovered.dirty->any_dirty(kChunk, 2 * kChunk));
  lives.source->plan().bad = {kChunk, 2 * kChunk};
  const std::string expected = lives.digest();
  const JobStatus status = lives.go_on();
  ASSERT_EQ(status.state, JobState::kDone) << status.error->message();
  EXPECT_TRUE(status.resumed);
  EXPECT_EQ(status.source_digest, expected);
  EXPECT_EQ(status.target_digest, expected);
  EXPECT_TRUE(lives.recorded().empty()) << "they go with the job's record";
}

/// What was written between the lives is hashed as it is copied.
TEST(ResumedDigests, WhatWasWrittenSinceIsNotBelieved_I13) {
  TwoLives lives(Verify::kDigest);
  ASSERT_TRUE(lives.write(kChunk + 512, std::vector<std::byte>(512, std::byte{0xAB})).ok());
  const std::string expected = lives.digest();
  const JobStatus status = lives.go_on();
  ASSERT_EQ(status.state, JobState::kDone) << status.error->message();
  EXPECT_EQ(status.source_digest, expected);
  EXPECT_TRUE(lives.equal());
}

TEST(ResumedDigests, AFlipAtTheTargetBetweenTheLivesIsFoundAndNamed_I13) {
  TwoLives lives(Verify::kFull);
  constexpr std::uint64_t kFlip = kChunk + 4321;
  ASSERT_FALSE(lives.recovered.dirty->any_dirty(kFlip, 1));
  std::vector<std::byte> one(1);
  lives.target->peek(kFlip, one);
  one[0] ^= std::byte{8};
  lives.target->preload(kFlip, one);
  const JobStatus status = lives.go_on();
  ASSERT_EQ(status.state, JobState::kFailed);
  EXPECT_EQ(status.error->code(), ErrorCode::kMismatch);
  const std::string& text = status.error->message();
  EXPECT_NE(text.find("at offset " + std::to_string(kFlip) + ":"), std::string::npos) << text;
  EXPECT_NE(text.find("the target does not hold what was copied there"), std::string::npos) << text;
  EXPECT_EQ(lives.disk.store_uri(), "test:source");
}

/// Both sides are equal, and neither is what was copied: no comparison of the two finds that.
TEST(ResumedDigests, AChangeOfBothSidesBetweenTheLivesIsFoundAndNamed_I13) {
  TwoLives lives(Verify::kFull);
  const std::vector<std::byte> other(512, std::byte{0xEE});
  lives.target->preload(kChunk + 512, other);
  lives.source->preload(kChunk + 512, other);
  const JobStatus status = lives.go_on();
  ASSERT_EQ(status.state, JobState::kFailed);
  EXPECT_EQ(status.error->code(), ErrorCode::kMismatch);
  EXPECT_NE(status.error->message().find("at offset " + std::to_string(kChunk) + ","),
            std::string::npos)
      << status.error->message();
}

/// A checkpoint after the restart does not write again what is recorded, and keeps it.
TEST(ResumedDigests, AThirdLifeHasThemToo) {
  TwoLives lives(Verify::kDigest);
  const auto before = lives.recorded();
  ASSERT_EQ(before.size(), 1U);
  const auto jobs = run_task(lives.loop, lives.journal->load_jobs());
  lives.options.bwlimit_bytes_per_second = 64 * kKiB;
  auto opener = std::make_unique<TestOpener>(lives.target);
  ASSERT_TRUE(lives.next
                  .resume_recorded(lives.disk, std::move(opener), lives.options, jobs->front(),
                                   lives.recovered)
                  .ok());
  lives.advance(milliseconds(1000));
  EXPECT_GT(lives.next.status(lives.id)->checkpoints, 0U);
  const auto after = lives.recorded();
  ASSERT_EQ(after.size(), 1U);
  EXPECT_EQ(after[0].known & before[0].known, before[0].known);
  EXPECT_GE(after[0].known.count(), before[0].known.count());
  EXPECT_TRUE(after[0].known[1]) << "of the first life";
}

TEST(InterruptedPhase, IsRecordedAndShownByTheNextLife_I7) {
  TwoLives lives(Verify::kDigest);
  EXPECT_EQ(lives.journal_phase(), "copying");
  const JobStatus status = lives.go_on();
  EXPECT_EQ(status.interrupted_in, "copying");
  EXPECT_EQ(lives.journal_phase(), "ended");
}

TEST(InterruptedPhase, OfAMirrorIsRecordedWhenItBegins) {
  Rig rig;
  JobOptions options = move(Verify::kDigest);
  options.mode = Mode::kMirror;
  const std::string id = rig.start(options);
  rig.advance(milliseconds(500));
  const auto jobs = run_task(rig.loop, rig.journal->load_jobs());
  EXPECT_EQ(jobs->front().phase, "mirroring");
  EXPECT_EQ(jobs->front().state, "running");
}

}  // namespace
}  // namespace blockmig
