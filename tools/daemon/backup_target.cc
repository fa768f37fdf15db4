// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/backup_target.h"

#include <sys/stat.h>

#include <algorithm>

#include "blockmig/io/offload.h"
#include "tools/daemon/backup_device.h"
#include "tools/daemon/backup_file.h"

namespace blockmig {
namespace {

/// Those that have marked every write since they began, and go on.
std::vector<BackupRecord::Bitmap> recording_bitmaps(const ServedDisk& disk) {
  std::vector<BackupRecord::Bitmap> all;
  for (const BitmapFacts& facts : disk.bitmaps().bitmaps()) {
    const bool usable = facts.bitmap != nullptr && facts.recording && !facts.id.empty();
    if (usable) all.push_back({facts.name, facts.id});
  }
  return all;
}

}  // namespace

Result<BackupRecord::Bitmap> usable_bitmap(const ServedDisk& disk, const std::string& name) {
  const std::string what = "bitmap '" + name + "' of disk '" + disk.name() + "'";
  for (const BitmapFacts& facts : disk.bitmaps().bitmaps()) {
    if (facts.name != name) continue;
    std::string why;
    if (!facts.inconsistent.empty()) why = "is inconsistent (" + facts.inconsistent + ")";
    if (why.empty() && !facts.recording) why = "records nothing: it was added with --disabled";
    if (why.empty() && facts.id.empty()) why = "is of an older program, which did not say when";
    if (why.empty()) return BackupRecord::Bitmap{name, facts.id};
    return Error(ErrorCode::kPrecondition,
                 what + " " + why + ": make a full copy, without --since");
  }
  return no_such_bitmap(disk.name(), name);
}

Status check_backup_target(const StoreUri& target, std::uint64_t size_bytes,
                           const BackupRecord::Bitmap& since) {
  struct stat facts {};
  const bool is_file = target.kind == StoreUri::Kind::kFile;
  const bool exists = is_file && ::stat(target.path.c_str(), &facts) == 0;
  if (!is_file || (exists && !S_ISREG(facts.st_mode))) {
    return Error(ErrorCode::kPrecondition, "backup to " + target.text +
                                               ": it must be a regular file, since what it is a "
                                               "copy of is written down beside it; 'blockmig "
                                               "migrate --point-in-time' copies to other stores");
  }
  if (since.id.empty()) return {};
  const Result<BackupRecord> base = check_backup_base(target.path, size_bytes, since);
  if (!base) return base.error();
  return {};
}

Task<void> drop_bitmap(const DiskSet& disks, std::string disk, BackupRecord::Bitmap bitmap) {
  const auto found = disks.get(disk);
  if (bitmap.id.empty() || !found) co_return;
  bool same = false;
  for (const BitmapFacts& facts : (*found)->bitmaps().bitmaps()) {
    if (facts.id == bitmap.id) same = true;
  }
  if (!same) co_return;
  std::string name = bitmap.name;
  // Where the journal does not take it the bitmap stays, which is shown and harms nothing.
  const Status removed = co_await (*found)->bitmaps().remove(std::move(name));
  static_cast<void>(removed);
}

Task<Result<std::unique_ptr<BlockDevice>>> BackupTarget::open(std::uint64_t size_bytes) {
  // Before the file is opened, which would make one that is missing.
  const Status fit = co_await offload(
      loop_, [this, size_bytes] { return check_backup_target(target_uri_, size_bytes, since_); });
  if (!fit) co_return fit.error();
  Result<std::unique_ptr<BlockDevice>> opened = co_await target_.open(size_bytes);
  if (!opened) co_return std::move(opened);
  const Status begun = co_await begin_record(size_bytes);
  std::unique_ptr<BlockDevice> device = *std::move(opened);
  if (begun) {
    std::unique_ptr<BlockDevice> recorded =
        std::make_unique<BackupDevice>(loop_, std::move(device), path_, record_);
    co_return std::move(recorded);
  }
  co_await discard();
  const Status closed = co_await device->close();
  if (!closed) co_return closed.error().with_context(begun.error().message());
  co_return begun.error();
}

/// The file is open, so nobody else changes it: looked at again, and from here on incomplete.
Task<Status> BackupTarget::begin_record(std::uint64_t size_bytes) {
  record_ = std::make_shared<BackupRecord>();
  record_->disk = disk_;
  record_->size_bytes = size_bytes;
  record_->since = since_.name;
  const Status begun = co_await offload(loop_, [this, size_bytes]() -> Status {
    if (!since_.id.empty()) {
      const Result<BackupRecord> base = check_backup_base(path_, size_bytes, since_);
      if (!base) return base.error();
      // As long as it is a mixture of two instants, what may differ is what differed before.
      record_->bitmaps = base->bitmaps;
    }
    const Result<std::uint64_t> inode = inode_of_backup(path_);
    if (!inode) return inode.error();
    record_->inode = *inode;
    return save_backup_record(path_, *record_);
  });
  co_return begun;
}

void BackupTarget::generation_begins(std::uint64_t) {
  of_instant_.clear();
  const auto disk = disks_.get(disk_);
  if (disk.ok()) of_instant_ = recording_bitmaps(**disk);
}

Task<Status> BackupTarget::generation_complete(std::uint64_t) {
  const bool still_there =
      since_.id.empty() || std::any_of(of_instant_.begin(), of_instant_.end(),
                                       [this](const auto& b) { return b.id == since_.id; });
  if (!still_there) {
    co_return Error(ErrorCode::kPrecondition,
                    "bitmap '" + since_.name + "' was removed before the instant of the copy");
  }
  BackupRecord done = *record_;
  done.complete = true;
  done.inode = 0;
  done.bitmaps = of_instant_;
  const Status saved = co_await offload(loop_, [this, &done]() -> Status {
    Result<std::string> state = state_of_backup(path_);
    if (!state) return state.error();
    done.image = *std::move(state);
    return save_backup_record(path_, done);
  });
  if (!saved) co_return saved.error().with_context("the copy is whole, but");
  record_->complete = true;
  co_return saved;
}

Task<void> BackupTarget::withdraw_switch() {
  co_await target_.withdraw_switch();
  if (record_->complete) co_return;
  const BackupRecord::Bitmap fresh = fresh_;
  co_await drop_bitmap(disks_, disk_, fresh);
}

Task<void> BackupTarget::discard() {
  co_await target_.discard();
  co_await offload(loop_, [this] {
    struct stat facts {};
    // A record without an image says nothing; one of an image that stays says that it is
    // incomplete. One of another image is the next backup's.
    if (::stat(path_.c_str(), &facts) == 0 || errno != ENOENT) return;
    const Result<BackupRecord> left = load_backup_record(path_);
    if (!left.ok() || left->complete || left->inode != record_->inode) return;
    static_cast<void>(remove_backup_record(path_).ok());
  });
}

}  // namespace blockmig
