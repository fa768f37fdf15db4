// SPDX-License-Identifier: Apache-2.0
// What is hashed on the way, and what is read back (I13).
#include <gtest/gtest.h>

#include <algorithm>

#include "blockmig/base/chunk_digests.h"
#include "tests/unit/migrate/rig.h"

namespace blockmig {
namespace {

/// A target that scribbles in the memory it was given: one bit at `offset`, in its first write that
/// covers it, before the write takes effect.
class Scribbler final : public BlockDevice {
 public:
  Scribbler(std::shared_ptr<FaultDevice> device, std::uint64_t offset, bool after_first)
      : device_(std::move(device)), offset_(offset), skip_(after_first ? 1 : 0) {}
  const DeviceInfo& info() const override { return device_->info(); }
  Task<Status> read(std::uint64_t offset, MutableBytes into) override {
    return device_->read(offset, into);
  }
  Task<Status> write(std::uint64_t offset, ConstBytes from, WriteFlags flags) override {
    const ByteRange range{offset, from.size()};
    if (range.contains({offset_, 1}) && skip_-- == 0) {
      const_cast<std::byte&>(from[offset_ - offset]) ^= std::byte{4};
    }
    return device_->write(offset, from, flags);
  }
  Task<Status> flush() override { return device_->flush(); }
  Task<Status> trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) override {
    return device_->trim(offset, length, flags);
  }
  Task<Status> write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroFlags flags) override {
    return device_->write_zeroes(offset, length, flags);
  }
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length) override {
    return device_->extents(offset, length);
  }
  Task<Status> close() override { return device_->close(); }

 private:
  std::shared_ptr<FaultDevice> device_;
  std::uint64_t offset_;
  int skip_;
};

class ScribblerOpener final : public TargetOpener {
 public:
  explicit ScribblerOpener(std::unique_ptr<BlockDevice> device) : device_(std::move(device)) {}
  const std::string& uri() const override { return uri_; }
  Task<Result<std::unique_ptr<BlockDevice>>> open(std::uint64_t) override {
    co_return std::move(device_);
  }
  Task<void> discard() override { co_return; }

 private:
  std::unique_ptr<BlockDevice> device_;
  std::string uri_ = "test:target";
};

constexpr std::uint64_t kFlip = 1'234'567;

JobStatus move_to_scribbler(Rig& rig, const JobOptions& options, bool after_first,
                            bool write_there) {
  auto scribbler = std::make_unique<Scribbler>(rig.target, kFlip, after_first);
  const auto id =
      rig.board.start(rig.disk, std::make_unique<ScribblerOpener>(std::move(scribbler)), options);
  if (write_there) {
    rig.advance(std::chrono::milliseconds(300));
    EXPECT_TRUE(rig.write(kFlip - 100, std::vector<std::byte>(4096, std::byte{9})).ok());
  }
  return rig.wait(*id);
}

void expect_named(const JobStatus& status, std::uint64_t offset) {
  EXPECT_EQ(status.state, JobState::kFailed);
  ASSERT_TRUE(status.error.has_value());
  EXPECT_EQ(status.error->code(), ErrorCode::kMismatch) << status.error->message();
  EXPECT_EQ(status.mismatched_chunks, 1u);
  EXPECT_NE(status.error->message().find("offset " + std::to_string(offset)), std::string::npos)
      << status.error->message();
}

TEST(Verification, ABitThatFlipsInTheCopyBufferIsFoundAndItsChunkNamed_I13) {
  for (const std::uint32_t granularity : {4096u, 65536u, 262144u}) {
    Rig rig;
    JobOptions options;
    options.mode = Mode::kDbt;
    options.granularity_bytes = granularity;
    options.copy_request_bytes = granularity;
    const JobStatus status = move_to_scribbler(rig, options, false, false);
    expect_named(status, align_down(kFlip, std::min(granularity, 65536u)));
    EXPECT_EQ(rig.disk.store_uri(), "test:source");
  }
}

TEST(Verification, ABitThatFlipsInAMirroredWriteIsFound_I13) {
  Rig rig;
  JobOptions options;
  options.mode = Mode::kMirror;
  rig.target->plan().min_delay = rig.target->plan().max_delay = std::chrono::milliseconds(20);
  options.bwlimit_bytes_per_second = 8 * kMiB;  // the copier is behind it, and not yet done
  const JobStatus status = move_to_scribbler(rig, options, true, true);
  EXPECT_EQ(status.bytes_mirrored, 4096u);
  expect_named(status, kFlip - 100);
}

TEST(Verification, WithoutItNothingIsHashed) {
  Rig rig;
  JobOptions options;
  options.mode = Mode::kDbt;
  options.verify = Verify::kNone;
  const JobStatus status = move_to_scribbler(rig, options, false, false);
  EXPECT_EQ(status.state, JobState::kDone);
  EXPECT_EQ(status.source_digest, "");
}

TEST(Verification, ChunksThatWereMirroredInPartHaveDigestsInTheReport) {
  for (const Verify verify : {Verify::kDigest, Verify::kFull}) {
    Rig rig;
    JobOptions options;
    options.mode = Mode::kMirror;
    options.verify = verify;
    options.bwlimit_bytes_per_second = 8 * kMiB;
    const std::string id = rig.start(options);
    rig.advance(std::chrono::milliseconds(100));
    ASSERT_TRUE(rig.write(5000, std::vector<std::byte>(700, std::byte{9})).ok());
    const JobStatus status = rig.wait(id);
    ASSERT_EQ(status.state, JobState::kDone);
    EXPECT_GT(status.bytes_mirrored, 0u);
    std::vector<std::byte> content(Rig::kSize);
    rig.source->peek(0, content);
    ChunkDigests expected(Rig::kSize);
    expected.set(0, content);
    EXPECT_EQ(status.source_digest, expected.image().hex());
    EXPECT_EQ(status.target_digest, expected.image().hex());
  }
}

/// Somebody always reads for longer than the fence may last.
Task<void> read_slowly(Rig& rig, unsigned which, const bool& stop) {
  std::vector<std::byte> bytes(512);
  const MutableBytes into(bytes);
  Random random(which + 1);
  while (!stop) {
    const Status status = co_await rig.disk.read(0, into);
    EXPECT_TRUE(status.ok());
    const std::chrono::milliseconds pause(random.below(30));
    co_await sleep_for(rig.loop, pause);
  }
}

TEST(Verification, WhatIsMirroredAfterItWasReadBackIsReadBackAgain_I13) {
  Rig rig;
  JobOptions options;
  options.mode = Mode::kMirror;
  options.verify = Verify::kFull;
  options.max_downtime = std::chrono::milliseconds(20);
  rig.source->plan().min_delay = rig.source->plan().max_delay = std::chrono::milliseconds(60);
  bool stop = false;
  TaskScope readers;
  for (unsigned i = 0; i < 40; ++i) readers.spawn(read_slowly(rig, i, stop));
  const std::string id = rig.start(options);
  rig.advance(std::chrono::seconds(20));  // read back once; the gate never drains in time
  ASSERT_EQ(rig.board.status(id)->state, JobState::kRunning);
  ASSERT_GT(rig.board.status(id)->switchover_attempts, 0u);
  rig.source->plan().min_delay = rig.source->plan().max_delay = std::chrono::milliseconds(1);
  rig.target->plan().lost_write_ppm = 1'000'000;
  ASSERT_TRUE(rig.write(kFlip, std::vector<std::byte>(512, std::byte{9})).ok());
  rig.target->plan().lost_write_ppm = 0;
  stop = true;
  expect_named(rig.wait(id), kFlip);
  rig.advance(std::chrono::milliseconds(100));
}

}  // namespace
}  // namespace blockmig
