// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/session.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "blockmig/base/check.h"
#include "blockmig/io/cancel.h"
#include "blockmig/tls/tls_stream.h"
#include "nbdserver/handshake.h"
#include "nbdserver/visible_exports.h"

namespace blockmig::nbd {
namespace {

/// More for each option of the negotiation that did not count: whoever sees exports could choose
/// one and stay.
constexpr Duration kLookTime = std::chrono::milliseconds(100);

/// Who comes back after a crash is quicker than the disks, and would take a refusal for final.
constexpr Duration kLatePatience = std::chrono::seconds(4);
constexpr Duration kLatePoll = std::chrono::milliseconds(20);

bool is_over(Handshake::State state) {
  return state == Handshake::State::kTransmission || state == Handshake::State::kStartTls ||
         state == Handshake::State::kClosed;
}

Handshake::Tls tls_of(const NbdSecurity& security) {
  switch (security.tls) {
    case TlsMode::kOff:
      return Handshake::Tls::kOff;
    case TlsMode::kOn:
      return Handshake::Tls::kOffered;
    case TlsMode::kRequire:
      break;
  }
  return security.list_before_tls ? Handshake::Tls::kRequiredButList : Handshake::Tls::kRequired;
}

const char* to_string(HeaderStyle style) {
  switch (style) {
    case HeaderStyle::kSimple:
      return "simple";
    case HeaderStyle::kStructured:
      return "structured";
    case HeaderStyle::kExtended:
      return "extended";
  }
  return "";
}

}  // namespace

PeerIdentities socket_identities(const StreamPeer& peer) {
  PeerIdentities known;
  if (!peer.credentials) return known;
  known.push_back({PeerIdentity::Kind::kUnixUser, std::to_string(peer.credentials->uid)});
  for (const std::uint32_t gid : peer.credentials->gids) {
    known.push_back({PeerIdentity::Kind::kUnixGroup, std::to_string(gid)});
  }
  return known;
}

struct Session::Input {
  std::vector<std::byte> bytes = std::vector<std::byte>(Handshake::kMaxInputBytes);
  std::size_t filled = 0;

  ConstBytes available() const { return ConstBytes(bytes).first(filled); }
  MutableBytes room() { return MutableBytes(bytes).subspan(filled); }
  void consume(std::size_t size) {
    std::memmove(bytes.data(), bytes.data() + size, filled - size);
    filled -= size;
  }
};

Session::Session(ServerLoops& loops, ExportDirectory& directory, const NbdServerLimits& limits,
                 std::unique_ptr<Stream> stream, std::uint64_t id,
                 std::shared_ptr<const NbdSecurity> security)
    : loops_(loops),
      loop_(loops.home().loop),
      directory_(directory),
      limits_(limits),
      security_(security != nullptr ? std::move(security) : std::make_shared<const NbdSecurity>()),
      stream_(std::move(stream)) {
  BM_CHECK(security_->tls == TlsMode::kOff || security_->credentials != nullptr);
  begun_ = last_request_ = loop_.now();
  // Its answer must be in time too.
  late_until_ = begun_ + std::min<Duration>(kLatePatience, limits_.handshake_timeout / 2);
  info_.id = id;
  info_.peer = stream_->peer_name();
  const StreamPeer peer = stream_->peer();
  if (peer.credentials) info_.identity = peer.origin;
}

void Session::resume(Negotiated negotiated, std::vector<std::byte> leftover,
                     const ClientPast& past) {
  past_ = past;
  resumed_ = std::move(negotiated);
  leftover_ = std::move(leftover);
}

Task<void> Session::run() {
  if (!resumed_) {
    auto input = std::make_unique<Input>();
    std::optional<Negotiated> negotiated = co_await negotiate(*input);
    resumed_ = std::move(negotiated);
    leftover_.assign(input->available().begin(), input->available().end());
    input.reset();  // an idle client costs no handshake buffer
  }
  // It may have left while the last reply was on its way: whoever cuts its clients did not see us.
  if (resumed_ && directory_.find(resumed_->disk->name()) != resumed_->disk) resumed_.reset();
  // It was to be parked, and has begun TLS since.
  if (resumed_ && parking_ && !can_park()) resumed_.reset();
  if (resumed_) {
    info_.export_name = resumed_->disk->name();
    info_.style = to_string(resumed_->rules.style);
    host_ = std::make_unique<TransmissionHost>(loops_.home(), loops_.pick(), *stream_,
                                               std::move(*resumed_), limits_);
    resumed_.reset();
    if (observer_ != nullptr) observer_->on_connected(info());
    const std::vector<std::byte> leftover = std::exchange(leftover_, {});
    if (!shutting_down_ && !cut_) {
      co_await host_->run(leftover, parking_);
    }
    if (host_->parked() && !cut_) {
      parked_ = host_->take_parked();
      parked_->socket = UniqueFd(stream_->release());
      parked_->id = info_.id;
      parked_->past = past();
      co_return;
    }
  }
  stream_->shutdown();
}

void Session::park() {
  parking_ = true;
  if (host_ != nullptr) host_->park();
}

std::optional<ParkedClient> Session::take_parked() {
  std::optional<ParkedClient> taken = std::move(parked_);
  parked_.reset();
  return taken;
}

Task<std::optional<Negotiated>> Session::negotiate(Input& input) {
  // I16: whoever does not come to the point in time is cut off, inside TLS too.
  bool timed_out = false;
  Timer deadline(loop_, [this, &timed_out] {
    timed_out = true;
    stream_->shutdown();
  });
  const TimePoint latest = loop_.now() + limits_.handshake_timeout;
  deadline.arm(latest);
  const std::function<void(std::uint64_t)> extend = [&deadline, latest](std::uint64_t looks) {
    deadline.arm(latest + static_cast<Duration::rep>(looks) * kLookTime);
  };

  std::optional<Negotiated> result;
  VisibleExports open_view(directory_, security_->access, known_identities());
  Handshake handshake(open_view, limits_, tls_of(*security_));
  co_await negotiate_options(handshake, input, extend);
  if (handshake.state() == Handshake::State::kTransmission) result = handshake.take_result();
  if (!result) failure_ = handshake.failure();
  if (handshake.state() == Handshake::State::kStartTls) {
    const Status secured = co_await start_tls();
    if (secured.ok()) {
      VisibleExports view(directory_, security_->access, known_identities());
      Handshake inside(view, limits_, handshake.carried());
      co_await negotiate_options(inside, input, extend);
      if (inside.state() == Handshake::State::kTransmission) result = inside.take_result();
      if (!result) failure_ = inside.failure();
    } else {
      info_.tls_error = secured.error().message();
      failure_ = NbdHandshakeFailure::kTls;
    }
  }
  if (!result) {
    if (shutting_down_ || cut_) failure_ = NbdHandshakeFailure::kShutdown;
    if (timed_out) failure_ = NbdHandshakeFailure::kTimeout;
  }
  co_return result;
}

Task<void> Session::negotiate_options(Handshake& handshake, Input& input,
                                      const std::function<void(std::uint64_t)>& extend) {
  if (shutting_down_) handshake.begin_shutdown();
  handshake_ = &handshake;
  for (;;) {
    const Status sent = co_await send_output(handshake);
    if (!sent.ok() || is_over(handshake.state())) break;
    const std::uint64_t looks = handshake.looks();
    co_await wait_for_late(handshake, input);
    const std::size_t consumed = handshake.feed(input.available());
    input.consume(consumed);
    if (handshake.looks() != looks) extend(handshake.looks());
    if (consumed != 0 || !handshake.output().empty() || is_over(handshake.state())) continue;
    const Result<std::size_t> got = co_await stream_->read_some(input.room());
    if (!got.ok() || *got == 0) break;
    input.filled += *got;
  }
  handshake_ = nullptr;
}

/// At an end, and where another daemon takes over, it is told at once.
Task<void> Session::wait_for_late(const Handshake& handshake, const Input& input) {
  while (!cut_ && !parking_ && loop_.now() < late_until_ &&
         handshake.asks_for_late(input.available())) {
    co_await sleep_for(loop_, kLatePoll);
  }
}

Task<Status> Session::start_tls() {
  TlsLimits limits;
  limits.max_handshake_bytes = limits_.max_handshake_bytes;
  auto secured = std::make_unique<TlsStream>(std::move(stream_), security_->credentials,
                                             std::string(), limits);
  TlsStream& tls = *secured;
  stream_ = std::move(secured);  // before the first wait: it can be cut from now on
  const Status done = co_await tls.handshake(&loops_.handshake_steps());
  if (!done.ok()) co_return done;
  identities_ = tls.identities();
  info_.tls = true;
  info_.tls_description = tls.description();
  if (!identities_.empty()) {
    const PeerIdentity& first = identities_.front();
    info_.identity = std::string(to_string(first.kind)) + ":" + first.name;
  }
  co_return Status();
}

PeerIdentities Session::known_identities() const {
  PeerIdentities known = identities_;
  if (!security_->access.has_rules()) return known;
  const PeerIdentities of_socket = socket_identities(stream_->peer());
  known.insert(known.end(), of_socket.begin(), of_socket.end());
  return known;
}

Task<Status> Session::send_output(Handshake& handshake) {
  if (handshake.output().empty()) co_return Status();
  const ConstBytes output = handshake.output();
  const std::span<const ConstBytes> parts(&output, 1);
  const Status sent = co_await stream_->write_all(parts);
  handshake.clear_output();
  co_return sent;
}

void Session::begin_shutdown() {
  shutting_down_ = true;
  if (handshake_ != nullptr) handshake_->begin_shutdown();
  if (host_ != nullptr) host_->begin_shutdown();
}

void Session::cut() {
  cut_ = true;
  if (host_ != nullptr) return host_->cut();
  stream_->shutdown();
}

NbdClientEnd Session::end() const {
  if (host_->protocol_broken()) return NbdClientEnd::kProtocol;
  if (shutting_down_) return NbdClientEnd::kShutdown;
  return cut_ ? NbdClientEnd::kCut : NbdClientEnd::kLeft;
}

void Session::release_idle_memory() {
  if (host_ == nullptr) return;
  const std::uint64_t requests = host_->counters().all_requests();
  const bool idle = requests == requests_seen_ && host_->counters().in_flight.value() == 0 &&
                    host_->counters().memory.waits_for_room.value() == 0;
  // Once is enough: thousands of idle clients must not wake their loop every second.
  if (idle && rests_) return;
  rests_ = idle;
  host_->release_idle_memory();
  if (idle) return;
  requests_seen_ = requests;
  last_request_ = loop_.now();
}

NbdClientInfo Session::info() const {
  NbdClientInfo info = info_;
  info.connected = loop_.now() - begun_;
  info.idle = loop_.now() - last_request_;
  if (host_ != nullptr) {
    info.counters = host_->counters();
    info.requests = info.counters.all_requests();
    info.bytes_read = info.counters.bytes_read.value();
    info.bytes_written = info.counters.bytes_written.value();
    info.in_flight = static_cast<std::uint32_t>(info.counters.in_flight.value());
    // What came since the last sweep counts as now.
    if (info.requests != requests_seen_) info.idle = Duration::zero();
  }
  info.requests += past_.requests;
  for (const NbdOp op : kNbdOps) {
    info.counters.requests[static_cast<std::size_t>(op)].add(past_.of(op));
  }
  info.counters.errors.add(past_.errors);
  info.counters.refused.add(past_.refused);
  info.bytes_read += past_.bytes_read;
  info.bytes_written += past_.bytes_written;
  info.connected += past_.connected;
  return info;
}

ClientPast Session::past() const {
  const NbdClientInfo now = info();
  ClientPast past;
  past.requests = now.requests;
  for (const NbdOp op : kNbdOps) past.of(op) = now.counters.of(op);
  past.errors = now.counters.errors.value();
  past.refused = now.counters.refused.value();
  past.bytes_read = now.bytes_read;
  past.bytes_written = now.bytes_written;
  past.connected = now.connected;
  return past;
}

std::uint64_t Session::refused_here() const {
  return host_ != nullptr ? host_->counters().refused.value() : 0;
}

}  // namespace blockmig::nbd
