// SPDX-License-Identifier: Apache-2.0
#include "blockmig/journal/record_frame.h"

#include <span>

#include "blockmig/base/crc32c.h"
#include "blockmig/base/endian.h"

namespace blockmig::record_frame {
namespace {

namespace format = record_format;

ConstBytes bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

/// Of key and value together, so that a value under another's key is found out. The key's length
/// comes first: a byte cannot move from one to the other.
std::uint32_t checksum(std::string_view key, std::string_view value) {
  char length[4];
  store_le(length, static_cast<std::uint32_t>(key.size()));
  std::uint32_t crc = crc32c(bytes_of({length, sizeof length}));
  crc = crc32c(bytes_of(key), crc);
  return crc32c(bytes_of(value), crc);
}

}  // namespace

void Writer::number(std::uint64_t value) {
  char bytes[8];
  store_le(bytes, value);
  payload_.append(bytes, sizeof bytes);
}

void Writer::text(std::string_view value) {
  number(value.size());
  payload_ += value;
}

std::string Writer::frame(format::Kind kind, std::string_view key, std::uint8_t version) const {
  std::string value(format::kHeaderBytes, '\0');
  value[format::kKindAt] = static_cast<char>(kind);
  value[format::kVersionAt] = static_cast<char>(version);
  store_le(&value[format::kPayloadBytesAt], static_cast<std::uint32_t>(payload_.size()));
  value += payload_;
  char crc[format::kCrcBytes];
  store_le(crc, checksum(key, value));
  value.append(crc, sizeof crc);
  return value;
}

std::uint64_t Reader::number() {
  if (left_.size() < 8) {
    ok_ = false;
    return 0;
  }
  const auto value = load_le<std::uint64_t>(left_.data());
  left_.remove_prefix(8);
  return value;
}

std::string Reader::text() {
  const std::uint64_t length = number();
  if (!ok_ || length > left_.size()) {
    ok_ = false;
    return {};
  }
  std::string value(left_.substr(0, length));
  left_.remove_prefix(length);
  return value;
}

std::string_view Reader::rest() {
  const std::string_view all = left_;
  left_ = {};
  return ok_ ? all : std::string_view();
}

Error damaged(std::string_view key, std::string_view what) {
  return Error(ErrorCode::kProtocol,
               "journal record '" + std::string(key) + "' is damaged: " + std::string(what));
}

Result<Opened> open_frame(format::Kind kind, std::string_view key, std::string_view value,
                          std::uint8_t newest) {
  if (value.size() < format::kHeaderBytes + format::kCrcBytes) return damaged(key, "truncated");
  const std::string_view covered = value.substr(0, value.size() - format::kCrcBytes);
  const auto crc = load_le<std::uint32_t>(value.data() + covered.size());
  // Before the version: what is damaged must not pass for something newer.
  if (crc != checksum(key, covered)) return damaged(key, "checksum");
  const auto version = static_cast<std::uint8_t>(value[format::kVersionAt]);
  if (value[format::kKindAt] != static_cast<char>(kind)) {
    return damaged(key, "another kind of record");
  }
  if (version > newest) {
    return Error(ErrorCode::kPrecondition, "journal record '" + std::string(key) +
                                               "' has version " + std::to_string(version) +
                                               ", which is newer than this program");
  }
  if (version == 0) return damaged(key, "version 0");
  if (load_le<std::uint16_t>(value.data() + format::kZeroAt) != 0) {
    return damaged(key, "unknown flags");
  }
  const std::string_view payload = covered.substr(format::kHeaderBytes);
  if (load_le<std::uint32_t>(value.data() + format::kPayloadBytesAt) != payload.size()) {
    return damaged(key, "payload length");
  }
  return Opened{version, payload};
}

Result<std::string> checked(std::string_view key, std::string_view name, std::string value) {
  if (name.empty()) return Error(ErrorCode::kInvalid, "journal record without a name");
  if (key.size() > format::kMaxKeyBytes || value.size() > format::kMaxValueBytes) {
    return Error(ErrorCode::kInvalid, "journal record '" + std::string(key.substr(0, 100)) +
                                          "' exceeds its limit (" + std::to_string(value.size()) +
                                          " bytes)");
  }
  return value;
}

}  // namespace blockmig::record_frame
