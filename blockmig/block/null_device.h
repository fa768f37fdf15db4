// SPDX-License-Identifier: Apache-2.0
// NullDevice: a disk that keeps nothing. Writes are taken and lost, reads are zeros, nothing waits.
// For measuring what everything around a store costs; never for data.
// Thread rule: read_now() and write_now() from any thread, the rest on one loop.
#pragma once

#include <cstdint>

#include "blockmig/block/block_device.h"

namespace blockmig {

class NullDevice final : public BlockDevice {
 public:
  explicit NullDevice(std::uint64_t size_bytes, bool read_only = false);

  const DeviceInfo& info() const override { return info_; }
  Task<Status> read(std::uint64_t offset, MutableBytes into) override;
  Task<Status> write(std::uint64_t offset, ConstBytes from, WriteFlags flags) override;
  Task<Status> flush() override;
  Task<Status> trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) override;
  Task<Status> write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroFlags flags) override;
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length) override;
  bool read_now(std::uint64_t offset, MutableBytes into) override;
  bool write_now(std::uint64_t offset, ConstBytes from) override;
  Task<Status> close() override;

 private:
  Status changeable(std::uint64_t offset, std::uint64_t length) const;
  DeviceInfo info_;
};

}  // namespace blockmig
