// SPDX-License-Identifier: Apache-2.0
// What every BlockDevice promises (block_device.h), tried with random requests against an array of
// bytes: memory, fault (without faults), file in every cache mode, NBD; on
// both loops; sizes that are multiples of nothing (trap 7).
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "blockmig/block/fault_device.h"
#include "blockmig/block/file_device.h"
#include "blockmig/block/memory_device.h"
#include "blockmig/block/nbd_device.h"
#include "blockmig/io/task_scope.h"
#include "tests/unit/block/store_fixture.h"
#include "tests/unit/shared/join_all.h"

namespace blockmig {
namespace {

enum class Kind {
  kMemory,
  kFault,
  kFileBuffered,
  kFileAsync,
  kFileDirect,
  kFileMap,
  kNbdkit,
  kQemuNbd
};

struct Case {
  Kind kind;
  LoopKind loop;
  std::uint64_t size;
};

std::string name_of(const testing::TestParamInfo<Case>& info) {
  static const char* const kKinds[] = {"Memory",     "Fault",   "FileBuffered", "FileAsync",
                                       "FileDirect", "FileMap", "Nbdkit",       "QemuNbd"};
  return std::string(kKinds[static_cast<int>(info.param.kind)]) +
         (info.param.loop == LoopKind::kUring ? "_uring_" : "_portable_") +
         std::to_string(info.param.size);
}

class DeviceConformance : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const Case& c = GetParam();
    loop_ = make_test_loop(c.loop);
    if (!loop_) GTEST_SKIP() << "this host refuses this kind of loop";
    open(c);
    ASSERT_NE(device_, nullptr);
    sync_ = std::make_unique<SyncDevice>(*loop_, *device_);
    oracle_.assign(device_->info().size_bytes, std::byte{0});
    ASSERT_EQ(oracle_.size(), c.size);
  }
  void TearDown() override {
    if (device_) {
      EXPECT_TRUE(sync_->close().ok());
    }
    device_.reset();
  }

  void open(const Case& c) {
    switch (c.kind) {
      case Kind::kMemory:
        device_ = std::make_unique<MemoryDevice>("memory", c.size);
        return;
      case Kind::kFault:
        device_ = std::make_unique<FaultDevice>(*loop_, random_, "fault", c.size);
        return;
      case Kind::kFileBuffered:
      case Kind::kFileAsync:
      case Kind::kFileDirect:
      case Kind::kFileMap: {
        FileDeviceOptions options;
        options.create_size_bytes = c.size;
        options.inline_io = c.kind != Kind::kFileAsync;
        if (c.kind == Kind::kFileDirect) options.cache = CacheMode::kDirect;
        if (c.kind == Kind::kFileMap) options.cache = CacheMode::kMap;
        keep(run_task(*loop_, open_file_device(*loop_, folder_ / "disk.img", options)));
        return;
      }
      case Kind::kNbdkit:
        server_ = NbdServerProcess::nbdkit(folder_, {"memory", std::to_string(c.size)});
        break;
      case Kind::kQemuNbd:
        write_file(folder_ / "disk.img", filled(c.size, 0));
        server_ = NbdServerProcess::qemu(folder_, folder_ / "disk.img");
        break;
    }
    keep(run_task(*loop_, open_nbd_device(*loop_, server_->uri(), {})));
  }
  void keep(Result<std::unique_ptr<BlockDevice>> opened) {
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    device_ = std::move(*opened);
  }

  ByteRange draw_range(std::uint64_t limit) {
    const std::uint64_t unit = device_->info().min_io_bytes;
    const std::uint64_t units = oracle_.size() / unit;
    std::uint64_t begin = random_.below(units);
    // Aligned ranges and the very end more often than chance has it.
    if (random_.chance(1, 3)) begin = align_down(begin, 4096);
    std::uint64_t length = 1 + random_.below(std::min(units - begin, limit));
    if (random_.chance(1, 4) && length > 4096) length = align_down(length, 4096);
    if (random_.chance(1, 6)) length = std::min(units - begin, limit);
    return {begin * unit, length * unit};
  }

  void expect_content(const char* after) {
    const auto content = sync_->read(0, oracle_.size());
    ASSERT_TRUE(content.ok()) << content.error().message();
    const auto different = std::mismatch(content->begin(), content->end(), oracle_.begin());
    EXPECT_TRUE(different.first == content->end())
        << "after " << after << ": first difference at " << different.first - content->begin();
  }

  void try_write(ByteRange range) {
    const Bytes bytes = random_bytes(random_, range.length);
    if (!random_.chance(1, 2) || !device_->write_now(range.offset, bytes)) {
      const Status done = sync_->write(range.offset, bytes, WriteFlags{random_.chance(1, 20)});
      ASSERT_TRUE(done.ok()) << done.error().message();
    }
    std::copy(bytes.begin(), bytes.end(),
              oracle_.begin() + static_cast<std::ptrdiff_t>(range.offset));
  }
  void try_read(ByteRange range) {
    Bytes content = filled(range.length, 0x5A);
    if (!random_.chance(1, 2) || !device_->read_now(range.offset, content)) {
      const bool once = random_.chance(1, 2);
      const auto read = once ? sync_->read_once(range.offset, range.length)
                             : sync_->read(range.offset, range.length);
      ASSERT_TRUE(read.ok()) << read.error().message();
      content = *read;
    }
    EXPECT_TRUE(std::equal(content.begin(), content.end(),
                           oracle_.begin() + static_cast<std::ptrdiff_t>(range.offset)))
        << "read of " << range.length << " at " << range.offset;
  }
  void try_zero(ByteRange range) {
    ZeroFlags flags;
    flags.fua = random_.chance(1, 20);
    flags.no_hole = random_.chance(1, 3);
    flags.fast_only = random_.chance(1, 4);
    const Status done = sync_->write_zeroes(range.offset, range.length, flags);
    if (!done) {
      // Only a fast request may be refused, and then nothing has changed.
      EXPECT_TRUE(flags.fast_only) << done.error().message();
      EXPECT_EQ(done.error().code(), ErrorCode::kNotSupported) << done.error().message();
      return;
    }
    std::fill_n(oracle_.begin() + static_cast<std::ptrdiff_t>(range.offset), range.length,
                std::byte{0});
  }
  void try_trim(ByteRange range) {
    const Status done = sync_->trim(range.offset, range.length, WriteFlags{random_.chance(1, 20)});
    ASSERT_TRUE(done.ok()) << done.error().message();
    const auto first = sync_->read(range.offset, range.length);
    const auto second = sync_->read(range.offset, range.length);
    ASSERT_TRUE(first.ok() && second.ok());
    EXPECT_EQ(*first, *second) << "trimmed content is not stable";
    std::copy(first->begin(), first->end(),
              oracle_.begin() + static_cast<std::ptrdiff_t>(range.offset));
  }
  void try_extents(ByteRange range) {
    const auto found = sync_->extents(range.offset, range.length);
    ASSERT_TRUE(found.ok()) << found.error().message();
    ASSERT_FALSE(found->empty());
    ASSERT_LE(found->size(), BlockDevice::kMaxExtents);
    std::uint64_t at = range.offset;
    for (const Extent& extent : *found) {
      ASSERT_EQ(extent.offset, at);
      ASSERT_GT(extent.length, 0u);
      at += extent.length;
      ASSERT_LE(at, range.end());
      if (!extent.zero) continue;
      EXPECT_TRUE(is_all_zero(ConstBytes(oracle_).subspan(extent.offset, extent.length)))
          << "extent at " << extent.offset << " claims zeros";
    }
  }

  Random random_{GetParam().size * 31 + static_cast<std::uint64_t>(GetParam().kind)};
  TemporaryFolder folder_;
  std::unique_ptr<IoLoop> loop_;
  std::unique_ptr<NbdServerProcess> server_;
  std::unique_ptr<BlockDevice> device_;
  std::unique_ptr<SyncDevice> sync_;
  Bytes oracle_;
};

TEST_P(DeviceConformance, RandomRequestsMatchAByteArray) {
  constexpr int kRounds = 300;
  for (int round = 0; round < kRounds && !HasFatalFailure(); ++round) {
    const ByteRange range = draw_range(random_.chance(1, 8) ? 300'000 : 20'000);
    const std::uint64_t what = random_.below(100);
    if (what < 40) {
      try_write(range);
    } else if (what < 65) {
      try_read(range);
    } else if (what < 80) {
      try_zero(range);
    } else if (what < 86) {
      try_trim(range);
    } else if (what < 96) {
      try_extents(range);
    } else {
      EXPECT_TRUE(sync_->flush().ok());
    }
  }
  expect_content("the random requests");
  try_extents({0, oracle_.size()});
}

TEST_P(DeviceConformance, EveryOperationAtTheVeryEnd_Trap7) {
  const std::uint64_t unit = device_->info().min_io_bytes;
  for (std::uint64_t length = unit; length <= oracle_.size() && length < 9000;
       length += unit * 37) {
    const ByteRange range{oracle_.size() - length, length};
    try_write(range);
    try_read(range);
    try_extents(range);
    if (length % 2 == 0) try_zero(range);
    try_trim(range);
    if (HasFatalFailure()) return;
  }
  expect_content("writes at the end");
}

TEST_P(DeviceConformance, LengthZeroSucceeds) {
  EXPECT_TRUE(sync_->write(oracle_.size(), {}).ok());
  EXPECT_TRUE(sync_->read(oracle_.size(), 0).ok());
  EXPECT_TRUE(sync_->write_zeroes(0, 0).ok());
  EXPECT_TRUE(sync_->trim(0, 0).ok());
}

/// Writes its own slots of `oracle`: every `stride` bytes a slot of `slot.length` at `slot.offset`.
Task<void> write_slots(BlockDevice& device, Bytes& oracle, ByteRange slot, std::uint64_t stride,
                       Random& random, int& failures) {
  for (int round = 0; round < 4; ++round) {
    for (std::uint64_t at = slot.offset; at + slot.length <= oracle.size(); at += stride) {
      Bytes bytes = random_bytes(random, slot.length);
      const bool zero = random.chance(1, 4);
      if (zero) std::fill(bytes.begin(), bytes.end(), std::byte{0});
      Status done;
      if (zero) {
        const Status zeroed = co_await device.write_zeroes(at, slot.length, ZeroFlags{});
        done = zeroed;
      } else {
        const Status written = co_await device.write(at, bytes, WriteFlags{});
        done = written;
      }
      if (!done) ++failures;
      std::copy(bytes.begin(), bytes.end(), oracle.begin() + static_cast<std::ptrdiff_t>(at));
    }
  }
}

TEST_P(DeviceConformance, ParallelNeighboursInOneBlockDoNotUndoEachOther_Trap8) {
  const std::uint64_t unit = device_->info().min_io_bytes;
  const std::uint64_t limit = std::min<std::uint64_t>(oracle_.size(), 200'000);
  // Eight writers whose slots interleave: several in each block, and such that have whole blocks
  // too.
  constexpr std::uint64_t kWriters = 8;
  for (const std::uint64_t wanted : {500u, 9'000u}) {
    const std::uint64_t width = align_up(wanted, unit);
    Bytes part(oracle_.begin(), oracle_.begin() + static_cast<std::ptrdiff_t>(limit));
    TaskScope scope;
    int failures = 0;
    for (std::uint64_t i = 0; i < kWriters; ++i) {
      scope.spawn(write_slots(*device_, part, ByteRange{i * width, width}, kWriters * width,
                              random_, failures));
    }
    run_task(*loop_, join_all(scope));
    EXPECT_EQ(failures, 0);
    std::copy(part.begin(), part.end(), oracle_.begin());
    expect_content("parallel writes");
  }
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const LoopKind loop : {LoopKind::kUring, LoopKind::kPortable}) {
    for (const Kind kind : {Kind::kMemory, Kind::kFault, Kind::kFileBuffered, Kind::kFileAsync,
                            Kind::kFileDirect, Kind::kFileMap, Kind::kNbdkit}) {
      if (loop == LoopKind::kPortable && (kind == Kind::kMemory || kind == Kind::kFault)) continue;
      for (const std::uint64_t size :
           {std::uint64_t{1}, std::uint64_t{511}, 4 * kKiB, 64 * kKiB + 1, kMiB + 777, 2 * kMiB}) {
        cases.push_back({kind, loop, size});
      }
    }
    // qemu-nbd rounds sizes up to whole sectors.
    cases.push_back({Kind::kQemuNbd, loop, 512 * 2049});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All, DeviceConformance, testing::ValuesIn(all_cases()), name_of);

}  // namespace
}  // namespace blockmig
