// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/reply_codec.h"

#include <cstring>

#include "blockmig/base/check.h"
#include "blockmig/base/endian.h"

namespace blockmig::nbd {
namespace {

std::size_t encode_simple(std::byte* out, const Request& request, WireError error) {
  store_be(out, kSimpleReplyMagic);
  store_be(out + 4, static_cast<std::uint32_t>(error));
  store_be(out + 8, request.cookie);
  return kSimpleReplyBytes;
}

std::size_t encode_chunk_header(std::byte* out, const Request& request, HeaderStyle style,
                                ChunkType type, bool done, std::uint64_t payload) {
  BM_CHECK(style != HeaderStyle::kSimple);
  const bool extended = style == HeaderStyle::kExtended;
  store_be(out, extended ? kExtendedReplyMagic : kStructuredReplyMagic);
  store_be(out + 4, static_cast<std::uint16_t>(done ? kReplyFlagDone : 0));
  store_be(out + 6, static_cast<std::uint16_t>(type));
  store_be(out + 8, request.cookie);
  if (!extended) {
    BM_CHECK(payload <= UINT32_MAX);
    store_be(out + 16, static_cast<std::uint32_t>(payload));
    return kStructuredReplyBytes;
  }
  store_be(out + 16, request.offset);
  store_be(out + 24, payload);
  return kExtendedReplyBytes;
}

}  // namespace

std::size_t encode_success(std::byte* out, const Request& request, HeaderStyle style) {
  if (style != HeaderStyle::kExtended) return encode_simple(out, request, WireError::kNone);
  return encode_chunk_header(out, request, style, ChunkType::kNone, true, 0);
}

std::size_t encode_empty_read(std::byte* out, const Request& request, HeaderStyle style) {
  if (style == HeaderStyle::kSimple) return encode_simple(out, request, WireError::kNone);
  return encode_chunk_header(out, request, style, ChunkType::kNone, true, 0);
}

std::size_t encode_error(std::byte* out, const Request& request, HeaderStyle style, WireError error,
                         std::string_view text, const std::uint64_t* at_offset) {
  BM_CHECK(error != WireError::kNone);
  if (style == HeaderStyle::kSimple) return encode_simple(out, request, error);
  const std::string_view shown = cut_utf8(text, kMaxErrorTextBytes);
  const bool with_offset = at_offset != nullptr;
  std::size_t size = encode_chunk_header(out, request, style,
                                         with_offset ? ChunkType::kErrorOffset : ChunkType::kError,
                                         true, 6 + shown.size() + (with_offset ? 8 : 0));
  store_be(out + size, static_cast<std::uint32_t>(error));
  store_be(out + size + 4, static_cast<std::uint16_t>(shown.size()));
  size += 6;
  if (!shown.empty()) std::memcpy(out + size, shown.data(), shown.size());
  size += shown.size();
  if (with_offset) {
    store_be(out + size, *at_offset);
    size += 8;
  }
  return size;
}

std::size_t encode_data_header(std::byte* out, const Request& request, HeaderStyle style,
                               std::uint64_t offset, std::uint64_t length, bool done) {
  if (style == HeaderStyle::kSimple) return encode_simple(out, request, WireError::kNone);
  BM_CHECK(length > 0);
  const std::size_t size =
      encode_chunk_header(out, request, style, ChunkType::kOffsetData, done, 8 + length);
  store_be(out + size, offset);
  return size + 8;
}

std::size_t encode_hole(std::byte* out, const Request& request, HeaderStyle style,
                        std::uint64_t offset, std::uint64_t length, bool done) {
  BM_CHECK(length > 0 && length <= UINT32_MAX);
  const std::size_t size =
      encode_chunk_header(out, request, style, ChunkType::kOffsetHole, done, 12);
  store_be(out + size, offset);
  store_be(out + size + 8, static_cast<std::uint32_t>(length));
  return size + 12;
}

std::size_t block_status_bytes(HeaderStyle style, std::size_t extents) {
  return style == HeaderStyle::kExtended ? kExtendedReplyBytes + 8 + 16 * extents
                                         : kStructuredReplyBytes + 4 + 8 * extents;
}

std::size_t encode_block_status(std::byte* out, const Request& request, HeaderStyle style,
                                std::uint32_t context_id, std::span<const StatusExtent> extents,
                                bool done) {
  BM_CHECK(!extents.empty());
  const bool extended = style == HeaderStyle::kExtended;
  const std::size_t payload = extended ? 8 + 16 * extents.size() : 4 + 8 * extents.size();
  std::size_t size = encode_chunk_header(
      out, request, style, extended ? ChunkType::kBlockStatusExt : ChunkType::kBlockStatus, done,
      payload);
  store_be(out + size, context_id);
  size += 4;
  if (extended) {
    store_be(out + size, static_cast<std::uint32_t>(extents.size()));
    size += 4;
  }
  for (const StatusExtent& extent : extents) {
    BM_CHECK(extent.length > 0);
    if (extended) {
      store_be(out + size, extent.length);
      store_be(out + size + 8, std::uint64_t{extent.flags});
      size += 16;
    } else {
      BM_CHECK(extent.length <= UINT32_MAX);
      store_be(out + size, static_cast<std::uint32_t>(extent.length));
      store_be(out + size + 4, extent.flags);
      size += 8;
    }
  }
  return size;
}

std::string_view cut_utf8(std::string_view text, std::size_t max_bytes) {
  if (text.size() <= max_bytes) return text;
  std::size_t size = max_bytes;
  // A byte 10xxxxxx continues a character: step back to where that character begins.
  while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xc0) == 0x80) --size;
  return text.substr(0, size);
}

bool is_wire_string(std::string_view text) {
  std::size_t at = 0;
  const auto byte_at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  while (at < text.size()) {
    const unsigned char lead = byte_at(at);
    if (lead == 0) return false;
    if (lead < 0x80) {
      ++at;
      continue;
    }
    // RFC 3629, section 4: the second byte's range rules out overlong forms and surrogates.
    std::size_t more = 0;
    unsigned char low = 0x80;
    unsigned char high = 0xbf;
    if (lead >= 0xc2 && lead <= 0xdf) {
      more = 1;
    } else if (lead >= 0xe0 && lead <= 0xef) {
      more = 2;
      if (lead == 0xe0) low = 0xa0;
      if (lead == 0xed) high = 0x9f;
    } else if (lead >= 0xf0 && lead <= 0xf4) {
      more = 3;
      if (lead == 0xf0) low = 0x90;
      if (lead == 0xf4) high = 0x8f;
    } else {
      return false;
    }
    if (text.size() - at <= more) return false;
    if (byte_at(at + 1) < low || byte_at(at + 1) > high) return false;
    for (std::size_t i = 2; i <= more; ++i) {
      if ((byte_at(at + i) & 0xc0) != 0x80) return false;
    }
    at += more + 1;
  }
  return true;
}

}  // namespace blockmig::nbd
