// SPDX-License-Identifier: Apache-2.0
#include "tools/control/metrics_server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "blockmig/io/listening_socket.h"
#include "blockmig/io/raw_address.h"

namespace blockmig {
namespace {

/// How long nobody is accepted after there was no descriptor for it.
constexpr std::chrono::milliseconds kNoDescriptorsPause{50};

bool lacks_descriptors(int os_errno) {
  return os_errno == EMFILE || os_errno == ENFILE || os_errno == ENOBUFS || os_errno == ENOMEM;
}

}  // namespace

Result<std::unique_ptr<MetricsServer>> MetricsServer::start(const std::string& host,
                                                            std::uint16_t port,
                                                            ControlHandler& handler,
                                                            const MetricsLimits& limits) {
  SocketAddress address;
  address.family = SocketAddress::Family::kTcp;
  address.host = host;
  address.port = port;
  auto listener = open_listening_socket(address, {});
  if (!listener) {
    return Error(ErrorCode::kIo, "cannot answer scrapes: " + listener.error().message() +
                                     ": is the address this machine's, and the port free?");
  }
  const auto bound = local_address(listener->get());
  if (!bound) return bound.error();
  UniqueFd stop(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop) return Error::from_errno(errno, "cannot answer scrapes: eventfd");
  return std::unique_ptr<MetricsServer>(new MetricsServer(
      *std::move(listener), to_socket_address(*bound).port, std::move(stop), handler, limits));
}

MetricsServer::MetricsServer(UniqueFd listener, std::uint16_t port, UniqueFd stop,
                             ControlHandler& handler, const MetricsLimits& limits)
    : listener_(std::move(listener)),
      port_(port),
      stop_(std::move(stop)),
      handler_(handler),
      limits_(limits),
      thread_([this] { run(); }) {}

MetricsServer::~MetricsServer() {
  const std::uint64_t one = 1;
  (void)!::write(stop_.get(), &one, sizeof one);
  thread_.join();
}

void MetricsServer::run() {
  while (wait_and_advance()) {
    answer_who_asks();
    drop_ended();
  }
}

bool MetricsServer::wait_and_advance() {
  const bool accepting = Clock::now() >= accept_again_;
  std::vector<pollfd> polled{{stop_.get(), POLLIN, 0},
                             {accepting ? listener_.get() : -1, POLLIN, 0}};
  for (const MetricsConnection& client : clients_) {
    polled.push_back({client.descriptor(), client.events(), 0});
  }
  // One that fails has seen nothing.
  (void)::poll(polled.data(), polled.size(), patience_ms());
  if (polled[0].revents != 0) return false;
  auto polled_client = polled.begin() + 2;
  for (MetricsConnection& client : clients_) {
    if ((polled_client++)->revents != 0) client.advance();
  }
  if (polled[1].revents != 0) accept_one();
  return true;
}

/// Until the first deadline; -1 for ever.
int MetricsServer::patience_ms() const {
  const Clock::time_point now = Clock::now();
  Clock::time_point first = accept_again_ > now ? accept_again_ : Clock::time_point::max();
  for (const MetricsConnection& client : clients_) first = std::min(first, client.until());
  if (first == Clock::time_point::max()) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(first - now);
  return static_cast<int>(std::max<std::int64_t>(left.count(), 0));
}

/// One in a turn: each has been looked at before others can push it out.
void MetricsServer::accept_one() {
  UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  const bool lacking = !socket && lacks_descriptors(errno);
  if (!socket && !lacking) return;  // its own affair (accept(2))
  if (lacking) accept_again_ = Clock::now() + kNoDescriptorsPause;
  if (!clients_.empty() && (lacking || clients_.size() >= limits_.connections)) {
    clients_.pop_front();
  }
  if (lacking) return;
  clients_.emplace_back(std::move(socket), limits_.request_bytes, Clock::now() + limits_.deadline);
  clients_.back().advance();  // the request has mostly come along
}

void MetricsServer::answer_who_asks() {
  std::shared_ptr<const ControlResponse> page;
  for (MetricsConnection& client : clients_) {
    if (!client.asks()) continue;
    if (page == nullptr) {
      page = std::make_shared<ControlResponse>(handler_.handle({"GET", kMetricsPath, ""}));
    }
    client.answer(page);
    client.advance();
  }
}

void MetricsServer::drop_ended() {
  const Clock::time_point now = Clock::now();
  clients_.remove_if([now](const MetricsConnection& client) { return client.has_ended(now); });
}

}  // namespace blockmig
