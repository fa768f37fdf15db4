// SPDX-License-Identifier: Apache-2.0
// HandshakeSteps: where a server's handshakes do their arithmetic, and how much of it at once.
//
// A step with an RSA key takes milliseconds, strangers cause it, and a loop that does a thousand of
// them serves nobody meanwhile. So each is made on a blocking thread, and few at once: else those
// who are served would have a small share of the processors instead. The others wait, each origin's
// in order, and by the deadline of whoever awaits the handshake: a host that begins thousands of
// them does not keep another one's from ending in time (I16).
//
// Lifecycle: outlives the handshakes. Thread rule: the loop.
#pragma once

#include <cstdint>

#include "blockmig/io/event_loop.h"
#include "blockmig/io/turns.h"

namespace blockmig {

struct HandshakeSteps {
  static constexpr std::uint64_t kAtOnce = 1;  ///< as Turns has it

  /// `own_calls`: threads that nothing else may hang on.
  HandshakeSteps(EventLoop& loop, BlockingCalls& own_calls) : calls(own_calls), turns(loop) {}

  BlockingCalls& calls;
  Turns turns;  ///< by StreamPeer::origin
};

}  // namespace blockmig
