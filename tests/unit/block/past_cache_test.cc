// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/past_cache.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/unit/block/store_fixture.h"

namespace blockmig {
namespace {

constexpr std::size_t kSize = 3 * kMiB + 1234;

struct PastCaches : testing::TestWithParam<const char*> {
  void SetUp() override {
    path = std::string(GetParam()) + "/blockmig-past-cache-" + std::to_string(getpid());
    Random random(4);
    content = random_bytes(random, kSize);
    write_file(path, content);
    fd = UniqueFd(open(path.c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_TRUE(fd);
  }
  void TearDown() override { unlink(path.c_str()); }
  std::string path;
  Bytes content;
  UniqueFd fd;
};

TEST_P(PastCaches, AnyRangeIsWhatWasWritten) {
  PastCache past(fd.get());
  Random random(5);
  for (int i = 0; i < 50; ++i) {
    const std::uint64_t offset = random.below(kSize);
    Bytes got(random.between(1, kSize - offset));
    const Status read = past.read(offset, got, path);
    ASSERT_TRUE(read.ok()) << read.error().message();
    EXPECT_TRUE(
        std::equal(got.begin(), got.end(), content.begin() + static_cast<std::ptrdiff_t>(offset)));
  }
  Bytes tail(1);
  ASSERT_TRUE(past.read(kSize - 1, tail, path).ok());
  EXPECT_EQ(tail[0], content.back());
}

TEST_P(PastCaches, AFileThatEndsEarlyIsAnError_I11) {
  PastCache past(fd.get());
  Bytes got(kMiB);
  EXPECT_EQ(past.read(kSize - 4096, got, path).error().code(), ErrorCode::kIo);
}

TEST_P(PastCaches, WhatWasJustWrittenIsThere) {
  PastCache past(fd.get());
  const Bytes fresh = filled(10'000, 0x77);
  ASSERT_EQ(pwrite(fd.get(), fresh.data(), fresh.size(), 5000), 10'000);
  Bytes got(fresh.size());
  ASSERT_TRUE(past.read(5000, got, path).ok());
  EXPECT_EQ(got, fresh);
}

// A filesystem without O_DIRECT (tmpfs, of some kernels), and one with it.
INSTANTIATE_TEST_SUITE_P(Places, PastCaches, testing::Values("/dev/shm", "/var/tmp"),
                         [](const auto& place) { return place.index == 0 ? "shm" : "disk"; });

}  // namespace
}  // namespace blockmig
