// SPDX-License-Identifier: Apache-2.0
// The image at rest as a target: what of it may change, and when.
#include "blockmig/migrate/merge_target.h"

#include "tests/unit/migrate/hydrating_rig.h"

namespace blockmig {
namespace {

Task<void> joined(TaskScope& scope) { co_await scope.join(); }

class MergeTargetTest : public HydratingRig {
 protected:
  /// The digests of what the base holds.
  ChunkDigests digests() {
    ChunkDigests all(kSize);
    all.set(0, peek(*base));
    return all;
  }
  Status put(MergeTarget& target, std::uint64_t offset, std::size_t length, std::uint8_t value) {
    const std::vector<std::byte> bytes(length, std::byte{value});
    const ConstBytes from(bytes);
    const WriteFlags flags{};
    return run_task(loop, target.write(offset, from, flags));
  }
  std::unique_ptr<MergeTarget> make_target(const ChunkDigests* known) {
    return std::make_unique<MergeTarget>(std::make_unique<SharedDevice>(base), *device, known);
  }
  std::vector<RegionContainer> recorded() {
    const std::string disk = "vm1";
    const std::string set = "absent.1";
    return *run_task(loop, journal->load_regions(disk, set));
  }
};

TEST_F(MergeTargetTest, WhatIsAbsentInTheLayerIsNotWritten_I12) {
  open(false, {{0, kChunk}});
  const auto before = peek(*base);
  const auto target = make_target(nullptr);
  ASSERT_TRUE(put(*target, 0, 3 * kChunk, 0x77).ok());
  const auto after = peek(*base);
  EXPECT_EQ(after[0], std::byte{0x77});
  EXPECT_EQ(after[kChunk - 1], std::byte{0x77});
  EXPECT_TRUE(std::equal(before.begin() + kChunk, before.end(), after.begin() + kChunk));
  const ZeroFlags zeros{};
  ASSERT_TRUE(run_task(loop, target->write_zeroes(0, 2 * kChunk, zeros)).ok());
  EXPECT_EQ(peek(*base)[0], std::byte{0});
  EXPECT_EQ(peek(*base)[kChunk], before[kChunk]);
}

TEST_F(MergeTargetTest, AChunkIsPresentDurablyBeforeItChangesInTheImage_I12) {
  open(false);
  ASSERT_TRUE(write(4 * kChunk, kChunk, 0x31).ok());
  const auto recorded_before = recorded();
  const auto target = make_target(nullptr);
  local->stall();  // data cannot become durable: then the image must not change
  auto writing = [](MergeTarget& image, std::vector<std::byte>& bytes, bool& done) -> Task<void> {
    const ConstBytes from(bytes);
    const WriteFlags flags{};
    const Status written = co_await image.write(4 * kChunk, from, flags);
    done = written.ok();
  };
  std::vector<std::byte> bytes(kChunk, std::byte{0x31});
  bool done = false;
  TaskScope scope;
  auto task = writing(*target, bytes, done);
  scope.spawn(std::move(task));
  run_task(loop, sleep_for(loop, std::chrono::seconds(1)));
  EXPECT_NE(peek(*base)[4 * kChunk], std::byte{0x31});
  EXPECT_EQ(recorded(), recorded_before);
  local->unstall();
  run_task(loop, joined(scope));
  EXPECT_TRUE(done);
  EXPECT_EQ(peek(*base)[4 * kChunk], std::byte{0x31});
  EXPECT_NE(recorded(), recorded_before);
}

TEST_F(MergeTargetTest, WhatTheImageHoldsIsNotWrittenAgain) {
  open(false, {{0, kSize}});
  const ChunkDigests known = digests();
  const auto target = make_target(&known);
  std::vector<std::byte> bytes = peek(*base);
  bytes[5 * kChunk] ^= std::byte{1};
  const std::uint64_t writes = base->writes_done();
  const ConstBytes from(bytes);
  const WriteFlags flags{};
  ASSERT_TRUE(run_task(loop, target->write(0, from, flags)).ok());
  EXPECT_EQ(base->writes_done(), writes + 1);
  EXPECT_EQ(target->bytes_spared(), kSize - kChunk);
  EXPECT_EQ(peek(*base), bytes);
  // Once written it is not known any more: the old content is written over the new one.
  bytes[5 * kChunk] ^= std::byte{1};
  ASSERT_TRUE(run_task(loop, target->write(0, from, flags)).ok());
  EXPECT_EQ(peek(*base), bytes);
}

TEST_F(MergeTargetTest, GivenUpItTouchesTheLayerNoMore) {
  open(false, {{0, kSize}});
  const auto target = make_target(nullptr);
  target->abandon();
  EXPECT_EQ(put(*target, 0, kChunk, 1).error().code(), ErrorCode::kDisconnected);
}

}  // namespace
}  // namespace blockmig
