// SPDX-License-Identifier: Apache-2.0
#include "tools/control/metrics_connection.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <utility>

#include "blockmig/base/check.h"
#include "tools/control/metrics_request.h"

namespace blockmig {
namespace {

constexpr std::size_t kPieceBytes = 4096;  // received at once
constexpr std::size_t kMaxDiscardedBytes = 1 << 20;
constexpr const char* kPlainText = "text/plain; charset=utf-8";

bool must_wait() { return errno == EAGAIN || errno == EINTR; }

}  // namespace

/// The kernel would go on with what was sent and not taken, for minutes, whatever our deadline.
MetricsConnection::~MetricsConnection() {
  if (state_ != State::kAnswering && state_ != State::kDraining) return;
  const linger reset{1, 0};
  (void)::setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
}

void MetricsConnection::enter(State next) {
  const bool forward = static_cast<int>(next) > static_cast<int>(state_);
  BM_CHECK(forward && (next != State::kDraining || state_ == State::kAnswering));
  state_ = next;
}

short MetricsConnection::events() const {
  switch (state_) {
    case State::kReading:
    case State::kDraining:
      return POLLIN;
    case State::kAnswering:
      return POLLOUT;
    case State::kAsking:
    case State::kClosed:
      break;
  }
  return 0;
}

void MetricsConnection::advance() {
  if (state_ == State::kReading) read();
  if (state_ == State::kAnswering) send();
  if (state_ == State::kDraining) drain();
}

void MetricsConnection::read() {
  char piece[kPieceBytes];
  const std::size_t room = std::min(kPieceBytes, request_bytes_ - received_.size());
  const ssize_t count = ::recv(socket_.get(), piece, room, 0);
  if (count < 0 && must_wait()) return;
  if (count <= 0) return enter(State::kClosed);
  received_.append(piece, static_cast<std::size_t>(count));
  if (is_whole_head(received_)) {
    const ScrapeRequest request = read_scrape(received_);
    wants_body_ = request.wants_body;
    if (request.status != kScrapeOk) return refuse(request.status);
    return enter(State::kAsking);
  }
  if (received_.size() == request_bytes_) refuse(kScrapeTooLarge);
}

void MetricsConnection::refuse(int status) {
  page_ =
      std::make_shared<ControlResponse>(ControlResponse{status, refusal_text(status), kPlainText});
  begin_answer();
}

void MetricsConnection::answer(std::shared_ptr<const ControlResponse> page) {
  BM_CHECK(state_ == State::kAsking);
  page_ = std::move(page);
  begin_answer();
}

void MetricsConnection::begin_answer() {
  head_ = response_head(page_->status, page_->content_type, page_->body.size());
  enter(State::kAnswering);
}

void MetricsConnection::send() {
  const std::string_view body = wants_body_ ? std::string_view(page_->body) : std::string_view();
  while (sent_bytes_ < head_.size() + body.size()) {
    const bool in_head = sent_bytes_ < head_.size();
    const std::string_view rest = in_head ? std::string_view(head_).substr(sent_bytes_)
                                          : body.substr(sent_bytes_ - head_.size());
    const int more = in_head && !body.empty() ? MSG_MORE : 0;  // one packet with the body
    const ssize_t count = ::send(socket_.get(), rest.data(), rest.size(), MSG_NOSIGNAL | more);
    if (count < 0 && must_wait()) return;
    if (count < 0) return enter(State::kClosed);
    sent_bytes_ += static_cast<std::size_t>(count);
  }
  page_.reset();
  (void)::shutdown(socket_.get(), SHUT_WR);
  enter(State::kDraining);
}

void MetricsConnection::drain() {
  char piece[kPieceBytes];
  const ssize_t count = ::recv(socket_.get(), piece, sizeof piece, 0);
  if (count < 0 && must_wait()) return;
  if (count > 0) discarded_bytes_ += static_cast<std::size_t>(count);
  if (count <= 0 || discarded_bytes_ > kMaxDiscardedBytes) enter(State::kClosed);
}

}  // namespace blockmig
