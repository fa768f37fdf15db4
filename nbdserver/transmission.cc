// SPDX-License-Identifier: Apache-2.0
// The intake of requests; their bytes come in transmission_receive.cc, what each command does is in
// commands.cc, how it ends in transmission_end.cc.
#include "nbdserver/transmission.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <utility>

#include "blockmig/base/check.h"
#include "nbdserver/early_replies.h"
#include "nbdserver/yield_to_loop.h"

namespace blockmig::nbd {
namespace {

/// Units of work (a request, or 16 KiB of data) between two turns of the loop, for fairness between
/// connections.
constexpr std::uint32_t kWorkPerTurn = 1024;
constexpr std::uint64_t kBytesPerWork = 16 * 1024;
/// What a status reply may take, for one context.
constexpr std::uint64_t kMaxStatusBytes = 16 * BlockDevice::kMaxExtents;
/// What goes to a store that does not take it at once is received into memory of its own if it is
/// longer than this: the store may keep it, and takes it as it is where it wants it aligned.
constexpr std::size_t kMaxSharedBytes = BufferPool::kMinBytes / 2 - 1;
/// While a send is waiting for the client and this much is unsent, reading further ahead would only
/// cool the caches; but only for a while, because the client may be waiting for us to take its next
/// request.
constexpr std::size_t kUnsentPauseBytes = 2 * 1024 * 1024;
constexpr Duration kUnsentPause = std::chrono::milliseconds(5);
constexpr std::size_t kCacheLineBytes = 64;

/// After a wait among a thousand clients nothing of this one is in the processor's caches; what the
/// next request needs comes while the kernel looks into the socket.
void fetch_into_caches(const Transmission& transmission) {
  const auto* const bytes = reinterpret_cast<const std::byte*>(&transmission);
  for (std::size_t at = 0; at < sizeof transmission; at += kCacheLineBytes) {
    __builtin_prefetch(bytes + at);
  }
}

}  // namespace

Transmission::Transmission(EventLoop& loop, Stream& stream, BufferPool& pool, ExportLane& lane,
                           const TransmissionRules& rules, std::vector<MetaContext> contexts,
                           const NbdServerLimits& limits, ClientCounters& counters)
    : loop_(loop),
      stream_(stream),
      pool_(pool),
      lane_(lane),
      device_(lane.device()),
      rules_(rules),
      contexts_(std::move(contexts)),
      header_bytes_(request_header_bytes(rules_.style)),
      counters_(counters),
      received_(pool),
      in_flight_(loop, limits.max_in_flight_requests, limits.max_in_flight_bytes,
                 counters.in_flight, pool.budget(), stream.peer().origin, lane.name()),
      replies_(loop, stream, pool, in_flight_, counters),
      prefetch_(loop, 1) {}

Task<void> Transmission::run(ConstBytes leftover) {
  received_.seed(leftover);
  co_await take_requests();
  state_ = State::kEnding;
  in_flight_.wake();
  co_await drain_.join();
  co_await requests_.join();
  co_await replies_.join();
  if (replies_.broken()) parked_ = false;
}

Task<void> Transmission::take_requests() {
  wanted_bytes_ = header_bytes_;
  for (;;) {
    const bool shares = device_.shares_loop();
    const TimePoint begun = shares ? loop_.now() : TimePoint();
    const Step step = start_requests();
    if (shares) co_await share_loop(begun);
    switch (step) {
      case Step::kEnd:
        co_return;
      case Step::kReceive: {
        awaits_payload_ = skip_left_ != 0 || wanted_bytes_ > header_bytes_;
        Arrival arrival = Arrival::kNothing;
        if (stream_.works_in_place()) {
          arrival = receive_now();
        } else {
          arrival = co_await receive_waiting();
        }
        // In this frame: with a thousand clients each further one is a miss of the caches.
        while (arrival == Arrival::kNothing) {
          const Status more = co_await stream_.readable();
          fetch_into_caches(*this);
          arrival = more.ok() ? receive_now() : end_of_intake(more.error());
        }
        awaits_payload_ = false;
        if (arrival == Arrival::kEnd) co_return;
        break;
      }
      case Step::kReceivePayload: {
        awaits_payload_ = in_payload_ = true;
        const Status whole = co_await receive_payload();
        awaits_payload_ = in_payload_ = false;
        if (!whole.ok()) co_return;
        break;
      }
      case Step::kAwaitRoom:
        // What was sent at the end of start_requests() may have made room already.
        if (in_flight_.gives() == seen_gives_) {
          counters_.memory.waits_for_room.set(1);
          co_await in_flight_.changed().wait();
          counters_.memory.waits_for_room.set(0);
          cut_if_gone();
        }
        break;
      case Step::kPause: {
        if (in_flight_.gives() != seen_gives_) break;
        const TimePoint until = loop_.now() + kUnsentPause;
        const bool changed = co_await in_flight_.changed().wait_until(until);
        pause_is_over_ = !changed;
        cut_if_gone();
        break;
      }
      case Step::kNext:
        work_ = 0;
        co_await YieldToLoop(loop_);
        break;
    }
  }
}

/// Others on the loop have the time until then; what ends the connection is not kept waiting.
Task<void> Transmission::rest(TimePoint until) {
  while (state_ == State::kServing && loop_.now() < until) {
    co_await in_flight_.changed().wait_until(until);
  }
}

Task<void> Transmission::share_loop(TimePoint begun) {
  const TimePoint until = device_.used_loop(begun, loop_.now());
  co_await rest(until);
}

Transmission::Step Transmission::start_requests() {
  EarlyReplies early(received_.available(), rules_.style);
  Step step = Step::kNext;
  replies_.cork();
  while (step == Step::kNext && work_ < kWorkPerTurn) {
    step = start_one();
    const std::size_t left = received_.available().size();
    if (early.due(replies_.pending_replies(), replies_.pending_bytes(), left)) replies_.send_now();
  }
  replies_.uncork();
  replies_.send_now();
  return step;
}

Transmission::Step Transmission::start_one() {
  if (replies_.broken() || state_ == State::kEnding) return Step::kEnd;
  if (skip_left_ != 0) return skip_payload();
  if (state_ == State::kParking) {
    parked_ = true;
    return Step::kEnd;
  }
  const ConstBytes bytes = received_.available();
  wanted_bytes_ = header_bytes_;
  if (bytes.size() < header_bytes_) return Step::kReceive;
  const auto request = decode_request(bytes, rules_.style);
  if (!request) {
    protocol_broken_ = true;  // out of step for good
    return Step::kEnd;
  }

  const std::uint64_t payload = payload_bytes(*request, rules_.style);
  Verdict verdict = judge_request(*request, rules_);
  if (verdict.action == Verdict::Action::kDisconnect || verdict.action == Verdict::Action::kDrop) {
    protocol_broken_ = verdict.action == Verdict::Action::kDrop;
    return Step::kEnd;
  }
  if (state_ == State::kDraining) {
    verdict = {Verdict::Action::kRefuse, WireError::kShutdown, Refusal::kShutdown};
  }
  const bool refused = verdict.action == Verdict::Action::kRefuse;
  seen_gives_ = in_flight_.gives();
  if (!in_flight_.admits(refused ? kRequestOverheadBytes : charge_of(*request))) {
    return Step::kAwaitRoom;
  }
  if (refused) return start_refusal(*request, verdict, payload);
  if (should_pause(*request)) return Step::kPause;

  const std::size_t whole = header_bytes_ + static_cast<std::size_t>(payload);
  if (bytes.size() < whole) {
    wanted_bytes_ = whole;
    const std::size_t shared = store_waits_ ? kMaxSharedBytes : ReceiveBuffer::kMaxPayloadBytes;
    if (payload <= shared || request->command != Command::kWrite) return Step::kReceive;
    payload_request_ = *request;
    return Step::kReceivePayload;
  }
  received_.consume(whole);
  BufferRef keep;
  if (payload != 0) keep = received_.pin();
  start(*request, std::move(keep), bytes.subspan(header_bytes_, whole - header_bytes_));
  return Step::kNext;
}

Transmission::Step Transmission::start_refusal(const Request& request, const Verdict& verdict,
                                               std::uint64_t payload) {
  received_.consume(header_bytes_);
  counters_.count(request.command);
  counters_.refused.add();
  ++work_;
  in_flight_.take(kRequestOverheadBytes);
  refused_request_ = request;
  refused_verdict_ = verdict;
  skip_left_ = payload;
  return skip_payload();
}

Transmission::Step Transmission::skip_payload() {
  const std::uint64_t taken = std::min<std::uint64_t>(received_.available().size(), skip_left_);
  received_.consume(static_cast<std::size_t>(taken));
  skip_left_ -= taken;
  if (skip_left_ != 0) {
    wanted_bytes_ = 1;
    return Step::kReceive;
  }
  // Only now: an answer before the payload was consumed would leave the two sides out of step.
  refuse(refused_request_, refused_verdict_.error, refused_verdict_.refusal);
  return Step::kNext;
}

bool Transmission::should_pause(const Request& request) {
  const bool far_ahead = replies_.sending() && replies_.unsent_bytes() >= kUnsentPauseBytes;
  if (!far_ahead) pause_is_over_ = false;
  return far_ahead && !pause_is_over_ && request.command == Command::kRead;
}

std::uint64_t Transmission::charge_of(const Request& request) const {
  switch (request.command) {
    case Command::kRead:
    case Command::kWrite:
      return kRequestOverheadBytes + request.length;
    case Command::kBlockStatus:
      return kRequestOverheadBytes + kMaxStatusBytes * contexts_.size();
    case Command::kDisc:
    case Command::kFlush:
    case Command::kTrim:
    case Command::kCache:
    case Command::kWriteZeroes:
    case Command::kResize:
      break;
  }
  return kRequestOverheadBytes;
}

void Transmission::count_work(std::uint64_t charge) {
  work_ += 1 + static_cast<std::uint32_t>(charge / kBytesPerWork);
}

void Transmission::start(const Request& request, BufferRef keep, ConstBytes payload) {
  const std::uint64_t charge = charge_of(request);
  in_flight_.take(charge);
  counters_.count(request.command);
  count_work(charge);
  if (changes_data(request.command)) replies_.copy_borrowed({request.offset, request.length});
  switch (request.command) {
    case Command::kRead:
      return start_read(request);
    case Command::kWrite:
      return start_write(request, std::move(keep), payload, 0);
    case Command::kFlush:
      return requests_.spawn(flush(request));
    case Command::kTrim:
      return requests_.spawn(trim(request));
    case Command::kCache:
      return requests_.spawn(cache(request));
    case Command::kWriteZeroes:
      return requests_.spawn(write_zeroes(request));
    case Command::kBlockStatus:
      return requests_.spawn(block_status(request, std::move(keep), payload));
    case Command::kDisc:
    case Command::kResize:
      break;
  }
  BM_CHECK(false);  // judge_request() lets nothing else through
}

void Transmission::start_write(const Request& request, BufferRef keep, ConstBytes payload,
                               std::uint64_t done) {
  const bool at_once = write_at_once(request, payload, done);
  if (!request.has(kCmdFlagFua)) store_waits_ = !at_once;
  if (at_once) return;
  received_.keep_waiting(keep, payload);
  requests_.spawn(write(request, std::move(keep), payload, done));
}

void Transmission::release_idle_memory() {
  if (counters_.memory.waits_for_room.value() != 0) cut_if_gone();
  if (in_flight_.requests() == 0) {
    received_.forget_contents();
    stream_.release_idle_memory();
  }
  MemoryStanding& memory = counters_.memory;
  memory.held_bytes.set(in_flight_.held_bytes());
  memory.given_bytes.set(in_flight_.given_bytes());
  memory.waits_for_client.set(awaits_payload_ || replies_.unsent_bytes() != 0 ? 1 : 0);
}

}  // namespace blockmig::nbd
