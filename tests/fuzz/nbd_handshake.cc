// SPDX-License-Identifier: Apache-2.0
// Fuzz target: the negotiation. The first byte says in what pieces the rest arrives.
// Checked: it always makes progress or wants more, takes no more than it was given, bounds its
// output, and gives the same answers for every way of cutting the input (trap 20).
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "blockmig/base/check.h"
#include "nbd_fuzz_export.h"
#include "nbdserver/handshake.h"

namespace blockmig::nbd {
namespace {

struct Outcome {
  std::vector<std::byte> output;
  Handshake::State state = Handshake::State::kClosed;
  std::size_t consumed = 0;
};

Outcome talk(ConstBytes script, std::size_t piece) {
  FuzzDirectory directory;
  Handshake handshake(directory, NbdServerLimits{});
  Outcome outcome;
  std::vector<std::byte> input;
  std::size_t given = 0;
  for (;;) {
    const ConstBytes out = handshake.output();
    BM_CHECK(out.size() <= 128 * 1024);
    outcome.output.insert(outcome.output.end(), out.begin(), out.end());
    handshake.clear_output();
    outcome.state = handshake.state();
    if (outcome.state == Handshake::State::kClosed ||
        outcome.state == Handshake::State::kTransmission) {
      break;
    }
    const std::size_t taken = handshake.feed(input);
    BM_CHECK(taken <= input.size());
    input.erase(input.begin(), input.begin() + static_cast<std::ptrdiff_t>(taken));
    outcome.consumed += taken;
    const bool idle =
        taken == 0 && handshake.output().empty() && handshake.state() == outcome.state;
    if (!idle) continue;
    if (given == script.size()) break;
    BM_CHECK(input.size() < Handshake::kMaxInputBytes);
    const std::size_t more =
        std::min({piece, script.size() - given, Handshake::kMaxInputBytes - input.size()});
    const ConstBytes next = script.subspan(given, more);
    input.insert(input.end(), next.begin(), next.end());
    given += more;
  }
  if (outcome.state == Handshake::State::kTransmission) {
    const Negotiated result = handshake.take_result();
    BM_CHECK(result.disk != nullptr);
    BM_CHECK(result.rules.has_contexts == !result.contexts.empty());
    BM_CHECK(result.contexts.empty() || result.rules.style != HeaderStyle::kSimple);
  }
  return outcome;
}

}  // namespace
}  // namespace blockmig::nbd

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace blockmig;
  if (size == 0) return 0;
  const ConstBytes script = std::as_bytes(std::span(data + 1, size - 1));
  const auto pieces = nbd::talk(script, std::size_t{data[0]} + 1);
  const auto whole = nbd::talk(script, SIZE_MAX);
  BM_CHECK(pieces.output == whole.output && pieces.state == whole.state &&
           pieces.consumed == whole.consumed);
  return 0;
}
