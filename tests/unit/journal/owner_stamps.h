// SPDX-License-Identifier: Apache-2.0
// Stamps and who asks about them, for the tests of owner_rules.h.
#pragma once

#include <cstdint>
#include <string>

#include "blockmig/journal/owner_rules.h"

namespace blockmig {

inline constexpr StampState kAll[] = {
    StampState::kCurrent, StampState::kReleased, StampState::kMoving, StampState::kTaking,
    StampState::kTarget,  StampState::kBase,     StampState::kLeft};

inline OwnerStamp stamp(StampState state, std::uint64_t epoch = 5, const std::string& owner = "me",
                        const std::string& disk = "vm1") {
  OwnerStamp made;
  made.state = state;
  made.owner = owner;
  made.place = "host:/state";
  made.disk = disk;
  made.epoch = epoch;
  made.token = 99;
  made.other_uri = "file:///b/new.img";
  return made;
}

/// The disk vm1 of "me", which lives in the image at epoch 5 by its journal.
inline Claimant knowing(std::uint64_t epoch = 5) {
  Claimant claimant;
  claimant.owner = "me";
  claimant.disk = "vm1";
  claimant.image = "/a/vm1.img";
  claimant.epoch = epoch;
  claimant.known = true;
  return claimant;
}

}  // namespace blockmig
