// SPDX-License-Identifier: Apache-2.0
// The intake of requests; what each command does is in commands.cc, how it ends in
// transmission_end.cc.
#include "nbdserver/transmission.h"

#include <algorithm>
#include <chrono>
#include <cstring>
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
                 counters.in_flight, pool.budget(), stream.peer().origin),
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
        awaits_payload_ = wanted_bytes_ > header_bytes_;
        const Status more = co_await receive_more();
        awaits_payload_ = false;
        if (!more.ok()) {
          parked_ = state_ == State::kParking && more.error().code() == ErrorCode::kCancelled;
          co_return;
        }
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
          co_await in_flight_.changed().wait();
        }
        break;
      case Step::kPause: {
        if (in_flight_.gives() != seen_gives_) break;
        const TimePoint until = loop_.now() + kUnsentPause;
        const bool changed = co_await in_flight_.changed().wait_until(until);
        pause_is_over_ = !changed;
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
  if (replies_.broken()) return Step::kEnd;
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

void Transmission::start(const Request& request, BufferRef keep, ConstBytes payload) {
  const std::uint64_t charge = charge_of(request);
  in_flight_.take(charge);
  counters_.count(request.command);
  work_ += 1 + static_cast<std::uint32_t>(charge / kBytesPerWork);
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

Task<Status> Transmission::receive_more() {
  // A small request may stand behind a long payload as well as another long one: ask first.
  const std::size_t limit = std::exchange(receive_limit_, 0);
  for (;;) {
    received_.prepare(wanted_bytes_);
    MutableBytes room = received_.room();
    if (limit != 0 && limit < room.size()) room = room.first(limit);
    bool ended = !stream_.works_in_place();  // read_some() gives nothing only at the end
    Result<std::size_t> got = std::size_t{0};
    if (ended) {
      got = co_await stream_.read_some(room);
    } else {
      got = stream_.try_read(room, &ended);
    }
    if (!got.ok()) co_return got.error();
    received_.received(*got);
    if (*got != 0) co_return Status();
    if (ended) co_return Error(ErrorCode::kDisconnected);
    received_.let_go();
    const Status more = co_await stream_.readable();
    if (!more.ok()) co_return more;
  }
}

Task<Status> Transmission::receive_payload() {
  const Request request = payload_request_;
  BM_CHECK(request.command == Command::kWrite);  // no other has a payload that long
  const auto length = static_cast<std::size_t>(payload_bytes(request, rules_.style));
  const std::uint64_t charge = charge_of(request);
  const ConstBytes head = received_.available().subspan(header_bytes_);
  received_.consume(header_bytes_ + head.size());
  receive_limit_ = header_bytes_;
  in_flight_.take(charge);
  std::size_t done = 0;
  if (head.empty() && can_receive_in_place(request)) {
    const Result<std::size_t> taken = co_await receive_in_place(request);
    if (!taken.ok()) {
      in_flight_.give(1, charge);
      co_return taken.error();
    }
    done = *taken;
  }
  BufferRef buffer;
  MutableBytes rest;
  if (done < length) {
    buffer = pool_.take_fitting(length - done);
    rest = MutableBytes(buffer.data(), length - done);
    std::copy(head.begin(), head.end(), rest.begin());
    const Status got = co_await read_exactly(stream_, rest.subspan(head.size()));
    if (!got.ok()) {
      in_flight_.give(1, charge);
      co_return got;
    }
  }
  counters_.count(request.command);
  work_ += 1 + static_cast<std::uint32_t>(charge / kBytesPerWork);
  const TimePoint begun = loop_.now();
  replies_.cork();
  start_write(request, std::move(buffer), rest, done);
  replies_.uncork();
  replies_.send_now();
  if (device_.shares_loop()) co_await share_loop(begun);
  co_return Status();
}

bool Transmission::can_receive_in_place(const Request& request) const {
  return request.command == Command::kWrite && !request.has(kCmdFlagFua) &&
         stream_.works_in_place();
}

/// Whole sectors only: nobody may see half of one (I2), however slowly the rest arrives. And only
/// what has arrived: the device is never held while the client sends.
Task<Result<std::size_t>> Transmission::receive_in_place(Request request) {
  const auto length = static_cast<std::size_t>(request.length);
  std::size_t done = 0;
  for (int fruitless = 0; done < length && fruitless < 2;) {
    const std::uint64_t at = request.offset + done;
    const std::size_t left = length - done;
    std::size_t take = std::min(stream_.available(), left);
    if (take < left) {
      const std::uint64_t end = align_down(at + take, kSectorBytes);
      take = end > at ? static_cast<std::size_t>(end - at) : 0;
    }
    if (take == 0) {
      // The end is an edge like the others, and the last one: the usual way finds out what it is.
      if (fruitless != 0 && stream_.peer_has_ended()) break;
      const Status more = co_await stream_.readable();
      if (!more.ok()) co_return more.error();
      ++fruitless;  // an edge of before, or the end
      continue;
    }
    bool ended = false;
    const auto fill = [&](MutableBytes into) -> std::size_t {
      const Result<std::size_t> got = stream_.try_read(into.first(take), &ended);
      return got.ok() ? *got : 0;
    };
    const TimePoint begun = loop_.now();
    std::size_t filled = 0;
    const auto counted = [&](MutableBytes into) { return filled = fill(into); };
    if (!device_.fill_now(at, left, counted) || filled == 0) break;
    done += filled;
    fruitless = 0;
    if (device_.shares_loop()) co_await share_loop(begun);
  }
  co_return done;
}

void Transmission::release_idle_memory() {
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
