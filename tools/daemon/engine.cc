// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/engine.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <utility>

#include "tools/control/state_dir.h"
#include "tools/daemon/descriptor_room.h"

namespace blockmig {
namespace {

std::uint64_t descriptor_limit() {
  rlimit limit{};
  return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : RLIM_INFINITY;
}

NbdServerOptions server_options(const DaemonOptions& options, std::vector<IoLoop*> other_loops,
                                ConnectionLog& connections) {
  NbdServerOptions server;
  server.limits = options.limits;
  server.limits.max_connections =
      connections_within(descriptor_limit(), options.limits.max_connections);
  server.peers = options.peers;
  server.unix_sockets = options.unix_sockets;
  server.security = options.security;
  server.other_loops = std::move(other_loops);
  server.observer = &connections;
  server.on_refused = [&connections](const NbdRefusal& refusal) {
    connections.on_refused(refusal);
  };
  server.on_stalled = [&connections](const NbdClientInfo& client) {
    connections.on_stalled(client);
  };
  return server;
}

/// Who was started with a socket to serve has said where his clients come from.
bool wants_default_socket(const DaemonOptions& options) {
  const bool inherits = options.inherited != nullptr && !options.inherited->empty();
  return !options.private_journal && !inherits;
}

bool requires_tls(const DaemonOptions& options) {
  return options.security != nullptr && options.security->tls == TlsMode::kRequire;
}

}  // namespace

Engine::Engine(IoLoop& loop, std::vector<IoLoop*> serving_loops, std::unique_ptr<Journal> journal,
               const DaemonOptions& options, Log& log, std::function<void()> on_stop_request)
    : loop_(loop),
      journal_(std::make_unique<MeasuredJournal>(
          loop, std::make_unique<StampedJournal>(std::move(journal),
                                                 [this] { return distrust_by_stamps(); }))),
      options_(options),
      log_(log),
      started_(loop.now()),
      connections_(loop, log, [this](const std::string& disk) { return disks_.epoch_of(disk); }),
      owners_(loop, *journal_, log, place_of(options.state_dir), !options.private_journal),
      jobs_(loop, *journal_),
      server_(make_nbd_server(loop, disks_,
                              server_options(options, std::move(serving_loops), connections_))),
      disk_service_(loop, *journal_, disks_, jobs_, *server_, log,
                    wants_default_socket(options) ? nbd_socket_path(options.state_dir) : "",
                    requires_tls(options)),
      migrations_(loop, *journal_, disks_, disk_service_, jobs_, log),
      restarts_(loop, *journal_, disks_, migrations_, log),
      recorded_(loop, *journal_, disks_, log),
      takeover_(loop, disk_service_, *server_, log),
      api_(
          disk_service_, migrations_, disks_, *server_, [this] { return describe(); },
          on_stop_request, options.on_handover_request),
      on_stop_request_(std::move(on_stop_request)),
      report_(loop, *journal_, migrations_, disks_, connections_, disk_service_.rates(), log),
      report_end_(loop) {}

Task<Status> Engine::open() {
  const Status identified = co_await owners_.open();
  if (!identified) co_return identified;
  disks_.set_owners(&owners_);
  disks_.set_on_closed([this](Disk& disk) { return leave_disk(disk); });
  disks_.set_late([this](const std::string& name) {
    return takeover_.is_late(name) || recorded_.is_late(name) || is_wanted_later(name);
  });
  disk_service_.set_owners(&owners_);
  migrations_.set_owners(&owners_);
  restarts_.set_owners(&owners_);
  const Status history = co_await migrations_.load_history();
  if (!history) co_return history;
  const Status rated = co_await migrations_.load_daemon_rate(options_.bwlimit_bytes_per_second);
  if (!rated) co_return rated;
  const Status unfinished = co_await restarts_.load();
  if (!unfinished) co_return unfinished;
  disk_service_.set_restarts(&restarts_);
  migrations_.set_restarts(&restarts_);
  disk_service_.set_recorded(&recorded_);
  disk_service_.set_follower([this](const std::string& job) { migrations_.follow(job); });
  disk_service_.set_takeover(&takeover_);
  const ListenProtection protection = protection_of(options_.security.get(), options_.peers);
  disk_service_.set_listening({protection, options_.unix_sockets}, options_.listen_besides);
  warn_of_descriptors();
  if (options_.restore) recorded_.expect();
  for (const std::string& text : options_.listen) {
    const Result<SocketAddress> address = SocketAddress::parse(text);
    if (!address) co_return address.error();
    const Status listening = server_->listen(*address);
    if (!listening) co_return listening;
    log_.info("listening on " + server_->addresses().back().to_string());
  }
  reports_.spawn(report_.run(report_end_));
  if (options_.restore) co_await recorded_.serve_all(disk_service_, options_.restore_except);
  co_return Status();
}

bool Engine::is_wanted_later(const std::string& disk) const {
  const std::vector<std::string>& wanted = options_.restore_except;
  if (wanted_have_come_) return false;
  return disk.empty() ? !wanted.empty()
                      : std::find(wanted.begin(), wanted.end(), disk) != wanted.end();
}

void Engine::warn_of_descriptors() {
  const std::uint64_t limit = descriptor_limit();
  const std::uint32_t wanted = options_.limits.max_connections;
  const std::uint32_t taken = connections_within(limit, wanted);
  if (taken == wanted) return;
  log_.warning("only " + std::to_string(limit) + " files may be open: at most " +
               std::to_string(taken) + " clients are served at a time instead of " +
               std::to_string(wanted) + ", the rest is for journal, disks and moves: raise the " +
               "limit (ulimit -n, LimitNOFILE=), or lower --limit connections");
}

Status Engine::open_inherited() {
  if (options_.inherited == nullptr) return {};
  for (InheritedSocket& socket : options_.inherited->sockets) {
    const Status opened = open_inherited(std::move(socket));
    if (!opened) return opened;
  }
  if (!options_.inherited->stdio) return {};
  auto stream = adopt_standard_streams(loop_, *std::move(options_.inherited->stdio));
  if (!stream) return stream.error();
  log_.info("serving one client on standard input and output");
  inherited_.spawn(serve_inherited(*std::move(stream), true));
  return {};
}

Status Engine::open_inherited(InheritedSocket socket) {
  const std::string name = socket.name;
  if (socket.listening) {
    const Status adopted = server_->adopt(socket.fd.release());
    if (!adopted) return adopted.error().with_context("socket '" + name + "'");
    log_.info("listening on " + server_->addresses().back().to_string() + ", activated as '" +
              name + "'");
    return {};
  }
  auto stream = adopt_socket(loop_, socket.fd.release());
  if (!stream) return stream.error().with_context("socket '" + name + "'");
  log_.info("serving " + (*stream)->peer_name() + ", activated as '" + name + "'");
  inherited_.spawn(serve_inherited(*std::move(stream), false));
  return {};
}

Task<void> Engine::serve_inherited(std::unique_ptr<Stream> stream, bool last) {
  co_await server_->serve_stream(std::move(stream));
  if (last) on_stop_request_();
}

Task<void> Engine::leave_disk(Disk& disk) {
  std::string name = disk.name();
  co_await jobs_.leave_disk(std::move(name));
  co_await restarts_.leave_disk(disk);
}

/// Of disks that are not served nothing changes, so what is recorded of them holds.
Task<Status> Engine::distrust_by_stamps() {
  Status first;
  auto disks = disks_.disks();
  disks.insert(disks.end(), disks_.closing().begin(), disks_.closing().end());
  for (const std::shared_ptr<ServedDisk>& served : disks) {
    const Result<StoreUri> store = parse_store_uri(served->disk().store_uri());
    if (!store.ok()) co_return store.error();
    Status stamped = co_await owners_.distrust(served->name(), *store);
    if (!stamped.ok()) stamped = co_await distrust_by_targets(*served);
    if (!stamped.ok()) warn_of_failing_writes(served->name());
    if (!stamped.ok() && first.ok()) first = stamped;
  }
  co_return first;
}

/// A disk whose store has no stamp: what may be recorded of its moves is made void at their
/// targets. A move to an NBD export needs none: one that a restart goes on with compares all of it
/// before its switchover.
Task<Status> Engine::distrust_by_targets(const ServedDisk& served) {
  const std::vector<BitmapFacts> bitmaps = served.bitmaps().bitmaps();
  const bool persistent = std::any_of(bitmaps.begin(), bitmaps.end(),
                                      [](const BitmapFacts& facts) { return facts.persistent; });
  if (persistent || restarts_.may_have_record(served.name())) {
    co_return Error(ErrorCode::kPrecondition,
                    "nothing beside the store of disk '" + served.name() + "' can say so");
  }
  for (const std::string& uri : jobs_.recorded_targets(served.name())) {
    const Result<StoreUri> target = parse_store_uri(uri);
    if (!target.ok()) co_return target.error();
    if (target->kind == StoreUri::Kind::kNbd) continue;
    const Status distrusted = co_await owners_.distrust_target(served.name(), *target);
    if (!distrusted.ok()) co_return distrusted;
  }
  co_return Status();
}

void Engine::warn_of_failing_writes(const std::string& disk) {
  if (!failing_writes_.insert(disk).second) return;
  log_.error(
      "writes where nothing was written for a while fail from now on: what is recorded of the "
      "disk's bitmaps and moves would miss them, and nothing beside its store can say so. Have the "
      "state folder writable again, and start the daemon again",
      {disk, "", 0});
}

DaemonView Engine::describe() const {
  DaemonView view;
  view.version = BLOCKMIG_VERSION;
  view.pid = static_cast<std::uint64_t>(getpid());
  view.state_dir = options_.state_dir;
  view.loop = loop_.name();
  view.owner = owners_.id();
  view.uptime_seconds = std::chrono::duration<double>(loop_.now() - started_).count();
  view.listen = disk_service_.addresses();
  view.bwlimit_bytes_per_second = jobs_.bandwidth().rate();
  for (const HandoverDisk& disk : late_disks()) view.late_disks.push_back(disk.request.disk);
  view.refused_disks = recorded_.refused();
  if (const Status journal = journal_->health(); !journal) {
    view.journal_error = journal.error().message();
  }
  return view;
}

MetricsSnapshot Engine::metrics() const {
  MetricsSnapshot snapshot;
  snapshot.daemon = describe();
  disk_service_.add_metrics(snapshot);
  snapshot.jobs = jobs_.list();
  snapshot.journal_saves = journal_->saves();
  return snapshot;
}

}  // namespace blockmig
