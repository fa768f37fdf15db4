// SPDX-License-Identifier: Apache-2.0
// ForegroundDaemon's two ends of a handover (tools/daemon/handover.h).
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "tools/cli/foreground_daemon.h"
#include "tools/control/control_client.h"
#include "tools/control/json.h"
#include "tools/control/listen_record.h"

namespace blockmig {
namespace {

constexpr Duration kComplainEvery = std::chrono::seconds(10);

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);  // check_socket_path() was asked
  return address;
}

/// A socket that only its owner can open, while it is there.
class WaitingPlace final {
 public:
  static Result<std::unique_ptr<WaitingPlace>> open(const std::string& path) {
    const Status fits = check_socket_path(path);
    if (!fits) return fits.error();
    (void)::unlink(path.c_str());
    UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_un address = address_of(path);
    const mode_t before = ::umask(0177);
    const int bound =
        ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
    const int failure = errno;
    ::umask(before);
    if (bound != 0) return Error::from_errno(failure, "bind " + path);
    if (::listen(socket.get(), 1) != 0) return Error::from_errno(errno, "listen on " + path);
    return std::unique_ptr<WaitingPlace>(new WaitingPlace(path, std::move(socket)));
  }
  ~WaitingPlace() { (void)::unlink(path_.c_str()); }
  WaitingPlace(const WaitingPlace&) = delete;
  WaitingPlace& operator=(const WaitingPlace&) = delete;

  Result<UniqueFd> wait() const {
    pollfd ready{socket_.get(), POLLIN, 0};
    const auto patience =
        std::chrono::duration_cast<std::chrono::milliseconds>(kHandoverPatience).count();
    if (::poll(&ready, 1, static_cast<int>(patience)) != 1) {
      return Error(ErrorCode::kTimedOut, "the running daemon has not handed over: look at its log");
    }
    UniqueFd connection(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!connection) return Error::from_errno(errno, "accept on " + path_);
    return connection;
  }

 private:
  WaitingPlace(std::string path, UniqueFd socket)
      : path_(std::move(path)), socket_(std::move(socket)) {}
  std::string path_;
  UniqueFd socket_;
};

/// There is no limit: who gives up here loses clients that the other one, which is still at it,
/// could serve. Its end is a word too.
void wait_for_word(int connection, Log& log, const std::string& complaint) {
  pollfd ready{connection, POLLIN, 0};
  const auto pause = std::chrono::duration_cast<std::chrono::milliseconds>(kComplainEvery).count();
  for (;;) {
    const int answered = ::poll(&ready, 1, static_cast<int>(pause));
    if (answered > 0 || (answered < 0 && errno != EINTR)) return;
    if (answered == 0) log.warning(complaint);
  }
}

Result<UniqueFd> connect_to_successor(const std::string& state_dir) {
  const std::string path = handover_socket_path(state_dir);
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = address_of(path);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return Error::from_errno(errno, "connect to " + path);
  }
  return socket;
}

}  // namespace

Result<std::unique_ptr<ForegroundDaemon>> ForegroundDaemon::replace(const DaemonOptions& options,
                                                                    LogForm log) {
  const Result<UniqueFd> turn = lock_handover(options.state_dir);
  if (!turn) return turn.error();
  ControlClient running(control_socket_path(options.state_dir));
  if (!running.daemon_listens()) {
    return Error(ErrorCode::kNotFound, "no daemon runs in " + options.state_dir);
  }
  const auto place = WaitingPlace::open(handover_socket_path(options.state_dir));
  if (!place) return place.error();
  const ListenRecord own_listening{protection_of(options.security.get(), options.peers), {}};
  const ControlResponse asked = running.handle({"POST", "/v1/handover", to_json(own_listening)});
  if (!asked.ok()) return error_from_response(asked).with_context("asking the running daemon");
  const Result<UniqueFd> connection = (*place)->wait();
  if (!connection) return connection.error();
  Log own_log(log, options.log_level);
  wait_for_word(connection->get(), own_log, "the running daemon has not let go of its disks yet");
  Result<Handover> handover = receive_handover(connection->get());
  if (!handover) return handover.error().with_context("the running daemon goes on");
  Result<StateDirLock> lock = StateDirLock::adopt(std::move(handover->lock));
  if (!lock) return lock.error();
  DaemonOptions own = options;
  own.listen.clear();   // the listeners come along
  own.restore = false;  // and so do the disks
  std::unique_ptr<ForegroundDaemon> daemon(
      new ForegroundDaemon(*std::move(lock), std::move(own), log));
  Status ready = daemon->start_engine();
  if (ready.ok()) ready = daemon->daemon_->resume_disks(*handover, ResumedDisks::kAll);
  if (!ready.ok() && daemon->daemon_ != nullptr) {
    // The journal and the disks must be free before the old one hears of it.
    const Status stopped = daemon->daemon_->stop();
    if (!stopped) daemon->log_.error(stopped.error().message());
  }
  // From an "ok" on the clients are ours: the old one ends on it.
  const Status told = send_verdict(connection->get(), ready);
  if (!ready.ok()) {
    // Whatever was not found: there is a daemon.
    return Error(ErrorCode::kPrecondition, ready.error().message())
        .with_context("the old daemon takes its clients back");
  }
  if (!told.ok()) daemon->log_.warning("the old daemon is gone: " + told.error().message());
  const Status clients = daemon->daemon_->resume_clients(*handover);
  if (!clients.ok()) daemon->log_.error(clients.error().message());
  const Status servers = daemon->start_servers();
  if (!servers) daemon->log_.error(servers.error().message());  // clients come first
  daemon->log_.info("daemon took over, state folder " + options.state_dir);
  return daemon;
}

bool ForegroundDaemon::hand_over() {
  const Result<UniqueFd> connection = connect_to_successor(options_.state_dir);
  if (!connection) {
    log_.warning("nobody takes over: " + connection.error().message());
    return false;
  }
  const Status openable = daemon_->check_successor(kParkPatience);
  if (openable.ok()) stop_servers();  // guests wait from park() on, and for nothing of theirs
  Result<Handover> handover =
      openable.ok() ? daemon_->park(kParkPatience, Stragglers::kRefuse) : openable.error();
  if (!handover) {
    log_.warning("not handing over: " + handover.error().message());
    const Status served = openable.ok() ? start_servers() : Status();
    if (!served) log_.error(served.error().message());  // clients come first
    const Status told = send_refusal(connection->get(), handover.error());
    if (!told) log_.warning(told.error().message());
    return false;
  }
  // For take_back(): it may have been changed since the start.
  options_.bwlimit_bytes_per_second = daemon_->bwlimit();
  const Status closed = daemon_->stop();
  if (daemon_->gave_up()) {
    // What it holds can be opened by nobody before this process ends, and not again in it.
    log_.error("not handing over: " + closed.error().message());
    [[maybe_unused]] const Status told = send_refusal(connection->get(), closed.error());
    leave_if_given_up(closed);
  }
  left_behind_ = left_behind_ || daemon_->left_behind();
  leave_out_unclosed(*handover);
  daemon_.reset();
  Status taken = closed;
  handover->lock = UniqueFd(::dup(lock_.descriptor().get()));
  if (taken.ok()) taken = send_handover(connection->get(), *handover);
  if (taken.ok()) {
    wait_for_word(
        connection->get(), log_,
        "the new daemon has not opened everything yet, and clients wait: end it, and they "
        "are served here again");
    taken = receive_verdict(connection->get());
  }
  if (taken.ok()) {
    log_.info("handed over");
    if (left_behind_) leave(Status());
    return true;
  }
  log_.error("the handover failed, taking everything back: " + taken.error().message());
  const Status back = take_back(*handover);
  if (!back.ok()) {
    log_.error("taking back failed: " + back.error().message());
    daemon_.reset();
  }
  return false;
}

Status ForegroundDaemon::take_back(const Handover& handover) {
  options_.listen.clear();  // the listeners come back, and so do the disks
  options_.restore = false;
  const auto until = std::chrono::steady_clock::now() + kReleasePatience;
  Status engine = start_engine();
  while (!engine.ok() && engine.error().code() == ErrorCode::kBusy &&
         std::chrono::steady_clock::now() < until) {
    std::this_thread::sleep_for(kReleasePoll);
    engine = start_engine();
  }
  // The other one still has the journal: the clients are its.
  if (!engine.ok()) return engine;
  const Status disks = daemon_->resume_disks(handover, ResumedDisks::kOpenable);
  if (!disks.ok()) return disks;
  const Status clients = daemon_->resume_clients(handover);
  const Status servers = start_servers();
  if (clients.ok() && servers.ok()) {
    log_.info("what was handed over was taken back");
  } else {
    log_.error("not everything was taken back: " +
               (clients.ok() ? servers : clients).error().message());
  }
  return Status();
}

}  // namespace blockmig
