// SPDX-License-Identifier: Apache-2.0
// How the bytes of requests come: into the receive buffer, or a long payload to where it belongs.
#include <algorithm>

#include "blockmig/base/bytes.h"
#include "blockmig/base/check.h"
#include "nbdserver/transmission.h"

namespace blockmig::nbd {

/// Where to, and how much.
MutableBytes Transmission::room_to_receive() {
  received_.prepare(wanted_bytes_);
  const MutableBytes room = received_.room();
  // A small request may stand behind a long payload as well as another long one: ask first.
  return receive_limit_ != 0 && receive_limit_ < room.size() ? room.first(receive_limit_) : room;
}

Transmission::Arrival Transmission::receive_now() {
  bool ended = false;
  const Result<std::size_t> got = stream_.try_read(room_to_receive(), &ended);
  if (!got.ok()) return end_of_intake(got.error());
  if (*got == 0) {
    received_.let_go();
    return ended ? Arrival::kEnd : Arrival::kNothing;
  }
  received_.received(*got);
  receive_limit_ = 0;
  return Arrival::kBytes;
}

Task<Transmission::Arrival> Transmission::receive_waiting() {
  const Result<std::size_t> got = co_await stream_.read_some(room_to_receive());
  if (!got.ok()) co_return end_of_intake(got.error());
  received_.received(*got);
  receive_limit_ = 0;
  co_return *got == 0 ? Arrival::kEnd : Arrival::kBytes;
}

Transmission::Arrival Transmission::end_of_intake(const Error& error) {
  parked_ = state_ == State::kParking && error.code() == ErrorCode::kCancelled;
  return Arrival::kEnd;
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
    if (!got.ok() || state_ == State::kEnding) {
      in_flight_.give(1, charge);
      co_return got.ok() ? Status(Error(ErrorCode::kDisconnected, "it was cut")) : got;
    }
  }
  counters_.count(request.command);
  count_work(charge);
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

}  // namespace blockmig::nbd
