// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/disk_set.h"

#include <algorithm>
#include <utility>

namespace blockmig {

std::vector<std::shared_ptr<Export>> DiskSet::list() { return {disks_.begin(), disks_.end()}; }

std::shared_ptr<Export> DiskSet::find(std::string_view name) {
  if (name.empty() && disks_.size() == 1) return disks_.front();
  for (const auto& disk : disks_) {
    if (disk->name() == name) return disk;
  }
  return nullptr;
}

Result<std::shared_ptr<ServedDisk>> DiskSet::get(const std::string& name) const {
  std::string known;
  for (const auto& disk : disks_) {
    if (disk->name() == name) return disk;
    known += (known.empty() ? "" : ", ") + disk->name();
  }
  if (reserved_.contains(name) && !closes(name)) {
    return Error(ErrorCode::kBusy,
                 "disk '" + name + "' is being added: it is there when its store has answered");
  }
  return Error(ErrorCode::kNotFound,
               "no such disk: '" + name + "': " +
                   (known.empty() ? "this daemon serves none" : "this daemon serves " + known));
}

bool DiskSet::closes(const std::string& name) const {
  return std::any_of(closing_.begin(), closing_.end(),
                     [&name](const auto& disk) { return disk->name() == name; });
}

Result<DiskSet::Reservation> DiskSet::reserve(const std::string& name) {
  for (const auto& disk : disks_) {
    if (disk->name() == name) {
      return Error(ErrorCode::kBusy, "disk '" + name + "' is served already, from " +
                                         disk->disk().store_uri() +
                                         ": detach it first, or choose another name");
    }
  }
  if (closes(name)) {
    return Error(ErrorCode::kBusy, "disk '" + name +
                                       "' is being detached still: wait until its store has "
                                       "answered");
  }
  if (!reserved_.insert(name).second) {
    return Error(ErrorCode::kBusy, "disk '" + name +
                                       "' is being added already: it is there when its "
                                       "store has answered");
  }
  return Reservation(*this, name);
}

void DiskSet::add(std::shared_ptr<ServedDisk> disk) { disks_.push_back(std::move(disk)); }

void DiskSet::withdraw(const std::string& name) {
  std::erase_if(disks_, [&](const auto& disk) { return disk->name() == name; });
}

Task<Status> DiskSet::remove(std::string name) {
  const auto place = std::find_if(disks_.begin(), disks_.end(),
                                  [&](const auto& disk) { return disk->name() == name; });
  if (place == disks_.end()) co_return Error(ErrorCode::kNotFound, "no such disk: '" + name + "'");
  const std::shared_ptr<ServedDisk> disk = *place;
  // The name stays taken until the store is closed: a new disk of that name must find its lock
  // free.
  reserved_.insert(name);
  disks_.erase(place);
  closing_.push_back(disk);
  // One that still fetches from its old store is nobody else's to take.
  const bool whole = hydrating_layer(disk->disk()) == nullptr;
  const std::string store = disk->disk().store_uri();
  const Status closed = co_await disk->close();
  if (on_closed_) co_await on_closed_(disk->disk());
  std::erase(closing_, disk);
  if (closed.ok() && whole && owners_ != nullptr) {
    co_await owners_->release(name, store);
  }
  reserved_.erase(name);
  co_return closed;
}

Task<Status> DiskSet::close_all() {
  Status first;
  while (!disks_.empty()) {
    std::string name = disks_.back()->name();
    const Status closed = co_await remove(std::move(name));
    if (!closed && first.ok()) first = closed;
  }
  co_return first;
}

}  // namespace blockmig
