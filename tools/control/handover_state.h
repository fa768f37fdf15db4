// SPDX-License-Identifier: Apache-2.0
// HandoverState: what a daemon tells the one that takes its place, apart from descriptors. Values;
// the text form is JSON, with bytes as hexadecimal digits. Versioned: another version is refused,
// and the old daemon goes on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "blockmig/base/error.h"
#include "nbdserver/listen_protection.h"
#include "nbdserver/parked_client.h"
#include "tools/control/messages.h"

namespace blockmig {

inline constexpr std::uint32_t kHandoverVersion = 1;

struct HandoverContext {
  std::uint32_t id = 0;  ///< as the client was told
  std::string name;
  friend bool operator==(const HandoverContext&, const HandoverContext&) = default;
};

/// A client between two requests, and what it was told about its export.
struct HandoverClient {
  std::uint64_t id = 0;  ///< its number
  ClientPast past;
  std::string disk;
  std::string style;  ///< "simple", "structured", "extended"
  std::uint64_t size_bytes = 0;
  std::uint32_t minimum_block = 1;
  std::uint32_t preferred_block = 4096;
  std::uint32_t maximum_payload = 0;
  std::uint32_t max_request_bytes = 0;
  bool read_only = false;
  bool can_trim = false;
  bool can_fast_zero = false;
  bool has_contexts = false;
  std::vector<HandoverContext> contexts;
  std::string leftover;  ///< bytes that have arrived of its next requests
  friend bool operator==(const HandoverClient&, const HandoverClient&) = default;
};

struct HandoverBitmap {
  std::string name;
  std::string frame;  ///< bitmap_codec.h
  bool recording = true;
  std::string id{};  ///< of its beginning
  friend bool operator==(const HandoverBitmap&, const HandoverBitmap&) = default;
};

struct HandoverDisk {
  ServeRequest request;  ///< with no source: the journal knows
  std::vector<HandoverBitmap> bitmaps;
};

struct HandoverListener {
  bool owned = false;   ///< the address ends with the listener
  std::string asked{};  ///< the address that it was made for; empty: not known
  friend bool operator==(const HandoverListener&, const HandoverListener&) = default;
};

struct HandoverState {
  ListenProtection protection;  ///< of who hands over
  std::vector<HandoverListener> listeners;
  /// Of listeners and clients, where each descriptor comes by itself: SO_COOKIE; 0: not known.
  std::vector<std::uint64_t> cookies;
  std::vector<HandoverClient> clients;
  std::vector<HandoverDisk> disks;
};

std::string to_json(const HandoverState& state);
/// kPrecondition: another version. kInvalid, kProtocol: not such a text.
Result<HandoverState> handover_from_json(const std::string& text);

}  // namespace blockmig
