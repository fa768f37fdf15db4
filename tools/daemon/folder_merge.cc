// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/folder_merge.h"

#include <utility>

#include "blockmig/io/offload.h"
#include "sharedfs/image_scan.h"
#include "sharedfs/image_source.h"
#include "sharedfs/manifest_file.h"
#include "tools/daemon/store_use.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kChunkBytes = ChunkDigests::kChunkBytes;
/// Kernels stamp a file's time in steps of at most 10 ms: after this, a later change shows.
constexpr Duration kTimeStep = std::chrono::milliseconds(50);

/// Of an image about whose content nothing is known.
void forget_digests(Manifest& manifest) { manifest.digests.invalidate(0, manifest.size_bytes()); }

/// For a decision that never came: the disk is here, and was not left.
bool is_unused(const std::string& image_path, const Manifest& manifest, std::uint64_t epoch) {
  const Result<ImageFacts> facts = look_at_image(image_path);
  return manifest.changing && manifest.owner_epoch == epoch + 1 && facts &&
         facts->identity.inode == manifest.image.inode;
}

}  // namespace

Task<Result<RestMerge::Facts>> FolderMerge::look(const HydrationRecord& rest) {
  const Result<StoreUri> base = parse_store_uri(rest.base_uri);
  if (!base) co_return base.error();
  const StoreUri& image = image_;
  Result<Manifest> found = co_await offload(loop_, [&base, &image]() -> Result<Manifest> {
    if (!same_store(*base, image)) {
      return Error(ErrorCode::kPrecondition,
                   "what is at rest of the disk is in " + base->text + ", not in " + image.text);
    }
    Result<Manifest> manifest = load_manifest(image.path);
    if (!manifest) return manifest;
    const Status same = check_identity(image.path, *manifest, false);
    if (!same) return same.error();
    return manifest;
  });
  if (!found) co_return found.error();
  const FolderImage::Expected expected{rest.base_generation, found->image.inode,
                                       found->size_bytes(), disk_, rest.epoch};
  if (!FolderImage::is_meant(expected, found->generation, found->owner, found->owner_epoch)) {
    co_return Error(ErrorCode::kMismatch, "image " + image_.path + " is at generation " +
                                              std::to_string(found->generation) +
                                              ", which somebody else has made");
  }
  manifest_ = std::make_shared<Manifest>(*std::move(found));
  Facts facts;
  facts.digests = std::shared_ptr<const ChunkDigests>(manifest_, &manifest_->digests);
  facts.changing = manifest_->changing;
  co_return facts;
}

Task<bool> FolderMerge::is_as_left() const {
  const std::string& path = image_.path;
  const Result<ImageFacts> facts = co_await offload(loop_, [&path] { return look_at_image(path); });
  if (!facts) co_return false;
  if (facts->identity == manifest_->image) co_return true;
  if (owners_ == nullptr) co_return false;
  const bool left =
      co_await owners_->is_as_left(disk_, image_, facts->size_bytes, facts->identity.modified_ns);
  co_return left;
}

Task<Result<bool>> FolderMerge::check(BlockDevice& image, const PresenceMap& map, bool read_all,
                                      CancelSource& cancel) {
  const bool unchanged = co_await is_as_left();
  if (unchanged && !read_all) co_return true;
  const Status compared = co_await compare(image, map, cancel);
  if (!compared.ok()) co_return compared.error();
  co_return unchanged;
}

Task<Status> FolderMerge::compare(BlockDevice& image, const PresenceMap& map,
                                  CancelSource& cancel) const {
  const auto rests = [&map](std::uint64_t chunk) {
    return !map.is_present(chunk * kChunkBytes / map.granularity_bytes());
  };
  ChunkDigests found(manifest_->size_bytes());
  ScanOptions scan;
  scan.cancel = &cancel;
  scan.wanted = rests;
  const Status scanned = co_await scan_image(loop_, image, found, std::move(scan));
  if (!scanned.ok()) co_return scanned.error().with_context("reading what is at rest");
  const ByteRange whole{0, manifest_->size_bytes()};
  for (const DirtyBitmap::Run& run : map.runs(whole, SIZE_MAX)) {
    if (!run.dirty) continue;
    for (std::uint64_t at = run.range.offset; at < run.range.end(); at += kChunkBytes) {
      const auto expected = manifest_->digests.find(at / kChunkBytes);
      if (expected && found.find(at / kChunkBytes) == expected) continue;
      co_return Error(ErrorCode::kMismatch,
                      "image " + image_.path + " does not hold at offset " + std::to_string(at) +
                          " what its manifest says: it was changed, or is damaged");
    }
  }
  co_return Status();
}

Task<Status> FolderMerge::begin() {
  ++manifest_->generation;
  manifest_->changing = true;
  const std::string& path = image_.path;
  const Manifest& manifest = *manifest_;
  const Status saved =
      co_await offload(loop_, [&path, &manifest] { return save_manifest(path, manifest); });
  co_return saved;
}

Task<Status> FolderMerge::finish(const ChunkDigests* digests, std::function<bool()> untouched) {
  Manifest manifest(manifest_->size_bytes());
  manifest.generation = manifest_->generation + 1;
  if (digests != nullptr) {
    manifest.digests = ChunkDigests(*digests);
  } else {
    forget_digests(manifest);
  }
  co_await sleep_for(loop_, kTimeStep);
  const std::string& path = image_.path;
  const Result<ImageFacts> facts = co_await offload(loop_, [&path] { return look_at_image(path); });
  if (!facts) co_return facts.error();
  manifest.image.inode = facts->identity.inode;
  // An image in use is not what its digests say for long: no time is the one of the manifest then.
  manifest.image.modified_ns = untouched() ? facts->identity.modified_ns : 0;
  const Status saved =
      co_await offload(loop_, [&path, &manifest] { return save_manifest(path, manifest); });
  co_return saved;
}

Status check_no_mixture(const std::string& image_path) {
  const Result<Manifest> manifest = load_manifest(image_path);
  // No manifest, or none of this image, says nothing against it.
  if (!manifest || !manifest->changing) return {};
  const Result<ImageFacts> facts = look_at_image(image_path);
  if (!facts || facts->identity.inode != manifest->image.inode) return {};
  const std::string whose = manifest->owner.empty() ? "a disk" : "disk '" + manifest->owner + "'";
  return Error(
      ErrorCode::kPrecondition,
      "image " + image_path + " is a mixture of two instants: " + whose +
          " was on its way out of it, or back into it: serve that disk from its own store; "
          "or serve the image as it is, with --force-source");
}

Status disown_mixture(const std::string& image_path) {
  Result<Manifest> manifest = load_manifest(image_path);
  if (!manifest) return manifest.error();
  forget_digests(*manifest);
  ++manifest->generation;
  manifest->owner.clear();
  manifest->owner_epoch = 0;
  return save_manifest(image_path, *manifest);
}

Result<bool> finish_manifest(const std::string& image_path, const std::string& disk,
                             std::uint64_t epoch, bool is_its_store) {
  const Result<ManifestHeader> header = load_manifest_header(image_path);
  // None, or none of ours.
  if (!header) return false;
  if (header->owner != disk || header->owner_epoch == 0) return false;
  const bool of_later = header->owner_epoch > epoch;
  if (of_later && !is_its_store) return false;
  Result<Manifest> manifest = load_manifest(image_path);
  if (!manifest) return manifest.error();
  if (of_later && !is_unused(image_path, *manifest, epoch)) return false;
  if (is_its_store || manifest->changing) forget_digests(*manifest);
  ++manifest->generation;
  manifest->owner.clear();
  manifest->owner_epoch = 0;
  manifest->changing = false;
  const Status saved = save_manifest(image_path, *manifest);
  if (!saved) return saved.error();
  return true;
}

}  // namespace blockmig
