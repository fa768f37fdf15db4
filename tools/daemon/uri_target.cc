// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/uri_target.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "blockmig/base/units.h"
#include "blockmig/block/file_device.h"
#include "blockmig/block/free_space.h"
#include "blockmig/block/image_lock.h"
#include "blockmig/block/nbd_device.h"
#include "blockmig/block/reconnecting_device.h"
#include "blockmig/io/durable_file.h"
#include "blockmig/io/offload.h"
#include "blockmig/io/unique_fd.h"
#include "blockmig/migrate/prepare.h"
#include "tools/daemon/backup_file.h"
#include "tools/daemon/clipped_device.h"
#include "tools/daemon/closed_move.h"
#include "tools/daemon/folder_at_rest.h"
#include "tools/daemon/folder_merge.h"
#include "tools/daemon/image_identity.h"

namespace blockmig {
namespace {

/// st_blocks counts in these (stat(3type)), whatever the filesystem's block size is.
constexpr std::uint64_t kStatBlockBytes = 512;

Status check_folder(const std::string& path) {
  const std::string folder = parent_folder(path);
  struct stat facts {};
  if (stat(folder.c_str(), &facts) != 0) {
    return Error(ErrorCode::kNotFound,
                 "the target's folder " + folder + " does not exist: create it first", errno);
  }
  if (!S_ISDIR(facts.st_mode)) {
    return Error(ErrorCode::kPrecondition, "the target's folder " + folder + " is not a folder");
  }
  if (path.ends_with('/')) {
    return Error(ErrorCode::kNotFound, "the target folder " + path + " does not exist");
  }
  return {};
}

std::uint64_t allocated_bytes(const struct stat& facts) {
  return static_cast<std::uint64_t>(facts.st_blocks) * kStatBlockBytes;
}

/// Room for what the source has allocated, less what the target has already. A source that is no
/// regular file does not say what it has allocated: then running out of space is found while
/// copying, and undone.
Status check_space(const TargetPlan& plan, const struct stat* target) {
  if (plan.source.kind != StoreUri::Kind::kFile) return {};
  struct stat source {};
  if (stat(plan.source.path.c_str(), &source) != 0 || !S_ISREG(source.st_mode)) return {};
  std::uint64_t needed = allocated_bytes(source);
  const std::uint64_t present = target != nullptr ? allocated_bytes(*target) : 0;
  needed = needed > present ? needed - present : 0;
  const Result<std::uint64_t> available = free_space_bytes(plan.target.path);
  if (!available) return available.error();
  if (*available >= needed) return {};
  return Error(ErrorCode::kNoSpace, "not enough space at " + plan.target.text +
                                        ": the disk needs " + format_bytes(needed) + ", free are " +
                                        format_bytes(*available));
}

Status check_file_target(const TargetPlan& plan, std::uint64_t size_bytes) {
  const std::string& path = plan.target.path;
  struct stat facts {};
  if (stat(path.c_str(), &facts) != 0) {
    if (errno != ENOENT && errno != ENOTDIR) {
      return Error::from_errno(errno, "cannot look at the target " + path);
    }
    const Status folder = check_folder(path);
    if (!folder) return folder;
    if (plan.settling) {
      return Error(ErrorCode::kNotFound, "image " + path + " is not in its folder any more");
    }
    return check_space(plan, nullptr);
  }
  if (S_ISBLK(facts.st_mode)) return {};  // its size is known when it is open
  if (!S_ISREG(facts.st_mode)) {
    return Error(ErrorCode::kPrecondition,
                 "the target " + path + " is neither a regular file nor a block device");
  }
  const auto size = static_cast<std::uint64_t>(facts.st_size);
  if (size != size_bytes) {
    return Error(ErrorCode::kPrecondition, "the target " + path + " exists and is too " +
                                               (size < size_bytes ? "small" : "large") + ": " +
                                               std::to_string(size) + " bytes, the disk has " +
                                               std::to_string(size_bytes) +
                                               ": remove it, or name another file");
  }
  return check_space(plan, &facts);
}

/// Nobody needs what the target holds, by the stamp beside it.
Status check_owner(const TargetPlan& plan) {
  if (plan.returning) {
    if (plan.owners != nullptr) return plan.owners->check_return(move_of(plan));
    return Error(ErrorCode::kPrecondition, "a copy without a daemon cannot return anywhere");
  }
  if (plan.owners == nullptr) return {};
  if (plan.target.kind != StoreUri::Kind::kFile) {
    return check_not_anothers(plan.target, plan.lives);
  }
  if (plan.settling) return plan.owners->check_merge(move_of(plan));
  const auto stamp = read_stamp(plan.target.path);
  if (!stamp) {
    const ErrorCode code = stamp.error().code();
    // There is no such file yet, or none that can have a stamp; the rest is said when it is opened.
    const bool damaged = code == ErrorCode::kProtocol || code == ErrorCode::kPrecondition;
    return damaged ? Status(stamp.error()) : check_not_anothers(plan.target, plan.lives);
  }
  const Claimant who = plan.owners->claimant(plan.disk, plan.target, plan.epoch);
  // The disk's own, from before: what a record says of another disk there is older.
  const bool own = *stamp && (*stamp)->owner == who.owner && (*stamp)->disk == who.disk;
  const Status unknown = own ? Status() : check_not_anothers(plan.target, plan.lives);
  if (!unknown) return unknown;
  const auto judged = judge_target(*stamp, who);
  if (judged.ok()) return {};
  // One that lives says so better.
  const UniqueFd fd(::open(plan.target.path.c_str(), O_RDWR | O_CLOEXEC));
  const Status locked = fd ? lock_image(fd.get(), plan.target.path, false) : Status();
  return locked.ok() ? judged.error() : locked;
}

/// What went wrong first, and the end of the device that came of it.
Error besides(const Error& error, const Status& closed) {
  if (closed) return error;
  return Error(error.code(), error.message() + "; and " + closed.error().message(),
               error.os_errno());
}

/// The inode and when it was made: another file of that name has another.
std::string identity_of(const std::string& path) {
  struct statx facts {};
  if (statx(AT_FDCWD, path.c_str(), 0, STATX_INO | STATX_BTIME, &facts) != 0) return "unknown";
  return "inode " + std::to_string(facts.stx_ino) + " of " +
         std::to_string(facts.stx_btime.tv_sec) + "." + std::to_string(facts.stx_btime.tv_nsec);
}

}  // namespace

StoreOwners::Move move_of(const TargetPlan& plan) {
  return {plan.disk,      plan.source,  plan.target,  plan.epoch,
          plan.returning, plan.resumed, plan.settling};
}

StoreUri resolve_target(const TargetPlan& plan) {
  struct stat facts {};
  if (plan.target.kind != StoreUri::Kind::kFile || stat(plan.target.path.c_str(), &facts) != 0 ||
      !S_ISDIR(facts.st_mode)) {
    return plan.target;
  }
  const std::string name = plan.source.kind == StoreUri::Kind::kFile
                               ? std::filesystem::path(plan.source.path).filename().string()
                               : plan.disk;
  const auto path = std::filesystem::path(plan.target.path) / name;
  const Result<StoreUri> resolved = parse_store_uri("file://" + percent_encode_path(path.string()));
  return resolved.ok() ? *resolved : plan.target;
}

Status check_target(const TargetPlan& plan, std::uint64_t size_bytes) {
  if (plan.target.kind == StoreUri::Kind::kNull) {
    return Error(ErrorCode::kPrecondition,
                 "the target " + plan.target.text +
                     " keeps nothing: name a file, a block device or an NBD export");
  }
  if (stores_overlap(plan.target, plan.source)) {
    return Error(ErrorCode::kPrecondition, "the target " + plan.target.text +
                                               " is the store that disk '" + plan.disk +
                                               "' lives on already: name another one");
  }
  if (is_own_address(plan.target, plan.own_addresses)) {
    return Error(ErrorCode::kPrecondition,
                 "the target " + plan.target.text +
                     " is an export of this daemon itself: name the store behind it");
  }
  const Status unused = check_unused(plan.target, plan.uses);
  if (!unused) return unused;
  const Status ownable = check_owner(plan);
  if (!ownable) return ownable;
  if (plan.target.kind == StoreUri::Kind::kFile) return check_file_target(plan, size_bytes);
  return {};
}

Task<Result<std::unique_ptr<BlockDevice>>> UriTarget::open(std::uint64_t size_bytes) {
  const Status checked =
      co_await offload(loop_, [this, size_bytes] { return check_target(plan_, size_bytes); });
  if (!checked) co_return checked.error();
  Result<std::unique_ptr<BlockDevice>> opened = co_await open_target_store(size_bytes);
  if (!opened) co_return opened.error();
  std::unique_ptr<BlockDevice> device = *std::move(opened);
  Status fits = check_fits(plan_.disk_info, device->info());
  as_left_ = co_await offload(loop_, [this] {
    // Where nothing tells one content from another, nobody knows.
    return !plan_.as_left ||
           (!plan_.as_left->empty() && *plan_.as_left == image_identity(plan_.target.text));
  });
  if (plan_.target.kind == StoreUri::Kind::kFile) {
    identity_ = co_await offload(loop_, [this] { return identity_of(plan_.target.path); });
    if (fits.ok()) {
      const Status claimed = co_await claim();
      fits = claimed;
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
  if (!exists) {
    options.create_size_bytes = size_bytes;
    options.exclusive_create = true;
  }
  Result<std::unique_ptr<BlockDevice>> opened = co_await open_file_device(loop_, path, options);
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

Task<Status> UriTarget::check_place() {
  if (!file_) co_return Status();
  const bool in_place = co_await offload(loop_, [this] { return is_in_place(); });
  if (in_place) co_return Status();
  co_return Error(ErrorCode::kPrecondition,
                  "the target " + plan_.target.path +
                      " is not the file any more that was written: somebody has removed or "
                      "replaced it");
}

/// The file is open, and so locked by its device.
Task<Status> UriTarget::claim() {
  if (plan_.owners == nullptr) co_return Status();
  const StoreOwners::Move moving = move();
  const auto token = co_await plan_.owners->claim_target(moving);
  if (!token) co_return token.error();
  claimed_ = true;
  // What was recorded about it before somebody else had it is not believed.
  if (*token != 0) identity_ += ", use " + std::to_string(*token);
  co_return Status();
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
  co_await plan_.owners->confirm(moving, source_needed);
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
