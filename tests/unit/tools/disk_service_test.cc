// SPDX-License-Identifier: Apache-2.0
// DiskService with an NBD server that only notes what it is asked, and a journal that can be held.
#include "tools/daemon/disk_service.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "blockmig/io/event.h"
#include "blockmig/io/run_task.h"
#include "blockmig/journal/forwarding_journal.h"
#include "tests/unit/tools/noting_server.h"
#include "tests/unit/tools/scratch.h"
#include "tools/daemon/uri_target.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kSize = 300001;

/// A journal in memory; while it is held, no record of a job's end gets through.
class HeldJournal final : public ForwardingJournal {
 public:
  explicit HeldJournal(EventLoop& loop) : ForwardingJournal(make_memory_journal(loop)), free(loop) {
    free.set();
  }
  /// The decision says that the job is done, too: it is not held.
  Task<Status> commit(const JournalBatch& batch) override {
    const bool ends = !batch.jobs.empty() && batch.disks.empty() &&
                      batch.jobs[0].state != to_string(JobState::kRunning);
    if (ends) co_await free.wait();
    const Status saved = co_await inner().commit(batch);
    co_return saved;
  }

  Event free;
};

std::unique_ptr<IoLoop> make_loop() {
  auto loop = make_io_loop({});
  return loop.ok() ? *std::move(loop) : nullptr;
}

class DiskServiceTest : public testing::Test {
 protected:
  void TearDown() override {
    run_task(*loop_, jobs_.stop());
    EXPECT_TRUE(run_task(*loop_, disks_.close_all()).ok());
  }

  ServeRequest request(const std::string& disk, const std::string& image) const {
    ServeRequest request;
    request.disk = disk;
    if (!image.empty()) request.source = "file://" + scratch_ / image;
    return request;
  }
  Result<DiskView> serve(ServeRequest request) {
    return run_task(*loop_, service_.serve(std::move(request)));
  }
  Status detach(std::string disk) {
    return run_task(*loop_, service_.detach(std::move(disk), /*forget=*/false));
  }
  std::optional<DiskRecord> record(const std::string& disk) {
    const std::string name = disk;
    const auto found = run_task(*loop_, journal_.load_disk(name));
    return found.ok() ? *found : std::nullopt;
  }
  std::string start_move(const std::string& disk, const std::string& target) {
    TargetPlan plan;
    plan.target = *parse_store_uri("file://" + (scratch_ / target));
    plan.source = *parse_store_uri("file://" + (scratch_ / "a.img"));
    plan.disk = disk;
    JobOptions options;
    options.mode = Mode::kCold;
    auto opener = std::make_unique<UriTarget>(*loop_, plan);
    const auto id = jobs_.start((*disks_.get(disk))->disk(), std::move(opener), options);
    return id.ok() ? *id : "";
  }
  /// Until the job's last record waits to be saved.
  Task<void> until_recording() {
    Event never(*loop_);
    while (!journal_.free.has_waiters()) {
      const TimePoint later = loop_->now() + std::chrono::milliseconds(1);
      co_await never.wait_until(later);
    }
  }
  Task<void> until_shown_as_ended(std::string job) {
    Event never(*loop_);
    for (;;) {
      const Result<JobStatus> status = jobs_.status(job);
      if (!status.ok() || is_final(status->state)) co_return;
      const TimePoint later = loop_->now() + std::chrono::milliseconds(1);
      co_await never.wait_until(later);
    }
  }

  Scratch scratch_;
  std::string image_ = scratch_.image("a.img", kSize);
  std::unique_ptr<IoLoop> loop_ = make_loop();
  HeldJournal journal_{*loop_};
  DiskSet disks_;
  JobBoard jobs_{*loop_, journal_};
  NotingServer server_{disks_};
  Log log_{LogForm::kSilent};
  DiskService service_{*loop_, journal_, disks_, jobs_, server_, log_, scratch_ / "nbd.sock"};
};

TEST_F(DiskServiceTest, AddressesAreOpenedOnceTheDiskIsThere) {
  ASSERT_TRUE(serve(request("vm1", "a.img")).ok());  // on the default address
  scratch_.image("b.img", kSize);
  ServeRequest second = request("vm2", "b.img");
  second.listen = {"unix:" + scratch_ / "x.sock"};
  ASSERT_TRUE(serve(second).ok());
  EXPECT_EQ(server_.disks_when_opened, (std::vector<std::size_t>{1, 2}));
}

TEST_F(DiskServiceTest, AnnouncesTlsWhereItIsRequired_I14) {
  const Result<DiskView> plain = serve(request("vm1", "a.img"));
  ASSERT_TRUE(plain.ok());
  EXPECT_EQ(plain->uris,
            (std::vector<std::string>{"nbd+unix:///vm1?socket=" + scratch_ / "nbd.sock"}));
  const DiskService required(*loop_, journal_, disks_, jobs_, server_, log_, "", true);
  ASSERT_EQ(required.views().size(), 1u);
  EXPECT_EQ(required.views()[0].uris,
            (std::vector<std::string>{"nbds+unix:///vm1?socket=" + scratch_ / "nbd.sock"}));
}

TEST_F(DiskServiceTest, NothingIsCreatedForBitmapsThatCannotBe) {
  ServeRequest wanted = request("disk", "new.img");
  wanted.create_size_bytes = 1 << 20;
  wanted.bitmaps = {{"x", 3072}};
  EXPECT_EQ(serve(wanted).error().code(), ErrorCode::kInvalid);
  wanted.bitmaps = {{"x"}, {"x"}};
  EXPECT_EQ(serve(wanted).error().code(), ErrorCode::kInvalid);
  EXPECT_FALSE(std::filesystem::exists(scratch_ / "new.img"));
  wanted.bitmaps = {{"x"}};
  wanted.create_size_bytes = 2 << 20;
  EXPECT_TRUE(serve(wanted).ok());
}

TEST_F(DiskServiceTest, AnAddressThatIsTakenLeavesNoDiskAndNoRecord) {
  server_.refused = scratch_ / "x.sock";
  ServeRequest refused = request("vm1", "a.img");
  refused.listen = {"unix:" + server_.refused};
  const Result<DiskView> served = serve(refused);
  ASSERT_FALSE(served.ok());
  EXPECT_EQ(served.error().code(), ErrorCode::kBusy);
  EXPECT_TRUE(disks_.disks().empty());
  EXPECT_FALSE(record("vm1").has_value());
  EXPECT_TRUE(serve(request("vm1", "a.img")).ok());  // neither a lock nor a reservation is left
}

TEST_F(DiskServiceTest, AnAddressThatIsTakenLeavesTheEarlierRecord_I3) {
  ASSERT_TRUE(serve(request("vm1", "a.img")).ok());
  ASSERT_TRUE(detach("vm1").ok());
  const std::optional<DiskRecord> before = record("vm1");
  ASSERT_TRUE(before.has_value());
  scratch_.image("b.img", kSize);
  server_.refused = scratch_ / "x.sock";
  ServeRequest refused = request("vm1", "b.img");
  refused.force_source = true;
  refused.listen = {"unix:" + server_.refused};
  EXPECT_FALSE(serve(refused).ok());
  EXPECT_EQ(record("vm1"), before);
}

// Whoever has seen the end may start the next thing at once.
TEST_F(DiskServiceTest, AJobIsShownAsEndedOnlyWhenItsEndIsRecorded) {
  ASSERT_TRUE(serve(request("vm1", "a.img")).ok());
  journal_.free.reset();
  const std::string job = start_move("vm1", "b.img");
  ASSERT_FALSE(job.empty());
  run_task(*loop_, until_recording());
  EXPECT_FALSE(is_final(jobs_.status(job)->state));
  journal_.free.set();
  run_task(*loop_, until_shown_as_ended(job));
  EXPECT_TRUE(detach("vm1").ok());
}

}  // namespace
}  // namespace blockmig
