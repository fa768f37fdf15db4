// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/open_store.h"

#include <gtest/gtest.h>

#include "tests/unit/block/store_fixture.h"

namespace blockmig {
namespace {

using Opened = Result<std::unique_ptr<BlockDevice>>;

class OpenStore : public testing::Test {
 protected:
  Opened open(const std::string& text, const OpenStoreOptions& options) {
    const auto uri = parse_store_uri(text);
    EXPECT_TRUE(uri.ok());
    return run_task(*loop_, open_store(*loop_, *uri, options));
  }
  TemporaryFolder folder_;
  std::unique_ptr<IoLoop> loop_ = make_test_loop(LoopKind::kAuto);
};

TEST_F(OpenStore, OpensFilesByPathAndByUri) {
  OpenStoreOptions options;
  options.file.create_size_bytes = 5000;
  const std::string path = folder_ / "a disk.img";
  for (const CacheMode cache : {CacheMode::kBuffered, CacheMode::kDirect, CacheMode::kMap}) {
    options.file.cache = cache;
    Opened opened = open(path, options);
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    EXPECT_EQ((*opened)->info().size_bytes, 5000u);
    ASSERT_TRUE(run_task(*loop_, (*opened)->close()).ok());
  }
  options.file.create_size_bytes = 0;
  options.file.read_only = true;
  Opened again = open("file://" + folder_ / "a%20disk.img", options);
  ASSERT_TRUE(again.ok()) << again.error().message();
  EXPECT_TRUE((*again)->info().read_only);
}

TEST_F(OpenStore, OpensNbdExportsWithTheirOptions) {
  const auto server = NbdServerProcess::nbdkit(folder_, {"memory", "1M"});
  OpenStoreOptions options;
  options.file.create_size_bytes = 5000;  // a file's business
  options.nbd.read_only = true;
  Opened opened = open(server->uri(), options);
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  EXPECT_EQ((*opened)->info().size_bytes, kMiB);
  EXPECT_TRUE((*opened)->info().read_only);
  ASSERT_TRUE(run_task(*loop_, (*opened)->close()).ok());
}

}  // namespace
}  // namespace blockmig
