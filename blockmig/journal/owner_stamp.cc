// SPDX-License-Identifier: Apache-2.0
#include "blockmig/journal/owner_stamp.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "blockmig/base/check.h"
#include "blockmig/base/crc32c.h"
#include "blockmig/base/endian.h"
#include "blockmig/journal/owner_format.h"

namespace blockmig {
namespace {

namespace format = owner_format;

void draw(MutableBytes into) {
  const ssize_t drawn = ::getrandom(into.data(), into.size(), 0);
  BM_CHECK(drawn == static_cast<ssize_t>(into.size()));  // never short for so few bytes
}

Error damaged(const char* what) {
  return Error(ErrorCode::kProtocol, std::string("the owner's stamp is damaged: ") + what);
}

void put_text(std::vector<std::byte>& bytes, const std::string& text) {
  std::array<std::byte, 4> length;
  store_le<std::uint32_t>(length.data(), static_cast<std::uint32_t>(text.size()));
  bytes.insert(bytes.end(), length.begin(), length.end());
  const ConstBytes content = std::as_bytes(std::span(text));
  bytes.insert(bytes.end(), content.begin(), content.end());
}

/// Takes one text from the front; false: it does not fit.
bool take_text(ConstBytes& left, std::string& text) {
  if (left.size() < 4) return false;
  const auto length = load_le<std::uint32_t>(left.data());
  left = left.subspan(4);
  if (left.size() < length) return false;
  text.assign(reinterpret_cast<const char*>(left.data()), length);
  left = left.subspan(length);
  return true;
}

std::uint16_t version_of(ConstBytes header) {
  return load_le<std::uint16_t>(header.data() + format::kVersionAt);
}

/// The oldest one that can say it.
std::uint16_t version_for(const OwnerStamp& stamp) {
  if (stamp.incarnation != 0 || stamp.unpublished || !stamp.rest_uri.empty()) {
    return format::kVersionWithIncarnation;
  }
  return stamp.unrecorded ? format::kVersionWithFlags : format::kVersion;
}

/// Takes a number from the front; false: it does not fit.
bool take_number(ConstBytes& left, std::uint64_t& number) {
  if (left.size() < sizeof number) return false;
  number = load_le<std::uint64_t>(left.data());
  left = left.subspan(sizeof number);
  return true;
}

void put_number(std::vector<std::byte>& bytes, std::uint64_t number) {
  bytes.resize(bytes.size() + sizeof number);
  store_le<std::uint64_t>(bytes.data() + bytes.size() - sizeof number, number);
}

/// Takes flags and incarnation from the front, where the version has them.
bool take_numbers(std::uint16_t version, ConstBytes& left, OwnerStamp& stamp) {
  const bool has_incarnation = version >= format::kVersionWithIncarnation;
  std::uint64_t flags = 0;
  if (version >= format::kVersionWithFlags && !take_number(left, flags)) return false;
  if (has_incarnation && !take_number(left, stamp.incarnation)) return false;
  stamp.unrecorded = (flags & format::kFlagUnrecorded) != 0;
  stamp.unpublished = (flags & format::kFlagUnpublished) != 0;
  const std::uint64_t known =
      format::kFlagUnrecorded | (has_incarnation ? format::kFlagUnpublished : 0);
  return (flags & ~known) == 0;
}

Result<StampSlot> decode_content(ConstBytes header, ConstBytes texts) {
  const auto number = [header](std::size_t at) {
    return load_le<std::uint64_t>(header.data() + at);
  };
  const auto state = load_le<std::uint16_t>(header.data() + format::kStateAt);
  if (state < static_cast<std::uint16_t>(StampState::kCurrent) ||
      state > static_cast<std::uint16_t>(StampState::kLeft)) {
    return damaged("its state");
  }
  StampSlot slot;
  OwnerStamp& stamp = slot.stamp;
  stamp.state = static_cast<StampState>(state);
  slot.sequence = number(format::kSequenceAt);
  stamp.epoch = number(format::kEpochAt);
  stamp.token = number(format::kTokenAt);
  stamp.image.inode = number(format::kInodeAt);
  stamp.image.born_ns = static_cast<std::int64_t>(number(format::kBornAt));
  stamp.left_size_bytes = number(format::kLeftSizeAt);
  stamp.left_modified_ns = static_cast<std::int64_t>(number(format::kLeftModifiedAt));
  const std::uint16_t version = version_of(header);
  if (!take_numbers(version, texts, stamp)) return damaged("its flags");
  for (std::string* text : {&stamp.owner, &stamp.place, &stamp.disk, &stamp.other_uri}) {
    if (!take_text(texts, *text)) return damaged("its texts");
  }
  const bool has_rest = version >= format::kVersionWithIncarnation;
  if (has_rest && !take_text(texts, stamp.rest_uri)) return damaged("its texts");
  if (!texts.empty()) return damaged("its texts");
  return slot;
}

}  // namespace

std::string_view to_string(StampState state) {
  switch (state) {
    case StampState::kCurrent:
      return "current";
    case StampState::kReleased:
      return "released";
    case StampState::kMoving:
      return "moving";
    case StampState::kTaking:
      return "taking";
    case StampState::kTarget:
      return "target";
    case StampState::kBase:
      return "base";
    case StampState::kLeft:
      return "left";
  }
  return "unknown";
}

std::string make_owner_id() {
  std::array<std::byte, 16> bytes;
  draw(bytes);
  // RFC 4122, section 4.4: version 4, variant 10.
  bytes[6] = (bytes[6] & std::byte{0x0f}) | std::byte{0x40};
  bytes[8] = (bytes[8] & std::byte{0x3f}) | std::byte{0x80};
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += kDigits[std::to_integer<unsigned>(bytes[i]) >> 4];
    text += kDigits[std::to_integer<unsigned>(bytes[i]) & 15];
  }
  return text;
}

std::uint64_t make_stamp_token() {
  std::uint64_t token = 0;
  while (token == 0) draw(std::as_writable_bytes(std::span(&token, 1)));
  return token;
}

Result<std::vector<std::byte>> encode_stamp(const OwnerStamp& stamp, std::uint64_t sequence) {
  std::vector<std::byte> bytes(format::kHeaderBytes);
  std::memcpy(bytes.data(), format::kMagic.data(), format::kMagic.size());
  const std::uint16_t version = version_for(stamp);
  const bool has_incarnation = version >= format::kVersionWithIncarnation;
  if (version >= format::kVersionWithFlags) {
    put_number(bytes, (stamp.unrecorded ? format::kFlagUnrecorded : 0) |
                          (stamp.unpublished ? format::kFlagUnpublished : 0));
  }
  if (has_incarnation) put_number(bytes, stamp.incarnation);
  for (const std::string* text :
       {&stamp.owner, &stamp.place, &stamp.disk, &stamp.other_uri, &stamp.rest_uri}) {
    if (text == &stamp.rest_uri && !has_incarnation) break;
    if (text->size() > format::kSlotBytes) {
      return Error(ErrorCode::kOverflow, "too long for the owner's stamp: " + *text);
    }
    put_text(bytes, *text);
  }
  if (bytes.size() + format::kCrcBytes > format::kSlotBytes) {
    return Error(ErrorCode::kOverflow, "too long for the owner's stamp: " + stamp.other_uri);
  }
  std::byte* const header = bytes.data();
  store_le<std::uint16_t>(header + format::kVersionAt, version);
  store_le<std::uint16_t>(header + format::kStateAt, static_cast<std::uint16_t>(stamp.state));
  store_le<std::uint32_t>(header + format::kTextBytesAt,
                          static_cast<std::uint32_t>(bytes.size() - format::kHeaderBytes));
  store_le<std::uint64_t>(header + format::kSequenceAt, sequence);
  store_le<std::uint64_t>(header + format::kEpochAt, stamp.epoch);
  store_le<std::uint64_t>(header + format::kTokenAt, stamp.token);
  store_le<std::uint64_t>(header + format::kInodeAt, stamp.image.inode);
  store_le<std::uint64_t>(header + format::kBornAt,
                          static_cast<std::uint64_t>(stamp.image.born_ns));
  store_le<std::uint64_t>(header + format::kLeftSizeAt, stamp.left_size_bytes);
  store_le<std::uint64_t>(header + format::kLeftModifiedAt,
                          static_cast<std::uint64_t>(stamp.left_modified_ns));
  const std::uint32_t crc = crc32c(bytes);
  bytes.resize(bytes.size() + format::kCrcBytes);
  store_le<std::uint32_t>(bytes.data() + bytes.size() - format::kCrcBytes, crc);
  return bytes;
}

Result<StampSlot> decode_stamp(ConstBytes slot) {
  const bool blank =
      std::all_of(slot.begin(), slot.end(), [](std::byte b) { return b == std::byte{}; });
  if (blank) return Error(ErrorCode::kNotFound, "no stamp");
  if (slot.size() < format::kHeaderBytes + format::kCrcBytes) return damaged("it is cut short");
  if (std::memcmp(slot.data(), format::kMagic.data(), format::kMagic.size()) != 0) {
    return damaged("it does not begin like one");
  }
  const auto text_bytes = load_le<std::uint32_t>(slot.data() + format::kTextBytesAt);
  if (text_bytes > slot.size() - format::kHeaderBytes - format::kCrcBytes) {
    return damaged("its length");
  }
  const std::size_t end = format::kHeaderBytes + text_bytes;
  // Before the version, so that damage never passes for novelty.
  if (crc32c(slot.first(end)) != load_le<std::uint32_t>(slot.data() + end)) {
    return damaged("its checksum");
  }
  const std::uint16_t version = version_of(slot);
  if (version < format::kVersion || version > format::kVersionWithIncarnation) {
    return Error(ErrorCode::kPrecondition, "the owner's stamp has version " +
                                               std::to_string(version) +
                                               ": written by a newer program, which is needed");
  }
  return decode_content(slot.first(format::kHeaderBytes),
                        slot.subspan(format::kHeaderBytes, text_bytes));
}

}  // namespace blockmig
