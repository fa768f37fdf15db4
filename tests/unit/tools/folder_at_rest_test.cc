// SPDX-License-Identifier: Apache-2.0
// The manifest of an image that its disk leaves: what changes after it was hashed has no digest
// there, or it says that it is true only of what is at rest.
#include "tools/daemon/folder_at_rest.h"

#include <gtest/gtest.h>

#include "blockmig/block/file_device.h"
#include "blockmig/io/run_task.h"
#include "sharedfs/manifest_file.h"
#include "tests/unit/tools/scratch.h"
#include "tools/daemon/folder_merge.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kChunk = ChunkDigests::kChunkBytes;
constexpr std::uint64_t kChunks = 6;

class FolderAtRestTest : public testing::Test {
 protected:
  /// The first and the last third rest, and are hashed; between them is a hole.
  void SetUp() override {
    path_ = scratch_.image("vm1.img", kChunks * kChunk);
    store_ = *run_task(*loop_, open_file_device(*loop_, path_, {}));
    at_rest_ = std::make_unique<FolderAtRest>(*loop_, path_, "vm1");
    rest_->mark(0, 2 * kChunk);
    rest_->mark(4 * kChunk, 2 * kChunk);
    ASSERT_TRUE(run_task(*loop_, at_rest_->hash(*store_, *rest_, cancel_)).ok());
    const std::string disk = "vm1";
    ASSERT_TRUE(run_task(*loop_, at_rest_->prepare(*rest_, disk, 2)).ok());
  }
  void TearDown() override {
    run_task(*loop_, at_rest_->discard());
    EXPECT_TRUE(run_task(*loop_, store_->close()).ok());
  }
  /// The guest's, and its chunk is copied.
  void write(std::uint64_t chunk) {
    const std::vector<std::byte> bytes(4096, std::byte{0xBB});
    const ConstBytes from(bytes);
    const WriteFlags flags{};
    ASSERT_TRUE(run_task(*loop_, store_->write(chunk * kChunk, from, flags)).ok());
    rest_->clear(chunk * kChunk, kChunk);
  }
  Status publish() { return run_task(*loop_, at_rest_->publish()); }
  Status publish_again() {
    const std::string disk = "vm1";
    const Status prepared = run_task(*loop_, at_rest_->prepare(*rest_, disk, 2));
    return prepared.ok() ? publish() : prepared;
  }
  Status complete() { return run_task(*loop_, at_rest_->complete(*store_, *rest_)); }

  Scratch scratch_;
  std::string path_;
  std::unique_ptr<IoLoop> loop_ = *make_io_loop({});
  std::unique_ptr<BlockDevice> store_;
  std::unique_ptr<DirtyBitmap> rest_ =
      *DirtyBitmap::create(kChunks * kChunk, static_cast<std::uint32_t>(kChunk));
  CancelSource cancel_{*loop_};
  std::unique_ptr<FolderAtRest> at_rest_;
};

TEST_F(FolderAtRestTest, WhatChangedBeforeTheFenceHasNoDigest_I13) {
  write(1);  // was at rest
  write(3);  // was a hole
  ASSERT_TRUE(publish().ok());
  ASSERT_TRUE(complete().ok());
  const auto manifest = load_manifest(path_);
  ASSERT_TRUE(manifest.ok());
  EXPECT_FALSE(manifest->changing);
  EXPECT_EQ(manifest->generation, at_rest_->generation() + 1);
  EXPECT_EQ(manifest->digests.unknown_chunks(), 2u);
  EXPECT_FALSE(manifest->digests.find(1).has_value());
  EXPECT_FALSE(manifest->digests.find(3).has_value());
  EXPECT_TRUE(manifest->digests.find(0).has_value());
  EXPECT_TRUE(manifest->digests.is_zero(2));
  EXPECT_TRUE(check_identity(path_, *manifest, true).ok());
}

TEST_F(FolderAtRestTest, UntilItIsCompleteItSaysSo) {
  ASSERT_TRUE(publish().ok());
  EXPECT_TRUE(load_manifest(path_)->changing);
}

TEST_F(FolderAtRestTest, WhatIsWithdrawnIsNobodysAndNothingIsKnownOfIt) {
  EXPECT_TRUE(run_task(*loop_, at_rest_->withdraw()).ok()) << "nothing was published yet";
  EXPECT_FALSE(load_manifest(path_).ok());
  ASSERT_TRUE(publish().ok());
  write(1);
  ASSERT_TRUE(publish_again().ok());
  EXPECT_FALSE(check_no_mixture(path_).ok());
  ASSERT_TRUE(run_task(*loop_, at_rest_->withdraw()).ok());
  EXPECT_TRUE(check_no_mixture(path_).ok());
  const auto manifest = load_manifest(path_);
  EXPECT_EQ(manifest->generation, at_rest_->generation() + 1);
  EXPECT_EQ(manifest->owner_epoch, 0u);
  EXPECT_EQ(manifest->owner, "");
  EXPECT_EQ(manifest->digests.unknown_chunks(), kChunks);
  // The next move finds no obstacle, and says more than the last one.
  ASSERT_TRUE(run_task(*loop_, at_rest_->hash(*store_, *rest_, cancel_)).ok());
  EXPECT_EQ(at_rest_->generation(), manifest->generation + 1);
}

TEST_F(FolderAtRestTest, ADiskThatDidNotLeaveAfterAllPutsItRight) {
  ASSERT_TRUE(publish().ok());
  // By another disk, or one that is not there, or no more, nothing is said.
  EXPECT_FALSE(*finish_manifest(path_, "vm2", 1, true));
  EXPECT_FALSE(*finish_manifest(path_, "vm1", 1, false));
  EXPECT_FALSE(*finish_manifest(path_, "vm1", 0, true));
  EXPECT_TRUE(load_manifest(path_)->changing);
  EXPECT_TRUE(*finish_manifest(path_, "vm1", 1, true));
  const auto manifest = load_manifest(path_);
  EXPECT_FALSE(manifest->changing);
  EXPECT_EQ(manifest->owner_epoch, 0u);
  EXPECT_EQ(manifest->digests.unknown_chunks(), kChunks);
}

TEST_F(FolderAtRestTest, WhatADiskHasLeftIsNotTakenBackByItsOldEpoch) {
  ASSERT_TRUE(publish().ok());
  ASSERT_TRUE(complete().ok());
  EXPECT_FALSE(*finish_manifest(path_, "vm1", 1, true)) << "there was a decision";
  EXPECT_EQ(load_manifest(path_)->owner_epoch, 2u);
}

TEST_F(FolderAtRestTest, AnImageThatIsLetGoIncompleteHasNoDigests) {
  write(1);
  ASSERT_TRUE(publish().ok());
  ASSERT_TRUE(run_task(*loop_, release_at_rest(*loop_, "file://" + path_, "vm1")).ok());
  const auto manifest = load_manifest(path_);
  EXPECT_FALSE(manifest->changing);
  EXPECT_EQ(manifest->owner_epoch, 0u);
  EXPECT_EQ(manifest->digests.unknown_chunks(), kChunks);
}

}  // namespace
}  // namespace blockmig
