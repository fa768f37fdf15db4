// SPDX-License-Identifier: Apache-2.0
// What the other end of a socket or pipe does no more, asked of the kernel without reading: what
// has been sent may still be unread. One system call; any thread.
#pragma once

#include <poll.h>

namespace blockmig {

/// Whether it sends no more.
inline bool has_hung_up(int fd) {
  pollfd asked{fd, POLLRDHUP, 0};
  return ::poll(&asked, 1, 0) > 0 && (asked.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

/// Whether it has gone for good: it neither sends nor reads any more. A TCP peer that has closed
/// its socket looks like one that has ended its sending only, until it has been sent something.
inline bool is_gone(int fd) {
  pollfd asked{fd, 0, 0};
  return ::poll(&asked, 1, 0) > 0 && (asked.revents & (POLLHUP | POLLERR)) != 0;
}

}  // namespace blockmig
