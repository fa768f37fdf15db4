// SPDX-License-Identifier: Apache-2.0
#include "blockmig/tls/tls_stream.h"

#include <utility>

#include "blockmig/io/gather.h"
#include "blockmig/io/offload.h"

namespace blockmig {
namespace {

/// A send buffer up to this stays for the next one.
constexpr std::size_t kMaxKeptBytes = 2 * TlsSession::kMaxSealBytes;

}  // namespace

TlsStream::TlsStream(std::unique_ptr<Stream> inner,
                     std::shared_ptr<const TlsCredentials> credentials, std::string expected_host,
                     const TlsLimits& limits)
    : inner_(std::move(inner)),
      session_(std::move(credentials), std::move(expected_host), limits) {}

TlsStream::~TlsStream() { TlsStream::shutdown(); }

Error TlsStream::truncated() const {
  return Error(ErrorCode::kDisconnected, peer_name() + " left without ending TLS");
}

Error TlsStream::shut_down() const {
  return Error(ErrorCode::kDisconnected, "connection to " + peer_name() + " was shut down");
}

Task<Result<bool>> TlsStream::handshake_step(HandshakeSteps* steps, const std::string& origin) {
  if (steps == nullptr) co_return session_.handshake();
  std::string whose = origin;
  co_await steps->turns.take(std::move(whose));
  Result<bool> step = shut_down();
  if (!shut_) {  // meanwhile
    stepping_ = true;
    offload work(steps->calls, [this] { return session_.handshake(); });
    Result<bool> made = co_await work;
    stepping_ = false;
    step = std::move(made);
  }
  steps->turns.give();
  if (shut_) co_return shut_down();
  co_return step;
}

Task<Status> TlsStream::handshake(HandshakeSteps* steps) {
  const std::string origin = steps != nullptr ? inner_->peer().origin : std::string();
  for (;;) {
    const Result<bool> step = co_await handshake_step(steps, origin);
    // Also after an error: the peer is told why.
    const Status flushed = co_await flush();
    if (!step.ok()) co_return step.error().with_context(peer_name());
    if (!flushed.ok()) co_return flushed;
    if (*step) co_return Status();
    const Result<std::size_t> got = co_await inner_->read_some(session_.room());
    if (!got.ok()) co_return got.error();
    if (*got == 0) {
      co_return Error(ErrorCode::kDisconnected, peer_name() + " left during the TLS handshake");
    }
    session_.received(*got);
  }
}

Result<std::size_t> TlsStream::open(MutableBytes into, bool* ended) {
  const Result<std::size_t> opened = session_.open(into);
  if (!opened.ok()) {
    send_without_waiting();  // the alert
    return opened.error().with_context(peer_name());
  }
  *ended = *opened == 0 && session_.state() == TlsSession::State::kEnded;
  return opened;
}

Task<Result<std::size_t>> TlsStream::read_some(MutableBytes into) {
  while (!shut_ && !into.empty()) {
    bool ended = false;
    const Result<std::size_t> opened = open(into, &ended);
    if (!opened.ok() || *opened != 0 || ended) co_return opened;
    const Result<std::size_t> got = co_await inner_->read_some(session_.room());
    if (!got.ok()) co_return got.error();
    if (*got == 0 && !shut_) co_return truncated();
    session_.received(*got);
  }
  co_return std::size_t{0};
}

Result<std::size_t> TlsStream::try_read(MutableBytes into, bool* ended) {
  *ended = shut_;
  while (!shut_ && !into.empty()) {
    const Result<std::size_t> opened = open(into, ended);
    if (!opened.ok() || *opened != 0 || *ended) return opened;
    bool inner_ended = false;
    const Result<std::size_t> got = inner_->try_read(session_.room(), &inner_ended);
    if (!got.ok()) return got.error();
    if (*got == 0) {
      if (inner_ended) return truncated();
      break;
    }
    session_.received(*got);
  }
  return std::size_t{0};
}

Task<Status> TlsStream::write_all(std::span<const ConstBytes> parts) {
  Gather gather(parts);
  while (!gather.finished()) {
    if (shut_) co_return shut_down();
    const Status sealed = session_.seal(gather);
    if (!sealed.ok()) co_return sealed.error().with_context(peer_name());
    const Status sent = co_await flush();
    if (!sent.ok()) co_return sent;
  }
  co_return Status();
}

Task<Status> TlsStream::flush() {
  Status sent;
  while (!session_.output().empty() && sent.ok()) {
    outgoing_.swap(session_.output());
    const ConstBytes bytes(outgoing_);
    const std::span<const ConstBytes> parts(&bytes, 1);
    writing_ = true;
    sent = co_await inner_->write_all(parts);
    writing_ = false;
    outgoing_.clear();
  }
  if (outgoing_.capacity() > kMaxKeptBytes) std::vector<std::byte>().swap(outgoing_);
  co_return sent;
}

void TlsStream::send_without_waiting() {
  // Between the parts of a record that is being sent nothing can be said, nor while another thread
  // writes what is to be said.
  if (writing_ || stepping_ || shut_ || session_.output().empty()) return;
  const ConstBytes last_words = session_.output();
  (void)inner_->try_write(std::span<const ConstBytes>(&last_words, 1));
  session_.output().clear();  // this was the last word
}

void TlsStream::shutdown() {
  if (shut_) return;
  if (!writing_ && !stepping_) session_.say_goodbye();
  send_without_waiting();
  shut_ = true;
  inner_->shutdown();
}

void TlsStream::release_idle_memory() {
  session_.release_idle_memory();
  if (!writing_) std::vector<std::byte>().swap(outgoing_);
}

}  // namespace blockmig
