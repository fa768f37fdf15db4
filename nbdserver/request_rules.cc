// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/request_rules.h"

#include <algorithm>

#include "blockmig/base/bytes.h"

namespace blockmig::nbd {
namespace {

Verdict refuse(WireError error, Refusal refusal) {
  return {Verdict::Action::kRefuse, error, refusal};
}

/// FUA is legal on every command, since it is always advertised ("Command flags"); 0 for a command
/// that does not exist.
std::uint16_t legal_flags(Command command, const TransmissionRules& rules) {
  const bool extended = rules.style == HeaderStyle::kExtended;
  std::uint32_t flags = kCmdFlagFua;
  switch (command) {
    case Command::kRead:
      if (rules.style != HeaderStyle::kSimple) flags |= kCmdFlagDf;
      break;
    case Command::kWrite:
      if (extended) flags |= kCmdFlagPayloadLen;
      break;
    case Command::kWriteZeroes:
      flags |= kCmdFlagNoHole | kCmdFlagFastZero;
      break;
    case Command::kBlockStatus:
      flags |= kCmdFlagReqOne;
      if (extended && rules.has_contexts) flags |= kCmdFlagPayloadLen;
      break;
    case Command::kFlush:
    case Command::kTrim:
    case Command::kCache:
    case Command::kDisc:
      break;
    case Command::kResize:
      return 0;
  }
  return static_cast<std::uint16_t>(flags);
}

bool is_known(Command command) {
  return static_cast<std::uint16_t>(command) <= static_cast<std::uint16_t>(Command::kBlockStatus);
}

bool is_aligned(std::uint64_t value, std::uint32_t power_of_two) {
  return (value & (power_of_two - 1)) == 0;
}

Verdict judge_range(std::uint64_t offset, std::uint64_t length, const TransmissionRules& rules,
                    WireError beyond_end) {
  if (!fits(offset, length, rules.facts.size_bytes)) return refuse(beyond_end, Refusal::kBeyondEnd);
  const std::uint32_t block = rules.facts.minimum_block;
  if (!is_aligned(offset, block) || !is_aligned(length, block)) {
    return refuse(WireError::kInval, Refusal::kUnaligned);
  }
  return {};
}

Verdict judge_read(const Request& request, const TransmissionRules& rules) {
  const Verdict range = judge_range(request.offset, request.length, rules, WireError::kInval);
  if (range.action != Verdict::Action::kServe) return range;
  // A chunk's data never exceeds the advertised maximum ("Structured reply types"), so what must be
  // one piece is bounded by it; a split answer only by what we buffer.
  const bool one_piece = rules.style == HeaderStyle::kSimple || request.has(kCmdFlagDf);
  const std::uint32_t limit = one_piece
                                  ? rules.facts.maximum_payload
                                  : std::max(rules.max_request_bytes, rules.facts.maximum_payload);
  if (request.length > limit) return refuse(WireError::kOverflow, Refusal::kTooLong);
  return {};
}

Verdict judge_change(const Request& request, const TransmissionRules& rules) {
  if (rules.facts.read_only) return refuse(WireError::kPerm, Refusal::kReadOnly);
  const bool is_trim = request.command == Command::kTrim;
  const Verdict range = judge_range(request.offset, request.length, rules,
                                    is_trim ? WireError::kInval : WireError::kNoSpc);
  if (range.action != Verdict::Action::kServe) return range;
  if (is_trim && !rules.facts.can_trim) return refuse(WireError::kInval, Refusal::kNotOffered);
  if (request.has(kCmdFlagFastZero) && !rules.facts.can_fast_zero) {
    return refuse(WireError::kNotSup, Refusal::kNotFast);
  }
  return {};
}

}  // namespace

Verdict judge_status_range(const Request& request, std::uint64_t length,
                           const TransmissionRules& rules) {
  if (length == 0) return refuse(WireError::kInval, Refusal::kNoExtent);
  if (!fits(request.offset, length, rules.facts.size_bytes)) {
    return refuse(WireError::kInval, Refusal::kBeyondEnd);
  }
  // The length is only a hint ("Metadata querying"), so it need not be aligned. But one extent
  // that may not be longer than part of a block cannot be given in whole blocks.
  const std::uint32_t block = rules.facts.minimum_block;
  const bool less_than_a_block = request.has(kCmdFlagReqOne) && length < block;
  if (!is_aligned(request.offset, block) || less_than_a_block) {
    return refuse(WireError::kInval, Refusal::kUnaligned);
  }
  return {};
}

Verdict judge_request(const Request& request, const TransmissionRules& rules) {
  // An absurd payload is a denial of service attack ("Size constraints", "Request message"),
  // whatever the command.
  const std::uint64_t payload = payload_bytes(request, rules.style);
  const std::uint32_t payload_limit =
      rules.style == HeaderStyle::kExtended
          ? rules.facts.maximum_payload
          : std::max(rules.max_request_bytes, rules.facts.maximum_payload);
  // Up to 32 MiB is never abuse: such a payload is taken, and thrown away. An extended client knows
  // the limit.
  const std::uint32_t abuse = rules.style == HeaderStyle::kExtended
                                  ? payload_limit
                                  : std::max(payload_limit, kPortablePayloadBytes);
  if (payload > abuse) return {Verdict::Action::kDrop, WireError::kNone, Refusal::kTooLong};
  if (request.command == Command::kDisc) return {Verdict::Action::kDisconnect};
  if (!is_known(request.command)) return refuse(WireError::kInval, Refusal::kUnknownCommand);

  const std::uint16_t wrong = request.flags & ~legal_flags(request.command, rules);
  if (wrong == kCmdFlagPayloadLen && rules.style == HeaderStyle::kExtended) {
    return refuse(WireError::kInval, Refusal::kPayloadUnexpected);
  }
  if (wrong != 0) return refuse(WireError::kInval, Refusal::kUnknownFlags);

  switch (request.command) {
    case Command::kRead:
      return judge_read(request, rules);
    case Command::kWrite:
      if (rules.style == HeaderStyle::kExtended && !request.has(kCmdFlagPayloadLen)) {
        return refuse(WireError::kInval, Refusal::kPayloadExpected);
      }
      if (payload > payload_limit) return refuse(WireError::kOverflow, Refusal::kTooLong);
      return judge_change(request, rules);
    case Command::kTrim:
    case Command::kWriteZeroes:
      return judge_change(request, rules);
    case Command::kCache:
      return judge_range(request.offset, request.length, rules, WireError::kInval);
    case Command::kBlockStatus:
      if (!rules.has_contexts) return refuse(WireError::kInval, Refusal::kNotOffered);
      if (!request.has(kCmdFlagPayloadLen)) {
        return judge_status_range(request, request.length, rules);
      }
      if (request.length > kMaxStatusPayloadBytes) {
        return refuse(WireError::kInval, Refusal::kPayloadTooLong);
      }
      return {};
    case Command::kFlush:  // offset and length are reserved; be lenient
    case Command::kDisc:
    case Command::kResize:
      break;
  }
  return {};
}

namespace {
std::string command_name(Command command) {
  switch (command) {
    case Command::kRead:
      return "read";
    case Command::kWrite:
      return "write";
    case Command::kDisc:
      return "disconnect";
    case Command::kFlush:
      return "flush";
    case Command::kTrim:
      return "trim";
    case Command::kCache:
      return "cache";
    case Command::kWriteZeroes:
      return "write-zeroes";
    case Command::kBlockStatus:
      return "block-status";
    case Command::kResize:
      break;
  }
  return "command " + std::to_string(static_cast<unsigned>(command));
}
}  // namespace

std::string refusal_text(Refusal refusal, const Request& request, const TransmissionRules& rules) {
  const std::string what = command_name(request.command) + " of " + std::to_string(request.length) +
                           " bytes at offset " + std::to_string(request.offset);
  switch (refusal) {
    case Refusal::kNone:
      break;
    case Refusal::kUnknownCommand:
      return command_name(request.command) + " is not supported";
    case Refusal::kUnknownFlags:
      return command_name(request.command) + " does not take flags " +
             std::to_string(request.flags);
    case Refusal::kPayloadExpected:
      return what + " came without its payload flag";
    case Refusal::kPayloadUnexpected:
      return command_name(request.command) + " does not take a payload";
    case Refusal::kPayloadTooLong:
      return "a payload of " + std::to_string(request.length) +
             " bytes names more contexts than can be selected";
    case Refusal::kReadOnly:
      return what + ": the export is read-only";
    case Refusal::kBeyondEnd:
      return what + " is beyond the end of the export (" + std::to_string(rules.facts.size_bytes) +
             " bytes)";
    case Refusal::kUnaligned:
      return what + " is not aligned to the minimum block size (" +
             std::to_string(rules.facts.minimum_block) + " bytes)";
    case Refusal::kTooLong:
      return what + " is longer than the server takes or answers in one piece";
    case Refusal::kNotOffered:
      return command_name(request.command) + " was not negotiated";
    case Refusal::kNoExtent:
      return command_name(request.command) + " needs a length";
    case Refusal::kNotFast:
      return what + " would not be faster than writing";
    case Refusal::kShutdown:
      return "the server is shutting down";
  }
  return what;
}

}  // namespace blockmig::nbd
