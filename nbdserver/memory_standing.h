// SPDX-License-Identifier: Apache-2.0
// MemoryStanding: how one connection stands with the MemoryBudget, for StallWatch to judge.
// Written by the connection's loop now and then; a copy is a snapshot that any thread may take.
#pragma once

#include "blockmig/base/counter.h"

namespace blockmig::nbd {

struct MemoryStanding {
  Counter held_bytes;        ///< of the budget
  Counter given_bytes;       ///< by requests that have ended, since the beginning
  Counter waits_for_client;  ///< 1: to read replies, or to send a payload
  Counter waits_for_room;    ///< 1: until requests of its own or of others have ended
};

}  // namespace blockmig::nbd
