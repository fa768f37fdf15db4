// SPDX-License-Identifier: Apache-2.0
// ServedDisk: one disk of the daemon, as an NBD export.
// Lifecycle: shared by the DiskSet and the sessions of clients; close the disk before the last one
// goes. Thread rule: the loop.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "blockmig/block/store_health.h"
#include "blockmig/disk/bitmap_keeper.h"
#include "blockmig/disk/disk.h"
#include "blockmig/disk/disk_lane.h"
#include "blockmig/migrate/hydrating_device.h"
#include "blockmig/migrate/return_record.h"
#include "nbdserver/export.h"
#include "tools/control/messages.h"

namespace blockmig {

class ServedDisk final : public Export {
 public:
  ServedDisk(std::unique_ptr<Disk> disk, Journal& journal, std::string description, bool read_only,
             std::string previous_uri)
      : disk_(std::move(disk)),
        journal_(journal),
        bitmaps_(disk_->loop(), journal, *disk_, kBitmapCheckpointInterval),
        description_(std::move(description)),
        previous_uri_(std::move(previous_uri)),
        last_store_uri_(disk_->store_uri()),
        read_only_(read_only) {}

  const std::string& name() const override { return disk_->name(); }
  const std::string& description() const override { return description_; }
  bool read_only() const override { return read_only_; }
  BlockDevice& device() override { return *disk_; }
  /// Those of users; what mode `return` keeps is nobody else's.
  std::vector<std::string> bitmap_names() const override {
    std::vector<std::string> names = disk_->tracking().names();
    std::erase_if(names, is_return_record);
    return names;
  }
  const DirtyBitmap* find_bitmap(std::string_view bitmap) const override {
    return is_return_record(bitmap) ? nullptr : disk_->tracking().find(bitmap);
  }

  std::vector<DirtyBitmap::Run> absent_runs(ByteRange range, std::size_t max_runs) const override {
    const auto* const hydrating = hydrating_layer(*disk_);
    if (hydrating == nullptr) return Export::absent_runs(range, max_runs);
    return hydrating->map().runs(range, max_runs);
  }

  Identities identities() const override {
    Identities all;
    add_identity(all, identity_);
    add_identities(all, identities_of(disk_->store()));
    return all;
  }

  /// One per loop, for as long as it has connections.
  std::shared_ptr<BlockDevice> open_lane(EventLoop& other) override {
    std::weak_ptr<DiskLane>& known = lanes_[&other];
    std::shared_ptr<DiskLane> lane = known.lock();
    if (lane == nullptr) known = lane = std::make_shared<DiskLane>(*disk_, other);
    return lane;
  }

  /// What clients are told that it is (disk_identity()).
  void identify(std::string identity) { identity_ = std::move(identity); }
  const std::string& identity() const { return identity_; }
  /// How it was asked for, to ask for it again.
  void remember(ServeRequest request) { request_ = std::move(request); }
  const ServeRequest& request() const { return request_; }

  /// A move of the disk to `target_uri` is suspended: close() notes what both stores are.
  void leave_move(std::string target_uri) { suspended_target_ = std::move(target_uri); }
  /// Ends what is under way, records its bitmaps as they are, and closes the store.
  Task<Status> close();

  BitmapKeeper& bitmaps() { return bitmaps_; }
  const BitmapKeeper& bitmaps() const { return bitmaps_; }
  Disk& disk() { return *disk_; }
  const Disk& disk() const { return *disk_; }
  /// The store before the last switchover; empty if it never moved.
  const std::string& previous_uri() {
    if (disk_->store_uri() != last_store_uri_) {
      previous_uri_ = std::exchange(last_store_uri_, disk_->store_uri());
    }
    return previous_uri_;
  }

 private:
  Task<Status> note_suspended_move(std::string source_identity);

  std::unique_ptr<Disk> disk_;
  Journal& journal_;
  BitmapKeeper bitmaps_;
  std::map<const EventLoop*, std::weak_ptr<DiskLane>> lanes_;
  std::string description_;
  std::string identity_;
  std::string previous_uri_;
  std::string last_store_uri_;
  bool read_only_;
  ServeRequest request_;
  std::optional<std::string> suspended_target_;
};

}  // namespace blockmig
