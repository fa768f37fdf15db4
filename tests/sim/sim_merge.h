// SPDX-License-Identifier: Apache-2.0
// SimFolder, SimFolderImage, SimMerge: an image in a folder of the simulation with the manifest
// beside it, as its owner and as a stranger see it.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "blockmig/base/random.h"
#include "blockmig/io/cancel.h"
#include "blockmig/migrate/rest_merge.h"
#include "blockmig/migrate/target_opener.h"
#include "mortal.h"
#include "sharedfs/image_scan.h"
#include "sharedfs/image_source.h"
#include "sharedfs/manifest.h"

namespace blockmig::sim {

/// What outlives daemons: the image, and the manifest, which is replaced whole.
struct SimFolder {
  std::shared_ptr<FaultDevice> image;
  std::shared_ptr<const Manifest> manifest;
  /// The image's time is still that of the manifest: nobody has written to it, or a power loss has
  /// taken the time back.
  bool time_as_left = true;
  /// The image was changed while the manifest did not say so.
  bool changed_unsaid = false;
};

class SimFolderImage final : public ImageSource {
 public:
  SimFolderImage(SimFolder& folder, FolderImage::Expected expected, std::shared_ptr<Life> life)
      : folder_(folder), expected_(std::move(expected)), life_(std::move(life)) {}
  const std::string& name() const override { return name_; }
  Task<Result<std::unique_ptr<BlockDevice>>> open() override {
    const Status meant = co_await check();
    if (!meant.ok()) co_return meant.error();
    std::unique_ptr<BlockDevice> opened = std::make_unique<MortalDevice>(folder_.image, life_);
    co_return opened;
  }
  Task<Status> check() override {
    const Manifest& found = *folder_.manifest;
    if (FolderImage::is_meant(expected_, found.generation, found.owner, found.owner_epoch)) {
      co_return Status();
    }
    co_return Error(ErrorCode::kMismatch, "somebody else has used the image");
  }

 private:
  SimFolder& folder_;
  FolderImage::Expected expected_;
  std::shared_ptr<Life> life_;
  std::string name_ = "image at rest";
};

/// The job's target: notes that the image changes.
class SimImageTarget final : public BlockDevice, public StoreHealth {
 public:
  SimImageTarget(EventLoop& loop, SimFolder& folder, std::shared_ptr<Life> life)
      : loop_(loop), folder_(folder), life_(life), device_(folder.image, std::move(life)) {}
  const DeviceInfo& info() const override { return device_.info(); }
  Task<Status> read(std::uint64_t offset, MutableBytes into) override {
    return device_.read(offset, into);
  }
  Task<Status> write(std::uint64_t offset, ConstBytes from, WriteFlags flags) override {
    touch();
    return device_.write(offset, from, flags);
  }
  Task<Status> flush() override { return device_.flush(); }
  Task<Status> trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) override {
    touch();
    return device_.trim(offset, length, flags);
  }
  Task<Status> write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroFlags flags) override {
    touch();
    return device_.write_zeroes(offset, length, flags);
  }
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length) override {
    return device_.extents(offset, length);
  }
  std::optional<Error> lost() const override { return device_.lost(); }
  /// Opened anew by this user; those who fetch from it go on.
  Task<Status> revive() override {
    while (folder_.image->in_flight() > 0) co_await sleep_for(loop_, std::chrono::microseconds(50));
    const Status revived = co_await device_.revive();
    co_return revived;
  }
  Task<Status> close() override { return device_.close(); }

 private:
  void touch() {
    if (life_->over) return;
    folder_.time_as_left = false;
    const Manifest& manifest = *folder_.manifest;
    // Nobody's: it describes an image that a disk runs from again.
    if (!manifest.changing && manifest.owner_epoch != 0) folder_.changed_unsaid = true;
  }
  EventLoop& loop_;
  SimFolder& folder_;
  std::shared_ptr<Life> life_;
  MortalDevice device_;
};

class SimMerge final : public RestMerge {
 public:
  SimMerge(EventLoop& loop, Random& random, SimFolder& folder, std::shared_ptr<Life> life)
      : loop_(loop), random_(random), folder_(folder), life_(std::move(life)) {}

  Task<Result<Facts>> look(const HydrationRecord& rest) override {
    const Manifest& found = *folder_.manifest;
    const FolderImage::Expected expected{rest.base_generation, 0, found.size_bytes(), rest.disk,
                                         rest.epoch};
    if (!FolderImage::is_meant(expected, found.generation, found.owner, found.owner_epoch)) {
      co_return Error(ErrorCode::kMismatch, "another generation");
    }
    Facts facts;
    facts.digests =
        std::shared_ptr<const ChunkDigests>(folder_.manifest, &folder_.manifest->digests);
    facts.changing = found.changing;
    co_return facts;
  }
  Task<Result<bool>> check(BlockDevice& image, const PresenceMap& map, bool read_all,
                           CancelSource& cancel) override {
    const bool as_left = folder_.time_as_left;
    if (as_left && !read_all) co_return true;
    const Manifest& manifest = *folder_.manifest;
    const auto rests = [&map](std::uint64_t chunk) {
      return !map.is_present(chunk * ChunkDigests::kChunkBytes / map.granularity_bytes());
    };
    ChunkDigests found(manifest.size_bytes());
    ScanOptions scan;
    scan.cancel = &cancel;
    scan.wanted = rests;
    const Status scanned = co_await scan_image(loop_, image, found, std::move(scan));
    if (!scanned.ok()) co_return scanned.error();
    for (std::uint64_t chunk = 0; chunk < manifest.digests.chunk_count(); ++chunk) {
      if (rests(chunk) && found.find(chunk) != manifest.digests.find(chunk)) {
        co_return Error(ErrorCode::kMismatch, "data at rest has changed");
      }
    }
    co_return as_left;
  }
  Task<Status> begin() override {
    Manifest next = copy_of(*folder_.manifest);
    ++next.generation;
    next.changing = true;
    const Status published = co_await publish(std::move(next));
    co_return published;
  }
  Task<Status> finish(const ChunkDigests* digests, std::function<bool()> untouched) override {
    Manifest next(folder_.manifest->size_bytes());
    next.generation = folder_.manifest->generation + 1;
    if (digests != nullptr) {
      next.digests = ChunkDigests(*digests);
    } else {
      next.digests.invalidate(0, next.size_bytes());
    }
    next.image.modified_ns = untouched() ? 1 : 0;
    const Status published = co_await publish(std::move(next));
    co_return published;
  }

 private:
  static Manifest copy_of(const Manifest& manifest) {
    Manifest copy(manifest.size_bytes());
    copy.generation = manifest.generation;
    copy.owner = manifest.owner;
    copy.owner_epoch = manifest.owner_epoch;
    copy.changing = manifest.changing;
    copy.digests = ChunkDigests(manifest.digests);
    return copy;
  }
  /// It may have happened when its daemon dies.
  Task<Status> publish(Manifest next) {
    const Duration before = std::chrono::microseconds(random_.between(1, 3000));
    co_await sleep_for(loop_, before);
    if (life_->over) co_return Error(ErrorCode::kDisconnected, "the daemon is dead");
    folder_.manifest = std::make_shared<const Manifest>(std::move(next));
    const Duration after = std::chrono::microseconds(random_.between(1, 3000));
    co_await sleep_for(loop_, after);
    co_return Status();
  }

  EventLoop& loop_;
  Random& random_;
  SimFolder& folder_;
  std::shared_ptr<Life> life_;
};

class SimMergeOpener final : public TargetOpener {
 public:
  SimMergeOpener(EventLoop& loop, Random& random, SimFolder& folder, std::shared_ptr<Life> life)
      : loop_(loop), folder_(folder), life_(life), merge_(loop, random, folder, std::move(life)) {}
  const std::string& uri() const override { return uri_; }
  Task<Result<std::unique_ptr<BlockDevice>>> open(std::uint64_t) override {
    std::unique_ptr<BlockDevice> opened = std::make_unique<SimImageTarget>(loop_, folder_, life_);
    if (!folder_.image->flush_failed()) co_return opened;
    const Status anew = co_await opened->revive();
    if (!anew.ok()) co_return anew.error();
    co_return opened;
  }
  Task<void> discard() override { co_return; }
  RestMerge* rest_merge() override { return &merge_; }

 private:
  EventLoop& loop_;
  SimFolder& folder_;
  std::shared_ptr<Life> life_;
  SimMerge merge_;
  std::string uri_ = "sim:image";
};

}  // namespace blockmig::sim
