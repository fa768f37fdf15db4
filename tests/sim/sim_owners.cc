// SPDX-License-Identifier: Apache-2.0
#include "sim_owners.h"

#include <optional>

namespace blockmig::sim {
namespace {

constexpr const char* kOwner = "this folder";
constexpr const char* kDisk = "disk";

Claimant claimant(const std::string& owner, const std::string& store, std::uint64_t epoch,
                  bool known) {
  Claimant who;
  who.owner = owner;
  who.disk = kDisk;
  who.image = store;
  who.epoch = epoch;
  who.known = known;
  return who;
}

}  // namespace

OwnerStamp SimOwners::stamp(StampState state, std::uint64_t epoch, const std::string& other) const {
  OwnerStamp made;
  made.state = state;
  made.owner = kOwner;
  made.disk = kDisk;
  made.epoch = epoch;
  made.other_uri = other;
  return made;
}

Task<void> SimOwners::set(std::string store, StampState state, std::uint64_t epoch,
                          std::string other) {
  if (!alive) co_return;
  const Duration wait = std::chrono::microseconds(random_.between(10, 3000));
  co_await sleep_for(loop_, wait);
  if (!alive && random_.chance(1, 2)) co_return;
  stamps_[store] = stamp(state, epoch, other);
  on_change();
}

std::string SimOwners::restart(const std::string& store, std::uint64_t epoch) {
  for (const auto& [name, there] : stamps_) {
    const bool known = name == store;
    const auto own = judge_serve(there, claimant(kOwner, name, epoch, known));
    if (own.ok() != known) {
      return known ? "the owner is refused its own store: " + own.error().message()
                   : "the owner would serve " + name + ", but the disk is on " + store;
    }
    if (judge_serve(there, claimant("another folder", name, 1, false)).ok()) {
      return "another daemon would get " + name;
    }
  }
  for (auto& [name, there] : stamps_) {
    const bool was_current =
        there.state == StampState::kCurrent || there.state == StampState::kMoving;
    if (name != store && was_current) there = stamp(StampState::kLeft, epoch, store);
  }
  stamps_[store] = stamp(StampState::kCurrent, epoch, "");
  return {};
}

std::string SimOwners::judge(const std::string& owner) const {
  for (const auto& [name, there] : stamps_) {
    if (there.state == StampState::kCurrent && name != owner) {
      return name + " says that the disk lives there, the journal says on " + owner;
    }
  }
  return {};
}

std::string SimOwners::judge_at_rest(const std::string& owner) const {
  const auto own = stamps_.find(owner);
  if (own == stamps_.end() || own->second.state != StampState::kCurrent) {
    return "the disk lives on " + owner + ", and nothing there says so";
  }
  for (const auto& [name, there] : stamps_) {
    if (there.state == StampState::kMoving)
      return name + " still says that a switchover is under way";
  }
  return judge(owner);
}

Task<Result<std::unique_ptr<BlockDevice>>> StampedOpener::open(std::uint64_t size_bytes) {
  auto opened = co_await inner_->open(size_bytes);
  if (opened.ok()) co_await owners_.set(target_, StampState::kTarget, epoch_, source_);
  co_return std::move(opened);
}

Task<Status> StampedOpener::announce_switch() {
  if (announced_) co_return Status();
  announced_ = true;
  co_await owners_.set(target_, StampState::kTaking, epoch_, source_);
  co_await owners_.set(source_, StampState::kMoving, epoch_ - 1, target_);
  co_return Status();
}

Task<void> StampedOpener::confirm_switch(bool source_needed) {
  co_await owners_.set(target_, StampState::kCurrent, epoch_, "");
  const StampState left = source_needed ? StampState::kBase : StampState::kLeft;
  co_await owners_.set(source_, left, epoch_, target_);
}

Task<void> StampedOpener::withdraw_switch() {
  if (!announced_) co_return;
  announced_ = false;
  co_await owners_.set(source_, StampState::kCurrent, epoch_ - 1, "");
  co_await owners_.set(target_, StampState::kTarget, epoch_, source_);
}

}  // namespace blockmig::sim
