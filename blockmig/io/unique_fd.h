// SPDX-License-Identifier: Apache-2.0
// UniqueFd: owns a file descriptor and closes it. Whoever opens one for it opens it with O_CLOEXEC
// or the like: nothing here is inherited by the processes we start.
#pragma once

#include <unistd.h>

#include <utility>

namespace blockmig {

class UniqueFd final {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~UniqueFd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  /// Gives the descriptor away.
  int release() { return std::exchange(fd_, -1); }
  /// close() errors are of no use here: what must be durable was synced before (I1).
  void reset() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

 private:
  int fd_ = -1;
};

}  // namespace blockmig
