// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/request_codec.h"

#include "blockmig/base/check.h"
#include "blockmig/base/endian.h"

namespace blockmig::nbd {

std::optional<Request> decode_request(ConstBytes header, HeaderStyle style) {
  BM_CHECK(header.size() >= request_header_bytes(style));
  const std::byte* at = header.data();
  const bool extended = style == HeaderStyle::kExtended;
  if (load_be<std::uint32_t>(at) != (extended ? kExtendedRequestMagic : kRequestMagic)) {
    return std::nullopt;
  }
  Request request;
  request.flags = load_be<std::uint16_t>(at + 4);
  request.command = static_cast<Command>(load_be<std::uint16_t>(at + 6));
  request.cookie = load_be<std::uint64_t>(at + 8);
  request.offset = load_be<std::uint64_t>(at + 16);
  request.length =
      extended ? load_be<std::uint64_t>(at + 24) : std::uint64_t{load_be<std::uint32_t>(at + 24)};
  return request;
}

std::uint64_t payload_bytes(const Request& request, HeaderStyle style) {
  if (style == HeaderStyle::kExtended) {
    return request.has(kCmdFlagPayloadLen) ? request.length : 0;
  }
  return request.command == Command::kWrite ? request.length : 0;
}

std::uint32_t count_requests(ConstBytes bytes, HeaderStyle style, std::uint32_t most) {
  const std::size_t header_bytes = request_header_bytes(style);
  std::uint32_t count = 0;
  while (count < most && bytes.size() >= header_bytes) {
    const auto request = decode_request(bytes, style);
    if (!request) break;
    const std::uint64_t payload = payload_bytes(*request, style);
    if (payload > bytes.size() - header_bytes) break;
    bytes = bytes.subspan(header_bytes + static_cast<std::size_t>(payload));
    ++count;
  }
  return count;
}

std::optional<StatusFilter> decode_status_filter(ConstBytes payload) {
  if (payload.size() < 12 || (payload.size() - 8) % 4 != 0) return std::nullopt;
  StatusFilter filter;
  filter.effect_length = load_be<std::uint64_t>(payload.data());
  filter.context_ids.reserve((payload.size() - 8) / 4);
  for (std::size_t at = 8; at < payload.size(); at += 4) {
    filter.context_ids.push_back(load_be<std::uint32_t>(payload.data() + at));
  }
  return filter;
}

}  // namespace blockmig::nbd
