// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/folder_at_rest.h"

#include <utility>

#include "blockmig/base/uri.h"
#include "blockmig/io/offload.h"
#include "sharedfs/manifest_file.h"
#include "sharedfs/shared_image.h"

namespace blockmig {
namespace {

/// Of one fetch; whoever needs it asks again for as long as its own patience lasts.
constexpr Duration kFetchPatience = std::chrono::seconds(1);

Task<Result<std::unique_ptr<BlockDevice>>> open_image(IoLoop& loop, std::string path,
                                                      FolderImage::Expected expected,
                                                      std::shared_ptr<const ChunkDigests> digests) {
  SharedImageOptions options;
  options.patience = kFetchPatience;
  auto source = std::make_unique<FolderImage>(loop, std::move(path), expected);
  auto image = std::make_unique<SharedImage>(loop, std::move(source), std::move(digests), options);
  const Status opened = co_await image->open();
  if (!opened.ok()) co_return opened.error();
  std::unique_ptr<BlockDevice> device = std::move(image);
  co_return std::move(device);
}

Status release_manifest(const std::string& path, const std::string& disk) {
  Result<Manifest> manifest = load_manifest(path);
  if (!manifest) return manifest.error();
  if (manifest->owner != disk) return {};
  manifest->owner.clear();
  manifest->owner_epoch = 0;
  if (manifest->changing) {
    // What it holds beside what was at rest, nobody has written down.
    manifest->digests.invalidate(0, manifest->size_bytes());
    manifest->changing = false;
    ++manifest->generation;
  }
  return save_manifest(path, *manifest);
}

}  // namespace

Task<Status> FolderAtRest::find_generation() {
  const std::string& path = path_;
  const Result<ImageFacts> facts = co_await offload(loop_, [&path] { return look_at_image(path); });
  if (!facts) co_return facts.error();
  inode_ = facts->identity.inode;
  const Result<Manifest> found = co_await offload(loop_, [&path] { return load_manifest(path); });
  generation_ = 1;
  if (!found && found.error().code() == ErrorCode::kNotFound) co_return Status();
  if (!found) co_return found.error();
  generation_ = found->generation + 1;
  if (found->owner_epoch == 0 || found->owner == disk_) co_return Status();
  co_return Error(ErrorCode::kPrecondition, "image " + path_ + " holds data at rest of disk '" +
                                                found->owner + "': settle that disk first");
}

Task<Status> FolderAtRest::hash(BlockDevice& store, const DirtyBitmap& rest, CancelSource& cancel) {
  const Status found = co_await find_generation();
  if (!found) co_return found;
  store_ = &store;
  digests_.emplace(loop_, rest.size_bytes());
  const Status hashed = co_await digests_->hash(store, rest, cancel);
  co_return hashed;
}

Manifest FolderAtRest::make_manifest(ChunkDigests digests) const {
  Manifest manifest(digests.size_bytes());
  manifest.generation = generation_;
  manifest.owner = disk_;
  manifest.owner_epoch = epoch_;
  manifest.digests = std::move(digests);
  return manifest;
}

Task<Status> FolderAtRest::prepare(const DirtyBitmap& rest, const std::string&,
                                   std::uint64_t epoch) {
  auto described = co_await digests_->describe(*store_, rest);
  if (!described.ok()) co_return described.error();
  described_ = *std::move(described);
  epoch_ = epoch;
  Manifest manifest = make_manifest(ChunkDigests(*described_));
  // The guest is writing: only of what will be at rest under the fence are these the digests.
  manifest.changing = true;
  const std::string& path = path_;
  const Status staged = co_await offload(loop_, [&path, &manifest]() -> Status {
    const Result<ImageFacts> facts = look_at_image(path);
    if (!facts) return facts.error();
    manifest.image = facts->identity;
    return stage_manifest(path, manifest);
  });
  co_return staged;
}

Task<Status> FolderAtRest::publish() {
  const std::string& path = path_;
  RestIdentity& left = left_;
  published_ = true;
  const Status published = co_await offload(loop_, [&path, &left]() -> Status {
    const Result<ImageFacts> facts = look_at_image(path);
    if (!facts) return facts.error();
    left = facts->identity;
    return publish_staged(path);
  });
  if (!published) co_return published;
  const FolderImage::Expected expected{generation_, inode_, described_->size_bytes(), disk_,
                                       epoch_};
  if (base_) {
    const Status closed = co_await base_->close();
    static_cast<void>(closed);  // of a try that came to nothing; it was only read
  }
  std::string image_path = path_;
  auto opened = co_await open_image(loop_, std::move(image_path), expected, described_);
  if (!opened.ok()) co_return opened.error();
  base_ = *std::move(opened);
  co_return Status();
}

Task<Status> FolderAtRest::complete(BlockDevice& image, const DirtyBitmap& rest) {
  const auto described = co_await digests_->describe(image, rest);
  if (!described.ok()) co_return described.error();
  Manifest manifest = make_manifest(std::move(**described));
  ++manifest.generation;
  manifest.image = left_;
  const std::string& path = path_;
  const Status saved =
      co_await offload(loop_, [&path, &manifest] { return save_manifest(path, manifest); });
  co_return saved;
}

/// The guest goes on in the image, so nothing of it is known any more. A crash before leaves what
/// finish_manifest() puts right.
Task<Status> FolderAtRest::withdraw() {
  if (!published_) co_return Status();
  const std::string& path = path_;
  const std::string& disk = disk_;
  const Status released = co_await offload(loop_, [&] { return release_manifest(path, disk); });
  if (!released && released.error().code() == ErrorCode::kNotFound) co_return Status();
  co_return released;
}

Task<void> FolderAtRest::discard() {
  if (base_) {
    const Status closed = co_await base_->close();
    static_cast<void>(closed);
    base_.reset();
  }
  const std::string& path = path_;
  co_await offload(loop_, [&path] { discard_staged(path); });
}

Task<Result<std::unique_ptr<BlockDevice>>> open_at_rest(IoLoop& loop, HydrationRecord rest) {
  const Result<StoreUri> store = parse_store_uri(rest.base_uri);
  if (!store) co_return store.error();
  std::string path = store->path;
  Result<Manifest> manifest = co_await offload(loop, [&path] { return load_manifest(path); });
  if (!manifest) co_return manifest.error();
  const FolderImage::Expected expected{rest.base_generation, manifest->image.inode,
                                       manifest->size_bytes(), rest.disk, rest.epoch};
  auto digests = std::make_shared<ChunkDigests>(std::move(manifest->digests));
  auto opened = co_await open_image(loop, std::move(path), expected, std::move(digests));
  co_return std::move(opened);
}

Task<Status> release_at_rest(IoLoop& loop, std::string uri, std::string disk) {
  const Result<StoreUri> store = parse_store_uri(uri);
  if (!store) co_return store.error();
  const std::string path = store->path;
  const Status released = co_await offload(loop, [&] { return release_manifest(path, disk); });
  co_return released;
}

}  // namespace blockmig
