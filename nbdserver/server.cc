// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/server_impl.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/loop_barrier.h"
#include "nbdserver/yield_to_loop.h"

namespace blockmig {
namespace {

/// How often memory of idle connections is given back.
constexpr Duration kSweepPeriod = std::chrono::seconds(1);
/// How long accept() rests after it failed for want of descriptors or memory.
constexpr Duration kAcceptBackoff = std::chrono::milliseconds(100);

/// A client's name with what the system knows of it: a unix socket's path alone says nothing.
std::string describe(const Stream& stream, const StreamPeer& peer) {
  if (!peer.credentials) return stream.peer_name();
  return stream.peer_name() + " (uid " + std::to_string(peer.credentials->uid) + ", process " +
         std::to_string(peer.credentials->pid) + ")";
}

/// "tcp::PORT" is one socket for both families where there are both: as the kernel names it, it is
/// "tcp:[::]:PORT".
bool both_on_all_hosts(const SocketAddress& a, const SocketAddress& b) {
  constexpr auto kTcp = SocketAddress::Family::kTcp;
  if (a.family != kTcp || b.family != kTcp || a.port != b.port || a.port == 0) return false;
  const auto is_any = [](const std::string& host) {
    return host.empty() || host == "::" || host == "0.0.0.0";
  };
  return (a.host.empty() && is_any(b.host)) || (b.host.empty() && is_any(a.host));
}

}  // namespace

ListenProtection NbdServerImpl::protection() const {
  return protection_of(options_.security.get(), options_.peers);
}

Status NbdServerImpl::listen(const SocketAddress& address, const UnixSocketOptions& otherwise) {
  const Status protected_enough = check_network(address, protection());
  if (!protected_enough) return protected_enough;
  UnixSocketOptions sockets = options_.unix_sockets;
  if (!sockets.mode) sockets.mode = otherwise.mode;
  if (!sockets.gid) sockets.gid = otherwise.gid;
  return open(stopping_.cancelled() ? Result<std::unique_ptr<Listener>>(shutting_down())
                                    : listen_on(loop_, address, sockets));
}

Status NbdServerImpl::adopt(int listening_fd) {
  auto listener = adopt_listener(loop_, listening_fd);
  return open(stopping_.cancelled() ? shutting_down() : std::move(listener));
}

Status NbdServerImpl::open(Result<std::unique_ptr<Listener>> listener) {
  if (!listener.ok()) return listener.error();
  listeners_.push_back(*std::move(listener));
  tasks_.spawn(accept_clients(*listeners_.back()));
  return {};
}

std::vector<SocketAddress> NbdServerImpl::addresses() const {
  std::vector<SocketAddress> addresses;
  for (const auto& listener : listeners_) addresses.push_back(listener->address());
  return addresses;
}

bool NbdServerImpl::listens_on(const SocketAddress& wanted) const {
  const std::string text = wanted.to_string();
  return std::any_of(listeners_.begin(), listeners_.end(), [&](const auto& listener) {
    const SocketAddress& present = listener->address();
    return present.to_string() == text || listener->asked().to_string() == text ||
           both_on_all_hosts(present, wanted);
  });
}

Task<void> NbdServerImpl::accept_clients(Listener& listener) {
  while (!stopping_.cancelled()) {
    auto accepted = co_await listener.accept();
    if (accepted.ok()) {
      tasks_.spawn(serve_stream(std::move(*accepted)));
      // A thousand may be queued, and each costs a reply: those who are served come in between.
      co_await nbd::YieldToLoop(loop_);
      continue;
    }
    if (accepted.error().code() == ErrorCode::kCancelled) co_return;
    // No descriptors or no memory: whoever waits stays in the queue until clients have left.
    const TimePoint again = loop_.now() + kAcceptBackoff;
    co_await stopping_.event().wait_until(again);
  }
}

Task<void> NbdServerImpl::serve_stream(std::unique_ptr<Stream> stream) {
  const StreamPeer peer = stream->peer();
  if (refuse(*stream, peer)) {
    stream->shutdown();
    co_return;
  }
  co_await serve(std::move(stream), peer, nullptr);
}

Task<void> NbdServerImpl::serve(std::unique_ptr<Stream> stream, StreamPeer peer,
                                ParkedClient* resumed) {
  stream->set_keepalive(limits_.keepalive_time);
  admission_.admit(peer);
  const bool known = resumed != nullptr && resumed->id != 0 && !sessions_.contains(resumed->id);
  const std::uint64_t id = known ? resumed->id : last_id_ + 1;
  last_id_ = std::max(last_id_, id);
  if (resumed == nullptr || !resumed->counted) ++stats_.accepted;
  nbd::Session session(loops_, directory_, limits_, std::move(stream), id, options_.security);
  if (resumed != nullptr) {
    nbd::Negotiated agreed{directory_.find(resumed->export_name), resumed->rules,
                           std::move(resumed->contexts)};
    session.resume(std::move(agreed), std::move(resumed->leftover), resumed->past);
  }
  if (parking_) session.park();
  sessions_.emplace(id, &session);
  if (!sweep_.armed()) sweep_.arm(loop_.now() + kSweepPeriod);
  session.observe(options_.observer);
  co_await session.run();
  sessions_.erase(id);
  stalls_.forget(id);
  stats_.refused_requests += session.refused_here();
  if (!take_parked(session)) count_end(session);
  admission_.leave(peer);
  session_ended_.pulse();
}

bool NbdServerImpl::refuse(const Stream& stream, const StreamPeer& peer) {
  const std::optional<NbdRefusalReason> reason =
      stopping_.cancelled() ? std::optional(NbdRefusalReason::kStopping) : admission_.refusal(peer);
  if (!reason) return false;
  ++stats_.refused[static_cast<std::size_t>(*reason)];
  if (options_.on_refused) options_.on_refused({describe(stream, peer), *reason});
  return true;
}

std::vector<NbdClientInfo> NbdServerImpl::clients() const {
  std::vector<NbdClientInfo> infos;
  for (const auto& [id, session] : sessions_) infos.push_back(session->info());
  return infos;
}

NbdServerStats NbdServerImpl::stats() const {
  NbdServerStats sum = stats_;
  for (const auto& [id, session] : sessions_) {
    if (session->info().tls) ++sum.tls_sessions;
    if (!session->served()) continue;
    ++sum.served;
    sum.refused_requests += session->refused_here();
  }
  return sum;
}

void NbdServerImpl::count_end(const nbd::Session& session) {
  const NbdClientInfo info = session.info();
  if (info.tls) ++stats_.tls_sessions;
  if (session.served()) {
    ++stats_.served;
    ++stats_.ended[static_cast<std::size_t>(session.end())];
    if (options_.observer != nullptr) options_.observer->on_gone(info, session.end());
  } else if (const auto failure = session.handshake_failure()) {
    ++stats_.handshake_failures[static_cast<std::size_t>(*failure)];
    if (options_.observer != nullptr) options_.observer->on_handshake_failed(info, *failure);
  }
}

Status NbdServerImpl::disconnect(std::uint64_t client_id) {
  const auto found = sessions_.find(client_id);
  if (found == sessions_.end()) {
    return Error(ErrorCode::kNotFound, "there is no client " + std::to_string(client_id));
  }
  found->second->cut();
  return {};
}

Task<void> NbdServerImpl::stop(Duration grace) {
  const TimePoint deadline = loop_.now() + grace;
  stopping_.cancel();
  for (const auto& listener : listeners_) listener->close();
  // A copy: a session may end on the spot.
  const auto sessions = sessions_;
  for (const auto& [id, session] : sessions) {
    if (sessions_.contains(id)) session->begin_shutdown();
  }
  const TimePoint negotiated = loop_.now() + std::min(grace, kNegotiationPatience);
  bool all = co_await all_ended(negotiated);
  cut_negotiating();
  if (!all) all = co_await all_ended(deadline);
  const auto late = sessions_;
  for (const auto& [id, session] : late) {
    if (sessions_.contains(id)) session->cut();
  }
  while (!sessions_.empty()) {
    co_await session_ended_.wait();
  }
  co_await tasks_.join();
  sweep_.disarm();
  // Nothing of ours is left on the other loops when they have passed this.
  for (const auto& place : loops_.all()) {
    co_await LoopBarrier(loop_, place->loop);
  }
}

void NbdServerImpl::sweep() {
  for (const auto& [id, session] : sessions_) session->release_idle_memory();
  for (const auto& place : loops_.all()) {
    nbd::BufferPool* const pool = &place->pool;
    if (&place->loop == &loop_) {
      pool->trim_if_unused();
    } else {
      place->loop.post([pool] { pool->trim_if_unused(); });
    }
  }
  relieve_waiters();
  if (!sessions_.empty()) sweep_.arm(loop_.now() + kSweepPeriod);
}

void NbdServerImpl::relieve_waiters() {
  const auto since = budget_.waiting_since();
  if (!since) return stalls_.relieve();
  const TimePoint now = loop_.now();
  for (const auto& [id, session] : sessions_) {
    stalls_.note(id, session->info().counters.memory, now);
  }
  if (now - *since < stalls_.patience()) return;
  for (const std::uint64_t culprit : stalls_.take_culprits()) {
    const auto found = sessions_.find(culprit);
    BM_CHECK(found != sessions_.end());
    if (options_.on_stalled) options_.on_stalled(found->second->info());
    found->second->cut();
  }
}

std::unique_ptr<NbdServer> make_nbd_server(IoLoop& loop, ExportDirectory& directory,
                                           const NbdServerOptions& options) {
  return std::make_unique<NbdServerImpl>(loop, directory, options);
}

std::unique_ptr<NbdServer> make_nbd_server(IoLoop& loop, ExportDirectory& directory,
                                           const NbdServerLimits& limits) {
  NbdServerOptions options;
  options.limits = limits;
  return make_nbd_server(loop, directory, options);
}

}  // namespace blockmig
