// SPDX-License-Identifier: Apache-2.0
// SimAtRest: a folder of the simulation: what mode `shared` leaves there is read through a real
// SharedImage, which checks every chunk.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "blockmig/block/fault_device.h"
#include "blockmig/block/shared_device.h"
#include "blockmig/migrate/data_at_rest.h"
#include "sharedfs/image_source.h"
#include "sharedfs/rest_digests.h"
#include "sharedfs/shared_image.h"

namespace blockmig::sim {

class SimImageSource final : public ImageSource {
 public:
  explicit SimImageSource(std::shared_ptr<FaultDevice> image) : image_(std::move(image)) {}
  const std::string& name() const override { return name_; }
  Task<Result<std::unique_ptr<BlockDevice>>> open() override {
    std::unique_ptr<BlockDevice> opened = std::make_unique<SharedDevice>(image_);
    co_return opened;
  }
  Task<Status> check() override { co_return Status(); }

 private:
  std::shared_ptr<FaultDevice> image_;
  std::string name_ = "image at rest";
};

/// What is beside an image, and outlives the daemon.
struct SimManifest {
  std::shared_ptr<ChunkDigests> digests;  ///< null: there is none
  bool changing = false;                  ///< true only of what is at rest
};

class SimAtRest final : public DataAtRest {
 public:
  SimAtRest(EventLoop& loop, std::shared_ptr<FaultDevice> image, SimManifest& manifest)
      : loop_(loop), image_(std::move(image)), manifest_(manifest) {}

  Task<Status> hash(BlockDevice& store, const DirtyBitmap& rest, CancelSource& cancel) override {
    store_ = &store;
    digests_.emplace(loop_, rest.size_bytes());
    const Status hashed = co_await digests_->hash(store, rest, cancel);
    co_return hashed;
  }
  Task<Status> prepare(const DirtyBitmap& rest, const std::string&, std::uint64_t) override {
    auto described = co_await digests_->describe(*store_, rest);
    if (!described.ok()) co_return described.error();
    described_ = *std::move(described);
    co_return Status();
  }
  Task<Status> publish() override {
    co_await discard();
    manifest_ = {described_, true};
    const Status opened = co_await open_base();
    co_return opened;
  }
  Task<Status> complete(BlockDevice& image, const DirtyBitmap& rest) override {
    auto described = co_await digests_->describe(image, rest);
    if (!described.ok()) co_return described.error();
    manifest_ = {*std::move(described), false};
    co_return Status();
  }
  /// The image as its manifest describes it; then take_base().
  Task<Status> open_base() {
    auto image = std::make_unique<SharedImage>(loop_, std::make_unique<SimImageSource>(image_),
                                               manifest_.digests, SharedImageOptions{});
    const Status opened = co_await image->open();
    if (opened.ok()) base_ = std::move(image);
    co_return opened;
  }
  std::uint64_t generation() const override { return 1; }
  const ChunkDigests* digests() const override { return described_.get(); }
  std::unique_ptr<BlockDevice> take_base() override { return std::move(base_); }
  Task<Status> withdraw() override {
    if (manifest_.changing) manifest_ = {};
    co_return Status();
  }
  Task<void> discard() override {
    if (!base_) co_return;
    const Status closed = co_await base_->close();
    static_cast<void>(closed);
    base_.reset();
  }

 private:
  EventLoop& loop_;
  std::shared_ptr<FaultDevice> image_;
  SimManifest& manifest_;
  BlockDevice* store_ = nullptr;
  std::optional<RestDigests> digests_;
  std::shared_ptr<ChunkDigests> described_;
  std::unique_ptr<SharedImage> base_;
};

}  // namespace blockmig::sim
