// SPDX-License-Identifier: Apache-2.0
// Rig: a disk on a simulated store, a simulated target, and what a migration needs, in five lines.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "blockmig/base/random.h"
#include "blockmig/block/fault_device.h"
#include "blockmig/block/shared_device.h"
#include "blockmig/disk/disk.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"
#include "blockmig/journal/journal.h"
#include "blockmig/migrate/job_board.h"

namespace blockmig {

inline JobOptions options_for(Mode mode) {
  JobOptions options;
  options.mode = mode;
  return options;
}

class TestOpener : public TargetOpener {
 public:
  /// `discarded` is not set where the target was given up first.
  explicit TestOpener(std::shared_ptr<FaultDevice> device, bool* discarded = nullptr)
      : device_(std::move(device)), discarded_(discarded), uri_("test:" + device_->info().name) {}
  const std::string& uri() const override { return uri_; }
  Task<Result<std::unique_ptr<BlockDevice>>> open(std::uint64_t) override {
    std::unique_ptr<BlockDevice> opened = std::make_unique<SharedDevice>(device_, false, closed_);
    co_return opened;
  }
  Task<void> discard() override {
    if (discarded_ != nullptr) *discarded_ = !*closed_;
    co_return;
  }

 private:
  std::shared_ptr<FaultDevice> device_;
  std::shared_ptr<bool> closed_ = std::make_shared<bool>(false);
  bool* discarded_;
  std::string uri_;
};

struct Rig {
  static constexpr std::uint64_t kSize = 4 * kMiB + 777;

  using MakeJournal = std::unique_ptr<Journal> (*)(EventLoop&);

  /// `block_bytes`: what both stores take at least.
  explicit Rig(std::uint64_t size = kSize, MakeJournal make_journal = &make_memory_journal,
               std::uint32_t block_bytes = 1)
      : source(make_store("source", size, block_bytes)),
        target(make_store("target", size, block_bytes)),
        journal(make_journal(loop)),
        disk(loop, "vm1", std::make_unique<SharedDevice>(source), "test:source", 1),
        board(loop, *journal) {
    std::vector<std::byte> content(size);
    for (std::size_t i = 0; i < size; ++i) content[i] = static_cast<std::byte>(i * 7 + i / 4096);
    source->preload(0, content);
    source->mutable_info().zero_initialised = false;
  }
  ~Rig() {
    run_task(loop, board.stop());
    run_task(loop, board.leave_disks());
    const Status closed = run_task(loop, disk.close());
    static_cast<void>(closed);
  }

  std::string start(const JobOptions& options, bool* discarded = nullptr) {
    auto id = board.start(disk, std::make_unique<TestOpener>(target, discarded), options);
    return id.ok() ? *id : "refused: " + id.error().message();
  }
  JobStatus wait(const std::string& id) {
    auto status = run_task(loop, board.wait(id));
    return *status;
  }
  void advance(Duration time) { run_task(loop, sleep_for(loop, time)); }
  Status write(std::uint64_t offset, const std::vector<std::byte>& bytes) {
    const ConstBytes from(bytes);
    const WriteFlags flags{};
    return run_task(loop, disk.write(offset, from, flags));
  }
  std::shared_ptr<FaultDevice> make_store(const std::string& name, std::uint64_t size,
                                          std::uint32_t block_bytes) {
    auto store = std::make_shared<FaultDevice>(loop, random, name, size);
    store->mutable_info().min_io_bytes = block_bytes;
    return store;
  }
  bool equal() const {
    std::vector<std::byte> a(source->info().size_bytes);
    std::vector<std::byte> b(a.size());
    source->peek(0, a);
    target->peek(0, b);
    return a == b;
  }

  Random random{7};
  SimLoop loop{random};
  std::shared_ptr<FaultDevice> source;
  std::shared_ptr<FaultDevice> target;
  std::unique_ptr<Journal> journal;
  Disk disk;
  JobBoard board;
};

}  // namespace blockmig
