// SPDX-License-Identifier: Apache-2.0
// Stores that take only whole blocks, as an NBD server may: nobody sends them anything else.
#include <gtest/gtest.h>

#include "blockmig/migrate/hydration.h"
#include "tests/unit/migrate/hydrating_rig.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kDiskBytes = 4 * kMiB;
constexpr std::uint32_t kBlock = 16 * kKiB;

/// With 4 KiB of data in each 64 KiB, the rest zeros.
struct BlocksRig : Rig {
  BlocksRig() : Rig(kDiskBytes, &make_memory_journal, kBlock) {
    std::vector<std::byte> content(kDiskBytes);
    for (std::size_t at = 4 * kKiB; at < kDiskBytes; at += 64 * kKiB) {
      std::fill_n(content.begin() + static_cast<long>(at), 4 * kKiB, std::byte{0x5A});
    }
    source->preload(0, content);
  }
};

class EveryModeInBlocks : public testing::TestWithParam<Mode> {};
INSTANTIATE_TEST_SUITE_P(Modes, EveryModeInBlocks,
                         testing::Values(Mode::kCold, Mode::kSnapshot, Mode::kDbt, Mode::kMirror,
                                         Mode::kAuto, Mode::kPostcopy, Mode::kHybrid),
                         [](const auto& test) { return std::string(to_string(test.param)); });

TEST_P(EveryModeInBlocks, WhatIsWrittenToTheTargetIsWholeBlocks) {
  for (const Verify verify : {Verify::kDigest, Verify::kFull}) {
    BlocksRig rig;
    JobOptions options = options_for(GetParam());
    options.verify = verify;
    const std::string id = rig.start(options);
    ASSERT_TRUE(rig.write(5 * kBlock, std::vector<std::byte>(kBlock, std::byte{7})).ok());
    const JobStatus status = rig.wait(id);
    EXPECT_EQ(status.state, JobState::kDone) << (status.error ? status.error->message() : "");
    EXPECT_TRUE(rig.equal());
  }
}

TEST(LargeBlocks, ChunksThatAreSmallerAreRefusedWithTheGranularityThatWouldDo) {
  for (const bool at_source : {true, false}) {
    BlocksRig rig;
    (at_source ? rig.target : rig.source)->mutable_info().min_io_bytes = 1;
    JobOptions options = options_for(Mode::kDbt);
    options.granularity_bytes = 4 * kKiB;
    bool discarded = false;
    const JobStatus status = rig.wait(rig.start(options, &discarded));
    ASSERT_EQ(status.state, JobState::kFailed);
    EXPECT_EQ(status.error->code(), ErrorCode::kPrecondition);
    const std::string said = status.error->message();
    EXPECT_NE(said.find(at_source ? "source" : "target"), std::string::npos) << said;
    EXPECT_NE(said.find("--granularity 16KiB"), std::string::npos) << said;
    EXPECT_TRUE(discarded);
  }
}

TEST(LargeBlocks, ATargetIsRefusedThatWouldNotTakeWhatClientsWerePromised) {
  Rig rig(kDiskBytes);
  rig.target->mutable_info().min_io_bytes = kBlock;
  const JobStatus status = rig.wait(rig.start(options_for(Mode::kDbt)));
  EXPECT_EQ(status.state, JobState::kFailed);
  EXPECT_EQ(status.error->code(), ErrorCode::kPrecondition);
  EXPECT_TRUE(rig.write(512, std::vector<std::byte>(512, std::byte{1})).ok());
}

class HydratingInBlocks : public HydratingRig {};

TEST_F(HydratingInBlocks, TheLayerTakesWhatBothStoresTake) {
  base->mutable_info().min_io_bytes = 1;
  open(true);
  EXPECT_EQ(device->info().min_io_bytes, 1U);
  ASSERT_TRUE(close().ok());
  base->mutable_info().min_io_bytes = 4096;
  make(*PresenceMap::create(kSize, kChunk));
  EXPECT_EQ(device->info().min_io_bytes, 4096U) << "what is absent is read and written there";
}

TEST_F(HydratingInBlocks, ABaseOfLargerBlocksThanChunksIsRefused) {
  open(true);
  ASSERT_TRUE(close().ok());
  base->mutable_info().min_io_bytes = 2 * kChunk;
  const DiskRecord disk{"vm1", "test:new", 2, kSize, "test:base", "absent.1"};
  std::unique_ptr<BlockDevice> fresh = std::make_unique<SharedDevice>(local);
  std::unique_ptr<BlockDevice> old = std::make_unique<SharedDevice>(base);
  const auto opened =
      run_task(loop, open_hydrating(loop, *journal, disk, record, fresh, old, JobOptions()));
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code(), ErrorCode::kPrecondition);
  EXPECT_NE(opened.error().message().find("128 KiB"), std::string::npos)
      << opened.error().message();
  EXPECT_TRUE(fresh != nullptr && old != nullptr) << "the caller closes them";
}

}  // namespace
}  // namespace blockmig
