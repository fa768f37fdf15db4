// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/handover.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <optional>
#include <utility>

namespace blockmig {
namespace {

using nbd::HeaderStyle;

constexpr std::array kStyles = {std::pair(HeaderStyle::kSimple, "simple"),
                                std::pair(HeaderStyle::kStructured, "structured"),
                                std::pair(HeaderStyle::kExtended, "extended")};

std::string style_name(HeaderStyle style) {
  for (const auto& [value, name] : kStyles) {
    if (value == style) return name;
  }
  return "";
}

std::optional<HeaderStyle> style_of(const std::string& name) {
  for (const auto& [value, known] : kStyles) {
    if (name == known) return value;
  }
  return std::nullopt;
}

HandoverClient describe(const ParkedClient& client) {
  const nbd::ExportFacts& facts = client.rules.facts;
  HandoverClient out;
  out.id = client.id;
  out.past = client.past;
  out.disk = client.export_name;
  out.style = style_name(client.rules.style);
  out.size_bytes = facts.size_bytes;
  out.minimum_block = facts.minimum_block;
  out.preferred_block = facts.preferred_block;
  out.maximum_payload = facts.maximum_payload;
  out.max_request_bytes = client.rules.max_request_bytes;
  out.read_only = facts.read_only;
  out.can_trim = facts.can_trim;
  out.can_fast_zero = facts.can_fast_zero;
  out.has_contexts = client.rules.has_contexts;
  for (const nbd::MetaContext& context : client.contexts) {
    out.contexts.push_back({context.id, context.name});
  }
  out.leftover.assign(reinterpret_cast<const char*>(client.leftover.data()),
                      client.leftover.size());
  return out;
}

Result<ParkedClient> restore(const HandoverClient& told) {
  const auto style = style_of(told.style);
  if (!style) return Error(ErrorCode::kInvalid, "no replies are called '" + told.style + "'");
  ParkedClient client;
  client.id = told.id;
  client.past = told.past;
  client.export_name = told.disk;
  client.rules.style = *style;
  client.rules.max_request_bytes = told.max_request_bytes;
  client.rules.has_contexts = told.has_contexts;
  nbd::ExportFacts& facts = client.rules.facts;
  facts.size_bytes = told.size_bytes;
  facts.minimum_block = told.minimum_block;
  facts.preferred_block = told.preferred_block;
  facts.maximum_payload = told.maximum_payload;
  facts.read_only = told.read_only;
  facts.can_trim = told.can_trim;
  facts.can_fast_zero = told.can_fast_zero;
  for (const HandoverContext& context : told.contexts) {
    const auto known = nbd::context_of(context.id, context.name);
    if (!known) {
      return Error(ErrorCode::kInvalid, "no metadata context is called '" + context.name + "'");
    }
    client.contexts.push_back(*known);
  }
  const auto bytes = std::as_bytes(std::span(told.leftover.data(), told.leftover.size()));
  client.leftover.assign(bytes.begin(), bytes.end());
  return client;
}

Result<UniqueFd> copy_of(const UniqueFd& socket) {
  UniqueFd copy(::fcntl(socket.get(), F_DUPFD_CLOEXEC, 0));
  if (!copy) return Error::from_errno(errno, "copying a client's descriptor");
  return copy;
}

}  // namespace

Handover handover_of(ParkedServer parked) {
  Handover handover;
  handover.state.protection = parked.protection;
  for (ParkedListener& listener : parked.listeners) {
    const std::string asked = listener.asked ? listener.asked->to_string() : "";
    handover.state.listeners.push_back({listener.owned, asked});
    handover.sockets.push_back(std::move(listener.socket));
  }
  for (ParkedClient& client : parked.clients) {
    handover.state.clients.push_back(describe(client));
    handover.sockets.push_back(std::move(client.socket));
  }
  return handover;
}

Result<ParkedServer> parked_of(const Handover& handover) {
  const HandoverState& state = handover.state;
  if (handover.sockets.size() != state.listeners.size() + state.clients.size()) {
    return Error(ErrorCode::kInvalid,
                 "the handover has not one descriptor for each listener and "
                 "client");
  }
  ParkedServer parked;
  parked.protection = state.protection;
  auto socket = handover.sockets.begin();
  for (const HandoverListener& told : state.listeners) {
    Result<UniqueFd> copy = copy_of(*socket++);
    if (!copy.ok()) return copy.error();
    ParkedListener& listener = parked.listeners.emplace_back();
    listener.socket = *std::move(copy);
    listener.owned = told.owned;
    const Result<SocketAddress> asked = SocketAddress::parse(told.asked);
    if (asked.ok()) listener.asked = *asked;
  }
  for (const HandoverClient& told : state.clients) {
    Result<ParkedClient> client = restore(told);
    if (!client.ok()) return client.error();
    Result<UniqueFd> copy = copy_of(*socket++);
    if (!copy.ok()) return copy.error();
    client->socket = *std::move(copy);
    parked.clients.push_back(*std::move(client));
  }
  return parked;
}

void leave_out(Handover& handover, const std::set<std::string>& disks) {
  HandoverState& state = handover.state;
  std::erase_if(state.disks, [&](const auto& disk) { return disks.contains(disk.request.disk); });
  std::vector<HandoverClient> clients;
  auto socket = handover.sockets.begin() + static_cast<std::ptrdiff_t>(state.listeners.size());
  for (HandoverClient& client : state.clients) {
    if (disks.contains(client.disk)) {
      (void)::shutdown(socket->get(), SHUT_RDWR);  // others may have copies of it
      socket = handover.sockets.erase(socket);
    } else {
      clients.push_back(std::move(client));
      ++socket;
    }
  }
  state.clients = std::move(clients);
}

void leave_out_activated(Handover& handover) {
  std::vector<HandoverListener>& listeners = handover.state.listeners;
  auto socket = handover.sockets.begin();
  for (const HandoverListener& each : listeners) {
    socket = each.owned ? socket + 1 : handover.sockets.erase(socket);
  }
  std::erase_if(listeners, [](const HandoverListener& each) { return !each.owned; });
}

}  // namespace blockmig
