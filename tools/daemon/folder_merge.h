// SPDX-License-Identifier: Apache-2.0
// FolderMerge: the manifest of an image in a folder while its disk goes back into it (mode
// `settle`). The image's lock is held by the job's target. Thread rule: the loop.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "blockmig/base/uri.h"
#include "blockmig/io/io_loop.h"
#include "blockmig/migrate/rest_merge.h"
#include "sharedfs/manifest.h"
#include "tools/daemon/store_owners.h"

namespace blockmig {

class FolderMerge final : public RestMerge {
 public:
  /// `owners`: whose stamps tell whether the image is as it was left; may be null.
  FolderMerge(IoLoop& loop, StoreUri image, std::string disk, StoreOwners* owners)
      : loop_(loop), image_(std::move(image)), disk_(std::move(disk)), owners_(owners) {}

  Task<Result<Facts>> look(const HydrationRecord& rest) override;
  Task<Result<bool>> check(BlockDevice& image, const PresenceMap& map, bool read_all,
                           CancelSource& cancel) override;
  Task<Status> begin() override;
  Task<Status> finish(const ChunkDigests* digests, std::function<bool()> untouched) override;

 private:
  Task<bool> is_as_left() const;
  Task<Status> compare(BlockDevice& image, const PresenceMap& map, CancelSource& cancel) const;

  IoLoop& loop_;
  StoreUri image_;
  std::string disk_;
  StoreOwners* owners_;
  std::shared_ptr<Manifest> manifest_;  ///< as it is beside the image
};

/// kPrecondition: a disk is on its way out of the image, or back into it, or was when somebody took
/// it by force: it holds something of no instant. Blocks.
Status check_no_mixture(const std::string& image_path);
/// It is taken as it is: its manifest says for good that it is a mixture, and nobody's. Blocks.
Status disown_mixture(const std::string& image_path);

/// Of a disk that is whole in its own store: its name goes off a manifest that a crash has kept
/// from being told, beside its store or the one before; off its store's also what was published for
/// a decision that never came. Blocks. True: something was put right.
Result<bool> finish_manifest(const std::string& image_path, const std::string& disk,
                             std::uint64_t epoch, bool is_its_store);

}  // namespace blockmig
