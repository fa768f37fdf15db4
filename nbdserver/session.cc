// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/session.h"

#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "nbdserver/handshake.h"

namespace blockmig::nbd {

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

Session::Session(EventLoop& loop, ExportDirectory& directory, BufferPool& pool,
                 const NbdServerLimits& limits, std::unique_ptr<Stream> stream, std::uint64_t id)
    : loop_(loop), directory_(directory), pool_(pool), limits_(limits), stream_(std::move(stream)) {
  info_.id = id;
  info_.peer = stream_->peer_name();
}

Task<void> Session::run() {
  auto input = std::make_unique<Input>();
  std::optional<Negotiated> negotiated = co_await negotiate(*input);
  if (negotiated) {
    info_.export_name = negotiated->disk->name();
    transmission_ =
        std::make_unique<Transmission>(loop_, *stream_, pool_, std::move(*negotiated), limits_);
    negotiated.reset();
    if (shutting_down_) transmission_->begin_shutdown();
    const std::vector<std::byte> leftover(input->available().begin(), input->available().end());
    input.reset();  // an idle client costs no handshake buffer
    co_await transmission_->run(leftover);
  }
  stream_->shutdown();
}

Task<std::optional<Negotiated>> Session::negotiate(Input& input) {
  Handshake handshake(directory_, limits_);
  if (shutting_down_) handshake.begin_shutdown();
  handshake_ = &handshake;
  // I16: whoever does not come to the point in time is cut off.
  Timer deadline(loop_, [this] { stream_->shutdown(); });
  deadline.arm(loop_.now() + limits_.handshake_timeout);

  std::optional<Negotiated> result;
  for (;;) {
    const Status sent = co_await send_output(handshake);
    if (!sent.ok() || handshake.state() == Handshake::State::kClosed) break;
    if (handshake.state() == Handshake::State::kTransmission) {
      result = handshake.take_result();
      break;
    }
    const std::size_t consumed = handshake.feed(input.available());
    input.consume(consumed);
    if (consumed != 0 || !handshake.output().empty() ||
        handshake.state() == Handshake::State::kClosed) {
      continue;
    }
    const Result<std::size_t> got = co_await stream_->read_some(input.room());
    if (!got.ok() || *got == 0) break;
    input.filled += *got;
  }
  handshake_ = nullptr;
  co_return result;
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
  if (transmission_ != nullptr) transmission_->begin_shutdown();
}

void Session::cut() { stream_->shutdown(); }

void Session::release_idle_memory() {
  if (transmission_ != nullptr) transmission_->release_idle_memory();
}

NbdClientInfo Session::info() const {
  NbdClientInfo info = info_;
  if (transmission_ != nullptr) {
    info.requests = transmission_->counters().requests;
    info.bytes_read = transmission_->counters().bytes_read;
    info.bytes_written = transmission_->counters().bytes_written;
    info.in_flight = transmission_->in_flight();
  }
  return info;
}

}  // namespace blockmig::nbd
