// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/history_link.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "tests/bench/sector_stamp.h"

namespace blockmig::bench {
namespace {
constexpr std::size_t kReceiveBytes = 256 * 1024;
}

HistoryLink::HistoryLink(int fd, unsigned depth, std::uint64_t region_offset, Completed completed)
    : fd_(fd),
      region_offset_(region_offset),
      completed_(std::move(completed)),
      slots_(depth),
      in_(kReceiveBytes) {
  for (unsigned i = depth; i > 0; --i) free_.push_back(i - 1);
}

HistoryLink::~HistoryLink() {
  if (fatal_.empty()) {
    char request[kRequestBytes];
    encode_request(request, Command::kDisconnect, 0, 0, 0, 0);
    (void)!::send(fd_, request, sizeof request, MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  ::close(fd_);
}

std::uint64_t HistoryLink::oldest_start_ns(std::uint64_t otherwise) const {
  for (const Slot& slot : slots_) {
    if (slot.used) otherwise = std::min(otherwise, slot.operation.start_ns);
  }
  return otherwise;
}

void HistoryLink::submit(HistoryOperation operation) {
  const unsigned slot = free_.back();
  free_.pop_back();
  const bool flush = operation.command == Command::kFlush;
  const auto length = operation.sectors * kSectorBytes;
  char header[kRequestBytes];
  encode_request(header, operation.command, operation.fua ? kFlagFua : std::uint16_t{0}, slot,
                 flush ? 0 : region_offset_ + operation.first_sector * kSectorBytes, length);
  out_.insert(out_.end(), header, header + kRequestBytes);
  if (operation.command == Command::kWrite) {
    out_.insert(out_.end(), operation.data.begin(), operation.data.end());
  }
  slots_[slot] = Slot{.operation = std::move(operation), .used = true};
  ++in_flight_;
}

void HistoryLink::flush_output() {
  while (wants_to_send() && fatal_.empty()) {
    const ssize_t n =
        ::send(fd_, out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0) {
      fatal_ = std::string("send: ") + std::strerror(errno);
      return;
    }
    sent_ += static_cast<std::size_t>(n);
  }
  out_.clear();
  sent_ = 0;
}

void HistoryLink::receive() {
  const ssize_t n = ::recv(fd_, in_.data() + kept_, in_.size() - kept_, MSG_DONTWAIT);
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (n <= 0) {
    fatal_ = n == 0 ? "the server closed the connection" : std::strerror(errno);
    return;
  }
  std::size_t size = kept_ + static_cast<std::size_t>(n);
  const char* data = in_.data();
  kept_ = 0;
  while (size > 0 && fatal_.empty()) {
    if (payload_left_ > 0) {
      const auto here = static_cast<std::size_t>(std::min<std::uint64_t>(size, payload_left_));
      auto& into = slots_[current_].operation.data;
      into.insert(into.end(), data, data + here);
      payload_left_ -= here;
      data += here;
      size -= here;
      if (payload_left_ == 0) complete(0);
    } else if (size < kReplyBytes) {
      std::memmove(in_.data(), data, size);
      kept_ = size;
      return;
    } else {
      if (!parse_header(data)) return;
      data += kReplyBytes;
      size -= kReplyBytes;
    }
  }
}

bool HistoryLink::parse_header(const char* header) {
  ReplyHeader reply;
  if (!decode_reply(header, &reply) || reply.cookie >= slots_.size() ||
      !slots_[reply.cookie].used) {
    fatal_ = "the server sent something that is no reply to any request";
    return false;
  }
  current_ = static_cast<unsigned>(reply.cookie);
  HistoryOperation& operation = slots_[current_].operation;
  if (reply.error == 0 && operation.command == Command::kRead) {
    operation.data.reserve(operation.sectors * kSectorBytes);
    payload_left_ = operation.sectors * kSectorBytes;
  } else {
    complete(reply.error);
  }
  return true;
}

void HistoryLink::complete(std::uint32_t error) {
  HistoryOperation operation = std::move(slots_[current_].operation);
  slots_[current_].used = false;
  free_.push_back(current_);
  --in_flight_;
  completed_(operation, error);
}

}  // namespace blockmig::bench
