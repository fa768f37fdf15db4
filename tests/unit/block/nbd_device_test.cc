// SPDX-License-Identifier: Apache-2.0
// What is special about NBD exports; what all devices promise is in device_conformance_test.cc.
#include "blockmig/block/nbd_device.h"

#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <optional>
#include <sstream>

#include "blockmig/io/task_scope.h"
#include "tests/unit/block/nbd_fixture.h"
#include "tests/unit/shared/join_all.h"

namespace blockmig {
namespace {

class NbdDeviceTest : public NbdStoreTest {
 protected:
  ErrorCode refusal(const std::string& uri, const NbdDeviceOptions& options = {}) {
    OpenedDevice opened = open(uri, options);
    EXPECT_FALSE(opened.ok());
    if (opened.ok()) {
      device_ = std::move(*opened);
      return ErrorCode::kCancelled;
    }
    EXPECT_NE(opened.error().message().find(uri), std::string::npos) << opened.error().message();
    return opened.error().code();
  }
  /// Requests that a server with the log filter saw, one line each.
  std::vector<std::string> logged(const std::string& verb) {
    std::ifstream log(folder_ / "log");
    std::vector<std::string> lines;
    for (std::string line; std::getline(log, line);) {
      if (line.find(" " + verb + " ") != std::string::npos) lines.push_back(line);
    }
    return lines;
  }
};

TEST_P(NbdDeviceTest, NamesWhatCannotBeReached) {
  EXPECT_EQ(refusal("nbd+unix:///?socket=" + folder_ / "nobody.sock"), ErrorCode::kDisconnected);
  // A port that was free a moment ago: nobody listens there.
  EXPECT_EQ(refusal("nbd://127.0.0.1:1/disk"), ErrorCode::kDisconnected);
  EXPECT_EQ(refusal("nbd+unix:///"), ErrorCode::kInvalid);
}

TEST_P(NbdDeviceTest, UnknownExportIsNotFound) {
  write_file(folder_ / "disk.img", filled(4096, 0));
  server_ = NbdServerProcess::qemu(folder_, folder_ / "disk.img");
  EXPECT_EQ(refusal("nbd+unix:///nobody?socket=" + server_->socket_path()), ErrorCode::kNotFound);
}

TEST_P(NbdDeviceTest, AServerThatSaysNothingTimesOut) {
  server_ = NbdServerProcess::nbdkit(folder_, {"memory", "1M"});
  server_->process().signal(SIGSTOP);
  NbdDeviceOptions options;
  options.connect_timeout = std::chrono::milliseconds(50);
  EXPECT_EQ(refusal(server_->uri(), options), ErrorCode::kTimedOut);
}

TEST_P(NbdDeviceTest, AReadOnlyExportIsNotOpenedForWriting) {
  server_ = NbdServerProcess::nbdkit(folder_, {"--readonly", "memory", "1M"});
  EXPECT_EQ(refusal(server_->uri()), ErrorCode::kReadOnly);
  NbdDeviceOptions options;
  options.read_only = true;
  connect(options);
  const Status refused = sync_->write(0, filled(512, 1));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ErrorCode::kReadOnly);
  EXPECT_TRUE(sync_->flush().ok());
  EXPECT_TRUE(sync_->read(0, 512).ok());
}

TEST_P(NbdDeviceTest, MultiConnOpensSeveralConnectionsAndOthersOne) {
  NbdDeviceOptions options;
  options.connections = 3;
  serve({"--filter=log", "memory", "1M", "logfile=" + folder_ / "log"}, options);
  // NbdServerProcess connected once to see whether the server is up, without a handshake.
  EXPECT_EQ(logged("Open").size() + logged("Connect").size(), 3u);
  ASSERT_TRUE(sync_->close().ok());
  device_.reset();
  server_->process().kill();
  std::remove((folder_ / "log").c_str());
  serve({"--filter=log", "--filter=multi-conn", "memory", "1M", "multi-conn-mode=disable",
         "logfile=" + folder_ / "log"},
        options);
  EXPECT_EQ(logged("Open").size() + logged("Connect").size(), 1u);
}

TEST_P(NbdDeviceTest, SplitsWhatIsLargerThanTheServerTakes) {
  serve({"--filter=blocksize-policy", "memory", "4M", "blocksize-minimum=512",
         "blocksize-preferred=4096", "blocksize-maximum=65536", "blocksize-error-policy=error"});
  EXPECT_EQ(device_->info().min_io_bytes, 512u);
  Random random(9);
  const Bytes bytes = random_bytes(random, 3 * kMiB + 512);
  ASSERT_TRUE(sync_->write(512, bytes).ok());
  EXPECT_EQ(*sync_->read(512, bytes.size()), bytes);
}

TEST_P(NbdDeviceTest, WhatTheServersBlocksDoNotAllowIsAnErrorAndNotTheEnd) {
  serve({"--filter=blocksize-policy", "memory", "4M", "blocksize-minimum=4096",
         "blocksize-preferred=4096", "blocksize-maximum=1M", "blocksize-error-policy=error"});
  const auto expect_invalid = [](const Status& refused) {
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code(), ErrorCode::kInvalid);
    EXPECT_NE(refused.error().message().find("not aligned to 4096"), std::string::npos);
  };
  EXPECT_EQ(sync_->read(512, 4096).error().code(), ErrorCode::kInvalid);
  expect_invalid(sync_->write(0, filled(512, 1)));
  expect_invalid(sync_->trim(4096, 1000));
  expect_invalid(sync_->write_zeroes(100, 8192));
  EXPECT_EQ(run_task(*loop_, device_->extents(1000, 4096)).error().code(), ErrorCode::kInvalid);
  EXPECT_TRUE(sync_->write(4096, filled(4096, 1)).ok());
}

TEST_P(NbdDeviceTest, ExtentsThatEndWithinBlocksAreToldInWholeBlocks) {
  serve({"--filter=blocksize-policy", "eval", "get_size=echo 65536", "can_extents=exit 0",
         "pread=head -c $3 /dev/zero",
         "extents=echo 0 9000 hole,zero; echo 9000 10000; echo 19000 60000 hole,zero",
         "blocksize-minimum=4096", "blocksize-preferred=4096", "blocksize-maximum=1M"},
        NbdDeviceOptions{.read_only = true});
  const auto told = run_task(*loop_, device_->extents(0, 65536));
  ASSERT_TRUE(told.ok()) << told.error().message();
  for (const Extent& extent : *told) {
    EXPECT_EQ((extent.offset | extent.length) % 4096, 0u) << extent.offset << " " << extent.length;
    EXPECT_TRUE(!extent.zero || extent.offset >= 19000 || extent.offset + extent.length <= 9000);
  }
}

TEST_P(NbdDeviceTest, AnErrorOfOnePartFailsTheWhole_Trap12) {
  // The server fails exactly the pieces that begin at 64 KiB, 192 KiB or 448 KiB: first, middle,
  // last.
  for (const std::uint64_t bad : {64 * kKiB, 192 * kKiB, 448 * kKiB}) {
    std::ostringstream fail;
    fail << "if [ $4 -eq " << bad << " ]; then echo EIO >&2; exit 1; fi; cat > /dev/null";
    serve({"--filter=blocksize-policy", "eval", "get_size=echo 1048576", "can_write=exit 0",
           "pwrite=" + fail.str(), "pread=head -c $3 /dev/zero", "blocksize-minimum=1",
           "blocksize-preferred=4096", "blocksize-maximum=65536"});
    const Bytes bytes = filled(448 * kKiB, 1);
    const Status done = sync_->write(64 * kKiB, bytes);
    ASSERT_FALSE(done.ok()) << "piece at " << bad;
    EXPECT_EQ(done.error().code(), ErrorCode::kIo);
    EXPECT_NE(done.error().message().find(server_->uri()), std::string::npos);
    ASSERT_TRUE(sync_->close().ok());
    device_.reset();
    server_->process().kill();
  }
}

TEST_P(NbdDeviceTest, FuaWithoutServerSupportIsAWriteAndAFlush_I1) {
  serve({"--filter=log", "--filter=fua", "memory", "1M", "logfile=" + folder_ / "log"});
  ASSERT_TRUE(sync_->write(0, filled(512, 1), WriteFlags{true}).ok());
  EXPECT_EQ(logged("Flush").size(), 1u);
  ASSERT_TRUE(sync_->write(0, filled(512, 1)).ok());
  EXPECT_EQ(logged("Flush").size(), 1u);
}

TEST_P(NbdDeviceTest, FuaGoesOnTheWireWhereTheServerKnowsIt) {
  serve({"--filter=log", "--filter=fua", "memory", "1M", "fuamode=pass",
         "logfile=" + folder_ / "log"});
  ASSERT_TRUE(sync_->write(0, filled(512, 1), WriteFlags{true}).ok());
  const auto writes = logged("Write");
  ASSERT_EQ(writes.size(), 1u);
  EXPECT_NE(writes[0].find("fua=1"), std::string::npos) << writes[0];
  EXPECT_TRUE(logged("Flush").empty());
}

TEST_P(NbdDeviceTest, WritesZerosItselfWhereTheServerCannot) {
  serve({"--filter=log", "--filter=nozero", "memory", "5M", "zeromode=none",
         "logfile=" + folder_ / "log"});
  ASSERT_TRUE(sync_->write(0, filled(5 * kMiB, 9)).ok());
  ASSERT_TRUE(sync_->write_zeroes(100, 4 * kMiB).ok());
  EXPECT_EQ(*sync_->read(0, 100), filled(100, 9));
  EXPECT_EQ(*sync_->read(100, 4 * kMiB), filled(4 * kMiB, 0));
  EXPECT_EQ(*sync_->read(100 + 4 * kMiB, 100), filled(100, 9));
  EXPECT_TRUE(logged("Zero").empty());
}

TEST_P(NbdDeviceTest, FastZeroingIsRefusedWhereItWouldBeSlow) {
  serve({"--filter=nozero", "memory", "1M", "zeromode=emulate", "fastzeromode=slow"});
  ASSERT_TRUE(sync_->write(0, filled(4096, 9)).ok());
  ZeroFlags flags;
  flags.fast_only = true;
  const Status refused = sync_->write_zeroes(0, 4096, flags);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ErrorCode::kNotSupported);
  EXPECT_EQ(*sync_->read(0, 4096), filled(4096, 9));
}

TEST_P(NbdDeviceTest, ZeroesLongerThanAnyPayloadDoAllOfTheirLength) {
  serve({"--filter=log", "memory", "1G", "logfile=" + folder_ / "log"});
  ASSERT_TRUE(sync_->write(kGiB - 512, filled(512, 9)).ok());
  ASSERT_TRUE(sync_->write_zeroes(0, kGiB).ok());
  EXPECT_EQ(*sync_->read(kGiB - 512, 512), filled(512, 0));
  EXPECT_EQ(logged("Zero").size(), 32u) << "in pieces that every server does whole";
}

TEST_P(NbdDeviceTest, TrimWithoutServerSupportIsNothing) {
  serve({"eval", "get_size=echo 1048576", "can_write=exit 0", "pwrite=cat > /dev/null",
         "pread=head -c $3 /dev/zero"});
  EXPECT_FALSE(device_->info().can_trim);
  EXPECT_TRUE(sync_->trim(0, 4096).ok());
}

TEST_P(NbdDeviceTest, AServerWithoutFlushPromisesNothing_I1) {
  serve({"eval", "get_size=echo 1048576", "can_write=exit 0", "pwrite=cat > /dev/null",
         "pread=head -c $3 /dev/zero"});
  const Status flushed = sync_->flush();
  ASSERT_FALSE(flushed.ok());
  EXPECT_EQ(flushed.error().code(), ErrorCode::kNotSupported);
  const Status durable = sync_->write(0, filled(512, 1), WriteFlags{true});
  ASSERT_FALSE(durable.ok());
}

TEST_P(NbdDeviceTest, AFailedFlushIsSticky_I11) {
  // Fails the first flush only.
  const std::string once =
      "if [ ! -e $tmpdir/failed ]; then touch $tmpdir/failed; echo EIO >&2; "
      "exit 1; fi";
  serve({"eval", "get_size=echo 1048576", "can_write=exit 0", "pwrite=cat > /dev/null",
         "pread=head -c $3 /dev/zero", "can_flush=exit 0", "flush=" + once});
  const Status first = sync_->flush();
  ASSERT_FALSE(first.ok());
  EXPECT_EQ(first.error().code(), ErrorCode::kIo);
  EXPECT_FALSE(sync_->flush().ok());
}

// A server that syncs once per request has a kernel below that reports once.
TEST_P(NbdDeviceTest, AFailedFlushFailsThoseThatOverlapIt_I11) {
  const std::string once =
      "if [ ! -e $tmpdir/failed ]; then touch $tmpdir/failed; echo EIO >&2; exit 1; fi";
  serve({"eval", "get_size=echo 1048576", "can_write=exit 0", "pwrite=cat > /dev/null",
         "pread=head -c $3 /dev/zero", "can_flush=exit 0", "flush=" + once});
  std::optional<Status> first, second;
  TaskScope scope;
  scope.spawn(store_status(device_->flush(), first));
  scope.spawn(store_status(device_->flush(), second));
  run_task(*loop_, join_all(scope));
  EXPECT_FALSE(first->ok());
  EXPECT_FALSE(second->ok());
}

TEST_P(NbdDeviceTest, ServerErrorsKeepTheirMeaning) {
  serve({"eval", "get_size=echo 1048576", "can_write=exit 0",
         "pwrite=cat > /dev/null; if [ $4 -eq 0 ]; then echo ENOSPC >&2; else echo EPERM >&2; fi; "
         "exit 1",
         "pread=echo EIO >&2; exit 1"});
  const Status full = sync_->write(0, filled(512, 1));
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(full.error().code(), ErrorCode::kNoSpace);
  const Status denied = sync_->write(512, filled(512, 1));
  ASSERT_FALSE(denied.ok());
  EXPECT_EQ(denied.error().code(), ErrorCode::kReadOnly);
  const auto content = sync_->read(0, 512);
  ASSERT_FALSE(content.ok());
  EXPECT_EQ(content.error().code(), ErrorCode::kIo);
  EXPECT_NE(content.error().message().find(server_->uri()), std::string::npos);
}

TEST_P(NbdDeviceTest, ExtentsComeFromTheServer) {
  serve({"memory", "8M"});
  ASSERT_TRUE(sync_->write(kMiB, filled(kMiB, 9)).ok());
  const std::vector<Extent> expected = {
      {0, kMiB, true, true}, {kMiB, kMiB, false, false}, {2 * kMiB, kMiB + 5, true, true}};
  const auto found = sync_->extents(0, 3 * kMiB + 5);
  ASSERT_TRUE(found.ok()) << found.error().message();
  EXPECT_EQ(*found, expected);
}

TEST_P(NbdDeviceTest, WithoutAllocationInformationEverythingIsData) {
  serve({"--no-sr", "memory", "8M"});
  const auto found = sync_->extents(5, 100);
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(*found, (std::vector<Extent>{{5, 100, false, false}}));
  ASSERT_TRUE(sync_->write(0, filled(5000, 4)).ok());
  EXPECT_EQ(*sync_->read(0, 5000), filled(5000, 4)) << "simple replies";
}

TEST_P(NbdDeviceTest, AKilledServerFailsWhatIsInFlightAndTheDevice) {
  serve({"--filter=delay", "memory", "1M", "delay-write=600"});
  const Bytes bytes = filled(512, 1);
  std::optional<Status> result;
  TaskScope scope;
  scope.spawn(store_status(device_->write(0, bytes, {}), result));
  server_->process().kill();
  run_task(*loop_, join_all(scope));
  ASSERT_TRUE(result.has_value() && !result->ok());
  EXPECT_EQ(result->error().code(), ErrorCode::kDisconnected);
  EXPECT_NE(result->error().message().find(server_->uri()), std::string::npos);
  const auto later = sync_->read(0, 512);
  ASSERT_FALSE(later.ok());
  EXPECT_EQ(later.error().code(), ErrorCode::kDisconnected);
}

Task<void> abandon_and_join(BlockDevice& device, TaskScope& scope) {
  device.abandon();
  co_await scope.join();
}

TEST_P(NbdDeviceTest, AbandonEndsAFrozenServerAtOnce_I10) {
  serve({"memory", "64M"});
  server_->process().signal(SIGSTOP);
  // More than the sockets and the in-flight limits take.
  const Bytes bytes = filled(kMiB, 1);
  std::vector<std::optional<Status>> results(400);
  TaskScope scope;
  for (std::size_t i = 0; i < results.size(); ++i) {
    scope.spawn(store_status(device_->write(i % 64 * kMiB, bytes, {}), results[i]));
  }
  run_task(*loop_, abandon_and_join(*device_, scope));
  for (const auto& result : results) {
    ASSERT_TRUE(result.has_value() && !result->ok());
    EXPECT_EQ(result->error().code(), ErrorCode::kDisconnected);
  }
  const Status later = sync_->flush();
  ASSERT_FALSE(later.ok());
  EXPECT_EQ(later.error().code(), ErrorCode::kDisconnected);
  EXPECT_TRUE(sync_->close().ok());
  device_.reset();
}

Task<void> write_many(BlockDevice& device, std::uint64_t first, Random& random, Bytes& oracle,
                      int& failures) {
  for (int i = 0; i < 40; ++i) {
    const std::uint64_t at = (first + static_cast<std::uint64_t>(i) * 64) * kKiB;
    const Bytes bytes = random_bytes(random, kKiB);
    const Status done = co_await device.write(at, bytes, WriteFlags{});
    if (!done) ++failures;
    std::copy(bytes.begin(), bytes.end(), oracle.begin() + static_cast<std::ptrdiff_t>(at));
  }
}

TEST_P(NbdDeviceTest, ManyRequestsAtOnceAllFinish) {
  serve({"memory", "4M"});
  Random random(5);
  Bytes oracle(4 * kMiB);
  int failures = 0;
  TaskScope scope;
  // More than the connections' limits together.
  for (std::uint64_t i = 0; i < 64; ++i) {
    scope.spawn(write_many(*device_, i, random, oracle, failures));
  }
  run_task(*loop_, join_all(scope));
  EXPECT_EQ(failures, 0);
  EXPECT_EQ(*sync_->read(0, oracle.size()), oracle);
}

INSTANTIATE_TEST_SUITE_P(Loops, NbdDeviceTest,
                         testing::Values(LoopKind::kUring, LoopKind::kPortable), loop_name);

}  // namespace
}  // namespace blockmig
