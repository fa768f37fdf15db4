// SPDX-License-Identifier: Apache-2.0
// Modes auto and snapshot: what they decide, and what their targets are worth.
#include <gtest/gtest.h>

#include <algorithm>

#include "blockmig/base/chunk_digests.h"
#include "tests/unit/migrate/rig.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;

/// A guest that overwrites the disk from the end to the beginning, 4 KiB at a time.
Task<void> overwrite(EventLoop& loop, Disk& disk, Duration think, const bool& stop,
                     Duration& longest) {
  static const std::vector<std::byte> bytes(4096, std::byte{0x5a});
  const ConstBytes from(bytes);
  const WriteFlags flags{};
  for (std::uint64_t i = 0; !stop; ++i) {
    const TimePoint begun = loop.now();
    const Status status = co_await disk.write((63 - i % 64) * 65536, from, flags);
    EXPECT_TRUE(status.ok());
    longest = std::max(longest, loop.now() - begun);
    co_await sleep_for(loop, think);
  }
}

void await_instant(Rig& rig, const std::string& id) {
  while (rig.board.status(id)->generations_begun == 0) rig.advance(std::chrono::microseconds(10));
}

bool decided(const JobStatus& status, const std::string& what) {
  return std::any_of(status.decisions.begin(), status.decisions.end(),
                     [&](const Decision& decision) { return decision.what == what; });
}

std::string told(const JobStatus& status) {
  std::string text;
  for (const Decision& decision : status.decisions) {
    text += decision.what + ": " + decision.why + "\n";
  }
  return text;
}

TEST(Auto, AQuietDiskStaysWithDbtAndTheNumbersAreTold) {
  Rig rig;
  rig.target->plan().bytes_per_second = 8 * kMiB;
  const JobStatus status = rig.wait(rig.start(options_for(Mode::kAuto)));
  ASSERT_EQ(status.state, JobState::kDone);
  EXPECT_EQ(status.active_mode, Mode::kDbt);
  ASSERT_EQ(status.decisions.size(), 1u) << told(status);
  EXPECT_EQ(status.decisions[0].what, "stays dbt");
  EXPECT_NE(status.decisions[0].why.find("the guest writes 0 B/s"), std::string::npos)
      << told(status);
  EXPECT_EQ(status.bytes_copied, Rig::kSize);
  EXPECT_EQ(status.passes, 1u) << "a look is not the end of a pass";
}

TEST(PointInTime, SinceABitmapCopiesWhatItMarks_I5) {
  Rig rig;
  std::vector<std::byte> content(Rig::kSize);
  rig.source->peek(0, content);
  rig.target->preload(0, content);
  rig.target->mutable_info().zero_initialised = false;
  auto bitmap = DirtyBitmap::create(Rig::kSize, 4096);
  ASSERT_TRUE(rig.disk.tracking().add("mon", *std::move(bitmap)).ok());
  ASSERT_TRUE(rig.write(5 * 65536 + 100, std::vector<std::byte>(512, std::byte{1})).ok());
  JobOptions options = options_for(Mode::kSnapshot);
  options.point_in_time = true;
  options.since_bitmap = "mon";
  const JobStatus status = rig.wait(rig.start(options));
  ASSERT_EQ(status.state, JobState::kDone);
  EXPECT_EQ(status.since_bitmap, "mon");
  EXPECT_EQ(status.bytes_total, 65536u);
  EXPECT_EQ(status.bytes_copied, 65536u);
  EXPECT_TRUE(rig.equal());
  EXPECT_EQ(rig.disk.tracking().find("mon")->dirty_count(), 1u) << "its marks are its user's";
}

TEST(PointInTime, WhatTheGenerationStillHasToCopyRemainsAndIsNotDirtiedByAnIdleGuest) {
  Rig rig;
  JobOptions options = options_for(Mode::kSnapshot);
  options.point_in_time = true;
  options.bwlimit_bytes_per_second = kMiB;
  options.copy_request_bytes = 64 * kKiB;
  options.copy_window_bytes = 512 * kKiB;
  const std::string job = rig.start(options);
  await_instant(rig, job);
  EXPECT_GT(rig.board.status(job)->remaining_bytes, 2 * kMiB);
  for (unsigned i = 0; i < 20; ++i) {
    rig.advance(milliseconds(100));
    const JobStatus status = *rig.board.status(job);
    EXPECT_EQ(status.dirty_rate_bytes_per_second, 0U);
    EXPECT_GE(status.remaining_bytes + status.bytes_copied + options.copy_window_bytes,
              status.bytes_total);
    EXPECT_GT(status.remaining_bytes, 0U);
  }
  EXPECT_EQ(rig.wait(job).remaining_bytes, 0U);
}

TEST(PointInTime, SinceABitmapThatIsGoneFailsAndTheDiskGoesOn_I8) {
  Rig rig;
  JobOptions options = options_for(Mode::kSnapshot);
  options.point_in_time = true;
  options.since_bitmap = "mon";
  const JobStatus status = rig.wait(rig.start(options));
  ASSERT_EQ(status.state, JobState::kFailed);
  EXPECT_EQ(status.error->code(), ErrorCode::kNotFound);
  EXPECT_TRUE(rig.write(0, std::vector<std::byte>(512, std::byte{2})).ok());
}

TEST(EndedJob, SaysNothingOfADiskThatMayBeGone) {
  Rig rig;
  const std::string job = rig.start(options_for(Mode::kDbt));
  ASSERT_EQ(rig.wait(job).state, JobState::kDone);
  rig.disk.write_throttle().set_rate(12345);
  EXPECT_EQ(rig.board.status(job)->throttle_bytes_per_second, 0u);
  rig.disk.write_throttle().set_rate(0);
}

TEST(Auto, AGuestThatOutrunsTheTargetMakesItAMirrorInMidPassAndNothingEqualIsCopiedAgain) {
  Rig rig;
  rig.target->plan().bytes_per_second = 4 * kMiB;
  TaskScope guest;
  bool stop = false;
  Duration longest{};
  guest.spawn(overwrite(rig.loop, rig.disk, milliseconds(5), stop, longest));
  const JobStatus status = rig.wait(rig.start(options_for(Mode::kAuto)));
  stop = true;
  rig.advance(milliseconds(100));
  ASSERT_EQ(status.state, JobState::kDone) << told(status);
  EXPECT_TRUE(decided(status, "dbt -> mirror")) << told(status);
  EXPECT_EQ(status.active_mode, Mode::kMirror);
  EXPECT_LT(status.bytes_copied, 3 * Rig::kSize) << told(status);
}

TEST(Auto, AMirrorThatMissesItsDeadlinesBecomesDbtAgain) {
  Rig rig;
  rig.target->plan().bytes_per_second = 4 * kMiB;
  TaskScope guest;
  bool stop = false;
  Duration longest{};
  guest.spawn(overwrite(rig.loop, rig.disk, milliseconds(5), stop, longest));
  const JobOptions options = options_for(Mode::kAuto);
  const std::string id = rig.start(options);
  while (rig.board.status(id)->active_mode != Mode::kMirror) rig.advance(milliseconds(10));
  rig.target->plan().min_delay = rig.target->plan().max_delay = 3 * options.mirror_deadline;
  for (int i = 0; i < 6000 && rig.board.status(id)->active_mode != Mode::kDbt; ++i) {
    rig.advance(milliseconds(10));
  }
  EXPECT_EQ(rig.board.status(id)->active_mode, Mode::kDbt) << told(*rig.board.status(id));
  rig.target->plan().min_delay = rig.target->plan().max_delay = Duration::zero();
  rig.target->plan().bytes_per_second = 0;
  const JobStatus status = rig.wait(id);
  stop = true;
  rig.advance(milliseconds(200));
  EXPECT_EQ(status.state, JobState::kDone) << told(status);
  EXPECT_TRUE(decided(status, "mirror -> dbt")) << told(status);
  EXPECT_LE(longest, options.mirror_deadline + options.max_downtime);
}

TEST(Auto, ADeadlineThatCannotBeMetIsSaidFirst) {
  Rig rig;
  rig.target->plan().bytes_per_second = kMiB;
  JobOptions options = options_for(Mode::kAuto);
  options.deadline = milliseconds(1500);
  const JobStatus status = rig.wait(rig.start(options));
  EXPECT_EQ(status.state, JobState::kDone) << "it is a goal";
  ASSERT_FALSE(status.decisions.empty());
  bool said = false;
  for (const Decision& decision : status.decisions) {
    if (decision.what != "a limit cannot be met") continue;
    said = true;
    EXPECT_LT(decision.at_seconds, 1.0);
    EXPECT_TRUE(decision.why.starts_with("the deadline")) << decision.why;
  }
  EXPECT_TRUE(said) << told(status);
}

TEST(Auto, WhereNeitherModeIsInTimePostcopyIsWhatIsAllowed) {
  for (const OnStall on_stall : {OnStall::kPostcopy, OnStall::kMirror}) {
    Rig rig;
    rig.target->plan().bytes_per_second = 3 * kMiB;
    TaskScope guest;
    bool stop = false;
    Duration longest{};
    guest.spawn(overwrite(rig.loop, rig.disk, milliseconds(5), stop, longest));
    JobOptions options = options_for(Mode::kAuto);
    options.deadline = milliseconds(700);
    options.on_stall = on_stall;
    const bool allowed = on_stall == OnStall::kPostcopy;
    const std::string id = rig.start(options);
    const JobStatus status = rig.wait(id);
    stop = true;
    rig.advance(milliseconds(100));
    ASSERT_EQ(status.state, JobState::kDone) << told(status);
    EXPECT_EQ(decided(status, "dbt -> postcopy") || decided(status, "mirror -> postcopy"), allowed)
        << told(status);
    EXPECT_EQ(status.active_mode == Mode::kPostcopy, allowed) << told(status);
    EXPECT_TRUE(decided(status, "a limit cannot be met")) << told(status);
    if (allowed) {
      EXPECT_LE(status.bytes_copied + status.bytes_hydrated, 2 * Rig::kSize);
    }
    std::vector<std::byte> target(Rig::kSize);
    rig.target->peek(0, target);
    for (std::uint64_t chunk = 0; chunk < 64; ++chunk) {
      EXPECT_EQ(target[chunk * 65536], std::byte{0x5a}) << chunk;
    }
  }
}

TEST(Auto, AMirrorThatKeepsTheGuestWaitingForTooLongIsSaidOrLeft) {
  for (const OnStall on_stall : {OnStall::kPostcopy, OnStall::kMirror}) {
    Rig rig;
    rig.target->plan().bytes_per_second = 2 * kMiB;
    rig.target->plan().min_delay = rig.target->plan().max_delay = milliseconds(8);
    TaskScope guest;
    bool stop = false;
    Duration longest{};
    guest.spawn(overwrite(rig.loop, rig.disk, milliseconds(2), stop, longest));
    JobOptions options = options_for(Mode::kAuto);
    options.max_guest_latency = milliseconds(3);
    options.on_stall = on_stall;
    const JobStatus status = rig.wait(rig.start(options));
    stop = true;
    rig.advance(milliseconds(100));
    ASSERT_EQ(status.state, JobState::kDone) << told(status);
    EXPECT_TRUE(decided(status, "dbt -> mirror")) << told(status);
    EXPECT_EQ(decided(status, "mirror -> postcopy"), on_stall == OnStall::kPostcopy)
        << told(status);
    EXPECT_EQ(decided(status, "a limit cannot be met"), on_stall == OnStall::kMirror)
        << told(status);
  }
}

JobOptions point_in_time() {
  JobOptions options = options_for(Mode::kSnapshot);
  options.point_in_time = true;
  return options;
}

TEST(PointInTime, TheTargetIsTheDiskOfOneInstantAndTheDiskStays) {
  Rig rig;
  std::vector<std::byte> before(Rig::kSize);
  rig.source->peek(0, before);
  rig.target->plan().bytes_per_second = 8 * kMiB;
  TaskScope guest;
  bool stop = false;
  Duration longest{};
  bool discarded = false;
  const std::string id = rig.start(point_in_time(), &discarded);
  await_instant(rig, id);
  guest.spawn(overwrite(rig.loop, rig.disk, milliseconds(2), stop, longest));
  const JobStatus status = rig.wait(id);
  stop = true;
  rig.advance(milliseconds(100));
  ASSERT_EQ(status.state, JobState::kDone) << status.error->message();
  std::vector<std::byte> copy(Rig::kSize);
  rig.target->peek_durable(0, copy);
  EXPECT_EQ(copy, before) << "none of what was written since";
  EXPECT_FALSE(rig.equal());
  EXPECT_GT(status.chunks_kept, 10u);
  EXPECT_EQ(longest, Duration::zero()) << "a source that answers at once: nothing to wait for";
  EXPECT_EQ(status.generations_complete, 1u);
  EXPECT_EQ(rig.disk.store_uri(), "test:source");
  EXPECT_EQ(rig.disk.epoch(), 1u);
  EXPECT_EQ(rig.disk.tracking().job(), nullptr);
  EXPECT_FALSE(discarded);
  ChunkDigests expected(Rig::kSize);
  expected.set(0, before);
  EXPECT_EQ(status.source_digest, expected.image().hex());
}

TEST(PointInTime, AFullBufferFailsTheCopyInsteadOfStallingTheGuest_I10) {
  Rig rig;
  rig.target->plan().bytes_per_second = 256 * kKiB;
  JobOptions options = point_in_time();
  options.snapshot_buffer_bytes = 4 * 65536;
  TaskScope guest;
  bool stop = false;
  Duration longest{};
  bool discarded = false;
  const std::string id = rig.start(options, &discarded);
  await_instant(rig, id);
  guest.spawn(overwrite(rig.loop, rig.disk, milliseconds(2), stop, longest));
  const JobStatus status = rig.wait(id);
  stop = true;
  rig.advance(milliseconds(100));
  EXPECT_EQ(status.state, JobState::kFailed);
  ASSERT_TRUE(status.error.has_value());
  EXPECT_EQ(status.error->code(), ErrorCode::kNotConverging);
  EXPECT_NE(status.error->message().find("no point in time"), std::string::npos);
  EXPECT_LE(longest, options.mirror_deadline);
  rig.advance(std::chrono::seconds(5));
  EXPECT_TRUE(discarded);
}

TEST(PointInTime, AFailedCopyIsRepeatedFromWhatWasKept) {
  Rig rig;
  std::vector<std::byte> before(Rig::kSize);
  rig.source->peek(0, before);
  rig.target->plan().bytes_per_second = 8 * kMiB;
  rig.target->plan().write_error_ppm = 200'000;
  TaskScope guest;
  bool stop = false;
  Duration longest{};
  const std::string id = rig.start(point_in_time());
  await_instant(rig, id);
  guest.spawn(overwrite(rig.loop, rig.disk, milliseconds(1), stop, longest));
  const JobStatus status = rig.wait(id);
  stop = true;
  rig.advance(milliseconds(100));
  ASSERT_EQ(status.state, JobState::kDone) << status.error->message();
  std::vector<std::byte> copy(Rig::kSize);
  rig.target->peek_durable(0, copy);
  EXPECT_EQ(copy, before);
}

TEST(PointInTime, FullVerificationAndOtherModesAreRefused) {
  Rig rig;
  JobOptions options = point_in_time();
  options.verify = Verify::kFull;
  EXPECT_NE(rig.start(options).find("refused"), std::string::npos);
  options = options_for(Mode::kMirror);
  options.point_in_time = true;
  EXPECT_NE(rig.start(options).find("refused"), std::string::npos);
}

}  // namespace
}  // namespace blockmig
