// SPDX-License-Identifier: Apache-2.0
#include "sharedfs/image_source.h"

#include <utility>

#include "blockmig/block/file_device.h"
#include "blockmig/io/offload.h"
#include "sharedfs/manifest_file.h"

namespace blockmig {
namespace {

Status check_expected(const std::string& path, const FolderImage::Expected& expected) {
  const Result<ImageFacts> found = look_at_image(path);
  if (!found) return found.error();
  if (found->size_bytes != expected.size_bytes || found->identity.inode != expected.inode) {
    return Error(ErrorCode::kMismatch, "image " + path + " was replaced by another file");
  }
  const Result<ManifestHeader> header = load_manifest_header(path);
  if (!header) return header.error();
  if (FolderImage::is_meant(expected, header->generation, header->owner, header->owner_epoch)) {
    return {};
  }
  return Error(ErrorCode::kMismatch, "image " + path + " is at generation " +
                                         std::to_string(header->generation) + ", needed is " +
                                         std::to_string(expected.generation) +
                                         ": somebody else has used it");
}

}  // namespace

bool FolderImage::is_meant(const Expected& expected, std::uint64_t generation,
                           const std::string& owner, std::uint64_t owner_epoch) {
  if (generation == expected.generation) return true;
  return generation > expected.generation && !expected.owner.empty() && owner == expected.owner &&
         owner_epoch == expected.owner_epoch;
}

Task<Status> FolderImage::check() {
  const std::string& path = path_;
  const Expected& expected = expected_;
  const Status checked =
      co_await offload(loop_, [&path, &expected] { return check_expected(path, expected); });
  co_return checked;
}

Task<Result<std::unique_ptr<BlockDevice>>> FolderImage::open() {
  const Status checked = co_await check();
  if (!checked) co_return checked.error();
  FileDeviceOptions options;
  options.read_only = true;
  // Nobody is kept out by a lock: other hosts may read it, and some shared folders have none. What
  // is fetched is checked by its digest.
  options.lock = false;
  options.inline_io = false;  // a folder that hangs must not hold the loop
  auto opened = co_await open_file_device(loop_, path_, options);
  co_return std::move(opened);
}

}  // namespace blockmig
