// SPDX-License-Identifier: Apache-2.0
// ForwardingDevice: a device that is another one but for what a subclass overrides, so that a layer
// says what it changes and forgets nothing of the rest. What is done on the spot (`*_now()`) is not
// forwarded: it is an offer, and a layer that makes none is right. Thread rule and errors: those of
// the device below.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "blockmig/block/block_device.h"
#include "blockmig/block/store_health.h"

namespace blockmig {

class ForwardingDevice : public BlockDevice, public StoreHealth {
 public:
  const DeviceInfo& info() const override { return below_.info(); }
  Task<Status> read(std::uint64_t offset, MutableBytes into) override {
    return below_.read(offset, into);
  }
  Task<Status> read_medium(std::uint64_t offset, MutableBytes into) override {
    return below_.read_medium(offset, into);
  }
  Task<Status> write(std::uint64_t offset, ConstBytes from, WriteFlags flags) override {
    return below_.write(offset, from, flags);
  }
  Task<Status> flush() override { return below_.flush(); }
  Task<Status> trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) override {
    return below_.trim(offset, length, flags);
  }
  Task<Status> write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroFlags flags) override {
    return below_.write_zeroes(offset, length, flags);
  }
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length) override {
    return below_.extents(offset, length);
  }
  void prefer_latency(bool on) override { below_.prefer_latency(on); }
  void abandon() override { below_.abandon(); }
  void withdraw() override { below_.withdraw(); }
  std::optional<Error> lost() const override { return lost_of(below_); }
  std::string trouble() const override { return trouble_of(below_); }
  Identities identities() const override { return identities_of(below_); }
  Task<Status> revive() override { return below_.revive(); }
  Task<Status> close() override { return below_.close(); }

 protected:
  /// `below` is the subclass's to keep.
  explicit ForwardingDevice(BlockDevice& below) : below_(below) {}
  BlockDevice& below() { return below_; }

 private:
  BlockDevice& below_;
};

}  // namespace blockmig
