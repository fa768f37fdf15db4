// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/load_connection.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace blockmig::bench {
namespace {

constexpr std::size_t kMaxIov = 1024;  // IOV_MAX
constexpr int kSocketBufferBytes = 512 * 1024;

std::uint64_t blocks_of(const LoadOptions& o, std::uint64_t size_bytes) {
  const std::uint64_t range = o.range_bytes ? std::min(o.range_bytes, size_bytes) : size_bytes;
  return range / o.block_bytes;
}

}  // namespace

void LoadTotals::merge(const LoadTotals& other) {
  latency.merge(other.latency);
  requests += other.requests;
  issued += other.issued;
  errors += other.errors;
  mismatches += other.mismatches;
  verified += other.verified;
  record_begin_ns = other.record_begin_ns;
  records.insert(records.end(), other.records.begin(), other.records.end());
}

LoadConnection::LoadConnection(const LoadOptions& options, Connection connection,
                               LoadTotals* totals, BlockPattern* pattern, std::vector<char>* buffer,
                               std::uint64_t seed)
    : options_(options),
      totals_(totals),
      pattern_(pattern),
      fd_(connection.fd),
      tls_(std::move(connection.tls)),
      blocks_(blocks_of(options, connection.size_bytes)),
      random_(seed),
      slots_(options.depth),
      headers_(options.depth * kRequestBytes),
      payloads_(std::size_t{options.block_bytes} * (pattern ? options.depth : 1)),
      buffer_(*buffer) {
  for (unsigned i = options.depth; i > 0; --i) free_slots_.push_back(i - 1);
  for (auto& byte : payloads_) byte = static_cast<char>(random_.next() | 1);
  for (const int which : {SO_SNDBUF, SO_RCVBUF}) {
    ::setsockopt(fd_, SOL_SOCKET, which, &kSocketBufferBytes, sizeof kSocketBufferBytes);
  }
  const timeval forever{};
  ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof forever);
  if (blocks_ < options.depth) {
    fatal_ = "the export has fewer blocks than there are requests in flight";
  }
}

LoadConnection::~LoadConnection() {
  char request[kRequestBytes];
  encode_request(request, Command::kDisconnect, 0, 0, 0, 0);
  if (tls_) {
    const iovec part{request, sizeof request};
    (void)tls_->send(&part, 1);
    tls_.reset();
  } else {
    (void)!::send(fd_, request, sizeof request, MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  ::close(fd_);
}

void LoadConnection::begin_read_back() {
  reading_back_ = true;
  stopping_ = false;
}

bool LoadConnection::chooses_write() {
  if (options_.write_percent == 0 || options_.write_percent == 100) return options_.write_percent;
  return random_.below(100) < options_.write_percent;
}

/// A block of a hot piece: every so many-th one is hot.
std::uint64_t LoadConnection::pick_hot() {
  const std::uint64_t blocks_per_piece = kHotPieceBytes / options_.block_bytes;
  const std::uint64_t pieces = std::max<std::uint64_t>(blocks_ / blocks_per_piece, 1);
  const std::uint64_t hot = std::max<std::uint64_t>(pieces * options_.hot_piece_percent / 100, 1);
  const std::uint64_t piece = random_.below(hot) * (pieces / hot);
  return std::min(piece * blocks_per_piece + random_.below(blocks_per_piece), blocks_ - 1);
}

bool LoadConnection::pick_block(bool write, std::uint64_t* block) {
  if (reading_back_) return pick_read_back(block);
  if (write && random_.below(100) < options_.hot_write_percent) {
    *block = pick_hot();
    return true;
  }
  do {
    if (options_.pattern == Pattern::kSequential) {
      *block = next_sequential_;
      next_sequential_ = next_sequential_ + 1 == blocks_ ? 0 : next_sequential_ + 1;
    } else {
      *block = random_.below(blocks_);
    }
  } while (pattern_ && pattern_->busy(*block));
  return true;
}

bool LoadConnection::pick_read_back(std::uint64_t* block) {
  while (read_back_at_ < blocks_ && !pattern_->written(read_back_at_)) ++read_back_at_;
  if (read_back_at_ == blocks_) {
    stopping_ = true;
    return false;
  }
  *block = read_back_at_++;
  return true;
}

void LoadConnection::push_part(void* data, std::size_t size) {
  if (next_iov_ < iov_.size()) {
    iovec& last = iov_.back();
    if (static_cast<char*>(last.iov_base) + last.iov_len == data) {
      last.iov_len += size;
      return;
    }
  }
  iov_.push_back({data, size});
}

void LoadConnection::issue(unsigned slot, std::uint64_t block, bool write, std::uint64_t now) {
  slots_[slot] = Slot{.block = block, .start_ns = now, .write = write, .used = true};
  char* header = headers_.data() + next_header_ * kRequestBytes;
  next_header_ = next_header_ + 1 == options_.depth ? 0 : next_header_ + 1;
  encode_request(header, write ? Command::kWrite : Command::kRead,
                 write && options_.fua ? kFlagFua : std::uint16_t{0}, slot,
                 block * options_.block_bytes, options_.block_bytes);
  push_part(header, kRequestBytes);
  if (write) {
    char* data = payloads_.data() + (pattern_ ? std::size_t{slot} * options_.block_bytes : 0);
    if (pattern_) pattern_->next(block, data);
    push_part(data, options_.block_bytes);
  }
  if (pattern_) pattern_->set_busy(block, true);
  ++in_flight_;
  ++totals_->issued;
}

/// At a rate: what a stall has held up is not made up for beyond a full queue, so that the load
/// stays what was asked for.
bool LoadConnection::due(std::uint64_t now) {
  if (options_.rate <= 0 || reading_back_) return true;
  if (next_due_ns_ == 0) next_due_ns_ = now;
  if (next_due_ns_ > now) return false;
  const auto interval_ns = static_cast<std::uint64_t>(1e9 / options_.rate);
  const std::uint64_t backlog_ns = interval_ns * (options_.depth - 1);
  next_due_ns_ = std::max(next_due_ns_, now - std::min(now, backlog_ns)) + interval_ns;
  return true;
}

void LoadConnection::top_up() {
  if (stopping_ || free_slots_.empty()) return;
  const std::uint64_t now = now_ns();
  while (!stopping_ && !free_slots_.empty() && due(now)) {
    if (!reading_back_ && options_.max_requests && totals_->issued >= options_.max_requests) {
      stopping_ = true;
      break;
    }
    const bool write = !reading_back_ && chooses_write();
    std::uint64_t block = 0;
    if (!pick_block(write, &block)) break;
    issue(free_slots_.back(), block, write, now);
    free_slots_.pop_back();
  }
}

ssize_t LoadConnection::send_parts() {
  const std::size_t count = std::min(iov_.size() - next_iov_, kMaxIov);
  if (tls_) return tls_->send(iov_.data() + next_iov_, count);
  msghdr message{};
  message.msg_iov = iov_.data() + next_iov_;
  message.msg_iovlen = count;
  return ::sendmsg(fd_, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void LoadConnection::sent(std::size_t bytes) {
  while (bytes > 0) {
    iovec& part = iov_[next_iov_];
    const std::size_t here = std::min(bytes, part.iov_len);
    part.iov_base = static_cast<char*>(part.iov_base) + here;
    part.iov_len -= here;
    bytes -= here;
    if (part.iov_len == 0) ++next_iov_;
  }
  if (next_iov_ == iov_.size() || next_iov_ >= kMaxIov) {
    iov_.erase(iov_.begin(), iov_.begin() + static_cast<std::ptrdiff_t>(next_iov_));
    next_iov_ = 0;
  }
}

void LoadConnection::send() {
  top_up();
  while (wants_to_send() && fatal_.empty()) {
    const ssize_t n = send_parts();
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0) {
      fatal_ = std::string("send: ") + std::strerror(errno);
      return;
    }
    sent(static_cast<std::size_t>(n));
  }
}

bool LoadConnection::receive(bool block) {
  bool any = false;
  do {
    std::copy_n(kept_bytes_.data(), kept_, buffer_.data());
    char* to = buffer_.data() + kept_;
    const std::size_t room = buffer_.size() - kept_;
    const ssize_t n = tls_ ? tls_->receive(to, room, block)
                           : ::recv(fd_, to, room, block ? 0 : static_cast<int>(MSG_DONTWAIT));
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return any;
    if (n <= 0) {
      fatal_ = n == 0 ? "the server closed the connection" : std::strerror(errno);
      return any;
    }
    const std::size_t size = kept_ + static_cast<std::size_t>(n);
    kept_ = 0;
    parse(buffer_.data(), size, now_ns());
    block = false;
    any = true;
  } while (tls_ && tls_->buffered() && fatal_.empty());
  return any;
}

void LoadConnection::parse(const char* data, std::size_t size, std::uint64_t now) {
  while (size > 0 && fatal_.empty()) {
    if (payload_left_ > 0) {
      const auto here = static_cast<std::size_t>(std::min<std::uint64_t>(size, payload_left_));
      if (pattern_) payload_.insert(payload_.end(), data, data + here);
      payload_left_ -= here;
      data += here;
      size -= here;
      if (payload_left_ == 0) complete(now);
      continue;
    }
    if (size < kReplyBytes) {
      std::copy_n(data, size, kept_bytes_.data());
      kept_ = size;
      return;
    }
    if (!parse_header(data, now)) return;
    data += kReplyBytes;
    size -= kReplyBytes;
  }
}

bool LoadConnection::parse_header(const char* header, std::uint64_t now) {
  ReplyHeader reply;
  if (!decode_reply(header, &reply) || reply.cookie >= slots_.size() ||
      !slots_[reply.cookie].used) {
    fatal_ = "the server sent something that is no reply to any request";
    return false;
  }
  current_slot_ = static_cast<unsigned>(reply.cookie);
  if (reply.error != 0) ++totals_->errors;
  payload_.clear();
  if (reply.error == 0 && !slots_[current_slot_].write) {
    payload_left_ = options_.block_bytes;
  } else {
    complete(now);
  }
  return true;
}

void LoadConnection::complete(std::uint64_t now) {
  Slot& slot = slots_[current_slot_];
  if (pattern_) {
    if (!payload_.empty() && pattern_->written(slot.block)) {
      ++totals_->verified;
      if (!pattern_->matches(slot.block, payload_.data())) ++totals_->mismatches;
    }
    pattern_->set_busy(slot.block, false);
  }
  if (totals_->counting) {
    totals_->latency.add(now - slot.start_ns);
    ++totals_->requests;
    if (totals_->recording) {
      totals_->records.push_back(
          {static_cast<std::uint32_t>((now - totals_->record_begin_ns) / 1000),
           static_cast<std::uint32_t>((now - slot.start_ns) / 1000)});
    }
  }
  slot.used = false;
  --in_flight_;
  free_slots_.push_back(current_slot_);
}

}  // namespace blockmig::bench
