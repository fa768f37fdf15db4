// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/hydration.h"

#include <gtest/gtest.h>

#include "blockmig/base/chunk_digests.h"
#include "tests/unit/migrate/hydrating_rig.h"

namespace blockmig {
namespace {

JobOptions postcopy(std::uint64_t bwlimit = 0) {
  JobOptions options;
  options.mode = Mode::kPostcopy;
  options.copy_request_bytes = 64 * 1024;
  options.bwlimit_bytes_per_second = bwlimit;
  return options;
}

DiskRecord disk_record(Rig& rig) {
  const std::string name = "vm1";
  return **run_task(rig.loop, rig.journal->load_disk(name));
}

TEST(Hydration, PostcopySwitchesFirstAndFetchesTheRest) {
  Rig rig;
  const std::string id = rig.start(postcopy(1 << 20));
  while (rig.board.status(id)->phase != Phase::kHydrating) {
    rig.advance(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(rig.disk.epoch(), 2U);
  EXPECT_EQ(rig.disk.store_uri(), "test:target");
  EXPECT_FALSE(disk_record(rig).hydration.empty()) << "the decision names what is left behind";
  rig.advance(std::chrono::milliseconds(500));
  const JobStatus during = *rig.board.status(id);
  EXPECT_EQ(during.phase, Phase::kHydrating);
  EXPECT_TRUE(during.switched && during.reverse_mirror);
  EXPECT_GT(during.bytes_hydrated, 0U);
  EXPECT_GT(during.remaining_bytes, 0U);
  const Status aborted = rig.board.abort(id);
  ASSERT_FALSE(aborted.ok());
  EXPECT_EQ(aborted.error().code(), ErrorCode::kPrecondition);
  EXPECT_NE(aborted.error().message().find("hydrating"), std::string::npos);
  ASSERT_TRUE(rig.write(3 * kMiB + 5, std::vector<std::byte>(70000, std::byte{7})).ok());
  ASSERT_TRUE(
      rig.board.change(id, {.bwlimit_bytes_per_second = 0, .priority = {}, .max_downtime = {}})
          .ok());
  const JobStatus ended = rig.wait(id);
  EXPECT_EQ(ended.state, JobState::kDone);
  EXPECT_EQ(ended.remaining_bytes, 0U);
  EXPECT_EQ(ended.bytes_hydrated + ended.bytes_spared, Rig::kSize);
  EXPECT_TRUE(rig.equal()) << "the base got the guest's writes too";
  EXPECT_TRUE(disk_record(rig).hydration.empty());
  const std::string name = "vm1";
  EXPECT_FALSE(run_task(rig.loop, rig.journal->load_hydration(name))->has_value());
}

TEST(Hydration, TheRatesAreThoseOfThePullsFromTheSwitchoverOn) {
  Rig rig;
  JobOptions options = postcopy(2 << 20);
  options.mode = Mode::kHybrid;
  options.copy_window_bytes = 64 * 1024;
  const std::string id = rig.start(options);
  std::uint64_t chunk = 0;
  while (rig.board.status(id)->phase != Phase::kHydrating) {
    const auto at = chunk++ * 5 % 64 * 65536;
    ASSERT_TRUE(rig.write(at, std::vector<std::byte>(512, std::byte{7})).ok());
    rig.advance(std::chrono::milliseconds(20));
  }
  while (!rig.board.status(id)->error && !is_final(rig.board.status(id)->state)) {
    const JobStatus status = *rig.board.status(id);
    EXPECT_LT(status.rate_bytes_per_second, 64 * kMiB);
    EXPECT_EQ(status.dirty_rate_bytes_per_second, 0U);
    rig.advance(std::chrono::milliseconds(50));
  }
  EXPECT_EQ(rig.wait(id).state, JobState::kDone);
}

TEST(Hydration, WithoutTheMirrorTheStatusSaysWhatItDependsOn) {
  Rig rig;
  JobOptions options = postcopy(1 << 20);
  options.reverse_mirror = false;
  const std::string id = rig.start(options);
  while (rig.board.status(id)->phase != Phase::kHydrating) {
    rig.advance(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(rig.board.status(id)->depends_on, "both stores");
  ASSERT_TRUE(
      rig.board.change(id, {.bwlimit_bytes_per_second = 0, .priority = {}, .max_downtime = {}})
          .ok());
  EXPECT_EQ(rig.wait(id).depends_on, "");
}

TEST(Hydration, HybridLeavesOnlyWhatWasWrittenMeanwhile) {
  Rig rig;
  JobOptions options = postcopy();
  options.mode = Mode::kHybrid;
  options.bwlimit_bytes_per_second = 16 << 20;
  const std::string id = rig.start(options);
  while (rig.board.status(id)->bytes_copied < 2 * kMiB) {
    rig.advance(std::chrono::milliseconds(1));
  }
  ASSERT_TRUE(rig.write(0, std::vector<std::byte>(512, std::byte{7})).ok());
  const JobStatus ended = rig.wait(id);
  EXPECT_EQ(ended.state, JobState::kDone);
  EXPECT_EQ(ended.bytes_hydrated, 65536U);
  EXPECT_EQ(ended.passes, 1U);
  EXPECT_TRUE(rig.equal());
}

TEST(Hydration, HybridLeavesTheHotChunksBehindAtOnce) {
  Rig rig;
  rig.disk.write_heat().record(5 * 65536, 4096, rig.loop.now(), 5000);
  JobOptions options = postcopy();
  options.mode = Mode::kHybrid;
  const JobStatus ended = rig.wait(rig.start(options));
  EXPECT_EQ(ended.state, JobState::kDone);
  EXPECT_EQ(ended.bytes_hydrated, 65536U);
  EXPECT_EQ(ended.bytes_copied, Rig::kSize - 65536);
  EXPECT_EQ(ended.passes, 1U);
  ASSERT_FALSE(ended.decisions.empty());
  EXPECT_EQ(ended.decisions.back().what, "hybrid -> postcopy");
  EXPECT_TRUE(rig.equal());
}

std::string digest_of_store(const FaultDevice& store) {
  std::vector<std::byte> whole(store.info().size_bytes);
  store.peek(0, whole);
  ImageDigest digest;
  digest.append(whole);
  return digest.finish().hex();
}

TEST(Hydration, TheReportHasTheDigestOfTheWholeDisk_I13) {
  for (const Mode mode : {Mode::kPostcopy, Mode::kHybrid}) {
    for (const bool reverse : {true, false}) {
      Rig rig;
      JobOptions options = postcopy(1 << 20);
      options.mode = mode;
      options.reverse_mirror = reverse;
      const std::string id = rig.start(options);
      // Whole chunks, parts of absent and of present ones, zeros.
      for (std::uint64_t i = 0; i < 40; ++i) {
        rig.advance(std::chrono::milliseconds(20));
        const std::size_t length = i % 3 == 0 ? 65536 : 4096 + i * 512;
        const std::uint64_t offset = i * 91 % 60 * 65536 + (i % 3 == 0 ? 0 : 512);
        const std::vector<std::byte> bytes(length, static_cast<std::byte>(i % 5));
        ASSERT_TRUE(rig.write(offset, bytes).ok());
      }
      ASSERT_EQ(rig.board.status(id)->state, JobState::kRunning);
      const JobStatus ended = rig.wait(id);
      ASSERT_EQ(ended.state, JobState::kDone);
      EXPECT_EQ(ended.target_digest, digest_of_store(*rig.target));
      EXPECT_EQ(ended.source_digest, ended.target_digest);
      EXPECT_EQ(rig.disk.tracking().job(), nullptr);
    }
  }
}

TEST(Hydration, AChunkThatTheStoreHasLostIsNotInItsDigest_I13) {
  Rig rig;
  const std::string id = rig.start(postcopy(1 << 20));
  while (rig.board.status(id)->phase != Phase::kHydrating) {
    rig.advance(std::chrono::milliseconds(1));
  }
  rig.target->plan().lost_write_ppm = 100'000;
  const JobStatus ended = rig.wait(id);
  ASSERT_EQ(ended.state, JobState::kDone);
  EXPECT_NE(ended.target_digest, "");
  EXPECT_FALSE(rig.equal());
  EXPECT_EQ(ended.target_digest, digest_of_store(*rig.source)) << "what was fetched";
  EXPECT_NE(ended.target_digest, digest_of_store(*rig.target)) << "what verify will find";
}

/// Writes all over the disk until told to stop.
Task<void> write_on(Rig& rig, std::uint64_t seed, const bool& stop) {
  Random random(seed);
  const std::vector<std::byte> bytes(512, std::byte{9});
  while (!stop) {
    const std::uint64_t offset = random.below(Rig::kSize / 512) * 512;
    const ConstBytes from(bytes);
    const WriteFlags flags{};
    const Status written = co_await rig.disk.write(offset, from, flags);
    EXPECT_TRUE(written.ok());
    co_await sleep_for(rig.loop, std::chrono::microseconds(100));
  }
}

TEST(Hydration, AGuestThatIsFasterThanTheHashDoesNotKeepItFromItsEnd_I10) {
  Rig rig;
  JobOptions options = postcopy(4 << 20);
  options.reverse_mirror = false;
  options.max_downtime = std::chrono::milliseconds(20);
  const std::string id = rig.start(options);
  rig.advance(std::chrono::milliseconds(20));
  bool stop = false;
  TaskScope guests;
  for (std::uint64_t i = 0; i < 64; ++i) {
    auto guest = write_on(rig, i + 1, stop);
    guests.spawn(std::move(guest));
  }
  rig.target->plan().min_delay = rig.target->plan().max_delay = std::chrono::milliseconds(5);
  const JobStatus ended = rig.wait(id);
  stop = true;
  rig.advance(std::chrono::seconds(1));
  EXPECT_EQ(ended.state, JobState::kDone);
  EXPECT_EQ(ended.target_digest, "");
  ASSERT_FALSE(ended.decisions.empty());
  EXPECT_EQ(ended.decisions.back().what, "no digest of the whole disk");
}

TEST(Hydration, WithoutVerificationThereIsNoDigest) {
  Rig rig;
  JobOptions options = postcopy();
  options.verify = Verify::kNone;
  EXPECT_EQ(rig.wait(rig.start(options)).target_digest, "");
}

TEST(Hydration, AnAbortBeforeTheDecisionLeavesNothingBehind_I8) {
  Rig rig;
  rig.target->plan().write_error_ppm = 0;
  rig.target->stall();
  const std::string id = rig.start(postcopy());
  rig.advance(std::chrono::milliseconds(50));
  ASSERT_TRUE(rig.board.abort(id).ok());
  EXPECT_EQ(rig.wait(id).state, JobState::kAborted);
  EXPECT_EQ(rig.disk.epoch(), 1U);
  const std::string name = "vm1";
  EXPECT_FALSE(run_task(rig.loop, rig.journal->load_hydration(name))->has_value());
  rig.target->unstall();
}

TEST(Hydration, AFrozenBaseHoldsItUpAndSaysSo) {
  Rig rig;
  JobOptions options = postcopy();
  options.base_patience = std::chrono::milliseconds(500);
  rig.source->plan().read_error_ppm = 1'000'000;
  const std::string id = rig.start(options);
  rig.advance(std::chrono::seconds(3));
  const JobStatus held = *rig.board.status(id);
  EXPECT_EQ(held.phase, Phase::kHydrating);
  ASSERT_TRUE(held.error.has_value());
  EXPECT_NE(held.error->message().find("base"), std::string::npos) << held.error->message();
  rig.source->plan().read_error_ppm = 0;
  EXPECT_EQ(rig.wait(id).state, JobState::kDone);
  EXPECT_TRUE(rig.equal());
}

TEST(Hydration, AnInterruptedOneGoesOnWithTheReopenedDisk_I7) {
  Rig rig;
  std::string id;
  {
    id = rig.start(postcopy(1 << 20));
    while (rig.board.status(id)->bytes_hydrated < kMiB) rig.advance(std::chrono::milliseconds(10));
    run_task(rig.loop, rig.board.stop());
    const JobStatus stopped = *rig.board.status(id);
    EXPECT_TRUE(is_final(stopped.state));
    EXPECT_EQ(stopped.error->code(), ErrorCode::kShutdown);
    ASSERT_TRUE(run_task(rig.loop, rig.disk.close()).ok());
  }
  const DiskRecord record = disk_record(rig);
  const auto rest = run_task(rig.loop, load_rest(*rig.journal, record));
  ASSERT_TRUE(rest.ok());
  EXPECT_EQ(rest->base_uri, "test:source");
  EXPECT_EQ(rest->bwlimit_bytes_per_second, 1U << 20);
  const auto copy_of = [&rig](const FaultDevice& store) {
    auto copy = std::make_shared<FaultDevice>(rig.loop, rig.random, store.info().name, Rig::kSize);
    std::vector<std::byte> bytes(Rig::kSize);
    store.peek(0, bytes);
    copy->preload(0, bytes);
    return copy;
  };
  const auto target = copy_of(*rig.target);
  const auto source = copy_of(*rig.source);
  std::unique_ptr<BlockDevice> local = std::make_unique<SharedDevice>(target);
  std::unique_ptr<BlockDevice> base = std::make_unique<SharedDevice>(source);
  const JobOptions options;
  auto opened = run_task(
      rig.loop, open_hydrating(rig.loop, *rig.journal, record, *rest, local, base, options));
  ASSERT_TRUE(opened.ok());
  HydratingDevice& device = **opened;
  EXPECT_LE(device.map().absent_bytes(), Rig::kSize - kMiB) << "an orderly end saves what is there";
  Disk disk(rig.loop, "vm1", std::move(*opened), record.store_uri, record.epoch);
  JobBoard board(rig.loop, *rig.journal);
  const auto again = board.hydrate(disk, device, options);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(*again, id);
  EXPECT_EQ(run_task(rig.loop, board.wait(id))->state, JobState::kDone);
  std::vector<std::byte> a(Rig::kSize);
  std::vector<std::byte> b(Rig::kSize);
  source->peek(0, a);
  target->peek(0, b);
  EXPECT_EQ(a, b);
  run_task(rig.loop, board.stop());
  EXPECT_TRUE(run_task(rig.loop, disk.close()).ok());
}

TEST(Hydration, ItsEndDoesNotWaitForItsRate) {
  Rig rig;
  const std::string id = rig.start(postcopy(4096));  // a chunk takes many seconds
  while (rig.board.status(id)->phase != Phase::kHydrating) {
    rig.advance(std::chrono::milliseconds(1));
  }
  rig.advance(std::chrono::seconds(1));
  const TimePoint before = rig.loop.now();
  run_task(rig.loop, rig.board.stop());
  EXPECT_LT(rig.loop.now() - before, std::chrono::seconds(1));
  EXPECT_TRUE(is_final(rig.board.status(id)->state));
}

/// A disk that fetches from its base, and no job that does it for it; the id of the one that did.
std::string leave_in_mid_hydration(Rig& rig) {
  std::string id = rig.start(postcopy(1 << 20));
  while (rig.board.status(id)->phase != Phase::kHydrating) {
    rig.advance(std::chrono::milliseconds(1));
  }
  rig.board.interrupt(id);
  EXPECT_TRUE(is_final(rig.wait(id).state));
  return id;
}

/// Its data is in two places: a second rest could name only one of them.
TEST(Hydration, ADiskThatStillFetchesIsNotLeftBehindOnceMore_I4) {
  Rig rig;
  leave_in_mid_hydration(rig);
  const auto start = [&rig](const JobOptions& options) {
    const auto target = std::make_shared<FaultDevice>(rig.loop, rig.random, "third", Rig::kSize);
    return rig.board.start(rig.disk, std::make_unique<TestOpener>(target), options);
  };
  const Mode modes[] = {Mode::kPostcopy, Mode::kHybrid, Mode::kShared, Mode::kAuto};
  for (const Mode mode : modes) {
    JobOptions options;
    options.mode = mode;
    if (mode == Mode::kAuto) options.on_stall = OnStall::kPostcopy;
    const auto refused = start(options);
    ASSERT_FALSE(refused.ok()) << to_string(mode);
    EXPECT_EQ(refused.error().code(), ErrorCode::kPrecondition);
    EXPECT_NE(refused.error().message().find("settle"), std::string::npos);
  }
  EXPECT_TRUE(run_task(rig.loop, rig.journal->load_hydration(disk_record(rig).disk))->has_value());
  JobOptions whole;
  whole.mode = Mode::kDbt;
  const auto moved = start(whole);
  ASSERT_TRUE(moved.ok()) << moved.error().message();
  EXPECT_EQ(rig.wait(*moved).state, JobState::kDone);
}

TEST(Hydration, OnlyOneJobFetchesTheRest) {
  Rig rig;
  const std::string id = leave_in_mid_hydration(rig);
  auto& device = dynamic_cast<HydratingDevice&>(rig.disk.store());
  ASSERT_TRUE(rig.board.hydrate(rig.disk, device, postcopy()).ok());
  const auto second = rig.board.hydrate(rig.disk, device, postcopy());
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code(), ErrorCode::kBusy);
  EXPECT_EQ(rig.wait(id).state, JobState::kDone);
  EXPECT_TRUE(rig.equal());
}

class ResumedHydration : public HydratingRig {};

TEST_F(ResumedHydration, WhatItDecidesIsTimedFromItsOwnBegin) {
  run_task(loop, sleep_for(loop, std::chrono::hours(1)));
  open(true);
  HydratingDevice& layer = *device;
  Disk disk(loop, "vm1", std::move(device), "test:new", 2);
  JobBoard board(loop, *journal);
  const auto id = board.hydrate(disk, layer, postcopy(1 << 20));
  ASSERT_TRUE(id.ok());
  run_task(loop, sleep_for(loop, std::chrono::milliseconds(100)));
  // What the guest writes cannot be read again, so there is no digest, which the job says.
  const std::vector<std::byte> bytes(512, std::byte{7});
  const ConstBytes from(bytes);
  const WriteFlags flags{};
  EXPECT_TRUE(run_task(loop, disk.write(0, from, flags)).ok());
  local->plan().read_error_ppm = 1'000'000;
  const auto ended = run_task(loop, board.wait(*id));
  EXPECT_EQ(ended->state, JobState::kDone);
  ASSERT_EQ(ended->decisions.size(), 1U);
  EXPECT_LT(ended->decisions[0].at_seconds, 60);
  EXPECT_LT(ended->elapsed_seconds, 60);
  run_task(loop, board.stop());
  EXPECT_TRUE(run_task(loop, disk.close()).ok());
}

TEST(Hydration, ADiskWhoseRestIsUnknownIsRefused) {
  Rig rig;
  const DiskRecord record{"vm1", "test:target", 2, Rig::kSize, "", "absent.job-9.2"};
  const auto rest = run_task(rig.loop, load_rest(*rig.journal, record));
  ASSERT_FALSE(rest.ok());
  EXPECT_EQ(rest.error().code(), ErrorCode::kProtocol);
}

}  // namespace
}  // namespace blockmig
