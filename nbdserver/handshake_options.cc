// SPDX-License-Identifier: Apache-2.0
// The options of the negotiation, one function each ("Option types").
#include <algorithm>
#include <array>
#include <cstring>

#include "blockmig/base/endian.h"
#include "nbdserver/byte_reader.h"
#include "nbdserver/handshake.h"
#include "nbdserver/reply_codec.h"

namespace blockmig::nbd {
namespace {

/// LIST is produced in pieces of about this size, so that a long list costs a peer's memory, not
/// ours (I16).
constexpr std::size_t kListPieceBytes = 16 * 1024;
constexpr std::size_t kMaxShownNameBytes = 80;
constexpr std::string_view kNameTooLong = "the name is longer than this server takes";

std::string shown_name(std::string_view name) {
  const std::string_view shown = cut_utf8(name, kMaxShownNameBytes);
  return "\"" + std::string(shown) + (shown.size() < name.size() ? "..." : "") + "\"";
}

void append(std::vector<std::byte>& out, std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

template <typename T>
void append_be(std::vector<std::byte>& out, T value) {
  std::array<std::byte, sizeof(T)> bytes;
  store_be(bytes.data(), value);
  out.insert(out.end(), bytes.begin(), bytes.end());
}

/// The data of INFO and GO.
struct InfoRequest {
  std::string name;
  std::vector<std::uint16_t> wanted;

  bool wants(InfoType type) const {
    return std::find(wanted.begin(), wanted.end(), static_cast<std::uint16_t>(type)) !=
           wanted.end();
  }
};

std::optional<InfoRequest> parse_info_request(ConstBytes data) {
  ByteReader reader(data);
  const auto name = reader.string32(kMaxStringBytes);
  if (!name || !is_wire_string(*name)) return std::nullopt;
  const auto count = reader.u16();
  if (!count || reader.left() != std::size_t{*count} * 2) return std::nullopt;
  InfoRequest request;
  request.name = *name;
  for (std::uint16_t i = 0; i < *count; ++i) request.wanted.push_back(*reader.u16());
  return request;
}

}  // namespace

void Handshake::on_export_name(ConstBytes data) {
  // There is no error reply: whatever is wrong closes. After EXTENDED_HEADERS the option is
  // forbidden.
  if (data.size() > kMaxStringBytes || style_ == HeaderStyle::kExtended) return close();
  if (is_too_long(data.size())) return close(NbdHandshakeFailure::kLimit);
  const std::string name(reinterpret_cast<const char*>(data.data()), data.size());
  const std::shared_ptr<Export> disk =
      is_wire_string(name) ? directory_.find(name) : std::shared_ptr<Export>();
  if (disk == nullptr && is_wire_string(name) && directory_.is_late(name)) {
    state_ = State::kClosed;  // nobody's failure, and the daemon's log names the disk
    return;
  }
  if (disk == nullptr) return close(NbdHandshakeFailure::kUnknownExport);
  const ExportFacts facts = export_facts(*disk, limits_.advertised_max_bytes);
  append_be(output_, facts.size_bytes);
  append_be(output_, transmission_flags(facts, style_, contexts_apply_to(name)));
  if (!no_zeroes_) output_.resize(output_.size() + kExportNameZeroes);
  enter_transmission(disk, name);
}

void Handshake::on_abort() {
  reply(Option::kAbort, OptionReply::kAck, {});
  state_ = State::kClosed;  // in order: what failed before, if anything, is why
}

void Handshake::on_list(ConstBytes data) {
  if (!data.empty()) {
    return reply_error(Option::kList, OptionReply::kErrInvalid, "LIST takes no data");
  }
  listed_ = directory_.list();
  if (listed_.size() > limits_.max_listed_exports) {
    listed_.clear();
    return reply_error(Option::kList, OptionReply::kErrTooBig,
                       "there are too many exports to list them: ask for one by its name");
  }
  looks_granted_ = std::max(looks_granted_, std::uint64_t{kLooksPerExport} * listed_.size());
  next_listed_ = 0;
  state_ = State::kListing;
  continue_listing();
}

void Handshake::continue_listing() {
  const std::size_t start = output_.size();
  std::vector<std::byte> entry;
  while (next_listed_ < listed_.size() && output_.size() - start < kListPieceBytes) {
    const Export& disk = *listed_[next_listed_++];
    // What cannot be asked for by its name is not shown.
    if (disk.name().size() > kMaxStringBytes || !is_wire_string(disk.name())) continue;
    entry.clear();
    append_be(entry, static_cast<std::uint32_t>(disk.name().size()));
    append(entry, disk.name());
    append(entry, cut_utf8(disk.description(), kMaxStringBytes));
    reply(Option::kList, OptionReply::kServer, entry);
  }
  if (next_listed_ < listed_.size()) return;
  reply(Option::kList, OptionReply::kAck, {});
  listed_.clear();
  state_ = State::kOption;
}

void Handshake::on_starttls(ConstBytes data) {
  if (!data.empty()) {
    return reply_error(Option::kStartTls, OptionReply::kErrInvalid, "STARTTLS takes no data");
  }
  switch (tls_) {
    case Tls::kOff:
      return reply_error(Option::kStartTls, OptionReply::kErrUnsup, "TLS is not configured");
    case Tls::kInside:
      return reply_error(Option::kStartTls, OptionReply::kErrInvalid, "TLS is in force already");
    case Tls::kOffered:
    case Tls::kRequired:
    case Tls::kRequiredButList:
      break;
  }
  if (has_bytes_behind_) return close();
  reply(Option::kStartTls, OptionReply::kAck, {});
  state_ = State::kStartTls;
}

void Handshake::on_structured_reply(ConstBytes data) {
  constexpr Option kOption = Option::kStructuredReply;
  if (!data.empty()) {
    return reply_error(kOption, OptionReply::kErrInvalid, "STRUCTURED_REPLY takes no data");
  }
  if (style_ == HeaderStyle::kExtended) {
    return reply_error(kOption, OptionReply::kErrExtHeaderReqd,
                       "extended headers are in force already");
  }
  if (style_ == HeaderStyle::kStructured) {
    return reply_error(kOption, OptionReply::kErrInvalid,
                       "structured replies are in force already");
  }
  style_ = HeaderStyle::kStructured;
  reply(kOption, OptionReply::kAck, {});
}

void Handshake::on_extended_headers(ConstBytes data) {
  constexpr Option kOption = Option::kExtendedHeaders;
  if (!data.empty()) {
    return reply_error(kOption, OptionReply::kErrInvalid, "EXTENDED_HEADERS takes no data");
  }
  if (style_ == HeaderStyle::kExtended) {
    return reply_error(kOption, OptionReply::kErrInvalid, "extended headers are in force already");
  }
  style_ = HeaderStyle::kExtended;
  reply(kOption, OptionReply::kAck, {});
}

void Handshake::on_info_or_go(Option option, ConstBytes data) {
  const auto request = parse_info_request(data);
  if (!request) {
    return reply_error(option, OptionReply::kErrInvalid, "the option's data is malformed");
  }
  if (is_too_long(request->name.size())) {
    return reply_error(option, OptionReply::kErrTooBig, kNameTooLong);
  }
  const std::shared_ptr<Export> disk = directory_.find(request->name);
  if (disk == nullptr) {
    return reply_unknown(option, request->name);
  }
  found_ = option == Option::kInfo;
  const ExportFacts facts = export_facts(*disk, limits_.advertised_max_bytes);
  const bool wants_sizes = request->wants(InfoType::kBlockSize);
  // A client that follows the specification's advice stays at multiples of 512, and at 32 MiB,
  // without being told.
  const bool must_know_sizes =
      facts.minimum_block > kPortableBlockBytes || facts.maximum_payload < kPortablePayloadBytes;
  if (wants_sizes || facts.minimum_block > 1 || must_know_sizes)
    reply_info_block_size(option, facts);
  if (must_know_sizes && !wants_sizes) {
    return reply_error(option, OptionReply::kErrBlockSizeReqd,
                       "the client must ask for block sizes first");
  }
  reply_info_export(option, facts, request->name);
  if (request->wants(InfoType::kName)) reply_info_text(option, InfoType::kName, disk->name());
  if (request->wants(InfoType::kDescription) && !disk->description().empty()) {
    reply_info_text(option, InfoType::kDescription, cut_utf8(disk->description(), kMaxStringBytes));
  }
  reply(option, OptionReply::kAck, {});
  if (option == Option::kGo) enter_transmission(disk, request->name);
}

void Handshake::reply_unknown(Option option, const std::string& name) {
  const bool late = directory_.is_late(name);
  reply_error(
      option, OptionReply::kErrUnknown,
      late ? "export " + shown_name(name) + " is late: its store is not there yet, come again"
           : "there is no export " + shown_name(name));
  if (late) failure_.reset();  // the daemon's log names the disk
}

void Handshake::reply_info_export(Option option, const ExportFacts& facts,
                                  const std::string& name) {
  std::vector<std::byte> data;
  append_be(data, static_cast<std::uint16_t>(InfoType::kExport));
  append_be(data, facts.size_bytes);
  append_be(data, transmission_flags(facts, style_, contexts_apply_to(name)));
  reply(option, OptionReply::kInfo, data);
}

void Handshake::reply_info_text(Option option, InfoType type, std::string_view text) {
  std::vector<std::byte> data;
  append_be(data, static_cast<std::uint16_t>(type));
  append(data, text);
  reply(option, OptionReply::kInfo, data);
}

void Handshake::reply_info_block_size(Option option, const ExportFacts& facts) {
  std::vector<std::byte> data;
  append_be(data, static_cast<std::uint16_t>(InfoType::kBlockSize));
  append_be(data, facts.minimum_block);
  append_be(data, facts.preferred_block);
  append_be(data, facts.maximum_payload);
  reply(option, OptionReply::kInfo, data);
}

void Handshake::on_list_meta_context(ConstBytes data) {
  answer_meta_context(Option::kListMetaContext, data);
}

void Handshake::on_set_meta_context(ConstBytes data) {
  // It replaces the earlier selection, also when it fails.
  contexts_.clear();
  context_export_.clear();
  answer_meta_context(Option::kSetMetaContext, data);
}

void Handshake::answer_meta_context(Option option, ConstBytes data) {
  if (style_ == HeaderStyle::kSimple) {
    return reply_error(option, OptionReply::kErrInvalid, "structured replies come first");
  }
  auto query = parse_meta_query(data);
  if (!query || !is_wire_string(query->export_name)) {
    return reply_error(option, OptionReply::kErrInvalid, "the option's data is malformed");
  }
  const std::shared_ptr<Export> disk = directory_.find(query->export_name);
  const bool too_long =
      is_too_long(query->export_name.size()) ||
      std::any_of(query->queries.begin(), query->queries.end(),
                  [this](const std::string& text) { return is_too_long(text.size()); });
  if (too_long) return reply_error(option, OptionReply::kErrTooBig, kNameTooLong);
  if (disk == nullptr) {
    return reply_unknown(option, query->export_name);
  }
  found_ = true;
  const bool setting = option == Option::kSetMetaContext;
  auto matched = match_contexts(available_contexts(*disk), query->queries,
                                setting ? MetaMatch::kSet : MetaMatch::kList);
  if (setting && matched.size() > kMaxSelectedContexts) {
    return reply_error(option, OptionReply::kErrTooBig, "too many metadata contexts");
  }
  for (const MetaContext& context : matched) {
    reply_meta_context(option, setting ? context.id : 0u, context.name);
  }
  if (!setting) {
    for (const std::string& name : match_identities(*disk, query->queries)) {
      reply_meta_context(option, 0, name);
    }
  }
  reply(option, OptionReply::kAck, {});
  if (setting) {
    context_export_ = std::move(query->export_name);
    contexts_ = std::move(matched);
  }
}

void Handshake::reply_meta_context(Option option, std::uint32_t id, std::string_view name) {
  std::vector<std::byte> entry;
  append_be(entry, id);
  append(entry, name);
  reply(option, OptionReply::kMetaContext, entry);
}

bool Handshake::contexts_apply_to(const std::string& name) const {
  return !contexts_.empty() && name == context_export_;
}

void Handshake::enter_transmission(std::shared_ptr<Export> disk, const std::string& name) {
  if (!contexts_apply_to(name)) contexts_.clear();
  result_.rules.style = style_;
  result_.rules.facts = export_facts(*disk, limits_.advertised_max_bytes);
  result_.rules.max_request_bytes = limits_.max_request_bytes;
  result_.rules.has_contexts = !contexts_.empty();
  result_.contexts = std::move(contexts_);
  result_.disk = std::move(disk);
  state_ = State::kTransmission;
}

}  // namespace blockmig::nbd
