// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/reply_queue.h"

#include <algorithm>
#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/block/fault_guard.h"
#include "nbdserver/yield_to_loop.h"

namespace blockmig::nbd {

ReplySlot ReplyQueue::reserve(std::size_t bytes) {
  BM_CHECK(bytes <= kMaxSlotBytes);
  if (current_ && current_.is_sole()) current_used_ = 0;  // all of it was sent
  if (!current_ || current_.capacity() - current_used_ < bytes) {
    current_ = pool_.take(kBatchBufferBytes);
    current_used_ = 0;
  }
  const MutableBytes room(current_.data() + current_used_, bytes);
  current_used_ += bytes;
  return ReplySlot(current_, room);
}

ReplySlot ReplyQueue::reserve_waiting(std::size_t bytes) {
  ReplySlot slot = reserve(bytes);
  // Only the youngest entry can be of the current buffer.
  if (waiting_.empty() || waiting_.back().memory != current_.data()) {
    if (waiting_.size() == kMaxWaitingBuffers) {
      cancel(std::move(slot));
      return ReplySlot();
    }
    waiting_.push_back({current_.data(), 0});
  }
  ++waiting_.back().slots;
  slot.waiting_ = true;
  return slot;
}

void ReplyQueue::stop_waiting(ReplySlot& slot) {
  if (!std::exchange(slot.waiting_, false)) return;
  const auto buffer = std::find_if(waiting_.begin(), waiting_.end(), [&](const Waiting& each) {
    return each.memory == slot.buffer_.data();
  });
  BM_CHECK(buffer != waiting_.end());
  if (--buffer->slots == 0) waiting_.erase(buffer);
}

bool ReplyQueue::is_youngest(const ReplySlot& slot) const {
  return current_ && slot.buffer_.shares(current_) &&
         slot.bytes_.data() + slot.bytes_.size() == current_.data() + current_used_;
}

void ReplyQueue::commit(ReplySlot&& slot, std::size_t used) {
  BM_CHECK(used <= slot.bytes_.size());
  stop_waiting(slot);
  // The unused end of the youngest slot is free for the next one.
  if (is_youngest(slot)) current_used_ -= slot.bytes_.size() - used;
  push(std::move(slot.buffer_), slot.bytes_.first(used));
}

void ReplyQueue::cancel(ReplySlot&& slot) {
  stop_waiting(slot);
  if (is_youngest(slot)) current_used_ -= slot.bytes_.size();
}

void ReplyQueue::commit_buffer(BufferRef buffer, ConstBytes bytes) {
  push(std::move(buffer), bytes);
}

void ReplyQueue::commit_borrowed(const Request& request, HeaderStyle style,
                                 std::size_t header_bytes, ConstBytes bytes) {
  BM_CHECK(can_borrow());
  if (bytes.empty()) return;
  pending_.size += bytes.size();
  unsent_bytes_ += bytes.size();
  pending_.lent += bytes.size();
  pending_.borrows = true;
  pending_.segments.push_back({BufferRef(), bytes, request.offset, request, style, header_bytes});
}

void ReplyQueue::copy_borrowed(ByteRange range) {
  if (!pending_.borrows) return;
  for (std::size_t i = 0; i < pending_.segments.size(); ++i) {
    const Segment& segment = pending_.segments[i];
    const bool apart =
        segment.offset >= range.end() || segment.offset + segment.bytes.size() <= range.offset;
    if (segment.is_borrowed() && !apart) copy_segment(i);
  }
}

void ReplyQueue::copy_segment(std::size_t index) {
  Segment& segment = pending_.segments[index];
  // Together in a batch buffer: one of its own, however small, would cost a slow client's server
  // many times what the client is charged.
  ReplySlot slot = reserve(segment.bytes.size());
  const MutableBytes copy = slot.bytes_;
  if (!copy_guarded(copy, segment.bytes, segment.bytes)) {
    cancel(std::move(slot));
    if (refuse_segment(index)) return;
    // The reply has begun and cannot be taken back: the client must not take it for data.
    broken_ = true;
    stream_.shutdown();
    return;
  }
  segment.buffer = std::move(slot.buffer_);
  segment.bytes = copy;
}

/// An error in the place of a reply whose header has not left yet. Its data cannot be had.
bool ReplyQueue::refuse_segment(std::size_t index) {
  if (index == 0) return false;
  Segment& before = pending_.segments[index - 1];
  Segment& segment = pending_.segments[index];
  if (before.bytes.size() < segment.header_bytes) return false;
  counters_.errors.add();
  ReplySlot slot = reserve(kMaxErrorBytes);
  const std::size_t used =
      encode_error(slot.data(), segment.request, segment.style, WireError::kIo,
                   "the disk cannot provide this range", &segment.request.offset);
  const std::size_t promised = segment.header_bytes + segment.bytes.size();
  pending_.lent -= segment.bytes.size();
  before.bytes = before.bytes.first(before.bytes.size() - segment.header_bytes);
  segment.bytes = ConstBytes(slot.bytes_).first(used);
  segment.buffer = std::move(slot.buffer_);
  pending_.size += used - promised;
  unsent_bytes_ += used - promised;
  return true;
}

void ReplyQueue::push(BufferRef buffer, ConstBytes bytes) {
  if (broken_ || bytes.empty()) return;
  pending_.size += bytes.size();
  unsent_bytes_ += bytes.size();
  if (!pending_.segments.empty()) {
    Segment& last = pending_.segments.back();
    if (last.buffer.shares(buffer) && last.bytes.data() + last.bytes.size() == bytes.data()) {
      last.bytes = ConstBytes(last.bytes.data(), last.bytes.size() + bytes.size());
      return;
    }
  }
  Segment segment;
  segment.buffer = std::move(buffer);
  segment.bytes = bytes;
  pending_.segments.push_back(std::move(segment));
}

void ReplyQueue::finish(std::uint64_t bytes) {
  if (broken_) return in_flight_.give(1, bytes);
  ++pending_.replies;
  pending_.charged += bytes;
  if (corked_ || sending_) return;
  sending_ = true;
  sends_.spawn(send_all(true));
}

void ReplyQueue::send_now() {
  if (sending_ || pending_.segments.empty() || send_at_once()) return;
  sending_ = true;
  sends_.spawn(send_all(false));
}

bool ReplyQueue::send_at_once() {
  if (broken_ || !stream_.works_in_place()) return false;
  parts_.clear();
  for (const Segment& segment : pending_.segments) parts_.push_back(segment.bytes);
  const std::size_t sent = stream_.try_write(parts_);
  if (sent == pending_.size) {
    release(pending_);
    return true;
  }
  drop_sent(sent);
  // The rest waits for the client, and what lies in the device may change meanwhile.
  if (pending_.borrows) {
    for (std::size_t i = 0; i < pending_.segments.size(); ++i) {
      if (pending_.segments[i].is_borrowed()) copy_segment(i);
    }
    pending_.borrows = false;
  }
  return false;
}

void ReplyQueue::drop_sent(std::size_t bytes) {
  pending_.size -= bytes;
  unsent_bytes_ -= bytes;
  auto whole = pending_.segments.begin();
  while (bytes != 0 && bytes >= whole->bytes.size()) {
    bytes -= whole->bytes.size();
    ++whole;
  }
  if (bytes != 0) {
    whole->bytes = whole->bytes.subspan(bytes);
    whole->offset += bytes;
  }
  pending_.segments.erase(pending_.segments.begin(), whole);
}

Task<void> ReplyQueue::send_all(bool yield_first) {
  if (yield_first) {
    co_await YieldToLoop(loop_);
  }
  while ((!pending_.segments.empty() || pending_.replies != 0) && !broken_) {
    std::swap(pending_, outgoing_);
    parts_.clear();
    for (const Segment& segment : outgoing_.segments) parts_.push_back(segment.bytes);
    const std::span<const ConstBytes> parts(parts_);
    const Status sent = co_await stream_.write_all(parts);
    if (!sent.ok()) {
      broken_ = true;
      stream_.shutdown();  // nobody to answer: the reading half ends too
    }
    release(outgoing_);
  }
  if (broken_) release(pending_);
  sending_ = false;
}

void ReplyQueue::release(Batch& batch) {
  unsent_bytes_ -= batch.size;
  batch.borrows = false;
  batch.segments.clear();
  batch.size = 0;
  const std::uint32_t replies = std::exchange(batch.replies, 0);
  const std::uint64_t charged = std::exchange(batch.charged, 0);
  counters_.bytes_read.add(std::exchange(batch.lent, 0));
  if (replies != 0) in_flight_.give(replies, charged);
  // The next connection's replies go where the processor's caches have these.
  if (current_ && current_.is_sole() && pool_.keeps(current_.capacity())) current_ = BufferRef();
}

}  // namespace blockmig::nbd
