// SPDX-License-Identifier: Apache-2.0
// StoreHealth: what a device knows about itself without asking its medium, beside BlockDevice: of
// stores that may be away, and of layers over them. Thread rule: the device's loop.
#pragma once

#include <optional>
#include <string>

#include "blockmig/block/block_device.h"
#include "blockmig/block/store_identity.h"

namespace blockmig {

class StoreHealth {
 public:
  virtual ~StoreHealth() = default;
  /// Why every request fails until revive(): one that is made now changes nothing. Empty: not known
  /// to be lost.
  virtual std::optional<Error> lost() const { return std::nullopt; }
  /// For people: why requests wait for the medium, or fail for good. Empty: they do not.
  virtual std::string trouble() const { return {}; }
  /// Of the NBD stores below, as their servers said when they were connected last.
  virtual Identities identities() const { return {}; }
};

/// Empty also for devices that never say.
inline std::optional<Error> lost_of(const BlockDevice& device) {
  const auto* const health = dynamic_cast<const StoreHealth*>(&device);
  return health == nullptr ? std::nullopt : health->lost();
}
inline std::string trouble_of(const BlockDevice& device) {
  const auto* const health = dynamic_cast<const StoreHealth*>(&device);
  return health == nullptr ? std::string() : health->trouble();
}
inline Identities identities_of(const BlockDevice& device) {
  const auto* const health = dynamic_cast<const StoreHealth*>(&device);
  return health == nullptr ? Identities() : health->identities();
}

}  // namespace blockmig
