// SPDX-License-Identifier: Apache-2.0
// Encoding of replies in the three header styles. No I/O; each function writes to memory that the
// caller made large enough (the k…Bytes below) and returns how much it wrote. Pure; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "blockmig/base/bytes.h"
#include "nbdserver/request_codec.h"
#include "nbdserver/wire.h"

namespace blockmig::nbd {

/// One descriptor of a block status reply.
struct StatusExtent {
  std::uint64_t length = 0;  ///< bytes, not zero
  std::uint32_t flags = 0;
  friend bool operator==(const StatusExtent&, const StatusExtent&) = default;
};

/// Room for any reply without payload, for a hole, and for the header in front of read data.
inline constexpr std::size_t kMaxHeaderBytes = kExtendedReplyBytes + 12;
/// Texts in error chunks are cut to this; the specification allows 4096.
inline constexpr std::size_t kMaxErrorTextBytes = 512;
inline constexpr std::size_t kMaxErrorBytes = kExtendedReplyBytes + 14 + kMaxErrorTextBytes;

/// Success without payload. With structured replies a simple reply is legal for everything but READ
/// ("Structured reply chunk message"), and shorter.
std::size_t encode_success(std::byte* out, const Request& request, HeaderStyle style);

/// Failure. Simple: the bare code. Otherwise an error chunk with DONE and `text`; with `at_offset`,
/// an ERROR_OFFSET chunk that says where (only for commands with a range; it must lie in the
/// request).
std::size_t encode_error(std::byte* out, const Request& request, HeaderStyle style, WireError error,
                         std::string_view text, const std::uint64_t* at_offset = nullptr);

/// How long the header is that encode_data_header() writes.
constexpr std::size_t data_header_bytes(HeaderStyle style) {
  switch (style) {
    case HeaderStyle::kSimple:
      return kSimpleReplyBytes;
    case HeaderStyle::kStructured:
      return kStructuredReplyBytes + 8;
    case HeaderStyle::kExtended:
      return kExtendedReplyBytes + 8;
  }
  return 0;
}
/// What goes in front of `length` bytes read from `offset`. Simple: the whole reply's header, and
/// `offset`, `length` are those of the request. Otherwise one OFFSET_DATA chunk; length > 0.
std::size_t encode_data_header(std::byte* out, const Request& request, HeaderStyle style,
                               std::uint64_t offset, std::uint64_t length, bool done);

/// One OFFSET_HOLE chunk; never in simple style. length in (0, 2^32).
std::size_t encode_hole(std::byte* out, const Request& request, HeaderStyle style,
                        std::uint64_t offset, std::uint64_t length, bool done);

/// An empty READ: in structured styles a NONE chunk, because READ never gets a simple reply there.
std::size_t encode_empty_read(std::byte* out, const Request& request, HeaderStyle style);

std::size_t block_status_bytes(HeaderStyle style, std::size_t extents);
/// One BLOCK_STATUS or BLOCK_STATUS_EXT chunk of at least one extent; never in simple style. In
/// structured style every length is below 2^32.
std::size_t encode_block_status(std::byte* out, const Request& request, HeaderStyle style,
                                std::uint32_t context_id, std::span<const StatusExtent> extents,
                                bool done);

/// `text` cut to `max_bytes` at a character's border.
std::string_view cut_utf8(std::string_view text, std::size_t max_bytes);
/// True for well-formed UTF-8 without NUL ("Conventions").
bool is_wire_string(std::string_view text);

}  // namespace blockmig::nbd
