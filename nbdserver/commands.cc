// SPDX-License-Identifier: Apache-2.0
// What each command does, and how its answer is queued ("Request types").
#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "blockmig/base/check.h"
#include "blockmig/block/fault_guard.h"
#include "nbdserver/transmission.h"
#include "nbdserver/wire_error.h"
#include "nbdserver/yield_to_loop.h"
#include "nbdserver/zero_runs.h"

namespace blockmig::nbd {
namespace {

/// True if a block of `data` begins with zeros, as one does that may be a hole.
bool perhaps_zeros(ConstBytes data) {
  std::array<std::byte, 16> beginning;
  for (std::size_t at = 0; at < data.size(); at += ZeroRuns::kBlockBytes) {
    const ConstBytes from = data.subspan(at, std::min(beginning.size(), data.size() - at));
    const MutableBytes into = MutableBytes(beginning).first(from.size());
    if (!copy_guarded(into, from, data) || is_all_zero(into)) return true;
  }
  return false;
}

}  // namespace

static_assert(Transmission::kMaxSmallReadBytes + kMaxHeaderBytes <= ReplyQueue::kMaxSlotBytes);

void Transmission::start_read(const Request& request) {
  if (request.length > kMaxSmallReadBytes || !is_one_chunk(request)) {
    if (!lend_read(request)) requests_.spawn(read_to_buffer(request));
    return;
  }
  if (read_at_once(request)) return;
  const std::size_t header = data_header_bytes(rules_.style);
  const auto length = static_cast<std::size_t>(request.length);
  ReplySlot slot = replies_.reserve_waiting(header + std::max(length, kMaxHeaderBytes));
  if (slot.data() == nullptr) return requests_.spawn(read_to_buffer(request));
  requests_.spawn(read_to_slot(request, std::move(slot)));
}

Task<void> Transmission::read_to_slot(Request request, ReplySlot slot) {
  const auto length = static_cast<std::size_t>(request.length);
  const MutableBytes data = slot.bytes().subspan(data_header_bytes(rules_.style), length);
  if (length > rules_.facts.max_io_bytes) {
    const Status done = co_await read_pieces(request, data);
    if (!done.ok()) {
      replies_.cancel(std::move(slot));
      co_return;
    }
  } else {
    const Status done = co_await device_.read(request.offset, data);
    if (!done.ok()) {
      replies_.cancel(std::move(slot));
      fail(request, done.error(), &request.offset);
      co_return;
    }
  }
  answer_small_read(request, std::move(slot), data);
}

bool Transmission::read_at_once(const Request& request) {
  const auto length = static_cast<std::size_t>(request.length);
  if (length > rules_.facts.max_io_bytes) return false;
  if (borrow_read(request)) return true;
  const std::size_t header = data_header_bytes(rules_.style);
  ReplySlot slot = replies_.reserve(header + std::max(length, kMaxHeaderBytes));
  const MutableBytes data = slot.bytes().subspan(header, length);
  if (length != 0 && !device_.read_now(request.offset, data)) {
    replies_.cancel(std::move(slot));
    return false;
  }
  answer_small_read(request, std::move(slot), data);
  return true;
}

bool Transmission::borrow_read(const Request& request) {
  const auto length = static_cast<std::size_t>(request.length);
  if (length < kMinBorrowedBytes || !replies_.can_borrow() || !stream_.works_in_place())
    return false;
  const ConstBytes data = device_.borrow_now(request.offset, length);
  if (data.size() != length) return false;
  const bool holes = rules_.style != HeaderStyle::kSimple && !request.has(kCmdFlagDf);
  if (holes && perhaps_zeros(data)) return false;
  ReplySlot slot = replies_.reserve(kMaxHeaderBytes);
  const std::size_t used =
      encode_data_header(slot.data(), request, rules_.style, request.offset, length, true);
  replies_.commit(std::move(slot), used);
  replies_.commit_borrowed(request, rules_.style, used, data);
  finish(request);
  return true;
}

bool Transmission::write_at_once(const Request& request, ConstBytes payload, std::uint64_t done) {
  if (request.has(kCmdFlagFua) || payload.size() > rules_.facts.max_io_bytes) return false;
  if (!payload.empty() && !device_.write_now(request.offset + done, payload)) return false;
  counters_.bytes_written.add(request.length);
  succeed(request);
  return true;
}

bool Transmission::lend_read(const Request& request) {
  if (request.length > kMaxLentBytes || request.length > rules_.facts.max_io_bytes) return false;
  if (!is_one_chunk(request) || !stream_.works_in_place()) return false;
  // What is before it in the stream goes first.
  replies_.send_now();
  if (replies_.sending() || replies_.unsent_bytes() != 0) return false;
  const auto send = [&](ConstBytes data) { return send_lent(request, data); };
  return device_.lend_now(request.offset, static_cast<std::size_t>(request.length), send);
}

bool Transmission::send_lent(const Request& request, ConstBytes data) {
  const bool holes = rules_.style != HeaderStyle::kSimple && !request.has(kCmdFlagDf);
  if (holes && perhaps_zeros(data)) return false;
  std::array<std::byte, kMaxHeaderBytes> header;
  const std::size_t header_bytes =
      encode_data_header(header.data(), request, rules_.style, request.offset, data.size(), true);
  const std::array<ConstBytes, 2> parts = {ConstBytes(header).first(header_bytes), data};
  const std::size_t sent = stream_.try_write(parts);
  if (sent == 0) return false;
  counters_.bytes_read.add(data.size());
  if (sent == header_bytes + data.size()) {
    in_flight_.give(1, charge_of(request));
    return true;
  }
  // The rest of the header, if any, and of the data; on the spot, before the range changes.
  BufferRef buffer = pool_.take(header_bytes + data.size() - sent);
  const std::size_t header_left = header_bytes - std::min(sent, header_bytes);
  const ConstBytes data_left = data.subspan(sent - (header_bytes - header_left));
  std::memcpy(buffer.data(), header.data() + header_bytes - header_left, header_left);
  const MutableBytes copy(buffer.data() + header_left, data_left.size());
  if (!copy_guarded(copy, data_left, data)) {
    // The reply has begun and cannot be taken back: the client must not take it for data.
    stream_.shutdown();
  }
  const ConstBytes rest(buffer.data(), header_left + data_left.size());
  replies_.commit_buffer(std::move(buffer), rest);
  finish(request);
  return true;
}

void Transmission::answer_small_read(const Request& request, ReplySlot&& slot, ConstBytes data) {
  const std::size_t length = data.size();
  counters_.bytes_read.add(length);
  std::size_t used = 0;
  if (length == 0) {
    used = encode_empty_read(slot.data(), request, rules_.style);
  } else if (rules_.style != HeaderStyle::kSimple && !request.has(kCmdFlagDf) &&
             length >= kMinHoleBytes && is_all_zero(data)) {
    used = encode_hole(slot.data(), request, rules_.style, request.offset, length, true);
  } else {
    used = length +
           encode_data_header(slot.data(), request, rules_.style, request.offset, length, true);
  }
  replies_.commit(std::move(slot), used);
  finish(request);
}

Task<void> Transmission::read_to_buffer(Request request) {
  const auto length = static_cast<std::size_t>(request.length);
  BufferRef buffer = pool_.take_fitting(length);
  const MutableBytes data(buffer.data(), length);
  if (length > rules_.facts.max_io_bytes) {
    const Status done = co_await read_pieces(request, data);
    if (!done.ok()) co_return;
  } else {
    const Status done = co_await device_.read(request.offset, data);
    if (!done.ok()) {
      fail(request, done.error(), &request.offset);
      co_return;
    }
  }
  counters_.bytes_read.add(length);
  answer_read(request, std::move(buffer), data);
}

Task<Status> Transmission::read_pieces(const Request& request, MutableBytes data) {
  const std::size_t piece = rules_.facts.max_io_bytes;
  for (std::size_t at = 0; at < data.size(); at += piece) {
    const MutableBytes part = data.subspan(at, std::min(piece, data.size() - at));
    const std::uint64_t offset = request.offset + at;
    const Status done = co_await device_.read(offset, part);
    if (!done.ok()) {
      fail(request, done.error(), &offset);
      co_return done;
    }
  }
  co_return Status();
}

void Transmission::answer_read(const Request& request, BufferRef buffer, ConstBytes data) {
  const HeaderStyle style = rules_.style;
  const auto commit_header = [&](std::uint64_t offset, std::size_t length, bool hole, bool done) {
    ReplySlot slot = replies_.reserve(kMaxHeaderBytes);
    const std::size_t used =
        hole ? encode_hole(slot.data(), request, style, offset, length, done)
             : encode_data_header(slot.data(), request, style, offset, length, done);
    replies_.commit(std::move(slot), used);
  };
  if (style == HeaderStyle::kSimple || request.has(kCmdFlagDf)) {
    commit_header(request.offset, data.size(), false, true);
    replies_.commit_buffer(std::move(buffer), data);
    return finish(request);
  }
  // A chunk's data never exceeds the advertised maximum ("Structured reply types").
  ZeroRuns runs(data, request.offset, rules_.facts.maximum_payload);
  while (const auto run = runs.next()) {
    const ConstBytes part = data.subspan(run->begin, run->length);
    const bool done = run->begin + run->length == data.size();
    commit_header(request.offset + run->begin, part.size(), run->zero, done);
    if (!run->zero) replies_.commit_buffer(buffer, part);
  }
  finish(request);
}

Task<void> Transmission::write(Request request, BufferRef keep, ConstBytes payload,
                               std::uint64_t done) {
  const WriteFlags flags{.fua = request.has(kCmdFlagFua)};
  const std::size_t piece = rules_.facts.max_io_bytes;
  for (std::size_t at = 0; at < payload.size(); at += piece) {
    const ConstBytes part = payload.subspan(at, std::min(piece, payload.size() - at));
    const std::uint64_t offset = request.offset + done + at;
    const Status written = co_await device_.write(offset, part, flags);
    if (!written.ok()) {
      keep = BufferRef();
      fail(request, written.error());
      co_return;
    }
  }
  keep = BufferRef();
  counters_.bytes_written.add(request.length);
  succeed(request);
}

Task<void> Transmission::flush(Request request) {
  const Status done = co_await device_.flush();
  if (!done.ok()) {
    fail(request, done.error());
  } else {
    succeed(request);
  }
}

Task<void> Transmission::trim(Request request) {
  const WriteFlags flags{.fua = request.has(kCmdFlagFua)};
  const Status done = co_await device_.trim(request.offset, request.length, flags);
  if (!done.ok()) {
    fail(request, done.error());
  } else {
    succeed(request);
  }
}

Task<void> Transmission::write_zeroes(Request request) {
  const ZeroFlags flags{.fua = request.has(kCmdFlagFua),
                        .no_hole = request.has(kCmdFlagNoHole),
                        .fast_only = request.has(kCmdFlagFastZero)};
  const Status done = co_await device_.write_zeroes(request.offset, request.length, flags);
  if (!done.ok()) {
    fail(request, done.error());
  } else {
    succeed(request);
  }
}

Task<void> Transmission::cache(Request request) {
  co_await prefetch_.acquire(1);
  const Status done = co_await prefetch(request);
  prefetch_.release(1);
  if (!done.ok()) {
    fail(request, done.error());
  } else {
    succeed(request);
  }
}

Task<Status> Transmission::prefetch(const Request& request) {
  // Reading is what warms every kind of device below; the data itself is not wanted.
  const std::uint64_t piece = std::min<std::uint64_t>(kCachePieceBytes, rules_.facts.max_io_bytes);
  BufferRef buffer = pool_.take(static_cast<std::size_t>(piece));
  std::uint64_t at = 0;
  // A hint of terabytes must not outlive its client, nor a shutdown. The intake does not see the
  // client go while it waits for room.
  while (at < request.length && state_ == State::kServing && !replies_.broken() &&
         !stream_.peer_has_ended()) {
    const std::uint64_t length = std::min(piece, request.length - at);
    const MutableBytes into(buffer.data(), static_cast<std::size_t>(length));
    const Status done = co_await device_.prefetch(request.offset + at, into);
    if (!done.ok()) co_return done;
    at += length;
    co_await YieldToLoop(loop_);
  }
  co_return Status();
}

void Transmission::succeed(const Request& request) {
  ReplySlot slot = replies_.reserve(kMaxHeaderBytes);
  const std::size_t used = encode_success(slot.data(), request, rules_.style);
  replies_.commit(std::move(slot), used);
  finish(request);
}

void Transmission::fail(const Request& request, const Error& error,
                        const std::uint64_t* at_offset) {
  const WireError code = wire_error(error.code(), request.has(kCmdFlagFastZero));
  answer_error(request, code, error.message(), at_offset, charge_of(request));
}

void Transmission::refuse(const Request& request, WireError error, Refusal refusal) {
  // Nobody reads a text in simple style: do not make it.
  const std::string text =
      rules_.style == HeaderStyle::kSimple ? std::string() : refusal_text(refusal, request, rules_);
  answer_error(request, error, text, nullptr, kRequestOverheadBytes);
}

void Transmission::answer_error(const Request& request, WireError error, std::string_view text,
                                const std::uint64_t* at_offset, std::uint64_t charge) {
  counters_.errors.add();
  ReplySlot slot = replies_.reserve(kMaxErrorBytes);
  const std::size_t used = encode_error(slot.data(), request, rules_.style, error, text, at_offset);
  replies_.commit(std::move(slot), used);
  replies_.finish(charge);
}

void Transmission::finish(const Request& request) { replies_.finish(charge_of(request)); }

}  // namespace blockmig::nbd
