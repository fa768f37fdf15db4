// SPDX-License-Identifier: Apache-2.0
// MergeTarget: the image at rest that a disk fetches from, as the target of its way back into it.
//
// It is base and target at once, so a chunk of it is changed only when nobody needs what was there:
// present in the disk's own store, durably (I12). What is absent there is not written: it is what
// the image holds. What the image is known to hold already is not written either.
//
// The disk's layer outlives every request but those that come after abandon(). Thread rule: the
// disk's loop.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "blockmig/base/chunk_digests.h"
#include "blockmig/block/block_device.h"
#include "blockmig/migrate/hydrating_device.h"

namespace blockmig {

class MergeTarget final : public BlockDevice {
 public:
  /// `known`: of what the image holds for certain; null: nothing is known.
  MergeTarget(std::unique_ptr<BlockDevice> image, HydratingDevice& layer,
              const ChunkDigests* known);

  const DeviceInfo& info() const override { return info_; }
  Task<Status> read(std::uint64_t offset, MutableBytes into) override;
  Task<Status> read_medium(std::uint64_t offset, MutableBytes into) override;
  Task<Status> write(std::uint64_t offset, ConstBytes from, WriteFlags flags) override;
  Task<Status> trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) override;
  Task<Status> write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroFlags flags) override;
  Task<Status> flush() override;
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length) override;
  void prefer_latency(bool on) override { image_->prefer_latency(on); }
  void share_between_threads(bool on) override { image_->share_between_threads(on); }
  void abandon() override;
  void withdraw() override;
  Task<Status> revive() override;
  Task<Status> close() override;

  /// Bytes that were not written because the image had them.
  std::uint64_t bytes_spared() const { return bytes_spared_; }
  /// After the decision, with no request inside: the image itself.
  std::unique_ptr<BlockDevice> release() { return std::move(image_); }

 private:
  /// What of the range is to be written, of what is present.
  std::vector<ByteRange> present_parts(ByteRange range) const;
  Task<Status> keep_in_layer(ByteRange range);
  std::vector<ByteRange> unequal_parts(std::uint64_t offset, ConstBytes content);

  std::unique_ptr<BlockDevice> image_;
  DeviceInfo info_;  ///< the image's; but data at rest is never all zeros (trap 9)
  HydratingDevice& layer_;
  std::optional<ChunkDigests> known_;
  std::uint64_t bytes_spared_ = 0;
  bool abandoned_ = false;
};

}  // namespace blockmig
