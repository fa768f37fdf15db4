// SPDX-License-Identifier: Apache-2.0
// Fuzz target: the options, each in a frame that is right, so that the input goes into what is in
// it. The input is a list of: a byte that picks the option, one that picks how its data begins, one
// for the length of what follows raw. Checked: every option is answered by replies to itself of
// which exactly the last is final, texts are strings, INFO and GO tell the export first, the
// negotiation goes on in step, and what GO entered is consistent.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "blockmig/base/check.h"
#include "blockmig/base/endian.h"
#include "nbd_fuzz_export.h"
#include "nbdserver/handshake.h"
#include "nbdserver/reply_codec.h"

namespace blockmig::nbd {
namespace {

constexpr std::array kOptions = {
    Option::kExportName,
    Option::kAbort,
    Option::kList,
    Option::kPeekExport,
    Option::kStartTls,
    Option::kInfo,
    Option::kGo,
    Option::kStructuredReply,
    Option::kListMetaContext,
    Option::kSetMetaContext,
    Option::kExtendedHeaders,
    static_cast<Option>(77),
};
constexpr std::size_t kMostReplies = 100;

void append(std::vector<std::byte>& out, std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void append_be32(std::vector<std::byte>& out, std::uint32_t value) {
  std::array<std::byte, 4> bytes;
  store_be(bytes.data(), value);
  out.insert(out.end(), bytes.begin(), bytes.end());
}

/// How the data of an option begins; what is raw follows.
void append_beginning(std::vector<std::byte>& out, std::uint8_t shape) {
  const std::string_view name = (shape & 8) != 0 ? "disk0" : "missing";
  switch (shape & 7) {
    case 1:  // a name as EXPORT_NAME has it
      return append(out, name);
    case 2:  // a name with its length: INFO, GO, both META options
    case 3:
    case 4:
      append_be32(out, static_cast<std::uint32_t>(name.size()));
      append(out, name);
      if ((shape & 7) == 3) {  // a count, a query
        append_be32(out, (shape >> 4) + 1u);
        append_be32(out, 15);
        append(out, "base:allocation");
      } else if ((shape & 7) == 4) {  // INFO's count of requests
        out.push_back(std::byte{0});
        out.push_back(std::byte(shape >> 4));
      }
      return;
    default:
      return;
  }
}

/// Checks the replies to one option.
void check_replies(ConstBytes out, Option option, bool entered) {
  if (option == Option::kExportName) {
    BM_CHECK(entered ? out.size() == 10 || out.size() == 134 : out.empty());
    return;
  }
  std::size_t replies = 0;
  bool final = false;
  while (!out.empty()) {
    BM_CHECK(!final && out.size() >= kOptionReplyHeaderBytes && ++replies <= kMostReplies);
    BM_CHECK(load_be<std::uint64_t>(out.data()) == kOptionReplyMagic);
    BM_CHECK(load_be<std::uint32_t>(out.data() + 8) == static_cast<std::uint32_t>(option));
    const auto type = load_be<std::uint32_t>(out.data() + 12);
    const auto length = load_be<std::uint32_t>(out.data() + 16);
    BM_CHECK(length <= out.size() - kOptionReplyHeaderBytes);
    const ConstBytes data = out.subspan(kOptionReplyHeaderBytes, length);
    const bool error = (type & 0x80000000) != 0;
    final = error || type == static_cast<std::uint32_t>(OptionReply::kAck);
    if (error) {
      const std::string_view text(reinterpret_cast<const char*>(data.data()), data.size());
      BM_CHECK(text.size() <= kMaxStringBytes && is_wire_string(text));
      BM_CHECK(!entered);
    } else if (final) {
      BM_CHECK(length == 0);
    } else if (type == static_cast<std::uint32_t>(OptionReply::kMetaContext)) {
      BM_CHECK(length > 4);
    } else if (type == static_cast<std::uint32_t>(OptionReply::kInfo)) {
      BM_CHECK(length >= 2 && (option == Option::kInfo || option == Option::kGo));
    }
    out = out.subspan(kOptionReplyHeaderBytes + length);
  }
  BM_CHECK(final);
}

/// Feeds everything, and takes every answer.
std::vector<std::byte> answer(Handshake& handshake, std::vector<std::byte> input) {
  std::vector<std::byte> output;
  for (;;) {
    const ConstBytes out = handshake.output();
    output.insert(output.end(), out.begin(), out.end());
    const bool said = !out.empty();
    handshake.clear_output();
    const Handshake::State before = handshake.state();
    if (before == Handshake::State::kClosed || before == Handshake::State::kTransmission) break;
    const std::size_t most = std::min(input.size(), Handshake::kMaxInputBytes);
    const std::size_t taken = handshake.feed(ConstBytes(input).first(most));
    input.erase(input.begin(), input.begin() + static_cast<std::ptrdiff_t>(taken));
    const bool idle = taken == 0 && !said && handshake.output().empty();
    if (idle && handshake.state() == before) break;
  }
  return output;
}

std::vector<std::byte> frame(Option option, ConstBytes data) {
  std::vector<std::byte> bytes;
  append(bytes, "IHAVEOPT");
  append_be32(bytes, static_cast<std::uint32_t>(option));
  append_be32(bytes, static_cast<std::uint32_t>(data.size()));
  bytes.insert(bytes.end(), data.begin(), data.end());
  return bytes;
}

/// A client that negotiates without end is told so, where there is a reply for it, and cut off.
bool reached_a_limit(const Handshake& handshake) {
  return handshake.state() == Handshake::State::kClosed &&
         handshake.failure() == NbdHandshakeFailure::kLimit;
}

void run(ConstBytes program) {
  FuzzDirectory directory;
  Handshake handshake(directory, NbdServerLimits{});
  std::vector<std::byte> flags;
  append_be32(flags, kFlagFixedNewstyle | (program.size() % 2 == 0 ? kFlagNoZeroes : 0u));
  BM_CHECK(answer(handshake, flags).size() == kGreetingBytes);
  while (program.size() >= 3 && handshake.state() == Handshake::State::kOption) {
    const Option option = kOptions[std::to_integer<std::size_t>(program[0]) % kOptions.size()];
    std::vector<std::byte> data;
    append_beginning(data, std::to_integer<std::uint8_t>(program[1]));
    const std::size_t raw = std::min(std::to_integer<std::size_t>(program[2]), program.size() - 3);
    const ConstBytes rest = program.subspan(3, raw);
    data.insert(data.end(), rest.begin(), rest.end());
    program = program.subspan(3 + raw);

    const std::vector<std::byte> out = answer(handshake, frame(option, data));
    const bool entered = handshake.state() == Handshake::State::kTransmission;
    const bool closed = handshake.state() == Handshake::State::kClosed;
    if (closed && out.empty()) {
      BM_CHECK(option == Option::kExportName || reached_a_limit(handshake));
      return;
    }
    check_replies(out, option, entered);
    BM_CHECK(!entered || option == Option::kGo || option == Option::kExportName);
    const bool ends = option == Option::kAbort || reached_a_limit(handshake);
    BM_CHECK(closed == ends || entered);
  }
  if (handshake.state() == Handshake::State::kTransmission) {
    const Negotiated result = handshake.take_result();
    BM_CHECK(result.disk != nullptr && result.rules.has_contexts == !result.contexts.empty());
  } else if (handshake.state() == Handshake::State::kOption) {
    const std::vector<std::byte> out = answer(handshake, frame(Option::kAbort, {}));
    if (!out.empty() || !reached_a_limit(handshake)) check_replies(out, Option::kAbort, false);
  }
}

}  // namespace
}  // namespace blockmig::nbd

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 60000) return 0;
  blockmig::nbd::run(std::as_bytes(std::span(data, size)));
  return 0;
}
