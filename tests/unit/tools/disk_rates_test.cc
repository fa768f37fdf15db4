// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/disk_rates.h"

#include <gtest/gtest.h>

#include "blockmig/base/random.h"
#include "blockmig/block/memory_device.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"
#include "tools/daemon/measured_journal.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;

class DiskRatesTest : public testing::Test {
 protected:
  ~DiskRatesTest() override { static_cast<void>(run_task(loop_, disks_.close_all())); }

  void add(const std::string& name) {
    auto device = std::make_unique<MemoryDevice>("memory", 1 << 20);
    auto disk = std::make_unique<Disk>(loop_, name, std::move(device), "test:" + name, 1);
    disks_.add(std::make_shared<ServedDisk>(std::move(disk), *journal_, "", false, ""));
  }
  void read(const std::string& name, int times, std::size_t bytes) {
    std::vector<std::byte> buffer(bytes);
    const MutableBytes into(buffer);
    for (int i = 0; i < times; ++i) {
      ASSERT_TRUE(run_task(loop_, (*disks_.get(name))->disk().read(0, into)).ok());
    }
  }
  void write(const std::string& name, int times, std::size_t bytes) {
    const std::vector<std::byte> buffer(bytes);
    const ConstBytes from(buffer);
    const WriteFlags flags{};
    for (int i = 0; i < times; ++i) {
      ASSERT_TRUE(run_task(loop_, (*disks_.get(name))->disk().write(0, from, flags)).ok());
    }
  }
  void advance(Duration time) {
    run_task(loop_, sleep_for(loop_, time));
    rates_.sample(loop_.now());
  }

  Random random_{1};
  SimLoop loop_{random_};
  std::unique_ptr<Journal> journal_ = make_memory_journal(loop_);
  DiskSet disks_;
  DiskRates rates_{disks_};
};

TEST_F(DiskRatesTest, AreThoseOfTheLastSecond) {
  add("vm1");
  advance(milliseconds(1500));
  read("vm1", 100, 4096);
  write("vm1", 50, 512);
  advance(milliseconds(2000));
  const DiskRate rate = rates_.of("vm1");
  EXPECT_NEAR(rate.requests_per_second, 75, 1);
  EXPECT_NEAR(rate.read_bytes_per_second, 50 * 4096, 4096);
  EXPECT_NEAR(rate.write_bytes_per_second, 25 * 512, 512);
  EXPECT_LE(rate.p50_ms, rate.p99_ms);
  EXPECT_LE(rate.p99_ms, rate.max_ms);
  advance(milliseconds(1200));
  EXPECT_EQ(rates_.of("vm1"), DiskRate{}) << "an idle second is an idle second";
}

TEST_F(DiskRatesTest, WhatCameBeforeTheFirstLookIsNoRate) {
  add("vm1");
  read("vm1", 1000, 512);
  advance(milliseconds(1100));
  EXPECT_EQ(rates_.of("vm1"), DiskRate{});
  EXPECT_EQ(rates_.of("nobody"), DiskRate{});
}

TEST_F(DiskRatesTest, ADiskThatIsServedAgainBeginsAnew) {
  add("vm1");
  advance(milliseconds(1100));
  read("vm1", 1000, 512);
  advance(milliseconds(1100));
  EXPECT_GT(rates_.of("vm1").requests_per_second, 0);
  ASSERT_TRUE(run_task(loop_, disks_.remove("vm1")).ok());
  add("vm1");
  read("vm1", 3, 512);
  advance(milliseconds(1100));
  EXPECT_EQ(rates_.of("vm1"), DiskRate{}) << "its counters have begun at 0 again";
}

TEST(MeasuredJournalTest, TakesTheTimeOfEverySave) {
  Random random(1);
  SimLoop loop(random);
  MeasuredJournal journal(loop, make_memory_journal(loop));
  DiskRecord disk;
  disk.disk = "vm1";
  disk.store_uri = "test:a";
  disk.epoch = 1;
  ASSERT_TRUE(run_task(loop, journal.save_disk(disk)).ok());
  JobRecord job;
  job.id = "job-1";
  job.disk = "vm1";
  ASSERT_TRUE(run_task(loop, journal.save_job(job)).ok());
  const auto loaded = run_task(loop, journal.load_disk("vm1"));
  ASSERT_TRUE(loaded.ok() && loaded->has_value());
  EXPECT_EQ((*loaded)->store_uri, "test:a");
  EXPECT_EQ(run_task(loop, journal.load_jobs())->size(), 1u);
  EXPECT_EQ(journal.saves().count(), 2u) << "loading is no sync";
  EXPECT_GT(journal.saves().sum_ns(), 0u);
  ASSERT_TRUE(run_task(loop, journal.remove_disk("vm1")).ok());
  EXPECT_EQ(journal.saves().count(), 3u);
}

}  // namespace
}  // namespace blockmig
