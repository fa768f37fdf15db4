// SPDX-License-Identifier: Apache-2.0
// BackupDevice: the file of a backup while it is written to. What its closing leaves incomplete is
// known again by its size and the time of its last change, which the record beside it learns while
// the file is still locked: so a file that somebody changes afterwards is not completed. A daemon
// that is killed saves nothing. Lifecycle and thread rule: those of the device below.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "blockmig/block/block_device.h"
#include "blockmig/block/store_health.h"
#include "blockmig/io/io_loop.h"
#include "tools/control/backup_record.h"

namespace blockmig {

class BackupDevice final : public BlockDevice, public StoreHealth {
 public:
  /// `record` is that of `path`, as it is saved; complete from the moment when the copy is.
  BackupDevice(IoLoop& loop, std::unique_ptr<BlockDevice> below, std::string path,
               std::shared_ptr<const BackupRecord> record)
      : loop_(loop), below_(std::move(below)), path_(std::move(path)), record_(std::move(record)) {}

  const DeviceInfo& info() const override { return below_->info(); }
  Task<Status> read(std::uint64_t offset, MutableBytes into) override {
    return below_->read(offset, into);
  }
  Task<Status> read_medium(std::uint64_t offset, MutableBytes into) override {
    return below_->read_medium(offset, into);
  }
  Task<Status> write(std::uint64_t offset, ConstBytes from, WriteFlags flags) override {
    return below_->write(offset, from, flags);
  }
  Task<Status> flush() override { return below_->flush(); }
  Task<Status> trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) override {
    return below_->trim(offset, length, flags);
  }
  Task<Status> write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroFlags flags) override {
    return below_->write_zeroes(offset, length, flags);
  }
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length) override {
    return below_->extents(offset, length);
  }
  void prefer_latency(bool wanted) override { below_->prefer_latency(wanted); }
  void abandon() override { below_->abandon(); }
  void withdraw() override { below_->withdraw(); }
  std::optional<Error> lost() const override { return lost_of(*below_); }
  std::string trouble() const override { return trouble_of(*below_); }
  Task<Status> revive() override { return below_->revive(); }
  Task<Status> close() override;

 private:
  IoLoop& loop_;
  const std::unique_ptr<BlockDevice> below_;
  const std::string path_;
  const std::shared_ptr<const BackupRecord> record_;
};

}  // namespace blockmig
