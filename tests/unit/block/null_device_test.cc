// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/null_device.h"

#include <gtest/gtest.h>

#include "blockmig/block/open_store.h"
#include "tests/unit/block/store_fixture.h"

namespace blockmig {
namespace {

TEST(NullDevice, TakesEverythingAndKeepsNothing) {
  const auto loop = make_test_loop(LoopKind::kAuto);
  NullDevice device(kMiB);
  SyncDevice sync(*loop, device);
  EXPECT_TRUE(sync.write(5, filled(5000, 9), WriteFlags{true}).ok());
  EXPECT_EQ(*sync.read(0, 10'000), filled(10'000, 0)) << "the buffer's old content too";
  EXPECT_TRUE(sync.write_zeroes(0, kMiB).ok());
  EXPECT_TRUE(sync.trim(0, kMiB).ok());
  EXPECT_TRUE(sync.flush().ok());
  EXPECT_EQ(*sync.extents(10, 1000), (std::vector<Extent>{{10, 1000, true, true}}));
  Bytes into = filled(4096, 1);
  EXPECT_TRUE(device.write_now(0, into));
  EXPECT_TRUE(device.read_now(0, into));
  EXPECT_EQ(into, filled(4096, 0));
  EXPECT_TRUE(sync.close().ok());
}

TEST(NullDevice, ReadOnlyRefusesChanges) {
  const auto loop = make_test_loop(LoopKind::kAuto);
  NullDevice device(kMiB, true);
  SyncDevice sync(*loop, device);
  for (const Status& refused :
       {sync.write(0, filled(10, 2)), sync.write_zeroes(0, 10), sync.trim(0, 4096)}) {
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code(), ErrorCode::kReadOnly);
  }
  EXPECT_FALSE(device.write_now(0, filled(10, 2)));
}

TEST(NullStore, IsWrittenWithItsSize) {
  const auto uri = parse_store_uri("null:64GiB");
  ASSERT_TRUE(uri.ok()) << uri.error().message();
  EXPECT_EQ(uri->text, "null:" + std::to_string(64 * kGiB));
  EXPECT_EQ(*parse_store_uri(uri->text), *uri);
  for (const char* const wrong : {"null:", "null:0", "null:much", "null:/path"}) {
    const auto refused = parse_store_uri(wrong);
    ASSERT_FALSE(refused.ok()) << wrong;
    EXPECT_EQ(refused.error().code(), ErrorCode::kInvalid);
    EXPECT_NE(refused.error().message().find(wrong), std::string::npos);
  }
}

TEST(NullStore, OpensWhereItIsLargeEnough) {
  const auto loop = make_test_loop(LoopKind::kAuto);
  const auto uri = parse_store_uri("null:1MiB");
  OpenStoreOptions options;
  options.file.create_size_bytes = kMiB;
  auto opened = run_task(*loop, open_store(*loop, *uri, options));
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  EXPECT_EQ((*opened)->info().size_bytes, kMiB);
  EXPECT_EQ((*opened)->info().name, uri->text);
  options.file.create_size_bytes = kMiB + 1;
  auto small = run_task(*loop, open_store(*loop, *uri, options));
  ASSERT_FALSE(small.ok());
  EXPECT_EQ(small.error().code(), ErrorCode::kPrecondition);
}

}  // namespace
}  // namespace blockmig
