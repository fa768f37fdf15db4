// SPDX-License-Identifier: Apache-2.0
// DiskSet: the disks of one daemon, which are the exports that its NBD server shows.
//
// A name is reserved before its store is opened, so that two requests cannot add the same disk.
// Lifecycle: close_all() before destruction. Thread rule: the loop.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "nbdserver/export.h"
#include "tools/daemon/served_disk.h"
#include "tools/daemon/store_owners.h"

namespace blockmig {

class DiskSet final : public ExportDirectory {
 public:
  /// Holds a name until it is destroyed or turned into a disk by add().
  class Reservation final {
   public:
    Reservation(DiskSet& set, std::string name) : set_(&set), name_(std::move(name)) {}
    Reservation(Reservation&& other) noexcept
        : set_(std::exchange(other.set_, nullptr)), name_(std::move(other.name_)) {}
    Reservation& operator=(Reservation&&) = delete;
    ~Reservation() {
      if (set_ != nullptr) set_->reserved_.erase(name_);
    }

   private:
    DiskSet* set_;
    std::string name_;
  };

  /// Told when a disk's store was closed in order; null: nobody is.
  void set_owners(StoreOwners* owners) { owners_ = owners; }

  std::vector<std::shared_ptr<Export>> list() override;
  std::shared_ptr<Export> find(std::string_view name) override;
  bool is_late(std::string_view name) override;

  const std::vector<std::shared_ptr<ServedDisk>>& disks() const { return disks_; }
  /// Not among these any more, and not closed yet.
  const std::vector<std::shared_ptr<ServedDisk>>& closing() const { return closing_; }
  /// Called when nobody writes to a disk any more, before it goes.
  void set_on_closed(std::function<Task<void>(Disk&)> told) { on_closed_ = std::move(told); }
  /// Who knows of disks that are wanted, and not served yet; of no name: that there are any. Null:
  /// nobody does.
  void set_late(std::function<bool(const std::string& name)> is_late) {
    is_late_ = std::move(is_late);
  }
  /// Of a disk that is served or being closed; 0: there is none.
  std::uint64_t epoch_of(const std::string& name) const;
  /// kNotFound, naming the disks that there are; kBusy: it is being added.
  Result<std::shared_ptr<ServedDisk>> get(const std::string& name) const;
  /// kBusy: there is such a disk, or one is being added.
  Result<Reservation> reserve(const std::string& name);
  /// The caller holds the reservation of its name.
  void add(std::shared_ptr<ServedDisk> disk);
  /// Undoes an add(): the disk is the caller's again, to close.
  void withdraw(const std::string& name);
  /// Closes the disk (its clients' later requests fail with kShutdown) and forgets it.
  Task<Status> remove(std::string name);
  /// Every disk; the first error.
  Task<Status> close_all();

 private:
  bool closes(const std::string& name) const;

  /// Null: there is none.
  std::shared_ptr<ServedDisk> look_up(std::string_view name) const;

  std::vector<std::shared_ptr<ServedDisk>> disks_;  ///< in the order in which they came
  std::map<std::string, std::shared_ptr<ServedDisk>, std::less<>> by_name_;  ///< the same
  std::vector<std::shared_ptr<ServedDisk>> closing_;
  std::function<Task<void>(Disk&)> on_closed_;
  std::function<bool(const std::string& name)> is_late_;
  std::set<std::string> reserved_;
  StoreOwners* owners_ = nullptr;
};

}  // namespace blockmig
