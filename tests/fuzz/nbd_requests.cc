// SPDX-License-Identifier: Apache-2.0
// Fuzz target: request headers and the rules. The first byte sets the negotiated state; then
// headers follow. Checked: whatever is served satisfies the contract of BlockDevice, and every
// refusal has an error value and a text.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "blockmig/base/check.h"
#include "nbdserver/request_codec.h"
#include "nbdserver/request_rules.h"

namespace blockmig::nbd {
namespace {

TransmissionRules rules_from(std::uint8_t seed) {
  TransmissionRules rules;
  rules.style = static_cast<HeaderStyle>(seed % 3);
  rules.facts.minimum_block = (seed & 4) != 0 ? 512 : 1;
  rules.facts.size_bytes = (seed & 8) != 0 ? 1ull << 50 : 1000 * 512 + ((seed & 4) != 0 ? 0 : 99);
  rules.facts.read_only = (seed & 16) != 0;
  rules.facts.can_trim = (seed & 32) != 0;
  rules.facts.can_fast_zero = (seed & 64) != 0;
  rules.has_contexts = rules.style != HeaderStyle::kSimple && (seed & 128) != 0;
  return rules;
}

void check_served(const Request& request, const TransmissionRules& rules) {
  const std::uint64_t payload = payload_bytes(request, rules.style);
  BM_CHECK(payload <= rules.max_request_bytes);
  if (request.command == Command::kFlush || request.has(kCmdFlagPayloadLen)) {
    if (request.command != Command::kWrite) return;
  }
  BM_CHECK(fits(request.offset, request.length, rules.facts.size_bytes));
  BM_CHECK(request.offset % rules.facts.minimum_block == 0);
  switch (request.command) {
    case Command::kRead:
      BM_CHECK(request.length <= rules.max_request_bytes);
      break;
    case Command::kWrite:
      BM_CHECK(!rules.facts.read_only && payload == request.length);
      break;
    case Command::kTrim:
      BM_CHECK(!rules.facts.read_only && rules.facts.can_trim);
      break;
    case Command::kWriteZeroes:
      BM_CHECK(!rules.facts.read_only);
      break;
    case Command::kBlockStatus:
      BM_CHECK(rules.has_contexts && request.length > 0);
      return;  // its length is a hint and need not be aligned
    case Command::kCache:
    case Command::kFlush:
      break;
    case Command::kDisc:
    case Command::kResize:
      BM_CHECK(false);
  }
  BM_CHECK(request.length % rules.facts.minimum_block == 0);
}

}  // namespace
}  // namespace blockmig::nbd

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace blockmig;
  using namespace blockmig::nbd;
  if (size == 0) return 0;
  const TransmissionRules rules = rules_from(data[0]);
  ConstBytes bytes = std::as_bytes(std::span(data + 1, size - 1));
  const std::size_t header = request_header_bytes(rules.style);
  while (bytes.size() >= header) {
    const auto request = decode_request(bytes, rules.style);
    bytes = bytes.subspan(header);
    if (!request) continue;
    const Verdict verdict = judge_request(*request, rules);
    switch (verdict.action) {
      case Verdict::Action::kServe:
        BM_CHECK(verdict.error == WireError::kNone && verdict.refusal == Refusal::kNone);
        check_served(*request, rules);
        break;
      case Verdict::Action::kRefuse:
        BM_CHECK(verdict.error != WireError::kNone && verdict.refusal != Refusal::kNone);
        BM_CHECK(!refusal_text(verdict.refusal, *request, rules).empty());
        break;
      case Verdict::Action::kDisconnect:
        BM_CHECK(request->command == Command::kDisc);
        break;
      case Verdict::Action::kDrop:
        BM_CHECK(payload_bytes(*request, rules.style) > 0);
        break;
    }
    const auto filter = decode_status_filter(bytes);
    BM_CHECK(!filter || filter->context_ids.size() * 4 + 8 == bytes.size());
  }
  return 0;
}
