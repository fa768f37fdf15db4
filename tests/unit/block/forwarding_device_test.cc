// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/forwarding_device.h"

#include <gtest/gtest.h>

#include "blockmig/block/memory_device.h"

namespace blockmig {
namespace {

/// Says what it was told besides requests.
class Noting final : public ForwardingDevice {
 public:
  explicit Noting(BlockDevice& below) : ForwardingDevice(below) {}
  void prefer_latency(bool on) override { told += on ? "latency " : "no-latency "; }
  void abandon() override { told += "abandon "; }
  void withdraw() override { told += "withdraw "; }
  std::optional<Error> lost() const override { return Error(ErrorCode::kDisconnected, "gone"); }
  std::string trouble() const override { return "slow"; }
  Identities identities() const override { return {"one"}; }
  std::string told;
};

class Plain final : public ForwardingDevice {
 public:
  explicit Plain(BlockDevice& below) : ForwardingDevice(below) {}
};

TEST(ForwardingDevice, TellsTheDeviceBelowWhatItIsTold) {
  MemoryDevice memory("memory", 4096);
  Noting noting(memory);
  Plain plain(noting);
  plain.prefer_latency(false);
  plain.withdraw();  // not as abandon(): what was sent is to be awaited (I9)
  plain.abandon();
  EXPECT_EQ(noting.told, "no-latency withdraw abandon ");
  EXPECT_EQ(plain.lost()->message(), "gone");
  EXPECT_EQ(plain.trouble(), "slow");
  EXPECT_EQ(identities_of(plain), Identities{"one"});
  EXPECT_EQ(&plain.info(), &memory.info());
}

}  // namespace
}  // namespace blockmig
