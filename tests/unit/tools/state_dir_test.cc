// SPDX-License-Identifier: Apache-2.0
#include "tools/control/state_dir.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/tools/scratch.h"

namespace blockmig {
namespace {

std::string resolve(const std::string& option, const StateDirEnvironment& environment) {
  const Result<std::string> dir = resolve_state_dir(option, environment);
  return dir.ok() ? *dir : "error: " + std::string(to_string(dir.error().code()));
}

TEST(StateDir, OptionThenXdgThenRootThenHome) {
  EXPECT_EQ(resolve("/s", {"/x", "/h", true}), "/s");
  EXPECT_EQ(resolve("", {"/x", "/h", true}), "/x/blockmig");
  EXPECT_EQ(resolve("", {std::nullopt, "/h", true}), "/var/lib/blockmig");
  EXPECT_EQ(resolve("", {std::nullopt, "/h", false}), "/h/.local/state/blockmig");
  EXPECT_EQ(resolve("", {std::nullopt, std::nullopt, false}), "error: not-found");
}

TEST(StateDir, RelativeXdgVariableIsIgnored) {
  EXPECT_EQ(resolve("", {"x", "/h", false}), "/h/.local/state/blockmig");
}

TEST(StateDir, RelativeOptionBecomesAbsolute) { EXPECT_EQ(resolve("s", {})[0], '/'); }

TEST(StateDir, IsHeldByOneProcessOnly_I3) {
  Scratch scratch;
  const std::string dir = scratch / "a/b";
  {
    const Result<StateDirLock> first = StateDirLock::acquire(dir);
    ASSERT_TRUE(first.ok()) << first.error().message();
    const Result<StateDirLock> second = StateDirLock::acquire(dir);
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.error().code(), ErrorCode::kBusy);
    EXPECT_NE(second.error().message().find(dir), std::string::npos);
    const std::string holder = "in use by process " + std::to_string(getpid());
    EXPECT_NE(second.error().message().find(holder), std::string::npos) << second.error().message();
  }
  EXPECT_TRUE(StateDirLock::acquire(dir).ok());
}

TEST(StateDir, FolderThatCannotBeCreatedIsNamed) {
  const Result<StateDirLock> lock = StateDirLock::acquire("/proc/none/a");
  ASSERT_FALSE(lock.ok());
  EXPECT_NE(lock.error().message().find("'/proc/none'"), std::string::npos);
}

TEST(StateDir, IsPrivate) {
  Scratch scratch;
  ASSERT_TRUE(StateDirLock::acquire(scratch / "s").ok());
  struct stat facts {};
  ASSERT_EQ(stat((scratch / "s").c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0700u);
}

TEST(StateDir, TooLongSocketPathSaysSo) {
  EXPECT_TRUE(check_socket_path(std::string(107, 'x')).ok());
  const Status status = check_socket_path(std::string(108, 'x'));
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code(), ErrorCode::kPrecondition);
}

}  // namespace
}  // namespace blockmig
