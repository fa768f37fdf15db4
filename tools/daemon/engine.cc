// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/engine.h"

#include <unistd.h>

#include <utility>

#include "tools/control/state_dir.h"

namespace blockmig {
namespace {

/// How long clients' requests may take to finish before their connections are cut.
constexpr Duration kClientGrace = std::chrono::seconds(5);

}  // namespace

Engine::Engine(IoLoop& loop, std::unique_ptr<Journal> journal, const DaemonOptions& options,
               Log& log, std::function<void()> on_stop_request)
    : loop_(loop),
      journal_(std::move(journal)),
      options_(options),
      log_(log),
      started_(loop.now()),
      jobs_(loop, *journal_),
      server_(make_nbd_server(loop, disks_, NbdServerLimits{})),
      disk_service_(loop, *journal_, disks_, jobs_, *server_, log,
                    options.private_journal ? "" : nbd_socket_path(options.state_dir)),
      migrations_(loop, *journal_, disks_, disk_service_, jobs_, log),
      api_(
          disk_service_, migrations_, disks_, *server_, [this] { return describe(); },
          std::move(on_stop_request)),
      report_(loop, disk_service_, migrations_, log),
      report_end_(loop) {}

Task<Status> Engine::open() {
  const Status history = co_await migrations_.load_history();
  if (!history) co_return history;
  for (const std::string& text : options_.listen) {
    const Result<SocketAddress> address = SocketAddress::parse(text);
    if (!address) co_return address.error();
    const Status listening = server_->listen(*address);
    if (!listening) co_return listening;
    log_.info("listening on " + server_->addresses().back().to_string());
  }
  reports_.spawn(report_.run(report_end_));
  co_return Status();
}

Task<Status> Engine::shut_down() {
  // Requests that wait for a store's answer end by their own timeouts; migrations first, so that no
  // target holds anything up.
  co_await jobs_.stop();
  co_await migrations_.finish();
  co_await server_->stop(kClientGrace);
  co_await requests_.join();
  report_end_.cancel();
  co_await reports_.join();
  const Status closed = co_await disks_.close_all();
  co_return closed;
}

DaemonView Engine::describe() const {
  DaemonView view;
  view.version = BLOCKMIG_VERSION;
  view.pid = static_cast<std::uint64_t>(getpid());
  view.state_dir = options_.state_dir;
  view.loop = loop_.name();
  view.uptime_seconds = std::chrono::duration<double>(loop_.now() - started_).count();
  view.listen = disk_service_.addresses();
  return view;
}

}  // namespace blockmig
