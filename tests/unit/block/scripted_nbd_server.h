// SPDX-License-Identifier: Apache-2.0
// An NBD server that answers what a test tells it to, right or wrong: for what no real server does.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "tests/unit/block/store_fixture.h"

namespace blockmig {

struct NbdRequest {
  std::uint16_t type = 0;
  std::uint64_t cookie = 0;
  std::uint64_t offset = 0;
  std::uint32_t length = 0;
};

/// A structured reply chunk (NBD proto.md, "Structured reply chunk message").
Bytes reply_chunk(const NbdRequest& request, std::uint16_t flags, std::uint16_t type,
                  const Bytes& payload);
Bytes big_endian(std::uint64_t value, int bytes);
Bytes joined(std::vector<Bytes> parts);

/// What it answers to NBD_OPT_LIST_META_CONTEXT.
struct NbdListing {
  enum class End { kAck, kError, kHangUp, kSilence };
  std::vector<std::string> names;
  End end = End::kError;
};

/// Serves one connection of one 1 MiB export on a thread of its own; another one after it has hung
/// up.
class ScriptedNbdServer final {
 public:
  /// Makes the bytes to send for a request; empty: close the connection.
  using Answer = std::function<Bytes(const NbdRequest&)>;
  ScriptedNbdServer(const TemporaryFolder& folder, Answer answer, NbdListing listing = {});
  ~ScriptedNbdServer();
  std::string uri() const { return "nbd+unix:///?socket=" + path_; }

 private:
  void serve(int fd) const;
  bool shake_hands(int fd) const;
  void list(int fd) const;

  std::string path_;
  Answer answer_;
  NbdListing listing_;
  int listener_ = -1;
  std::thread thread_;
};

}  // namespace blockmig
