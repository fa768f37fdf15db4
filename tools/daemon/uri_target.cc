// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/uri_target.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "blockmig/block/file_device.h"
#include "blockmig/block/nbd_device.h"
#include "blockmig/block/reconnecting_device.h"
#include "blockmig/io/durable_file.h"
#include "blockmig/io/offload.h"
#include "blockmig/migrate/prepare.h"
#include "tools/daemon/backup_file.h"
#include "tools/daemon/begun_target.h"
#include "tools/daemon/clipped_device.h"
#include "tools/daemon/closed_move.h"
#include "tools/daemon/folder_at_rest.h"
#include "tools/daemon/folder_merge.h"
#include "tools/daemon/image_identity.h"

namespace blockmig {
namespace {

/// What went wrong first, and the end of the device that came of it.
Error besides(const Error& error, const Status& closed) {
  if (closed) return error;
  return Error(error.code(), error.message() + "; and " + closed.error().message(),
               error.os_errno());
}

}  // namespace

Task<Result<std::unique_ptr<BlockDevice>>> UriTarget::open(std::uint64_t size_bytes) {
  if (plan_.resumed) {
    const auto elsewhere = co_await is_begun_elsewhere(loop_, plan_);
    if (!elsewhere) co_return elsewhere.error();
    plan_.begun_elsewhere = *elsewhere;
  }
  Status checked =
      co_await offload(loop_, [this, size_bytes] { return check_target(plan_, size_bytes); });
  if (checked) checked = check_wanted();
  if (!checked) co_return checked.error();
  Result<std::unique_ptr<BlockDevice>> opened = co_await open_target_store(size_bytes);
  if (!opened) co_return opened.error();
  std::unique_ptr<BlockDevice> device = *std::move(opened);
  Status fits;
  if (plan_.check_alias) {
    const Status alone = co_await plan_.check_alias(plan_, *device);
    fits = alone;
  }
  if (fits) fits = check_fits(plan_.disk_info, device->info());
  as_left_ = co_await offload(loop_, [this] {
    // Where nothing tells one content from another, nobody knows.
    return !plan_.as_left ||
           (!plan_.as_left->empty() && *plan_.as_left == image_identity(plan_.target.text));
  });
  if (plan_.target.kind == StoreUri::Kind::kFile) {
    identity_ = co_await offload(loop_, [this] { return identity_of(plan_.target.path); });
    if (fits.ok()) {
      const Status taken = co_await take_file();
      fits = taken;
    }
  }
  if (fits.ok()) {
    Result<std::unique_ptr<BlockDevice>> fitted = fit_to_size(device, size_bytes);
    if (fitted.ok()) {
      // Once: a target that is opened again belongs to the same job.
      if (plan_.owners != nullptr && !renewed_) {
        renewed_ = true;
        co_await plan_.owners->renew(plan_.disk, plan_.source);
      }
      co_return std::move(fitted);
    }
    fits = fitted.error();
  }
  co_await discard();  // while it is ours: from its close() on it may be the next move's
  const Status closed = co_await device->close();
  co_return besides(fits.error(), closed);
}

Task<Result<std::unique_ptr<BlockDevice>>> UriTarget::open_target_store(std::uint64_t size_bytes) {
  if (plan_.target.kind == StoreUri::Kind::kFile) {
    Result<std::unique_ptr<BlockDevice>> file = co_await open_file(size_bytes);
    co_return std::move(file);
  }
  NbdDeviceOptions options;
  const std::string uri = plan_.target.text;
  Result<std::unique_ptr<BlockDevice>> remote = co_await open_nbd_device(loop_, uri, options);
  if (!remote) co_return remote.error();
  // The job outlasts the target's troubles; it is the device's business from the switchover on.
  auto lasting = std::make_unique<ReconnectingDevice>(loop_, *std::move(remote));
  reconnecting_ = lasting.get();
  std::unique_ptr<BlockDevice> device = std::move(lasting);
  co_return std::move(device);
}

Task<Result<std::unique_ptr<BlockDevice>>> UriTarget::open_file(std::uint64_t size_bytes) {
  const std::string path = plan_.target.path;
  const bool exists =
      co_await offload(loop_, [&path] { return ::access(path.c_str(), F_OK) == 0; });
  FileDeviceOptions options;
  options.cache = plan_.cache;
  options.inline_io = false;  // a slow target must not hold up the guest (I10)
  Status allowed = check_wanted();
  if (allowed && !exists && plan_.begun_elsewhere) allowed = is_away(plan_);
  if (allowed) allowed = co_await note_begun_target(loop_, plan_);
  if (!allowed) co_return allowed.error();
  if (!exists) {
    options.create_size_bytes = size_bytes;
    options.exclusive_create = true;
  }
  Result<std::unique_ptr<BlockDevice>> opened = co_await open_file_device(loop_, path, options);
  if (!opened && !exists) co_await forget_begun_target(plan_);
  if (!opened) co_return std::move(opened);
  const Status remembered = co_await remember_file(!exists);
  if (remembered.ok()) co_return std::move(opened);
  std::unique_ptr<BlockDevice> device = *std::move(opened);
  co_await discard();
  const Status closed = co_await device->close();
  co_return besides(remembered.error(), closed);
}

Task<Status> UriTarget::remember_file(bool created) {
  const std::string& path = plan_.target.path;
  const Status looked = co_await offload(loop_, [this, &path, created]() -> Status {
    struct stat facts {};
    if (stat(path.c_str(), &facts) != 0) return Error::from_errno(errno, "cannot look at " + path);
    if (S_ISREG(facts.st_mode)) file_ = FileId{facts.st_dev, facts.st_ino};
    size_bytes_ = facts.st_size;
    created_ = created;
    // The switchover will rest on this name being there after a power loss (I1).
    return created ? sync_folder_of(path) : Status();
  });
  co_return looked;
}

bool UriTarget::is_in_place() const {
  struct stat facts {};
  return file_ && stat(plan_.target.path.c_str(), &facts) == 0 &&
         *file_ == FileId{facts.st_dev, facts.st_ino};
}

/// What is behind the end of a file that was cut is gone, also where it has grown again.
Status UriTarget::look_at_place() const {
  const std::string& path = plan_.target.path;
  struct stat facts {};
  if (stat(path.c_str(), &facts) != 0 || *file_ != FileId{facts.st_dev, facts.st_ino}) {
    return Error(ErrorCode::kPrecondition,
                 "the target " + path +
                     " is not the file any more that was written: somebody has removed or "
                     "replaced it");
  }
  if (facts.st_size == size_bytes_) return {};
  return Error(ErrorCode::kPrecondition,
               "the target " + path + " has " + std::to_string(facts.st_size) +
                   " bytes now, and had " + std::to_string(size_bytes_) +
                   ": somebody has changed its size; move the disk to a file that nobody else "
                   "writes to");
}

Task<Status> UriTarget::check_place() {
  if (!file_) co_return Status();
  const Status in_place = co_await offload(loop_, [this] { return look_at_place(); });
  co_return in_place;
}

Status UriTarget::check_wanted() const {
  if (!given_up_) return {};
  return Error(ErrorCode::kCancelled, "the move was given up before its target was open");
}

/// The file is open, and so locked by its device.
Task<Status> UriTarget::claim() {
  const Status wanted = check_wanted();
  if (!wanted || plan_.owners == nullptr) co_return wanted;
  const StoreOwners::Move moving = move();
  const auto token = co_await plan_.owners->claim_target(moving);
  if (!token) co_return token.error();
  claimed_ = true;
  // What was recorded about it before somebody else had it is not believed.
  if (*token != 0) identity_ += ", use " + std::to_string(*token);
  // A disk's own base keeps its stamp.
  guarded_ = *token != 0 || plan_.settling;
  co_return Status();
}

Task<Status> UriTarget::take_file() {
  const Status claimed = co_await claim();
  // What a disk fetches from was no backup any more when the disk moved there.
  if (!claimed || plan_.backup || plan_.settling) co_return claimed;
  // Before the first byte: by the record of a backup that is incomplete, the next --since would
  // believe that what its bitmap marks is all in which it differs.
  const std::string& path = plan_.target.path;
  const Status removed = co_await offload(loop_, [&path]() -> Status {
    struct stat facts {};
    const std::string record = backup_record_path(path);
    if (lstat(record.c_str(), &facts) != 0 && errno == ENOENT) return {};
    return remove_backup_record(path);
  });
  co_return removed;
}

Task<Status> UriTarget::compared() {
  if (!plan_.as_left) co_return Status();
  JournalBatch batch;
  batch.removed_notes.push_back(closed_move_note(plan_.disk));
  const Status removed = co_await plan_.journal->commit(batch);
  co_return removed;
}

Task<Status> UriTarget::announce_switch() {
  if (plan_.owners == nullptr || announced_) co_return Status();
  const StoreOwners::Move moving = move();
  const Status announced = co_await plan_.owners->announce(moving);
  announced_ = announced.ok();
  if (!announced_) co_await plan_.owners->withdraw(moving);
  co_return announced;
}

Task<void> UriTarget::confirm_switch(bool source_needed) {
  if (reconnecting_ != nullptr) reconnecting_->outlast();
  if (plan_.target.kind == StoreUri::Kind::kFile) {
    // Whatever copy it was, it is the disk now. A record that stays is not asked about a disk.
    const std::string& path = plan_.target.path;
    const Status removed = co_await offload(loop_, [&path] { return remove_backup_record(path); });
    static_cast<void>(removed);
  }
  if (plan_.owners == nullptr) co_return;
  const StoreOwners::Move moving = move();
  const std::uint64_t record =
      plan_.bitmaps == nullptr ? 0 : record_token(*plan_.bitmaps, plan_.epoch);
  co_await plan_.owners->confirm(moving, source_needed, record);
}

Task<void> UriTarget::withdraw_switch() {
  if (plan_.owners == nullptr || !announced_) co_return;
  announced_ = false;
  const StoreOwners::Move moving = move();
  co_await plan_.owners->withdraw(moving);
}

Task<void> UriTarget::keep() {
  if (plan_.owners == nullptr) co_return;
  const StoreOwners::Move moving = move();
  co_await plan_.owners->drop_target(moving);
}

DataAtRest* UriTarget::data_at_rest() {
  if (plan_.source.kind != StoreUri::Kind::kFile) return nullptr;
  if (!at_rest_) at_rest_ = std::make_unique<FolderAtRest>(loop_, plan_.source.path, plan_.disk);
  return at_rest_.get();
}

RestMerge* UriTarget::rest_merge() {
  if (!plan_.settling || plan_.target.kind != StoreUri::Kind::kFile) return nullptr;
  if (!merge_) {
    merge_ = std::make_unique<FolderMerge>(loop_, plan_.target, plan_.disk, plan_.owners);
  }
  return merge_.get();
}

Task<void> UriTarget::discard() {
  // Of a store that somebody may have changed nothing says any more that it is as it was left.
  if (plan_.returning && claimed_ && as_left_) {
    const StoreOwners::Move moving = move();
    co_await plan_.owners->leave_again(moving);
  }
  if (!created_) co_return;
  created_ = false;
  // Only what we made: somebody may have put another file of that name there since.
  const bool ours = co_await offload(loop_, [this] { return is_in_place(); });
  if (!ours) co_return;
  co_await forget_begun_target(plan_);
  if (plan_.owners != nullptr) {
    const StoreOwners::Move moving = move();
    co_await plan_.owners->drop_target(moving);
  }
  co_await offload(loop_, [this] {
    const std::string& path = plan_.target.path;
    struct stat facts {};
    const bool link = lstat(path.c_str(), &facts) == 0 && S_ISLNK(facts.st_mode);
    if (!link && is_in_place()) unlink(path.c_str());
  });
}

}  // namespace blockmig
