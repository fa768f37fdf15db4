// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/disk_set.h"

#include <algorithm>
#include <utility>

namespace blockmig {
namespace {

constexpr std::size_t kNamesInMessage = 20;

}  // namespace

std::vector<std::shared_ptr<Export>> DiskSet::list() { return {disks_.begin(), disks_.end()}; }

std::shared_ptr<Export> DiskSet::find(std::string_view name) {
  if (name.empty() && disks_.size() == 1) return disks_.front();
  return look_up(name);
}

bool DiskSet::is_late(std::string_view name) {
  if (name.empty() && !disks_.empty()) return false;
  return is_late_ && is_late_(std::string(name));
}

std::shared_ptr<ServedDisk> DiskSet::look_up(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

std::uint64_t DiskSet::epoch_of(const std::string& name) const {
  if (const auto disk = look_up(name)) return disk->disk().epoch();
  const auto closing = std::find_if(closing_.begin(), closing_.end(),
                                    [&name](const auto& disk) { return disk->name() == name; });
  return closing == closing_.end() ? 0 : (*closing)->disk().epoch();
}

Result<std::shared_ptr<ServedDisk>> DiskSet::get(const std::string& name) const {
  if (auto disk = look_up(name)) return disk;
  if (reserved_.contains(name) && !closes(name)) {
    return Error(ErrorCode::kBusy,
                 "disk '" + name + "' is being added: it is there when its store has answered");
  }
  if (is_late_ && is_late_(name)) {
    return Error(ErrorCode::kNotFound, "disk '" + name +
                                           "' is late: it is served as soon as its store is there, "
                                           "which the log says more of");
  }
  std::string known;
  for (std::size_t i = 0; i < std::min(disks_.size(), kNamesInMessage); ++i) {
    known += (known.empty() ? "" : ", ") + disks_[i]->name();
  }
  if (disks_.size() > kNamesInMessage) {
    known += " and " + std::to_string(disks_.size() - kNamesInMessage) + " more";
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
  if (const auto disk = look_up(name)) {
    return Error(ErrorCode::kBusy, "disk '" + name + "' is served already, from " +
                                       disk->disk().store_uri() +
                                       ": detach it first, or choose another name");
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

void DiskSet::add(std::shared_ptr<ServedDisk> disk) {
  by_name_[disk->name()] = disk;
  disks_.push_back(std::move(disk));
}

void DiskSet::withdraw(const std::string& name) {
  std::erase_if(disks_, [&](const auto& disk) { return disk->name() == name; });
  by_name_.erase(name);
}

Task<Status> DiskSet::remove(std::string name) {
  const std::shared_ptr<ServedDisk> disk = look_up(name);
  if (!disk) co_return Error(ErrorCode::kNotFound, "no such disk: '" + name + "'");
  // The name stays taken until the store is closed: a new disk of that name must find its lock
  // free.
  reserved_.insert(name);
  withdraw(name);
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
