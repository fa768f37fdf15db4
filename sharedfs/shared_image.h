// SPDX-License-Identifier: Apache-2.0
// SharedImage: an image at rest in a folder, read-only, every chunk checked by its digest.
//
// What does not match its digest is never served. A read that fails, or brings something else than
// the manifest says, stalls: the image is opened again every kRetryInterval until the read succeeds
// or the patience is over, and then fails with kIo. health() says what is wrong in the meantime. A
// chunk without a digest was taken elsewhere and is not to be had here: kMismatch at once.
//
// Lifecycle: open(); reads; close(). abandon() ends stalled reads. Thread rule: the loop.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "blockmig/base/chunk_digests.h"
#include "blockmig/block/block_device.h"
#include "blockmig/block/store_health.h"
#include "blockmig/io/event.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task_scope.h"
#include "sharedfs/image_source.h"

namespace blockmig {

struct SharedImageOptions {
  /// How long a read may stall before it fails.
  Duration patience = std::chrono::seconds(30);
};

struct SharedImageStats {
  std::uint64_t fetched_bytes = 0;  ///< read from the folder and found right
  std::uint64_t mismatches = 0;     ///< chunks that were not what the manifest says
  std::uint64_t failures = 0;       ///< reads that failed otherwise
  std::uint64_t stalled = 0;        ///< reads that wait now
};

class SharedImage final : public BlockDevice, public StoreHealth {
 public:
  static constexpr Duration kRetryInterval = std::chrono::milliseconds(250);

  /// `digests` are of the image that `source` opens; they may lose chunks later, never change.
  SharedImage(EventLoop& loop, std::unique_ptr<ImageSource> source,
              std::shared_ptr<const ChunkDigests> digests, SharedImageOptions options);
  ~SharedImage() override;

  /// Once, before the first read. kMismatch, kNotFound, kPrecondition (size) …
  Task<Status> open();

  const DeviceInfo& info() const override { return info_; }
  Task<Status> read(std::uint64_t offset, MutableBytes into) override;
  /// Zeros are holes; nothing is asked of the folder.
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length) override;
  void abandon() override;
  Task<Status> close() override;

  // Refused: kReadOnly.
  Task<Status> write(std::uint64_t offset, ConstBytes from, WriteFlags flags) override;
  Task<Status> trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) override;
  Task<Status> write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroFlags flags) override;
  Task<Status> flush() override { co_return Status(); }

  /// What is wrong now; nothing if the last read went well.
  const std::optional<Error>& health() const { return health_; }
  std::string trouble() const override { return health_ ? health_->message() : std::string(); }
  const SharedImageStats& stats() const { return stats_; }

 private:
  /// One opening of the image; closed when the last read that uses it has ended.
  struct Opened {
    std::unique_ptr<BlockDevice> device;
    std::uint32_t readers = 0;
  };

  Task<Status> read_whole(ByteRange chunks, MutableBytes into);
  Task<Status> fetch(ByteRange chunks, MutableBytes into);
  Status judge(ByteRange chunks, ConstBytes content);
  Task<void> reopen(std::shared_ptr<Opened> failed);
  Task<void> let_go(std::shared_ptr<Opened> opened);
  void leave(const std::shared_ptr<Opened>& opened);
  Error refused() const;

  EventLoop& loop_;
  std::unique_ptr<ImageSource> source_;
  std::shared_ptr<const ChunkDigests> digests_;
  SharedImageOptions options_;
  DeviceInfo info_;
  std::shared_ptr<Opened> opened_;
  bool reopening_ = false;
  Event abandoned_;
  TaskScope closings_;
  std::optional<Error> health_;
  SharedImageStats stats_;
};

}  // namespace blockmig
