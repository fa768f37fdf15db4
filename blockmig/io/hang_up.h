// SPDX-License-Identifier: Apache-2.0
// Whether the other end of a socket or pipe sends no more, asked of the kernel without reading:
// what has been sent may still be unread. One system call; any thread.
#pragma once

#include <poll.h>

namespace blockmig {

inline bool has_hung_up(int fd) {
  pollfd asked{fd, POLLRDHUP, 0};
  return ::poll(&asked, 1, 0) > 0 && (asked.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

}  // namespace blockmig
