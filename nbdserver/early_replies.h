// SPDX-License-Identifier: Apache-2.0
// EarlyReplies: when the replies to the first requests of a batch are sent before the rest of it is
// served, so that the client works meanwhile. Pure: no I/O, one per batch.
//
// A batch is answered in halves: its client would wait for us as long as we for it. A short one's
// are not so small that the send costs more than the client gains.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "nbdserver/request_codec.h"

namespace blockmig::nbd {

class EarlyReplies final {
 public:
  /// Requests in a short batch.
  static constexpr std::uint32_t kShortBatch = 16;
  /// Bytes of replies that are sent at once, however many replies they are.
  static constexpr std::size_t kBytes = 128 * 1024;

  /// `batch`: what has been received and not been served, in bytes of the wire.
  EarlyReplies(ConstBytes batch, HeaderStyle style) : send_below_(batch.size()) {
    const std::uint32_t requests = count_requests(batch, style, kShortBatch + 1);
    if (requests <= kShortBatch) {
      enough_ = std::max(requests / 2, kLeast);
    } else {
      is_long_ = true;
      send_below_ /= 2;
    }
  }

  /// Asked after each request, and answered true: the pending replies are sent. `left`: bytes of
  /// the batch that are still to be served.
  bool due(std::uint32_t pending_replies, std::size_t pending_bytes, std::size_t left) {
    const bool piece_done = pending_replies >= enough_ && left < send_below_;
    if (piece_done && is_long_) send_below_ = 0;
    return piece_done || pending_bytes >= kBytes;
  }

 private:
  static constexpr std::uint32_t kLeast = 5;

  bool is_long_ = false;
  std::uint32_t enough_ = kShortBatch / 2;
  std::size_t send_below_;
};

}  // namespace blockmig::nbd
