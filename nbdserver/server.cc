// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/server.h"

#include <chrono>
#include <list>
#include <map>
#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/event.h"
#include "blockmig/io/task_scope.h"
#include "nbdserver/buffer_pool.h"
#include "nbdserver/session.h"

namespace blockmig {
namespace {

/// Buffers kept for the next request, for all clients together.
constexpr std::size_t kMaxIdleBufferBytes = 64u << 20;
/// How often memory of idle connections is given back.
constexpr Duration kSweepPeriod = std::chrono::seconds(1);
/// How long accept() rests after it failed for want of descriptors or memory.
constexpr Duration kAcceptBackoff = std::chrono::milliseconds(100);

class NbdServerImpl final : public NbdServer {
 public:
  NbdServerImpl(IoLoop& loop, ExportDirectory& directory, const NbdServerLimits& limits)
      : loop_(loop),
        directory_(directory),
        limits_(limits),
        pool_(kMaxIdleBufferBytes),
        stopping_(loop),
        session_ended_(loop),
        sweep_(loop, [this] { sweep(); }) {}
  ~NbdServerImpl() override { BM_CHECK(sessions_.empty()); }

  Status listen(const SocketAddress& address) override;
  std::vector<SocketAddress> addresses() const override;
  Task<void> serve_stream(std::unique_ptr<Stream> stream) override;
  std::vector<NbdClientInfo> clients() const override;
  Status disconnect(std::uint64_t client_id) override;
  Task<void> stop(Duration grace) override;

 private:
  Task<void> accept_clients(Listener& listener);
  void sweep();

  IoLoop& loop_;
  ExportDirectory& directory_;
  const NbdServerLimits limits_;
  nbd::BufferPool pool_;
  std::list<std::unique_ptr<Listener>> listeners_;
  std::map<std::uint64_t, nbd::Session*> sessions_;  ///< each lives in its serve_stream()
  std::uint64_t last_id_ = 0;
  CancelSource stopping_;
  Event session_ended_;
  Timer sweep_;
  TaskScope tasks_;  ///< accepting, and the sessions of accepted clients
};

Status NbdServerImpl::listen(const SocketAddress& address) {
  if (stopping_.cancelled()) return Error(ErrorCode::kShutdown, "the server is shutting down");
  auto listener = listen_on(loop_, address);
  if (!listener.ok()) return listener.error();
  listeners_.push_back(std::move(*listener));
  tasks_.spawn(accept_clients(*listeners_.back()));
  return {};
}

std::vector<SocketAddress> NbdServerImpl::addresses() const {
  std::vector<SocketAddress> addresses;
  for (const auto& listener : listeners_) addresses.push_back(listener->address());
  return addresses;
}

Task<void> NbdServerImpl::accept_clients(Listener& listener) {
  while (!stopping_.cancelled()) {
    auto accepted = co_await listener.accept();
    if (accepted.ok()) {
      tasks_.spawn(serve_stream(std::move(*accepted)));
      continue;
    }
    if (accepted.error().code() == ErrorCode::kCancelled) co_return;
    // No descriptors or no memory: whoever waits stays in the queue until clients have left.
    const TimePoint again = loop_.now() + kAcceptBackoff;
    co_await stopping_.event().wait_until(again);
  }
}

Task<void> NbdServerImpl::serve_stream(std::unique_ptr<Stream> stream) {
  if (stopping_.cancelled() || sessions_.size() >= limits_.max_connections) {
    stream->shutdown();
    co_return;
  }
  const std::uint64_t id = ++last_id_;
  nbd::Session session(loop_, directory_, pool_, limits_, std::move(stream), id);
  sessions_.emplace(id, &session);
  if (!sweep_.armed()) sweep_.arm(loop_.now() + kSweepPeriod);
  co_await session.run();
  sessions_.erase(id);
  session_ended_.pulse();
}

std::vector<NbdClientInfo> NbdServerImpl::clients() const {
  std::vector<NbdClientInfo> infos;
  for (const auto& [id, session] : sessions_) infos.push_back(session->info());
  return infos;
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
  bool in_time = true;
  while (!sessions_.empty() && in_time) {
    in_time = co_await session_ended_.wait_until(deadline);
  }
  const auto late = sessions_;
  for (const auto& [id, session] : late) {
    if (sessions_.contains(id)) session->cut();
  }
  while (!sessions_.empty()) {
    co_await session_ended_.wait();
  }
  co_await tasks_.join();
  sweep_.disarm();
}

void NbdServerImpl::sweep() {
  for (const auto& [id, session] : sessions_) session->release_idle_memory();
  pool_.trim_if_unused();
  if (!sessions_.empty()) sweep_.arm(loop_.now() + kSweepPeriod);
}

}  // namespace

std::unique_ptr<NbdServer> make_nbd_server(IoLoop& loop, ExportDirectory& directory,
                                           const NbdServerLimits& limits) {
  return std::make_unique<NbdServerImpl>(loop, directory, limits);
}

}  // namespace blockmig
