// SPDX-License-Identifier: Apache-2.0
// How a server stops serving its clients without their noticing, and how another one goes on.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "blockmig/io/loop_barrier.h"
#include "nbdserver/export_facts.h"
#include "nbdserver/server_impl.h"

namespace blockmig {
namespace {

/// Everybody waits meanwhile.
constexpr Duration kStragglerPatience = std::chrono::seconds(1);

/// What is not ours was set up by somebody who wants it as it is, but perhaps not unprotected.
Status check_taken(const Listener& listener, const ListenProtection& before,
                   const ListenProtection& now) {
  const Status kept = check_kept(listener.address(), before, now);
  if (!kept || !listener.owns_address()) return kept;
  return check_network(listener.address(), now);
}

}  // namespace

Status NbdServerImpl::check_parkable() const {
  std::string who;
  for (const auto& [id, session] : sessions_) {
    // Who has no disk yet comes again, and must not have a say before it has proven anything.
    if (session->served() && !session->can_park())
      who += (who.empty() ? "" : ", ") + std::to_string(id);
  }
  if (who.empty()) return {};
  return Error(ErrorCode::kPrecondition,
               "connections with TLS, or on pipes, cannot be handed over: clients " + who +
                   " (see 'blockmig ls clients'); wait for them, or disconnect them");
}

Task<bool> NbdServerImpl::all_ended(TimePoint deadline) {
  bool in_time = true;
  while (!sessions_.empty() && in_time) {
    in_time = co_await session_ended_.wait_until(deadline);
  }
  co_return sessions_.empty();
}

Task<std::vector<std::uint64_t>> NbdServerImpl::find_stragglers() {
  for (const auto& [id, session] : sessions_) session->release_idle_memory();  // tells its standing
  for (const auto& place : loops_.all()) {
    co_await LoopBarrier(loop_, place->loop);
  }
  std::vector<std::uint64_t> stragglers;
  for (const auto& [id, session] : sessions_) {
    if (session->info().counters.memory.waits_for_client.value() != 0) stragglers.push_back(id);
  }
  co_return stragglers;
}

Task<Result<ParkedServer>> NbdServerImpl::park(Duration patience, Stragglers stragglers) {
  if (stopping_.cancelled() || parking_) co_return shutting_down();
  const Status parkable = check_parkable();
  if (!parkable && stragglers == Stragglers::kRefuse) co_return parkable.error();
  parking_ = true;
  parked_.protection = protection();
  for (const auto& listener : listeners_) {
    parked_.listeners.push_back(
        {UniqueFd(listener->release()), listener->owns_address(), listener->asked()});
  }
  released_.splice(released_.end(), listeners_);
  const TimePoint negotiated = loop_.now() + std::min(patience, kNegotiationPatience);
  co_await end_negotiations(negotiated);
  TimePoint deadline = loop_.now() + patience;
  const auto sessions = sessions_;
  for (const auto& [id, session] : sessions) {
    if (!sessions_.contains(id) || !session->served()) continue;
    session->can_park() ? session->park() : session->cut();
  }
  const TimePoint look = std::min(deadline, loop_.now() + kStragglerPatience);
  bool all = co_await all_ended(look);
  if (!all) {
    const std::vector<std::uint64_t> late = co_await find_stragglers();
    for (const std::uint64_t id : late) {
      const auto found = sessions_.find(id);
      if (stragglers == Stragglers::kCut && found != sessions_.end()) found->second->cut();
    }
    if (stragglers == Stragglers::kRefuse && !late.empty()) deadline = loop_.now();
    all = co_await all_ended(deadline);
  }
  // Their requests hang in a store, and would cost everybody else theirs.
  if (stragglers == Stragglers::kCut) cut_all();
  ParkedServer parked = std::exchange(parked_, {});
  if (sessions_.empty() || stragglers == Stragglers::kCut) co_return std::move(parked);
  // Whoever is parked later is resumed by take_parked().
  parking_ = false;
  const auto& [late, session] = *sessions_.begin();
  const std::string why = session->served()
                              ? " stays in the middle of a request, or does not read its answers"
                              : " has not finished its negotiation";
  Error error(ErrorCode::kTimedOut,
              "client " + std::to_string(late) + why + ": nothing was handed over");
  const Status resumed = resume(std::move(parked));
  co_return resumed.ok() ? error : error.with_context(resumed.error().message());
}

/// Clients go on meanwhile. Who negotiates is parked once it is done, if that can be; who is late,
/// and who cannot be parked, has not agreed on anything, and comes again.
Task<void> NbdServerImpl::end_negotiations(TimePoint deadline) {
  auto sessions = sessions_;
  for (const auto& [id, session] : sessions) {
    if (!sessions_.contains(id) || session->served()) continue;
    session->can_park() ? session->park() : session->cut();
  }
  bool in_time = true;
  while (is_negotiating() && in_time) {
    in_time = co_await session_ended_.wait_until(deadline);
  }
  cut_negotiating();
}

bool NbdServerImpl::is_negotiating() const {
  return std::any_of(sessions_.begin(), sessions_.end(),
                     [](const auto& each) { return !each.second->served(); });
}

void NbdServerImpl::cut_negotiating() {
  const auto sessions = sessions_;
  for (const auto& [id, session] : sessions) {
    if (sessions_.contains(id) && !session->served()) session->cut();
  }
}

void NbdServerImpl::cut_all() {
  const auto sessions = sessions_;
  for (const auto& [id, session] : sessions) {
    if (sessions_.contains(id)) session->cut();
  }
}

bool NbdServerImpl::take_parked(nbd::Session& session) {
  std::optional<ParkedClient> client = session.take_parked();
  if (!client) return false;
  client->counted = true;
  if (parking_) {
    parked_.clients.push_back(*std::move(client));
    return true;
  }
  const Status resumed = resume_client(*std::move(client));
  static_cast<void>(resumed);  // its disk has gone meanwhile, and with it the client
  return true;
}

Status NbdServerImpl::check_successor(const ListenProtection& successor) const {
  for (const auto& listener : listeners_) {
    const Status taken = check_taken(*listener, protection(), successor);
    if (!taken) return taken;
  }
  return {};
}

Status NbdServerImpl::resume(ParkedServer parked) {
  Status first;
  for (ParkedListener& listener : parked.listeners) {
    auto adopted = adopt_listener(loop_, listener.socket.release(), listener.owned, listener.asked);
    Status opened;
    if (adopted.ok()) opened = check_taken(**adopted, parked.protection, protection());
    // What is asked for now holds for it as for one that is opened anew; else it stays as it is.
    if (opened.ok() && adopted.ok()) opened = (*adopted)->set_access(options_.unix_sockets);
    if (opened.ok()) opened = open(std::move(adopted));
    if (!opened && first.ok()) first = opened;
  }
  for (ParkedClient& client : parked.clients) {
    const Status resumed = resume_client(std::move(client));
    if (!resumed && first.ok()) first = resumed;
  }
  return first;
}

Status NbdServerImpl::check_allowed(const Stream& stream, const std::string& export_name) const {
  const StreamPeer peer = stream.peer();
  const NbdSecurity* const security = options_.security.get();
  std::string why;
  if (admission_.refusal(peer) == NbdRefusalReason::kPeerNotAllowed) {
    why = "may not connect any more";
  } else if (security != nullptr && security->tls == TlsMode::kRequire) {
    why = "has no TLS, which is required now";
  } else if (security != nullptr &&
             !security->access.allows(nbd::socket_identities(peer), export_name)) {
    why = "may not see disk '" + export_name + "' any more";
  }
  if (why.empty()) return {};
  return Error(ErrorCode::kPrecondition,
               "a client from " + peer.origin + " " + why + ": it was cut");
}

Status NbdServerImpl::resume_client(ParkedClient client) {
  auto stream = adopt_socket(loop_, client.socket.release());
  if (!stream) return stream.error();
  const Status allowed = check_allowed(**stream, client.export_name);
  if (!allowed) return allowed;
  const auto disk = directory_.find(client.export_name);
  if (disk == nullptr) {
    return Error(ErrorCode::kNotFound, "a client's disk '" + client.export_name + "' is not here");
  }
  // The client goes by what it was told; how the device wants to be asked may have changed.
  const nbd::ExportFacts now = nbd::export_facts(*disk, limits_.advertised_max_bytes);
  nbd::ExportFacts& told = client.rules.facts;
  if (now.size_bytes != told.size_bytes || now.minimum_block > told.minimum_block ||
      (now.read_only && !told.read_only)) {
    return Error(ErrorCode::kMismatch, "disk '" + client.export_name +
                                           "' is not what its clients were told: they were cut");
  }
  told.max_io_bytes = now.max_io_bytes;
  tasks_.spawn(serve_resumed(*std::move(stream), std::move(client)));
  return {};
}

Task<void> NbdServerImpl::serve_resumed(std::unique_ptr<Stream> stream, ParkedClient client) {
  const StreamPeer peer = stream->peer();
  co_await serve(std::move(stream), peer, &client);
}

}  // namespace blockmig
