// SPDX-License-Identifier: Apache-2.0
// HydratingRig: a new store, a base and a journal, and a HydratingDevice over them.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "blockmig/io/cancel.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/migrate/hydrating_device.h"
#include "tests/unit/migrate/rig.h"

namespace blockmig {

class HydratingRig : public testing::Test {
 protected:
  static constexpr std::uint32_t kChunk = 64 * 1024;
  static constexpr std::uint64_t kSize = 32 * kChunk + 777;

  HydratingRig()
      : local(std::make_shared<FaultDevice>(loop, random, "new", kSize)),
        base(std::make_shared<FaultDevice>(loop, random, "base", kSize)),
        journal(make_memory_journal(loop)) {
    content.resize(kSize);
    for (std::size_t i = 0; i < kSize; ++i) content[i] = static_cast<std::byte>(1 + i % 251);
    base->preload(0, content);
    local->fill(std::byte{0xA5});
    options.patience = std::chrono::seconds(5);
    options.read_ahead_bytes = 0;
  }
  ~HydratingRig() override {
    if (device) static_cast<void>(close());
  }

  /// Everything absent but `present`.
  void open(bool reverse, std::vector<ByteRange> present = {}) {
    auto map = *PresenceMap::create(kSize, kChunk);
    auto dirty = *DirtyBitmap::create(kSize, kChunk);
    dirty->mark_all();
    for (const ByteRange& range : present) dirty->clear(range.offset, range.length);
    map->set_absent(*dirty);
    record = {"vm1", 2, "test:base", kChunk, reverse, "absent.1", "job-1"};
    const RegionChange all{"vm1", "absent.1", map->durable_form(), {}};
    ASSERT_TRUE(run_task(loop, journal->change_regions(all)).ok());
    ASSERT_TRUE(run_task(loop, journal->save_hydration(record)).ok());
    make(std::move(map));
  }
  void make(std::unique_ptr<PresenceMap> map) {
    HydratingDevice::Parts parts{loop,
                                 *journal,
                                 record,
                                 std::move(map),
                                 std::make_unique<SharedDevice>(local),
                                 std::move(known_written),
                                 kSize};
    device = std::make_unique<HydratingDevice>(std::move(parts), options);
    device->attach_base(open_base());
  }
  virtual std::unique_ptr<BlockDevice> open_base() { return std::make_unique<SharedDevice>(base); }
  Status close() {
    const Status closed = run_task(loop, device->close());
    device.reset();
    return closed;
  }
  /// Power loss of both stores, and what the journal knows.
  void crash_and_reopen() {
    local->crash();
    base->crash();
    const std::string disk = "vm1";
    const std::string set = "absent.1";
    const auto saved = run_task(loop, journal->load_regions(disk, set));
    record = **run_task(loop, journal->load_hydration(disk));
    // The old one is gone with its memory. Here it must end first, and what it saves now never was.
    static_cast<void>(close());
    const RegionChange again{disk, set, *saved, {}};
    ASSERT_TRUE(run_task(loop, journal->remove_regions(disk, set)).ok());
    ASSERT_TRUE(run_task(loop, journal->change_regions(again)).ok());
    ASSERT_TRUE(run_task(loop, journal->save_hydration(record)).ok());
    auto map = PresenceMap::load(kSize, kChunk, *saved);
    make(std::move(*map));
  }

  Status write(std::uint64_t offset, std::size_t length, std::uint8_t value, bool fua = false) {
    const std::vector<std::byte> bytes(length, std::byte{value});
    const ConstBytes from(bytes);
    const WriteFlags flags{.fua = fua};
    const Status status = run_task(loop, device->write(offset, from, flags));
    if (status.ok()) std::fill_n(content.begin() + static_cast<long>(offset), length, bytes[0]);
    return status;
  }
  Status zero(std::uint64_t offset, std::uint64_t length) {
    const Status status = run_task(loop, device->write_zeroes(offset, length, {}));
    if (status.ok()) std::fill_n(content.begin() + static_cast<long>(offset), length, std::byte{0});
    return status;
  }
  /// The base reads as zeros there, and says so.
  void make_hole(ByteRange range) {
    ASSERT_TRUE(run_task(loop, base->write_zeroes(range.offset, range.length, {})).ok());
    ASSERT_TRUE(run_task(loop, base->flush()).ok());
    std::fill_n(content.begin() + static_cast<long>(range.offset), range.length, std::byte{0});
  }
  /// What the job's background does.
  void push_until_whole() {
    std::uint64_t cursor = 0;
    for (int i = 0; i < 100'000 && !device->whole(); ++i) {
      if (device->push(cursor, options.pull_bytes) > 0) continue;
      run_task(loop, sleep_for(loop, std::chrono::microseconds(100)));
    }
    EXPECT_TRUE(device->whole());
  }
  Status flush() { return run_task(loop, device->flush()); }
  Result<std::vector<std::byte>> read(std::uint64_t offset, std::size_t length) {
    std::vector<std::byte> bytes(length);
    const MutableBytes into(bytes);
    const Status status = run_task(loop, device->read(offset, into));
    if (!status.ok()) return status.error();
    return bytes;
  }
  void expect_content(std::uint64_t offset, std::size_t length) {
    const auto seen = read(offset, length);
    ASSERT_TRUE(seen.ok()) << seen.error().message();
    const auto place =
        std::mismatch(seen->begin(), seen->end(), content.begin() + static_cast<long>(offset));
    EXPECT_TRUE(place.first == seen->end())
        << "differs at " << offset + static_cast<std::uint64_t>(place.first - seen->begin());
  }
  std::vector<std::byte> peek(const FaultDevice& store) {
    std::vector<std::byte> bytes(kSize);
    store.peek(0, bytes);
    return bytes;
  }
  const HydrationStats& stats() { return device->stats(); }

  Random random{7};
  SimLoop loop{random};
  std::shared_ptr<FaultDevice> local;
  std::shared_ptr<FaultDevice> base;
  std::unique_ptr<DirtyBitmap> known_written;  ///< of the next make(): `local` is zero elsewhere
  std::unique_ptr<Journal> journal;
  HydrationOptions options;
  HydrationRecord record;
  std::vector<std::byte> content;  ///< what a reader must see
  std::unique_ptr<HydratingDevice> device;
};

}  // namespace blockmig
