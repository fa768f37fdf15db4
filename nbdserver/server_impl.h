// SPDX-License-Identifier: Apache-2.0
// NbdServerImpl: the NbdServer. server.cc has what it does all day, server_parking.cc how it hands
// over. Only for these two. Thread rule: one loop.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <vector>

#include "blockmig/base/check.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/event.h"
#include "blockmig/io/pool_calls.h"
#include "blockmig/io/task_scope.h"
#include "nbdserver/memory_budget.h"
#include "nbdserver/server.h"
#include "nbdserver/server_loop.h"
#include "nbdserver/session.h"
#include "nbdserver/stall_watch.h"

namespace blockmig {

class NbdServerImpl final : public NbdServer {
 public:
  NbdServerImpl(IoLoop& loop, ExportDirectory& directory, const NbdServerOptions& options)
      : loop_(loop),
        directory_(directory),
        options_(options),
        limits_(options.limits),
        admission_(options.limits, options.peers),
        budget_(options.limits.max_total_in_flight_bytes),
        handshakes_(loop, HandshakeSteps::kAtOnce),
        loops_(loop, options.other_loops, handshakes_, kMaxIdleBufferBytes, &budget_),
        stalls_(options.limits.stall_timeout),
        stopping_(loop),
        session_ended_(loop),
        sweep_(loop, [this] { sweep(); }) {}
  ~NbdServerImpl() override { BM_CHECK(sessions_.empty()); }

  using NbdServer::listen;
  Status listen(const SocketAddress& address, const UnixSocketOptions& otherwise) override;
  Status adopt(int listening_fd) override;
  std::vector<SocketAddress> addresses() const override;
  bool listens_on(const SocketAddress& wanted) const override;
  Task<void> serve_stream(std::unique_ptr<Stream> stream) override;
  std::vector<NbdClientInfo> clients() const override;
  NbdServerStats stats() const override;
  Status disconnect(std::uint64_t client_id) override;
  Task<Result<ParkedServer>> park(Duration patience, Stragglers stragglers) override;
  Status check_successor(const ListenProtection& successor) const override;
  Status resume(ParkedServer parked) override;
  Task<void> stop(Duration grace) override;

 private:
  /// Buffers kept for the next request, for all clients together.
  static constexpr std::size_t kMaxIdleBufferBytes = 64u << 20;
  /// Who has no disk by then is cut: where a server ends, and where clients are parked, of whom
  /// none waits meanwhile.
  static constexpr Duration kNegotiationPatience = std::chrono::seconds(1);

  static Error shutting_down() {
    return Error(ErrorCode::kShutdown, "the server is shutting down");
  }
  Status open(Result<std::unique_ptr<Listener>> listener);
  Task<void> accept_clients(Listener& listener);
  Task<void> serve(std::unique_ptr<Stream> stream, StreamPeer peer, ParkedClient* resumed);
  Task<void> serve_resumed(std::unique_ptr<Stream> stream, ParkedClient client);
  ListenProtection protection() const;
  Status check_parkable() const;
  /// False: somebody is left at the deadline.
  Task<bool> all_ended(TimePoint deadline);
  /// Who waits for its client, and not for its store.
  Task<std::vector<std::uint64_t>> find_stragglers();
  /// kPrecondition: by this server's rules the disk is not for who is at the other end.
  Status check_allowed(const Stream& stream, const std::string& export_name) const;
  Status resume_client(ParkedClient client);
  /// True if the session was parked, and is not one that ended.
  bool take_parked(nbd::Session& session);
  Task<void> end_negotiations(TimePoint deadline);
  bool is_negotiating() const;
  void cut_negotiating();
  void cut_all();
  bool refuse(const Stream& stream, const StreamPeer& peer);
  void count_end(const nbd::Session& session);
  void sweep();
  void relieve_waiters();

  IoLoop& loop_;
  ExportDirectory& directory_;
  const NbdServerOptions options_;
  const NbdServerLimits limits_;
  Admission admission_;
  nbd::MemoryBudget budget_;
  PoolCalls handshakes_;
  nbd::ServerLoops loops_;
  nbd::StallWatch stalls_;
  std::list<std::unique_ptr<Listener>> listeners_;
  std::list<std::unique_ptr<Listener>> released_;    ///< for accept() to find out
  std::map<std::uint64_t, nbd::Session*> sessions_;  ///< each lives in its serve_stream()
  std::uint64_t last_id_ = 0;
  NbdServerStats stats_;  ///< of ended sessions, where sessions count themselves
  bool parking_ = false;
  ParkedServer parked_;  ///< what park() has gathered
  CancelSource stopping_;
  Event session_ended_;
  Timer sweep_;
  TaskScope tasks_;  ///< accepting, and the sessions of accepted clients
};

}  // namespace blockmig
