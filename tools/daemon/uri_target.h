// SPDX-License-Identifier: Apache-2.0
// UriTarget: a migration's target that a user named by URI.
//
// Everything that can be checked is checked before anything changes: the same store as the source,
// use by another disk or program, too small, no room, no such folder. A file that does not exist is
// created sparse with the disk's size and removed again by discard(); an existing one is written
// over but neither created, resized nor removed. Thread rule: the loop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "blockmig/base/uri.h"
#include "blockmig/block/file_device.h"
#include "blockmig/io/io_loop.h"
#include "blockmig/migrate/target_opener.h"
#include "tools/daemon/store_owners.h"
#include "tools/daemon/store_use.h"

namespace blockmig {

class ReconnectingDevice;

struct TargetPlan {
  StoreUri target;
  StoreUri source;
  std::string disk;
  CacheMode cache = CacheMode::kBuffered;
  DeviceInfo disk_info{};                  ///< what the disk's clients were promised
  std::vector<StoreUse> uses;              ///< by others, in this daemon
  std::vector<DiskLife> lives;             ///< other disks' by the journal that are not served
  std::vector<std::string> own_addresses;  ///< where this daemon listens
  StoreOwners* owners = nullptr;           ///< null: nothing is stamped
  std::uint64_t epoch = 0;                 ///< of the disk, once it is at the target
  BitmapKeeper* bitmaps = nullptr;         ///< the disk's
  bool returning = false;                  ///< mode `return`
  std::uint64_t record = 0;                ///< of it: record_token() of what has changed since
  bool resumed = false;                    ///< after a restart
  bool settling = false;                   ///< mode `settle`
  bool backup = false;                     ///< BackupTarget keeps the record beside it
  /// image_identity() of the target when the daemon before ended in order with this move.
  std::optional<std::string> as_left{};
  Journal* journal = nullptr;    ///< that has the notes of the move; null: there are none
  bool begun_elsewhere = false;  ///< by an earlier daemon: the file is not made anew here
  /// As DiskService::check_alias(), of the target when it is open; empty: nobody knows.
  std::function<Task<Status>(const TargetPlan& plan, const BlockDevice& device)> check_alias = {};
};

StoreOwners::Move move_of(const TargetPlan& plan);

/// If the target is an existing folder: the file of the source's name in it (of the disk's name,
/// where the source is no file). Otherwise the target itself. Blocks.
StoreUri resolve_target(const TargetPlan& plan);

/// What can be known without opening it: kPrecondition (same as the source, an export of this
/// daemon, too small, no regular file or block device), kBusy (in use here), kNotFound (folder
/// missing), kNoSpace (less room than the source has allocated). Blocks (file stores only; an NBD
/// server is never asked here).
Status check_target(const TargetPlan& plan, std::uint64_t size_bytes);

class UriTarget final : public TargetOpener {
 public:
  /// `plan.target` is resolved.
  UriTarget(IoLoop& loop, TargetPlan plan) : loop_(loop), plan_(std::move(plan)) {}

  const std::string& uri() const override { return plan_.target.text; }
  Task<Result<std::unique_ptr<BlockDevice>>> open(std::uint64_t size_bytes) override;
  void give_up() override { given_up_ = true; }
  Task<void> discard() override;
  Task<Status> check_place() override;
  Task<Status> announce_switch() override;
  Task<void> confirm_switch(bool source_needed) override;
  Task<void> withdraw_switch() override;
  Task<void> keep() override;
  std::string identity() const override { return identity_; }
  bool as_left() const override { return as_left_; }
  bool guarded() const override { return guarded_; }
  Task<Status> compared() override;
  BitmapKeeper* bitmaps() override { return plan_.bitmaps; }
  std::string new_record_id() override { return std::to_string(make_stamp_token()); }
  DataAtRest* data_at_rest() override;
  RestMerge* rest_merge() override;

 private:
  using FileId = std::pair<std::uint64_t, std::uint64_t>;  ///< device and inode

  Task<Result<std::unique_ptr<BlockDevice>>> open_target_store(std::uint64_t size_bytes);
  Task<Result<std::unique_ptr<BlockDevice>>> open_file(std::uint64_t size_bytes);
  Task<Status> remember_file(bool created);
  /// The path leads to the file that was opened. Blocks.
  bool is_in_place() const;
  /// As check_place(). Blocks.
  Status look_at_place() const;
  Task<Status> claim();
  /// claim(), and from here on it is the backup of nobody else.
  Task<Status> take_file();
  /// kCancelled: nobody wants it any more, so nothing is to be taken.
  Status check_wanted() const;
  StoreOwners::Move move() const { return move_of(plan_); }

  IoLoop& loop_;
  TargetPlan plan_;
  std::string identity_;
  bool as_left_ = true;
  bool guarded_ = true;
  std::unique_ptr<DataAtRest> at_rest_;
  std::unique_ptr<RestMerge> merge_;
  ReconnectingDevice* reconnecting_ = nullptr;  ///< the disk's store, after the switchover
  bool renewed_ = false;
  bool given_up_ = false;
  bool claimed_ = false;
  bool announced_ = false;
  bool created_ = false;  ///< file_ is our own, to be removed again
  std::optional<FileId> file_;
  std::int64_t size_bytes_ = 0;  ///< of file_
};

}  // namespace blockmig
