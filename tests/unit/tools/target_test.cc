// SPDX-License-Identifier: Apache-2.0
// Sources and targets: what is refused before anything changes, and what is undone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "blockmig/block/memory_device.h"
#include "blockmig/io/run_task.h"
#include "tests/unit/tools/scratch.h"
#include "tools/daemon/clipped_device.h"
#include "tools/daemon/source_choice.h"
#include "tools/daemon/uri_target.h"

namespace blockmig {
namespace {

using testing::HasSubstr;

constexpr std::uint64_t kSize = 300001;

StoreUri uri(const std::string& text) {
  const Result<StoreUri> parsed = parse_store_uri(text);
  EXPECT_TRUE(parsed.ok()) << text;
  return *parsed;
}

class Target : public testing::Test {
 protected:
  void SetUp() override {
    auto loop = make_io_loop({});
    ASSERT_TRUE(loop.ok());
    loop_ = *std::move(loop);
    source_ = scratch_.image("source.img", kSize);
  }
  TargetPlan plan(const std::string& target) {
    TargetPlan plan;
    plan.target = uri(target);
    plan.source = uri(source_);
    plan.disk = "vm1";
    return plan;
  }
  /// The code and message of what check_target() says.
  Error refusal(const TargetPlan& p) {
    const Status status = check_target(p, kSize);
    return status.ok() ? Error(ErrorCode::kIo, "accepted") : status.error();
  }

  Scratch scratch_;
  std::unique_ptr<IoLoop> loop_;
  std::string source_;
};

TEST_F(Target, SameFileIsRefusedUnderEveryName) {
  std::filesystem::create_symlink(source_, scratch_ / "link");
  std::filesystem::create_hard_link(source_, scratch_ / "hard");
  for (const std::string& name : {source_, scratch_ / "link", scratch_ / "hard"}) {
    const Error error = refusal(plan(name));
    EXPECT_EQ(error.code(), ErrorCode::kPrecondition) << name;
    EXPECT_THAT(error.message(), HasSubstr("lives on already")) << name;
  }
}

TEST_F(Target, StoreOfAnotherDiskIsBusyAndNamed) {
  const std::string other = scratch_.image("other.img", kSize);
  TargetPlan p = plan(other);
  p.uses = {{"disk 'vm2'", uri(other)}};
  EXPECT_EQ(refusal(p).code(), ErrorCode::kBusy);
  EXPECT_THAT(refusal(p).message(), HasSubstr("disk 'vm2'"));
}

TEST_F(Target, WrongSizesFoldersAndKindsAreRefused) {
  scratch_.image("small.img", kSize - 1);
  scratch_.image("large.img", kSize + 1);
  EXPECT_EQ(refusal(plan(scratch_ / "small.img")).code(), ErrorCode::kPrecondition);
  EXPECT_THAT(refusal(plan(scratch_ / "small.img")).message(), HasSubstr("too small"));
  EXPECT_THAT(refusal(plan(scratch_ / "large.img")).message(), HasSubstr("too large"));
  EXPECT_EQ(refusal(plan(scratch_ / "none/x.img")).code(), ErrorCode::kNotFound);
  EXPECT_EQ(refusal(plan(scratch_ / "none/")).code(), ErrorCode::kNotFound);
  EXPECT_EQ(refusal(plan("/dev/null")).code(), ErrorCode::kPrecondition);
  EXPECT_TRUE(check_target(plan(scratch_ / "new.img"), kSize).ok());
}

TEST_F(Target, OwnExportIsRefused) {
  std::ofstream(scratch_ / "nbd.sock") << "";
  TargetPlan p = plan("nbd+unix:///vm1?socket=" + scratch_.path() + "/nbd.sock");
  p.own_addresses = {"unix:" + (scratch_ / "nbd.sock")};
  EXPECT_EQ(refusal(p).code(), ErrorCode::kPrecondition);
  p = plan("nbd://localhost:4711/vm1");
  p.own_addresses = {"tcp:127.0.0.1:4711"};
  EXPECT_EQ(refusal(p).code(), ErrorCode::kPrecondition);
  p.own_addresses = {"tcp:127.0.0.1:4712"};
  EXPECT_TRUE(check_target(p, kSize).ok());
}

TEST_F(Target, FolderStandsForTheSourcesNameInIt) {
  std::filesystem::create_directory(scratch_ / "b c");
  const StoreUri resolved = resolve_target(plan(scratch_ / "b c"));
  EXPECT_EQ(resolved.path, scratch_ / "b c/source.img");
  EXPECT_EQ(resolve_target(plan(scratch_ / "new.img")).path, scratch_ / "new.img");
  TargetPlan remote = plan(scratch_ / "b c");
  remote.source = uri("nbd://h/x");
  EXPECT_EQ(resolve_target(remote).path, scratch_ / "b c/vm1");
}

TEST_F(Target, CreatedFileHasTheDisksSizeAndDiscardRemovesIt_I8) {
  UriTarget target(*loop_, plan(scratch_ / "new.img"));
  auto opened = run_task(*loop_, target.open(kSize));
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  EXPECT_EQ((*opened)->info().size_bytes, kSize);
  EXPECT_EQ(std::filesystem::file_size(scratch_ / "new.img"), kSize);
  EXPECT_TRUE(run_task(*loop_, target.check_place()).ok());
  run_task(*loop_, target.discard());
  EXPECT_FALSE(std::filesystem::exists(scratch_ / "new.img"));
  ASSERT_TRUE(run_task(*loop_, (*opened)->close()).ok());
}

TEST_F(Target, OneThatWasBegunIsNotMadeAnewInAnotherFolder_I7) {
  const auto journal = make_memory_journal(*loop_);
  const auto opening = [&](const std::string& name, std::uint64_t epoch) {
    TargetPlan p = plan(scratch_ / name);
    p.journal = journal.get();
    p.epoch = epoch;
    p.resumed = true;
    return p;
  };
  const auto open = [&](const TargetPlan& p) {
    UriTarget target(*loop_, p);
    auto opened = run_task(*loop_, target.open(kSize));
    if (!opened.ok()) return Status(opened.error());
    return run_task(*loop_, (*opened)->close());
  };
  const std::string mount = scratch_ / "mount";
  const std::string image = mount + "/new.img";
  std::filesystem::create_directory(mount);
  ASSERT_TRUE(open(opening("mount/new.img", 2)).ok()) << "it had not come to it before";
  std::filesystem::rename(mount, scratch_ / "away");
  EXPECT_EQ(open(opening("mount/new.img", 2)).error().code(), ErrorCode::kNotFound);
  std::filesystem::create_directory(mount);
  const Status refused = open(opening("mount/new.img", 2));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ErrorCode::kNotFound) << "it may come back";
  EXPECT_THAT(refused.error().message(), HasSubstr("is its filesystem mounted?"));
  EXPECT_FALSE(std::filesystem::exists(image));
  std::filesystem::rename(mount, scratch_ / "shadow");
  std::filesystem::rename(scratch_ / "away", mount);
  EXPECT_TRUE(open(opening("mount/new.img", 2)).ok());
  std::filesystem::remove(image);
  EXPECT_TRUE(open(opening("mount/new.img", 2)).ok()) << "somebody has removed the file itself";
  // Of other moves it says nothing.
  std::filesystem::remove_all(mount);
  std::filesystem::create_directory(mount);
  EXPECT_FALSE(open(opening("mount/new.img", 2)).ok());
  EXPECT_TRUE(open(opening("mount/new.img", 3)).ok());
}

TEST_F(Target, NobodyHasItUntilItIsRemoved_I9) {
  UriTarget aborted(*loop_, plan(scratch_ / "new.img"));
  UriTarget next(*loop_, plan(scratch_ / "new.img"));
  auto opened = run_task(*loop_, aborted.open(kSize));
  ASSERT_TRUE(opened.ok());
  EXPECT_EQ(run_task(*loop_, next.open(kSize)).error().code(), ErrorCode::kBusy);
  run_task(*loop_, aborted.discard());
  auto again = run_task(*loop_, next.open(kSize));
  ASSERT_TRUE(again.ok()) << again.error().message();
  run_task(*loop_, aborted.discard());
  EXPECT_TRUE(run_task(*loop_, next.check_place()).ok()) << "the next one's";
  EXPECT_TRUE(run_task(*loop_, (*opened)->close()).ok());
  EXPECT_TRUE(run_task(*loop_, (*again)->close()).ok());
}

TEST_F(Target, OneThatWasRemovedOrReplacedIsNoPlaceToSwitchTo_I1) {
  const std::string present = scratch_.image("present.img", kSize, 'p');
  std::filesystem::create_symlink(present, scratch_ / "link");
  UriTarget target(*loop_, plan(scratch_ / "link"));
  auto opened = run_task(*loop_, target.open(kSize));
  ASSERT_TRUE(opened.ok());
  EXPECT_TRUE(run_task(*loop_, target.check_place()).ok());
  std::filesystem::rename(present, scratch_ / "away.img");
  EXPECT_EQ(run_task(*loop_, target.check_place()).error().code(), ErrorCode::kPrecondition);
  scratch_.image("present.img", kSize, 'q');
  EXPECT_THAT(run_task(*loop_, target.check_place()).error().message(), HasSubstr("replaced"));
  EXPECT_TRUE(run_task(*loop_, (*opened)->close()).ok());
}

TEST_F(Target, OneWhoseSizeSomebodyHasChangedIsNoPlaceToSwitchTo_I4) {
  const std::string present = scratch_.image("present.img", kSize, 'p');
  UriTarget target(*loop_, plan(present));
  auto opened = run_task(*loop_, target.open(kSize));
  ASSERT_TRUE(opened.ok());
  for (const std::uint64_t size : {kSize - 1, kSize + 1, std::uint64_t{0}}) {
    std::filesystem::resize_file(present, size);
    const Status place = run_task(*loop_, target.check_place());
    ASSERT_FALSE(place.ok()) << size;
    EXPECT_EQ(place.error().code(), ErrorCode::kPrecondition);
    EXPECT_THAT(place.error().message(), HasSubstr(std::to_string(size) + " bytes"));
  }
  std::filesystem::resize_file(present, kSize);
  EXPECT_TRUE(run_task(*loop_, target.check_place()).ok());
  EXPECT_TRUE(run_task(*loop_, (*opened)->close()).ok());
}

TEST_F(Target, ExistingFileIsNeverRemoved) {
  const std::string present = scratch_.image("present.img", kSize, 'p');
  UriTarget target(*loop_, plan(present));
  auto opened = run_task(*loop_, target.open(kSize));
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  ASSERT_TRUE(run_task(*loop_, (*opened)->close()).ok());
  run_task(*loop_, target.discard());
  EXPECT_TRUE(std::filesystem::exists(present));
}

TEST_F(Target, DiscardLeavesAnotherFileOfThatNameAlone) {
  UriTarget target(*loop_, plan(scratch_ / "new.img"));
  auto opened = run_task(*loop_, target.open(kSize));
  ASSERT_TRUE(opened.ok());
  ASSERT_TRUE(run_task(*loop_, (*opened)->close()).ok());
  std::filesystem::rename(scratch_ / "new.img", scratch_ / "kept.img");
  std::ofstream(scratch_ / "new.img") << "somebody else's";
  run_task(*loop_, target.discard());
  EXPECT_EQ(read_file(scratch_ / "new.img"), "somebody else's");
}

TEST_F(Target, UnreachableServerIsAnErrorThatNamesIt) {
  UriTarget target(*loop_, plan("nbd+unix:///?socket=" + scratch_.path() + "/none"));
  const auto opened = run_task(*loop_, target.open(kSize));
  ASSERT_FALSE(opened.ok());
  EXPECT_THAT(opened.error().message(), HasSubstr(scratch_.path() + "/none"));
}

TEST(Clipped, ShowsTheFirstBytesOfALargerDevice) {
  auto memory = std::make_unique<MemoryDevice>("m", 8192);
  std::unique_ptr<BlockDevice> device = std::move(memory);
  auto fitted = fit_to_size(device, 5000);
  ASSERT_TRUE(fitted.ok());
  EXPECT_EQ((*fitted)->info().size_bytes, 5000u);
  EXPECT_EQ(device, nullptr);
}

TEST(Clipped, TooSmallOrMisalignedIsRefusedAndTheDeviceGivenBack) {
  std::unique_ptr<BlockDevice> device = std::make_unique<MemoryDevice>("m", 4096);
  EXPECT_EQ(fit_to_size(device, 5000).error().code(), ErrorCode::kPrecondition);
  ASSERT_NE(device, nullptr);
  auto blocks = std::make_unique<MemoryDevice>("b", 8192);
  blocks->mutable_info().min_io_bytes = 512;
  device = std::move(blocks);
  EXPECT_EQ(fit_to_size(device, 5000).error().code(), ErrorCode::kPrecondition);
  EXPECT_NE(device, nullptr);
}

DiskRecord record() { return {"vm1", "file:///b", 4, 4096, "file:///a"}; }

TEST(SourceChoice, UnknownDiskNeedsASource) {
  ServeRequest request;
  request.disk = "vm1";
  EXPECT_EQ(choose_source(request, std::nullopt, false).error().code(), ErrorCode::kNotFound);
  request.source = "file:///a";
  const auto choice = choose_source(request, std::nullopt, false);
  ASSERT_TRUE(choice.ok());
  EXPECT_EQ(choice->uri, "file:///a");
  EXPECT_EQ(choice->epoch, 1u);
}

TEST(SourceChoice, JournalWinsOverAnOldSource_I7) {
  ServeRequest request;
  request.disk = "vm1";
  const auto silent = choose_source(request, record(), false);
  ASSERT_TRUE(silent.ok());
  EXPECT_EQ(silent->uri, "file:///b");
  EXPECT_EQ(silent->epoch, 4u);
  request.source = "file:///a";  // where it lived before
  const auto stale = choose_source(request, record(), false);
  ASSERT_FALSE(stale.ok());
  EXPECT_EQ(stale.error().code(), ErrorCode::kPrecondition);
  EXPECT_THAT(stale.error().message(), HasSubstr("file:///a"));
  EXPECT_THAT(stale.error().message(), HasSubstr("file:///b"));
  EXPECT_THAT(stale.error().message(), HasSubstr("--force-source"));
}

TEST(SourceChoice, ForceIsANewEpoch_I3) {
  ServeRequest request;
  request.disk = "vm1";
  request.source = "file:///a";
  request.force_source = true;
  const auto forced = choose_source(request, record(), false);
  ASSERT_TRUE(forced.ok());
  EXPECT_EQ(forced->uri, "file:///a");
  EXPECT_EQ(forced->epoch, 5u);
  EXPECT_EQ(forced->previous_uri, "file:///b");
  // Forcing what is true already changes nothing.
  const auto same = choose_source(request, record(), true);
  EXPECT_EQ(same->epoch, 4u);
}

}  // namespace
}  // namespace blockmig
