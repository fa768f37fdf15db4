// SPDX-License-Identifier: Apache-2.0
// SimOpener: opens a store of a world as a job's target, after a while.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "blockmig/base/random.h"
#include "blockmig/block/shared_device.h"
#include "blockmig/migrate/target_opener.h"
#include "sim_at_rest.h"

namespace blockmig::sim {

class SimOpener final : public TargetOpener {
 public:
  SimOpener(EventLoop& loop, Random& random, std::shared_ptr<FaultDevice> device,
            std::shared_ptr<FaultDevice> source, SimManifest& manifest)
      : loop_(loop),
        random_(random),
        device_(std::move(device)),
        at_rest_(loop, std::move(source), manifest),
        uri_("sim:" + device_->info().name) {}
  const std::string& uri() const override { return uri_; }
  Task<Result<std::unique_ptr<BlockDevice>>> open(std::uint64_t) override {
    const Duration wait = std::chrono::microseconds(random_.between(1, 20000));
    co_await sleep_for(loop_, wait);
    if (away > 0) {
      --away;
      co_return Error(ErrorCode::kDisconnected, uri_ + " is away");
    }
    std::unique_ptr<BlockDevice> opened = std::make_unique<SharedDevice>(device_, mute, closed_);
    co_return opened;
  }
  Task<void> discard() override {
    discards(*closed_);
    co_return;
  }
  BitmapKeeper* bitmaps() override { return keeper; }
  DataAtRest* data_at_rest() override { return &at_rest_; }
  void generation_begins(std::uint64_t) override { begins(); }
  Task<Status> generation_complete(std::uint64_t) override {
    completes();
    co_return Status();
  }
  BitmapKeeper* keeper = nullptr;
  unsigned away = 0;                          ///< so often it cannot be opened
  bool mute = false;                          ///< the target cannot say what it has allocated
  std::function<void(bool closed)> discards;  ///< `closed`: the target was given up already
  std::function<void()> begins;
  std::function<void()> completes;

 private:
  EventLoop& loop_;
  Random& random_;
  std::shared_ptr<FaultDevice> device_;
  std::shared_ptr<bool> closed_ = std::make_shared<bool>(false);
  SimAtRest at_rest_;
  std::string uri_;
};

}  // namespace blockmig::sim
