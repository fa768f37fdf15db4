// SPDX-License-Identifier: Apache-2.0
// BackupTarget: the target of `blockmig backup`: a file named by URI, with the record beside it of
// which instant of which disk it is.
//
//   open()                  the record says "incomplete", durably, before the first byte is written
//   generation_begins()     the instant: which bitmaps mark every write from here on
//   generation_complete()   the copy is durable: "complete", with these bitmaps
//   else                    it is "incomplete", as it was left (backup_device.h)
//
// With `since`, the copy must be one that this bitmap says everything about (backup_file.h). The
// bitmap is only read: whatever fails, it still marks all that the copy lacks, and the same command
// again completes it. The bitmap that began with the copy is taken back then, before anybody sees
// the job ended. Thread rule: the loop.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tools/control/backup_record.h"
#include "tools/daemon/disk_set.h"
#include "tools/daemon/uri_target.h"

namespace blockmig {

/// The bitmap of that name, fit to say what changed since it began. kNotFound, kPrecondition.
Result<BackupRecord::Bitmap> usable_bitmap(const ServedDisk& disk, const std::string& name);
/// What can be known before anything is opened. Blocks. `since` has no id where everything is
/// copied.
Status check_backup_target(const StoreUri& target, std::uint64_t size_bytes,
                           const BackupRecord::Bitmap& since);

/// The bitmap that began with a backup which was not made, unless it is another one by now.
Task<void> drop_bitmap(const DiskSet& disks, std::string disk, BackupRecord::Bitmap bitmap);

class BackupTarget final : public TargetOpener {
 public:
  /// `since` has no id where everything is copied, `fresh` none where no bitmap has begun with it.
  BackupTarget(IoLoop& loop, TargetPlan plan, const DiskSet& disks, BackupRecord::Bitmap since,
               BackupRecord::Bitmap fresh)
      : loop_(loop),
        disks_(disks),
        disk_(plan.disk),
        path_(plan.target.path),
        target_uri_(plan.target),
        since_(std::move(since)),
        fresh_(std::move(fresh)),
        target_(loop, of_backup(std::move(plan))) {}

  const std::string& uri() const override { return target_.uri(); }
  std::string identity() const override { return target_.identity(); }
  bool as_left() const override { return target_.as_left(); }
  Task<Status> compared() override { return target_.compared(); }
  Task<Result<std::unique_ptr<BlockDevice>>> open(std::uint64_t size_bytes) override;
  void generation_begins(std::uint64_t number) override;
  Task<Status> generation_complete(std::uint64_t number) override;
  /// The job is about to end: if there is no copy, nothing has begun with it either.
  void give_up() override { target_.give_up(); }
  Task<void> withdraw_switch() override;
  Task<void> keep() override { return target_.keep(); }
  Task<void> discard() override;
  Task<Status> check_place() override { return target_.check_place(); }

 private:
  static TargetPlan of_backup(TargetPlan plan) {
    plan.backup = true;
    return plan;
  }
  Task<Status> begin_record(std::uint64_t size_bytes);

  IoLoop& loop_;
  const DiskSet& disks_;
  const std::string disk_;
  const std::string path_;
  const StoreUri target_uri_;
  const BackupRecord::Bitmap since_;
  const BackupRecord::Bitmap fresh_;
  UriTarget target_;
  std::shared_ptr<BackupRecord> record_ = std::make_shared<BackupRecord>();
  std::vector<BackupRecord::Bitmap> of_instant_;
};

}  // namespace blockmig
