// SPDX-License-Identifier: Apache-2.0
// A filesystem that cannot sync folders has no more to offer: that is no reason to refuse it.
#include <gtest/gtest.h>

#include "blockmig/io/run_task.h"
#include "tests/unit/shared/unsyncable_folders.h"
#include "tests/unit/tools/scratch.h"
#include "tools/daemon/backup_file.h"
#include "tools/daemon/uri_target.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kSize = 300001;

TEST(UnsyncableFolder, TakesARecordOfABackup) {
  const Scratch scratch;
  const std::string copy = scratch.image("copy.img", kSize);
  const UnsyncableFolders unsyncable;
  BackupRecord record;
  record.disk = "vm1";
  const Status saved = save_backup_record(copy, record);
  EXPECT_TRUE(saved.ok()) << saved.error().message();
  EXPECT_GT(unsyncable.refused, 0);
}

TEST(UnsyncableFolder, TakesANewTarget) {
  const Scratch scratch;
  TargetPlan plan;
  plan.target = *parse_store_uri(scratch / "new.img");
  plan.source = *parse_store_uri(scratch.image("source.img", kSize));
  plan.disk = "vm1";
  const auto loop = *make_io_loop({});
  UriTarget target(*loop, std::move(plan));
  const UnsyncableFolders unsyncable;
  const auto opened = run_task(*loop, target.open(kSize));
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  EXPECT_GT(unsyncable.refused, 1) << "when it was made, and when it was noted";
  EXPECT_TRUE(run_task(*loop, (*opened)->close()).ok());
}

}  // namespace
}  // namespace blockmig
