// SPDX-License-Identifier: Apache-2.0
// The frame of the negotiation; the options are in handshake_options.cc.
#include "nbdserver/handshake.h"

#include <algorithm>
#include <cstring>

#include "blockmig/base/check.h"
#include "blockmig/base/endian.h"
#include "nbdserver/byte_reader.h"
#include "nbdserver/reply_codec.h"

namespace blockmig::nbd {
namespace {

bool is_served(Option option) {
  switch (option) {
    case Option::kExportName:
    case Option::kAbort:
    case Option::kList:
    case Option::kStartTls:
    case Option::kInfo:
    case Option::kGo:
    case Option::kStructuredReply:
    case Option::kListMetaContext:
    case Option::kSetMetaContext:
    case Option::kExtendedHeaders:
      return true;
    case Option::kPeekExport:
      break;
  }
  return false;
}

}  // namespace

Handshake::Handshake(ExportDirectory& directory, const NbdServerLimits& limits, Tls tls)
    : directory_(directory), limits_(limits), tls_(tls) {
  output_.resize(kGreetingBytes);
  store_be(output_.data(), kInitMagic);
  store_be(output_.data() + 8, kOptionMagic);
  store_be(output_.data() + 16, static_cast<std::uint16_t>(kFlagFixedNewstyle | kFlagNoZeroes));
}

Handshake::Handshake(ExportDirectory& directory, const NbdServerLimits& limits,
                     const Carried& carried)
    : directory_(directory),
      limits_(limits),
      tls_(Tls::kInside),
      state_(State::kOption),
      options_seen_(carried.options_seen),
      bytes_seen_(carried.bytes_seen),
      bytes_skipped_(carried.bytes_skipped),
      looks_(carried.looks),
      looks_granted_(carried.looks_granted),
      fixed_newstyle_(carried.fixed_newstyle),
      no_zeroes_(carried.no_zeroes) {}

bool Handshake::needs_tls(Option option) const {
  if (option == Option::kStartTls || option == Option::kAbort) return false;
  if (tls_ == Tls::kRequiredButList) return option != Option::kList;
  return tls_ == Tls::kRequired;
}

bool Handshake::asks_for_late(ConstBytes input) const {
  if (state_ != State::kOption || shutting_down_ || input.size() < kOptionHeaderBytes) return false;
  if (load_be<std::uint64_t>(input.data()) != kOptionMagic) return false;
  const auto option = static_cast<Option>(load_be<std::uint32_t>(input.data() + 8));
  const auto length = load_be<std::uint32_t>(input.data() + 12);
  const ConstBytes rest = input.subspan(kOptionHeaderBytes);
  if (needs_tls(option) || rest.size() < length) return false;
  ByteReader data(rest.first(length));
  std::optional<std::string_view> name;
  if (option == Option::kExportName) {
    name = data.text(length);
  } else if (option == Option::kInfo || option == Option::kGo ||
             option == Option::kSetMetaContext || option == Option::kListMetaContext) {
    name = data.string32(kMaxStringBytes);
  }
  return name && directory_.find(*name) == nullptr && directory_.is_late(*name);
}

std::size_t Handshake::feed(ConstBytes input) {
  switch (state_) {
    case State::kClientFlags:
      return feed_client_flags(input);
    case State::kOption:
      return feed_option(input);
    case State::kSkipping:
      return feed_skipped(input);
    case State::kListing:
      continue_listing();
      return 0;
    case State::kTransmission:
    case State::kStartTls:
    case State::kClosed:
      break;
  }
  return 0;
}

std::size_t Handshake::feed_client_flags(ConstBytes input) {
  if (input.size() < kClientFlagsBytes) return 0;
  const auto flags = load_be<std::uint32_t>(input.data());
  bytes_seen_ += kClientFlagsBytes;
  fixed_newstyle_ = (flags & kFlagFixedNewstyle) != 0;
  no_zeroes_ = (flags & kFlagNoZeroes) != 0;
  // "Client flags": the server MUST drop the connection on unknown ones.
  if ((flags & ~std::uint32_t{kFlagFixedNewstyle | kFlagNoZeroes}) == 0) {
    state_ = State::kOption;
  } else {
    close();
  }
  return kClientFlagsBytes;
}

std::size_t Handshake::feed_option(ConstBytes input) {
  // A wrong magic is noticed with its first eight bytes: such a peer may never send the rest.
  if (input.size() < sizeof kOptionMagic) return 0;
  if (load_be<std::uint64_t>(input.data()) != kOptionMagic) {
    close();
    return 0;
  }
  if (input.size() < kOptionHeaderBytes) return 0;
  const auto option = static_cast<Option>(load_be<std::uint32_t>(input.data() + 8));
  const auto length = load_be<std::uint32_t>(input.data() + 12);

  if (!is_served(option) ||
      length > std::min<std::size_t>(kMaxOptionBytes, limits_.max_option_bytes)) {
    if (count(option, kOptionHeaderBytes)) start_skipping(option, length);
    return kOptionHeaderBytes;
  }
  const std::size_t whole = kOptionHeaderBytes + length;
  if (input.size() < whole) return 0;
  if (!count(option, whole)) return whole;
  has_bytes_behind_ = input.size() > whole;
  found_ = false;
  dispatch(option, input.subspan(kOptionHeaderBytes, length));
  if (found_ && looks_ < looks_granted_) {
    ++looks_;
    --options_seen_;
    bytes_seen_ -= whole;
  }
  return whole;
}

bool Handshake::count(Option option, std::size_t bytes) {
  bytes_seen_ += bytes;
  ++options_seen_;
  const bool in_options = options_seen_ <= limits_.max_options;
  if (in_options && bytes_seen_ <= limits_.max_handshake_bytes) return true;
  // There is no error reply to EXPORT_NAME, nor to whoever knows no other option.
  if (fixed_newstyle_ && option != Option::kExportName) {
    reply_error(option, OptionReply::kErrTooBig,
                in_options ? "this server takes no more bytes before an export is chosen"
                           : "this server takes no more options before an export is chosen");
  }
  close(NbdHandshakeFailure::kLimit);
  return false;
}

void Handshake::start_skipping(Option option, std::uint32_t length) {
  // Not fixed newstyle: EXPORT_NAME is the only option there is, and it has no error reply.
  const bool has_no_error = !fixed_newstyle_ || option == Option::kExportName;
  if (has_no_error) return close();
  if (bytes_skipped_ + length > limits_.max_skipped_bytes) {
    reply_error(option, OptionReply::kErrTooBig,
                "this server skips no more data before an export is chosen");
    return close(NbdHandshakeFailure::kLimit);
  }
  if (option == Option::kSetMetaContext) contexts_.clear();  // also when it fails
  if (shutting_down_ && option != Option::kAbort) {
    reply_error(option, OptionReply::kErrShutdown, "the server is shutting down");
  } else if (option == Option::kAbort) {
    on_abort();  // its data is ignored, however long
    return;
  } else if (needs_tls(option)) {
    reply_error(option, OptionReply::kErrTlsReqd, "TLS comes first");
  } else if (is_served(option)) {
    reply_error(option, OptionReply::kErrTooBig, "the option is too long");
  } else {
    reply_error(option, OptionReply::kErrUnsup, "the option is not supported");
  }
  bytes_skipped_ += length;
  skip_left_ = length;
  if (skip_left_ != 0) state_ = State::kSkipping;
}

std::size_t Handshake::feed_skipped(ConstBytes input) {
  const std::uint64_t taken = std::min<std::uint64_t>(input.size(), skip_left_);
  skip_left_ -= taken;
  if (skip_left_ == 0) state_ = State::kOption;
  return static_cast<std::size_t>(taken);
}

void Handshake::dispatch(Option option, ConstBytes data) {
  if (option != Option::kAbort) failure_.reset();
  if (!fixed_newstyle_ && option != Option::kExportName) return close();
  if (shutting_down_ && option != Option::kAbort) {
    if (option == Option::kExportName) return close();
    return reply_error(option, OptionReply::kErrShutdown, "the server is shutting down");
  }
  if (needs_tls(option)) {
    if (option == Option::kExportName) return close(NbdHandshakeFailure::kTlsRequired);
    return reply_error(option, OptionReply::kErrTlsReqd, "TLS comes first");
  }
  switch (option) {
    case Option::kExportName:
      return on_export_name(data);
    case Option::kAbort:
      return on_abort();
    case Option::kList:
      return on_list(data);
    case Option::kStartTls:
      return on_starttls(data);
    case Option::kInfo:
    case Option::kGo:
      return on_info_or_go(option, data);
    case Option::kStructuredReply:
      return on_structured_reply(data);
    case Option::kListMetaContext:
      return on_list_meta_context(data);
    case Option::kSetMetaContext:
      return on_set_meta_context(data);
    case Option::kExtendedHeaders:
      return on_extended_headers(data);
    case Option::kPeekExport:
      break;
  }
  reply_error(option, OptionReply::kErrUnsup, "the option is not supported");
}

std::optional<NbdHandshakeFailure> Handshake::failure() const {
  if (state_ == State::kClosed || failure_) return failure_;
  const bool between_options = state_ == State::kOption && options_seen_ != 0;
  if (between_options) return std::nullopt;
  return NbdHandshakeFailure::kClosed;
}

Negotiated Handshake::take_result() {
  BM_CHECK(state_ == State::kTransmission && result_.disk != nullptr);
  return std::move(result_);
}

void Handshake::reply(Option option, OptionReply type, ConstBytes data) {
  const std::size_t start = output_.size();
  output_.resize(start + kOptionReplyHeaderBytes + data.size());
  std::byte* out = output_.data() + start;
  store_be(out, kOptionReplyMagic);
  store_be(out + 8, static_cast<std::uint32_t>(option));
  store_be(out + 12, static_cast<std::uint32_t>(type));
  store_be(out + 16, static_cast<std::uint32_t>(data.size()));
  if (!data.empty()) std::memcpy(out + kOptionReplyHeaderBytes, data.data(), data.size());
}

void Handshake::reply_error(Option option, OptionReply type, std::string_view text) {
  if (type == OptionReply::kErrUnknown) failure_ = NbdHandshakeFailure::kUnknownExport;
  if (type == OptionReply::kErrTlsReqd) failure_ = NbdHandshakeFailure::kTlsRequired;
  const std::string_view shown = cut_utf8(text, kMaxErrorTextBytes);
  reply(option, type, std::as_bytes(std::span(shown.data(), shown.size())));
}

}  // namespace blockmig::nbd
