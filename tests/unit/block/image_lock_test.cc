// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/image_lock.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include "blockmig/block/open_file.h"
#include "blockmig/io/unique_fd.h"
#include "tests/unit/block/store_fixture.h"

namespace blockmig {
namespace {

class ImageLock : public testing::Test {
 protected:
  void SetUp() override { write_file(path_, filled(kMiB, 0)); }
  UniqueFd open_image(bool read_only) {
    return UniqueFd(::open(path_.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC));
  }
  ErrorCode refused(const Status& status) {
    EXPECT_FALSE(status.ok());
    if (status.ok()) return ErrorCode::kIo;
    EXPECT_NE(status.error().message().find(path_), std::string::npos) << "names the image";
    return status.error().code();
  }
  int run(std::vector<std::string> command) {
    ChildProcess child(command);
    return child.wait();
  }

  TemporaryFolder folder_;
  const std::string path_ = folder_ / "disk.img";
};

TEST_F(ImageLock, OneWriterExcludesEverybody_I3) {
  const UniqueFd first = open_image(false);
  ASSERT_TRUE(lock_image(first.get(), path_, false).ok());
  const UniqueFd second = open_image(false);
  EXPECT_EQ(refused(lock_image(second.get(), path_, false)), ErrorCode::kBusy);
  const UniqueFd reader = open_image(true);
  EXPECT_EQ(refused(lock_image(reader.get(), path_, true)), ErrorCode::kBusy);
}

TEST_F(ImageLock, ADescriptorForFlushesThatIsClosedTakesNoLockWithIt_I3) {
  const UniqueFd first = open_image(false);
  ASSERT_TRUE(lock_image(first.get(), path_, false).ok());
  UniqueFd flushes = reopen(first.get(), O_RDWR);
  ASSERT_TRUE(flushes);
  flushes.reset();
  const UniqueFd second = open_image(false);
  EXPECT_EQ(refused(lock_image(second.get(), path_, false)), ErrorCode::kBusy);
}

TEST_F(ImageLock, WhoHasItOpenSeesWhetherItIsStillWhereItsNameSays) {
  for (const bool read_only : {false, true}) {
    const UniqueFd open = open_image(read_only);
    ASSERT_TRUE(lock_image(open.get(), path_, read_only).ok());
    EXPECT_TRUE(*is_locked_image(path_));
    const std::string away = path_ + ".away";
    ASSERT_EQ(::rename(path_.c_str(), away.c_str()), 0);
    EXPECT_EQ(is_locked_image(path_).error().code(), ErrorCode::kNotFound);
    write_file(path_, filled(kMiB, 0));
    EXPECT_FALSE(*is_locked_image(path_)) << "another image";
    ASSERT_EQ(::rename(away.c_str(), path_.c_str()), 0);
    EXPECT_TRUE(*is_locked_image(path_));
  }
}

TEST_F(ImageLock, ReadersShareAndExcludeAWriter) {
  const UniqueFd first = open_image(true);
  const UniqueFd second = open_image(true);
  ASSERT_TRUE(lock_image(first.get(), path_, true).ok());
  ASSERT_TRUE(lock_image(second.get(), path_, true).ok());
  const UniqueFd writer = open_image(false);
  EXPECT_EQ(refused(lock_image(writer.get(), path_, false)), ErrorCode::kBusy);
}

TEST_F(ImageLock, VanishesWithItsDescriptor) {
  UniqueFd first = open_image(false);
  ASSERT_TRUE(lock_image(first.get(), path_, false).ok());
  first.reset();
  const UniqueFd second = open_image(false);
  EXPECT_TRUE(lock_image(second.get(), path_, false).ok());
}

TEST_F(ImageLock, RefusesAnImageThatQemuNbdServes) {
  const auto server = NbdServerProcess::qemu(folder_, path_);
  UniqueFd writer = open_image(false);
  EXPECT_EQ(refused(lock_image(writer.get(), path_, false)), ErrorCode::kBusy);
  UniqueFd reader = open_image(true);
  EXPECT_EQ(refused(lock_image(reader.get(), path_, true)), ErrorCode::kBusy);
  writer.reset();
  reader.reset();
  server->process().kill();
  const UniqueFd after = open_image(false);
  EXPECT_TRUE(lock_image(after.get(), path_, false).ok());
}

TEST_F(ImageLock, KeepsQemuFromWritingButNotFromLooking) {
  const UniqueFd writer = open_image(false);
  ASSERT_TRUE(lock_image(writer.get(), path_, false).ok());
  EXPECT_NE(run({"qemu-io", "-f", "raw", "-c", "write 0 512", path_}), 0);
  EXPECT_EQ(read_file(path_), filled(kMiB, 0)) << "qemu-io wrote to a locked image";
  EXPECT_EQ(run({"qemu-img", "info", "-f", "raw", path_}), 0);
  EXPECT_EQ(run({"qemu-img", "compare", "-f", "raw", "-F", "raw", path_, path_}), 0);
}

}  // namespace
}  // namespace blockmig
