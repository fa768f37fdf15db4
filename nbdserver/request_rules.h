// SPDX-License-Identifier: Apache-2.0
// What is to be done with a request, decided from its header alone: a pure function of values.
//
// It checks, in this order: an absurd payload, unknown command, flags, export read-only, range
// (wrap-safe), alignment, size limits. What passes satisfies the contract of BlockDevice. Pure; any
// thread.
#pragma once

#include <cstdint>
#include <string>

#include "nbdserver/export_facts.h"
#include "nbdserver/request_codec.h"
#include "nbdserver/wire.h"

namespace blockmig::nbd {

constexpr bool changes_data(Command command) {
  return command == Command::kWrite || command == Command::kTrim ||
         command == Command::kWriteZeroes;
}

/// Of one client.
constexpr std::size_t kMaxSelectedContexts = 64;
/// The length of the effect, and a number for each context ("NBD_CMD_BLOCK_STATUS"). A longer
/// payload names one twice or one that was not selected; only a WRITE may bring much data.
constexpr std::uint64_t kMaxStatusPayloadBytes = 8 + 4 * kMaxSelectedContexts;

/// What was agreed on for one connection; constant while it transmits.
struct TransmissionRules {
  HeaderStyle style = HeaderStyle::kSimple;
  ExportFacts facts;
  std::uint32_t max_request_bytes = 64u << 20;  ///< payload of one WRITE, data of one READ
  bool has_contexts = false;
};

enum class Refusal : std::uint8_t {
  kNone,
  kUnknownCommand,
  kUnknownFlags,
  kPayloadExpected,    ///< an extended WRITE without PAYLOAD_LEN
  kPayloadUnexpected,  ///< PAYLOAD_LEN on a command that has no payload form
  kPayloadTooLong,     ///< BLOCK_STATUS naming more contexts than a client can have selected
  kReadOnly,
  kBeyondEnd,
  kUnaligned,
  kTooLong,
  kNotOffered,  ///< TRIM or BLOCK_STATUS that was not advertised or negotiated
  kNoExtent,    ///< BLOCK_STATUS of zero length
  kNotFast,     ///< FAST_ZERO where the device is never fast
  kShutdown,
};

struct Verdict {
  enum class Action : std::uint8_t {
    kServe,
    kRefuse,      ///< consume the payload, then answer `error`
    kDisconnect,  ///< DISC: finish what is in flight, answer nothing
    kDrop,        ///< absurd: as for DISC, but the peer is at fault
  };
  Action action = Action::kServe;
  WireError error = WireError::kNone;
  Refusal refusal = Refusal::kNone;
};

Verdict judge_request(const Request& request, const TransmissionRules& rules);

/// The second half of judging a BLOCK_STATUS with payload: its `length` is known only then.
Verdict judge_status_range(const Request& request, std::uint64_t length,
                           const TransmissionRules& rules);

/// One sentence for the person at the client.
std::string refusal_text(Refusal refusal, const Request& request, const TransmissionRules& rules);

}  // namespace blockmig::nbd
