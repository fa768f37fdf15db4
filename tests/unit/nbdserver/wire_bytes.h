// SPDX-License-Identifier: Apache-2.0
// Messages of the protocol, built byte by byte and independently of the code under test, from the
// specification's layouts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "blockmig/base/bytes.h"

namespace blockmig::nbd {

using ByteVector = std::vector<std::byte>;

class Wire final {
 public:
  Wire& u16(std::uint64_t value) { return number(value, 2); }
  Wire& u32(std::uint64_t value) { return number(value, 4); }
  Wire& u64(std::uint64_t value) { return number(value, 8); }
  Wire& text(std::string_view value) {
    for (const char c : value) bytes_.push_back(static_cast<std::byte>(c));
    return *this;
  }
  Wire& text32(std::string_view value) { return u32(value.size()).text(value); }
  Wire& fill(std::size_t count, std::uint8_t value) {
    bytes_.insert(bytes_.end(), count, static_cast<std::byte>(value));
    return *this;
  }
  Wire& add(const ByteVector& more) {
    bytes_.insert(bytes_.end(), more.begin(), more.end());
    return *this;
  }
  ByteVector bytes() const { return bytes_; }
  operator ByteVector() const { return bytes_; }  // NOLINT: implicit on purpose

 private:
  Wire& number(std::uint64_t value, int size) {
    for (int i = size - 1; i >= 0; --i) {
      bytes_.push_back(static_cast<std::byte>((value >> (8 * i)) & 0xff));
    }
    return *this;
  }
  ByteVector bytes_;
};

inline ByteVector join(std::initializer_list<ByteVector> parts) {
  Wire all;
  for (const ByteVector& part : parts) all.add(part);
  return all;
}
inline ByteVector pattern(std::size_t size, std::uint8_t value) { return Wire().fill(size, value); }

// Handshake.
inline ByteVector greeting() { return Wire().text("NBDMAGICIHAVEOPT").u16(3); }
inline ByteVector client_flags(std::uint32_t flags) { return Wire().u32(flags); }
inline ByteVector option(std::uint32_t number, const ByteVector& data = {}) {
  return Wire().text("IHAVEOPT").u32(number).u32(data.size()).add(data);
}
inline ByteVector option_reply(std::uint32_t number, std::uint32_t type,
                               const ByteVector& data = {}) {
  return Wire().u64(0x3e889045565a9).u32(number).u32(type).u32(data.size()).add(data);
}
inline ByteVector info_data(std::string_view name, const std::vector<int>& wanted) {
  Wire data;
  data.text32(name).u16(wanted.size());
  for (const int item : wanted) data.u16(static_cast<std::uint64_t>(item));
  return data;
}
inline ByteVector meta_data(std::string_view name, const std::vector<std::string>& queries) {
  Wire data;
  data.text32(name).u32(queries.size());
  for (const std::string& query : queries) data.text32(query);
  return data;
}

// Transmission.
inline ByteVector request(int flags, int type, std::uint64_t cookie, std::uint64_t offset,
                          std::uint64_t length, const ByteVector& payload = {}) {
  return Wire()
      .u32(0x25609513)
      .u16(static_cast<std::uint64_t>(flags))
      .u16(static_cast<std::uint64_t>(type))
      .u64(cookie)
      .u64(offset)
      .u32(length)
      .add(payload);
}
inline ByteVector extended_request(int flags, int type, std::uint64_t cookie, std::uint64_t offset,
                                   std::uint64_t length, const ByteVector& payload = {}) {
  return Wire()
      .u32(0x21e41c71)
      .u16(static_cast<std::uint64_t>(flags))
      .u16(static_cast<std::uint64_t>(type))
      .u64(cookie)
      .u64(offset)
      .u64(length)
      .add(payload);
}
inline ByteVector simple_reply(std::uint32_t error, std::uint64_t cookie,
                               const ByteVector& data = {}) {
  return Wire().u32(0x67446698).u32(error).u64(cookie).add(data);
}
inline ByteVector chunk(int flags, int type, std::uint64_t cookie, const ByteVector& payload = {}) {
  return Wire()
      .u32(0x668e33ef)
      .u16(static_cast<std::uint64_t>(flags))
      .u16(static_cast<std::uint64_t>(type))
      .u64(cookie)
      .u32(payload.size())
      .add(payload);
}
inline ByteVector extended_chunk(int flags, int type, std::uint64_t cookie, std::uint64_t offset,
                                 const ByteVector& payload = {}) {
  return Wire()
      .u32(0x6e8a278c)
      .u16(static_cast<std::uint64_t>(flags))
      .u16(static_cast<std::uint64_t>(type))
      .u64(cookie)
      .u64(offset)
      .u64(payload.size())
      .add(payload);
}
inline ByteVector error_payload(std::uint32_t error, std::string_view text) {
  return Wire().u32(error).u16(text.size()).text(text);
}

inline std::uint64_t read_be(const ByteVector& bytes, std::size_t at, int size) {
  std::uint64_t value = 0;
  for (int i = 0; i < size; ++i) {
    value = value << 8 | static_cast<std::uint8_t>(bytes.at(at + static_cast<std::size_t>(i)));
  }
  return value;
}
inline std::string read_text(const ByteVector& bytes, std::size_t at, std::size_t size) {
  std::string text;
  for (std::size_t i = 0; i < size; ++i) text += static_cast<char>(bytes.at(at + i));
  return text;
}

// Numbers by their names in the specification.
enum : std::uint32_t {
  kOptExportName = 1,
  kOptAbort = 2,
  kOptList = 3,
  kOptPeek = 4,
  kOptStartTls = 5,
  kOptInfo = 6,
  kOptGo = 7,
  kOptStructured = 8,
  kOptListMeta = 9,
  kOptSetMeta = 10,
  kOptExtended = 11,
};
enum : std::uint32_t {
  kRepAck = 1,
  kRepServer = 2,
  kRepInfo = 3,
  kRepMeta = 4,
  kErrUnsup = 0x80000001,
  kErrInvalid = 0x80000003,
  kErrUnknown = 0x80000006,
  kErrShutdown = 0x80000007,
  kErrBlockSize = 0x80000008,
  kErrTooBig = 0x80000009,
  kErrExtHeader = 0x8000000a,
};
enum : int {
  kRead = 0,
  kWrite = 1,
  kDisc = 2,
  kFlush = 3,
  kTrim = 4,
  kCache = 5,
  kWriteZeroes = 6,
  kBlockStatus = 7,
  kResize = 8,
};
enum : int { kFua = 1, kNoHole = 2, kDf = 4, kReqOne = 8, kFastZero = 16, kPayloadLen = 32 };
enum : std::uint32_t {
  kEPERM = 1,
  kEIO = 5,
  kENOMEM = 12,
  kEINVAL = 22,
  kENOSPC = 28,
  kEOVERFLOW = 75,
  kENOTSUP = 95,
  kESHUTDOWN = 108,
};
enum : int {
  kNone = 0,
  kData = 1,
  kHole = 2,
  kStatus = 5,
  kStatusExt = 6,
  kError = 0x8001,
  kErrorOffset = 0x8002
};

}  // namespace blockmig::nbd
