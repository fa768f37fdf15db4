// SPDX-License-Identifier: Apache-2.0
// NotingServer: an NBD server that only notes what it is asked.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "nbdserver/server.h"
#include "tools/daemon/disk_set.h"

namespace blockmig {

/// Notes which disks there are at the moment that an address is opened.
class NotingServer final : public NbdServer {
 public:
  explicit NotingServer(DiskSet& disks) : disks_(disks) {}

  Status listen(const SocketAddress& address, const UnixSocketOptions&) override {
    if (address.path == refused) return Error(ErrorCode::kBusy, "in use");
    addresses_.push_back(address);
    disks_when_opened.push_back(disks_.disks().size());
    return {};
  }
  Status adopt(int) override { return Error(ErrorCode::kNotSupported, "no activation"); }
  std::vector<SocketAddress> addresses() const override { return addresses_; }
  bool listens_on(const SocketAddress& wanted) const override {
    return std::any_of(addresses_.begin(), addresses_.end(), [&](const SocketAddress& each) {
      return each.to_string() == wanted.to_string();
    });
  }
  Task<void> serve_stream(std::unique_ptr<Stream>) override { co_return; }
  std::vector<NbdClientInfo> clients() const override { return {}; }
  Status disconnect(std::uint64_t) override { return Error(ErrorCode::kNotFound, "no client"); }
  Task<void> stop(Duration) override { co_return; }

  std::string refused;
  std::vector<std::size_t> disks_when_opened;

 private:
  DiskSet& disks_;
  std::vector<SocketAddress> addresses_;
};

}  // namespace blockmig
