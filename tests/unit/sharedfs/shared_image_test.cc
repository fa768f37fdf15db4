// SPDX-License-Identifier: Apache-2.0
#include "sharedfs/shared_image.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "blockmig/base/random.h"
#include "blockmig/block/fault_device.h"
#include "blockmig/block/forwarding_device.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"
#include "sharedfs/image_scan.h"
#include "sharedfs/manifest_file.h"
#include "tests/unit/shared/temporary_folder.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kChunk = ChunkDigests::kChunkBytes;

/// Lets go of a device that the test keeps.
class Lent final : public ForwardingDevice {
 public:
  explicit Lent(FaultDevice& device) : ForwardingDevice(device) {}
  Task<Status> close() override { co_return Status(); }
};

class TestSource final : public ImageSource {
 public:
  explicit TestSource(FaultDevice*& device) : device_(device) {}
  const std::string& name() const override { return name_; }
  Task<Result<std::unique_ptr<BlockDevice>>> open() override {
    if (device_ == nullptr) co_return Error(ErrorCode::kNotFound, "the image is gone");
    std::unique_ptr<BlockDevice> opened = std::make_unique<Lent>(*device_);
    co_return opened;
  }
  Task<Status> check() override { co_return Status(); }

 private:
  FaultDevice*& device_;
  std::string name_ = "folder/vm1.img";
};

struct SharedImages : testing::Test {
  static constexpr std::uint64_t kSize = 20 * kChunk + 333;
  SharedImages() {
    Random noise(3);
    for (std::uint64_t i = 4 * kChunk; i < kSize; ++i) {
      content[i] = static_cast<std::byte>(noise.next());
    }
    for (FaultDevice* device : {&good, &other}) device->preload(0, content);
    ScanOptions scan;
    const Status scanned = run_task(loop, scan_image(loop, good, *digests, scan));
    EXPECT_TRUE(scanned.ok());
    EXPECT_EQ(digests->image(), [this] {
      ImageDigest whole;
      whole.append(content);
      return whole.finish();
    }());
    image = std::make_unique<SharedImage>(loop, std::make_unique<TestSource>(present), digests,
                                          SharedImageOptions{});
    EXPECT_TRUE(run_task(loop, image->open()).ok());
  }
  ~SharedImages() override { EXPECT_TRUE(run_task(loop, image->close()).ok()); }

  Status read(std::uint64_t offset, std::uint64_t length) {
    std::vector<std::byte> got(length);
    const MutableBytes into(got);
    const Status status = run_task(loop, image->read(offset, into));
    if (status.ok()) {
      EXPECT_TRUE(std::equal(got.begin(), got.end(),
                             content.begin() + static_cast<std::ptrdiff_t>(offset)));
    }
    return status;
  }
  void damage(FaultDevice& device, std::uint64_t offset) {
    const std::vector<std::byte> flipped{content[offset] ^ std::byte{1}};
    device.preload(offset, flipped);
  }
  Task<void> later(std::function<void()> change) {
    co_await sleep_for(loop, std::chrono::seconds(3));
    change();
  }

  std::vector<std::byte> content = std::vector<std::byte>(kSize);
  Random random{5};
  SimLoop loop{random};
  FaultDevice good{loop, random, "good", kSize};
  FaultDevice other{loop, random, "other", kSize};
  FaultDevice* present = &good;
  std::shared_ptr<ChunkDigests> digests = std::make_shared<ChunkDigests>(kSize);
  std::unique_ptr<SharedImage> image;
};

TEST_F(SharedImages, AnyPartOfItIsServed) {
  EXPECT_TRUE(read(0, kSize).ok());
  EXPECT_TRUE(read(5 * kChunk + 100, 5000).ok());
  EXPECT_TRUE(read(kSize - 1, 1).ok());
  EXPECT_TRUE(read(7 * kChunk, kChunk).ok());
  EXPECT_FALSE(image->health().has_value());
}

TEST_F(SharedImages, DamagedChunksAreNeverServed_I13) {
  damage(good, 9 * kChunk + 17);
  const Status status = read(9 * kChunk + 4000, 512);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code(), ErrorCode::kIo);
  EXPECT_NE(status.error().message().find(std::to_string(9 * kChunk)), std::string::npos);
  EXPECT_TRUE(image->health().has_value());
  EXPECT_GT(image->stats().mismatches, 1u);
  EXPECT_TRUE(read(10 * kChunk, kChunk).ok());
}

TEST_F(SharedImages, DamageInAChunkOfZerosIsFoundToo) {
  good.preload(2 * kChunk, std::vector<std::byte>{std::byte{1}});
  EXPECT_FALSE(read(2 * kChunk, 512).ok());
}

TEST_F(SharedImages, AReadStallsUntilTheImageIsThereAgain) {
  damage(good, 9 * kChunk + 17);
  TaskScope scope;
  scope.spawn(later([this] { present = &other; }));
  EXPECT_TRUE(read(9 * kChunk, 512).ok());
  EXPECT_FALSE(image->health().has_value());
  EXPECT_EQ(image->stats().stalled, 0u);
  run_task(loop, sleep_for(loop, std::chrono::seconds(4)));
}

TEST_F(SharedImages, AMissingImageStallsAndItsStatusSaysSo) {
  good.plan().read_error_ppm = 1'000'000;
  present = nullptr;
  TaskScope scope;
  std::string said;
  scope.spawn(later([this, &said] {
    said = image->health() ? image->health()->message() : "";
    EXPECT_EQ(image->stats().stalled, 1u);
    good.plan().read_error_ppm = 0;
  }));
  EXPECT_TRUE(read(9 * kChunk, 512).ok());
  EXPECT_NE(said, "");
}

TEST_F(SharedImages, PatienceEnds) {
  good.plan().read_error_ppm = 1'000'000;
  const TimePoint begun = loop.now();
  EXPECT_EQ(read(9 * kChunk, 512).error().code(), ErrorCode::kIo);
  EXPECT_GE(loop.now() - begun, SharedImageOptions{}.patience);
  EXPECT_LT(loop.now() - begun, 2 * SharedImageOptions{}.patience);
}

TEST_F(SharedImages, GivingUpEndsAStalledRead) {
  good.plan().read_error_ppm = 1'000'000;
  TaskScope scope;
  scope.spawn(later([this] { image->abandon(); }));
  const TimePoint begun = loop.now();
  EXPECT_FALSE(read(9 * kChunk, 512).ok());
  EXPECT_LT(loop.now() - begun, std::chrono::seconds(4));
}

TEST_F(SharedImages, ChunksWithoutDigestAreRefusedAtOnce) {
  digests->invalidate(9 * kChunk, 1);
  const TimePoint begun = loop.now();
  EXPECT_EQ(read(9 * kChunk, 512).error().code(), ErrorCode::kMismatch);
  EXPECT_EQ(loop.now(), begun);
}

TEST_F(SharedImages, ExtentsComeFromTheDigests) {
  present = nullptr;
  const auto extents = run_task(loop, image->extents(100, kSize - 100));
  ASSERT_TRUE(extents.ok());
  const std::vector<Extent> expected = {{100, 4 * kChunk - 100, true, true},
                                        {4 * kChunk, kSize - 4 * kChunk, false, false}};
  EXPECT_EQ(*extents, expected);
}

TEST_F(SharedImages, NothingCanBeWritten) {
  const std::vector<std::byte> bytes(512);
  const ConstBytes from(bytes);
  EXPECT_EQ(run_task(loop, image->write(0, from, {})).error().code(), ErrorCode::kReadOnly);
  EXPECT_EQ(run_task(loop, image->trim(0, 512, {})).error().code(), ErrorCode::kReadOnly);
  EXPECT_EQ(run_task(loop, image->write_zeroes(0, 512, {})).error().code(), ErrorCode::kReadOnly);
}

struct FolderImages : testing::Test {
  FolderImages() {
    std::ofstream(path) << std::string(100'000, 'x');
    Manifest manifest(100'000);
    manifest.generation = 4;
    manifest.image = look_at_image(path)->identity;
    EXPECT_TRUE(save_manifest(path, manifest).ok());
    expected = {4, manifest.image.inode, 100'000};
  }
  ErrorCode refusal() {
    FolderImage image(*loop, path, expected);
    const auto opened = run_task(*loop, image.open());
    EXPECT_FALSE(opened.ok());
    return opened.ok() ? ErrorCode::kCancelled : opened.error().code();
  }
  std::unique_ptr<IoLoop> loop = *make_io_loop(IoLoopOptions{});
  TemporaryFolder folder;
  std::string path = folder.path() + "/vm1.img";
  FolderImage::Expected expected;
};

TEST_F(FolderImages, TheRightOneIsOpenedReadOnly) {
  FolderImage image(*loop, path, expected);
  auto opened = run_task(*loop, image.open());
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  EXPECT_TRUE((*opened)->info().read_only);
  EXPECT_TRUE(run_task(*loop, (*opened)->close()).ok());
}

TEST_F(FolderImages, AnotherGenerationIsRefused) {
  expected.generation = 3;
  EXPECT_EQ(refusal(), ErrorCode::kMismatch);
}

TEST_F(FolderImages, AReplacedImageIsRefused) {
  std::ofstream(path + ".2") << std::string(100'000, 'x');
  std::filesystem::rename(path + ".2", path);
  EXPECT_EQ(refusal(), ErrorCode::kMismatch);
}

TEST_F(FolderImages, MissingFilesAreNamed) {
  std::filesystem::remove(manifest_path(path));
  EXPECT_EQ(refusal(), ErrorCode::kNotFound);
  std::filesystem::remove(path);
  EXPECT_EQ(refusal(), ErrorCode::kNotFound);
}

}  // namespace
}  // namespace blockmig
