// SPDX-License-Identifier: Apache-2.0
// The numbers of the NBD protocol, each with the section of doc/proto.md (NetworkBlockDevice
// project) that defines it. EXTENDED_HEADERS items are from the same file on the branch
// extension-ext-header. All integers on the wire are big-endian ("Conventions").
#pragma once

#include <cstddef>
#include <cstdint>

namespace blockmig::nbd {

// "Newstyle negotiation".
inline constexpr std::uint64_t kInitMagic = 0x4e42444d41474943;    ///< "NBDMAGIC"
inline constexpr std::uint64_t kOptionMagic = 0x49484156454f5054;  ///< "IHAVEOPT"
inline constexpr std::size_t kGreetingBytes = 18;
inline constexpr std::size_t kClientFlagsBytes = 4;
inline constexpr std::size_t kOptionHeaderBytes = 16;
inline constexpr std::size_t kExportNameZeroes = 124;
// "Fixed newstyle negotiation".
inline constexpr std::uint64_t kOptionReplyMagic = 0x3e889045565a9;
inline constexpr std::size_t kOptionReplyHeaderBytes = 20;

// "Handshake flags" and "Client flags": same bits.
inline constexpr std::uint16_t kFlagFixedNewstyle = 1u << 0;
inline constexpr std::uint16_t kFlagNoZeroes = 1u << 1;

/// "Conventions": strings are UTF-8 without NUL, at most this long.
inline constexpr std::size_t kMaxStringBytes = 4096;

/// "Option types".
enum class Option : std::uint32_t {
  kExportName = 1,
  kAbort = 2,
  kList = 3,
  kPeekExport = 4,  ///< withdrawn
  kStartTls = 5,
  kInfo = 6,
  kGo = 7,
  kStructuredReply = 8,
  kListMetaContext = 9,
  kSetMetaContext = 10,
  kExtendedHeaders = 11,
};

/// "Option reply types".
enum class OptionReply : std::uint32_t {
  kAck = 1,
  kServer = 2,
  kInfo = 3,
  kMetaContext = 4,
  kErrUnsup = 0x80000001,
  kErrPolicy = 0x80000002,
  kErrInvalid = 0x80000003,
  kErrPlatform = 0x80000004,
  kErrTlsReqd = 0x80000005,
  kErrUnknown = 0x80000006,
  kErrShutdown = 0x80000007,
  kErrBlockSizeReqd = 0x80000008,
  kErrTooBig = 0x80000009,
  kErrExtHeaderReqd = 0x8000000a,
};

/// "NBD_REP_INFO".
enum class InfoType : std::uint16_t {
  kExport = 0,
  kName = 1,
  kDescription = 2,
  kBlockSize = 3,
};

// "Transmission flags".
inline constexpr std::uint16_t kFlagHasFlags = 1u << 0;
inline constexpr std::uint16_t kFlagReadOnly = 1u << 1;
inline constexpr std::uint16_t kFlagSendFlush = 1u << 2;
inline constexpr std::uint16_t kFlagSendFua = 1u << 3;
inline constexpr std::uint16_t kFlagSendTrim = 1u << 5;
inline constexpr std::uint16_t kFlagSendWriteZeroes = 1u << 6;
inline constexpr std::uint16_t kFlagSendDf = 1u << 7;
inline constexpr std::uint16_t kFlagCanMultiConn = 1u << 8;
inline constexpr std::uint16_t kFlagSendCache = 1u << 10;
inline constexpr std::uint16_t kFlagSendFastZero = 1u << 11;
inline constexpr std::uint16_t kFlagBlockStatusPayload = 1u << 12;  ///< EXTENDED_HEADERS

/// "Size constraints": an advertised minimum is a power of two up to this.
inline constexpr std::uint32_t kMaxMinimumBlockBytes = 65536;
/// "Size constraints": what a careful client assumes, and the least preferred size.
inline constexpr std::uint32_t kPortableBlockBytes = 512;
/// The same: the longest payload that such a client sends or asks for.
inline constexpr std::uint32_t kPortablePayloadBytes = 32u << 20;

// "Request message", in both its forms.
inline constexpr std::uint32_t kRequestMagic = 0x25609513;
inline constexpr std::size_t kRequestBytes = 28;
inline constexpr std::uint32_t kExtendedRequestMagic = 0x21e41c71;
inline constexpr std::size_t kExtendedRequestBytes = 32;
// "Simple reply message".
inline constexpr std::uint32_t kSimpleReplyMagic = 0x67446698;
inline constexpr std::size_t kSimpleReplyBytes = 16;
// "Structured reply chunk message".
inline constexpr std::uint32_t kStructuredReplyMagic = 0x668e33ef;
inline constexpr std::size_t kStructuredReplyBytes = 20;
// "Extended reply chunk message" of EXTENDED_HEADERS.
inline constexpr std::uint32_t kExtendedReplyMagic = 0x6e8a278c;
inline constexpr std::size_t kExtendedReplyBytes = 32;

/// "Request types". The wire may carry any other number too.
enum class Command : std::uint16_t {
  kRead = 0,
  kWrite = 1,
  kDisc = 2,
  kFlush = 3,
  kTrim = 4,
  kCache = 5,
  kWriteZeroes = 6,
  kBlockStatus = 7,
  kResize = 8,  ///< experimental; refused
};

// "Command flags".
inline constexpr std::uint16_t kCmdFlagFua = 1u << 0;
inline constexpr std::uint16_t kCmdFlagNoHole = 1u << 1;
inline constexpr std::uint16_t kCmdFlagDf = 1u << 2;
inline constexpr std::uint16_t kCmdFlagReqOne = 1u << 3;
inline constexpr std::uint16_t kCmdFlagFastZero = 1u << 4;
inline constexpr std::uint16_t kCmdFlagPayloadLen = 1u << 5;  ///< EXTENDED_HEADERS

// "Structured reply flags".
inline constexpr std::uint16_t kReplyFlagDone = 1u << 0;

/// "Structured reply types".
enum class ChunkType : std::uint16_t {
  kNone = 0,
  kOffsetData = 1,
  kOffsetHole = 2,
  kBlockStatus = 5,
  kBlockStatusExt = 6,  ///< EXTENDED_HEADERS
  kError = 0x8001,
  kErrorOffset = 0x8002,
};

/// NBD_CMD_READ: a read with DF of up to this many bytes must be answered whole.
inline constexpr std::uint32_t kMinUnfragmentedBytes = 65536;

// "base:allocation metadata context".
inline constexpr std::uint32_t kStateHole = 1u << 0;
inline constexpr std::uint32_t kStateZero = 1u << 1;
/// qemu:dirty-bitmap (QEMU's docs/interop/nbd.txt).
inline constexpr std::uint32_t kStateDirty = 1u << 0;

/// "Error values".
enum class WireError : std::uint32_t {
  kNone = 0,
  kPerm = 1,
  kIo = 5,
  kNoMem = 12,
  kInval = 22,
  kNoSpc = 28,
  kOverflow = 75,
  kNotSup = 95,
  kShutdown = 108,
};

/// Which headers the two sides agreed on.
enum class HeaderStyle : std::uint8_t {
  kSimple,      ///< nothing negotiated
  kStructured,  ///< NBD_OPT_STRUCTURED_REPLY
  kExtended,    ///< NBD_OPT_EXTENDED_HEADERS
};

}  // namespace blockmig::nbd
