// SPDX-License-Identifier: Apache-2.0
// MemoryDevice: a disk in memory, sparse by 64 KiB pages: unwritten pages are holes that read as
// zeros. For tests, the simulator and benchmarks. Never fails. Thread rule: one loop.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "blockmig/block/block_device.h"

namespace blockmig {

class MemoryDevice final : public BlockDevice {
 public:
  MemoryDevice(std::string name, std::uint64_t size_bytes);
  ~MemoryDevice() override;

  const DeviceInfo& info() const override { return info_; }
  Task<Status> read(std::uint64_t offset, MutableBytes into) override;
  Task<Status> write(std::uint64_t offset, ConstBytes from, WriteFlags flags) override;
  Task<Status> flush() override;
  Task<Status> trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) override;
  Task<Status> write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroFlags flags) override;
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length) override;
  Task<Status> close() override;

  // The same without a loop, for checkers and for FaultDevice.
  void peek(std::uint64_t offset, MutableBytes into) const;
  void poke(std::uint64_t offset, ConstBytes from);
  void poke_zeroes(std::uint64_t offset, std::uint64_t length, bool deallocate);
  /// Fills every byte and allocates everything: a poisoned target (trap 9).
  void fill(std::byte value);
  /// Becomes a copy of `other`, which has the same size.
  void assign(const MemoryDevice& other);
  std::uint64_t allocated_bytes() const { return pages_.size() * kPageBytes; }
  /// Bytes that a write to the range would newly allocate.
  std::uint64_t missing_bytes(std::uint64_t offset, std::uint64_t length) const;
  std::vector<Extent> peek_extents(std::uint64_t offset, std::uint64_t length,
                                   std::size_t most = SIZE_MAX) const;
  DeviceInfo& mutable_info() { return info_; }

  static constexpr std::uint64_t kPageBytes = 64 * kKiB;

 private:
  using Page = std::vector<std::byte>;
  Page& page_for_write(std::uint64_t index);

  DeviceInfo info_;
  std::map<std::uint64_t, Page> pages_;  ///< by offset / kPageBytes, ordered for extents
};

}  // namespace blockmig
