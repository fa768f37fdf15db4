// SPDX-License-Identifier: Apache-2.0
// FolderAtRest: the image that mode `shared` leaves behind in its folder, with a manifest that
// names the disk it belongs to. open_at_rest() opens it again after a restart. Thread rule: the
// loop.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "blockmig/io/io_loop.h"
#include "blockmig/journal/journal.h"
#include "blockmig/migrate/data_at_rest.h"
#include "sharedfs/manifest.h"
#include "sharedfs/rest_digests.h"

namespace blockmig {

class FolderAtRest final : public DataAtRest {
 public:
  /// `path`: the disk's image now.
  FolderAtRest(IoLoop& loop, std::string path, std::string disk)
      : loop_(loop), path_(std::move(path)), disk_(std::move(disk)) {}

  /// kPrecondition: another disk's data at rest; no regular file.
  Task<Status> hash(BlockDevice& store, const DirtyBitmap& rest, CancelSource& cancel) override;
  Task<Status> prepare(const DirtyBitmap& rest, const std::string& disk,
                       std::uint64_t epoch) override;
  Task<Status> publish() override;
  Task<Status> complete(BlockDevice& image, const DirtyBitmap& rest) override;
  std::uint64_t generation() const override { return generation_; }
  const ChunkDigests* digests() const override { return described_.get(); }
  std::unique_ptr<BlockDevice> take_base() override { return std::move(base_); }
  Task<Status> withdraw() override;
  Task<void> discard() override;

 private:
  Task<Status> find_generation();
  Manifest make_manifest(ChunkDigests digests) const;

  IoLoop& loop_;
  std::string path_;
  std::string disk_;
  std::uint64_t generation_ = 0;
  std::uint64_t epoch_ = 0;  ///< of the disk, once it has left
  BlockDevice* store_ = nullptr;
  std::optional<RestDigests> digests_;
  std::shared_ptr<ChunkDigests> described_;
  std::uint64_t inode_ = 0;
  RestIdentity left_;       ///< the image under the fence
  bool published_ = false;  ///< or tried to
  std::unique_ptr<BlockDevice> base_;
};

/// The image at rest that a journal's record names, checked against its manifest's generation.
/// kMismatch, kNotFound …; messages name the path.
Task<Result<std::unique_ptr<BlockDevice>>> open_at_rest(IoLoop& loop, HydrationRecord rest);

/// Takes the disk's name off the manifest of an image that it does not need any more.
Task<Status> release_at_rest(IoLoop& loop, std::string uri, std::string disk);

}  // namespace blockmig
