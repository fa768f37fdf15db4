// SPDX-License-Identifier: Apache-2.0
// Decoding of request headers. No I/O; hostile bytes in, values out. Pure; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "blockmig/base/bytes.h"
#include "nbdserver/wire.h"

namespace blockmig::nbd {

/// One request header as received; nothing in it has been checked but the magic.
struct Request {
  std::uint16_t flags = 0;
  Command command = Command::kRead;  ///< any 16-bit value, not only the named ones
  std::uint64_t cookie = 0;          ///< opaque, returned as it came
  std::uint64_t offset = 0;          ///< bytes
  std::uint64_t length = 0;          ///< bytes: effect length, or payload length

  bool has(std::uint16_t flag) const { return (flags & flag) != 0; }
  friend bool operator==(const Request&, const Request&) = default;
};

constexpr std::size_t request_header_bytes(HeaderStyle style) {
  return style == HeaderStyle::kExtended ? kExtendedRequestBytes : kRequestBytes;
}

/// `header` holds at least request_header_bytes(style). Nothing if the magic is wrong: the stream
/// is then out of step for good.
std::optional<Request> decode_request(ConstBytes header, HeaderStyle style);

/// How many bytes of payload follow the header, whatever becomes of the request: `length` of a
/// compact WRITE, `length` of anything with PAYLOAD_LEN when headers are extended, otherwise
/// nothing.
std::uint64_t payload_bytes(const Request& request, HeaderStyle style);

/// The whole requests, with their payload, at the beginning of `bytes`; `most` at most.
std::uint32_t count_requests(ConstBytes bytes, HeaderStyle style, std::uint32_t most);

/// The payload of a BLOCK_STATUS with PAYLOAD_LEN (EXTENDED_HEADERS).
struct StatusFilter {
  std::uint64_t effect_length = 0;
  std::vector<std::uint32_t> context_ids;
};
/// Nothing if the payload is not 8 + n * 4 bytes with n >= 1.
std::optional<StatusFilter> decode_status_filter(ConstBytes payload);

}  // namespace blockmig::nbd
