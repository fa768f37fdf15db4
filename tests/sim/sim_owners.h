// SPDX-License-Identifier: Apache-2.0
// SimOwners: the stamps beside the stores of a world, in simulated time; they outlive their daemon.
// StampedOpener: a job's opener that keeps them, as UriTarget does.
//
// At every change of a stamp, and of the journal, the world asks whether what the stamps say to
// everybody is what the journal has decided (I3).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "blockmig/base/random.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/journal/owner_rules.h"
#include "blockmig/migrate/target_opener.h"

namespace blockmig::sim {

class SimOwners final {
 public:
  SimOwners(EventLoop& loop, Random& random) : loop_(loop), random_(random) {}

  /// False: its daemon has crashed. A change that was under way happens or not; nothing else does.
  bool alive = true;
  std::function<void()> on_change;

  Task<void> set(std::string store, StampState state, std::uint64_t epoch, std::string other);
  /// The daemon that starts on `store` after a crash, as its journal says. What is wrong with the
  /// stamps, if anything: it must be let in there, and nobody else anywhere.
  std::string restart(const std::string& store, std::uint64_t epoch);
  /// What is wrong now, if anything, where the journal says that the disk is on `owner`.
  std::string judge(const std::string& owner) const;
  /// Also at rest: nothing is left undecided.
  std::string judge_at_rest(const std::string& owner) const;

 private:
  OwnerStamp stamp(StampState state, std::uint64_t epoch, const std::string& other) const;

  EventLoop& loop_;
  Random& random_;
  std::map<std::string, OwnerStamp> stamps_;
};

class StampedOpener final : public TargetOpener {
 public:
  /// Names without "sim:". `epoch`: of the disk at the target.
  StampedOpener(std::unique_ptr<TargetOpener> inner, SimOwners& owners, std::string source,
                std::string target, std::uint64_t epoch)
      : inner_(std::move(inner)),
        owners_(owners),
        source_(std::move(source)),
        target_(std::move(target)),
        epoch_(epoch) {}

  const std::string& uri() const override { return inner_->uri(); }
  Task<Result<std::unique_ptr<BlockDevice>>> open(std::uint64_t size_bytes) override;
  std::string identity() const override { return inner_->identity(); }
  void generation_begins(std::uint64_t number) override { inner_->generation_begins(number); }
  Task<Status> generation_complete(std::uint64_t number) override {
    return inner_->generation_complete(number);
  }
  BitmapKeeper* bitmaps() override { return inner_->bitmaps(); }
  DataAtRest* data_at_rest() override { return inner_->data_at_rest(); }
  Task<void> discard() override { return inner_->discard(); }
  Task<Status> announce_switch() override;
  Task<void> confirm_switch(bool source_needed) override;
  Task<void> withdraw_switch() override;

 private:
  std::unique_ptr<TargetOpener> inner_;
  SimOwners& owners_;
  std::string source_;
  std::string target_;
  std::uint64_t epoch_;
  bool announced_ = false;
};

}  // namespace blockmig::sim
