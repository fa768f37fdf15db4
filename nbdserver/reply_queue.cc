// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/reply_queue.h"

#include <utility>

#include "blockmig/base/check.h"
#include "nbdserver/yield_to_loop.h"

namespace blockmig::nbd {

ReplySlot ReplyQueue::reserve(std::size_t bytes) {
  BM_CHECK(bytes <= kMaxSlotBytes);
  if (current_ && current_.is_sole()) current_used_ = 0;  // all of it was sent: warm memory again
  if (!current_ || current_.capacity() - current_used_ < bytes) {
    current_ = pool_.take(kBatchBufferBytes);
    current_used_ = 0;
  }
  const MutableBytes room(current_.data() + current_used_, bytes);
  current_used_ += bytes;
  return ReplySlot(current_, room);
}

void ReplyQueue::commit(ReplySlot slot, std::size_t used) {
  BM_CHECK(used <= slot.bytes_.size());
  // The unused end of the youngest slot is free for the next one.
  if (slot.buffer_.shares(current_) &&
      slot.bytes_.data() + slot.bytes_.size() == current_.data() + current_used_) {
    current_used_ -= slot.bytes_.size() - used;
  }
  push(std::move(slot.buffer_), slot.bytes_.first(used));
}

void ReplyQueue::cancel(ReplySlot slot) {
  if (slot.buffer_.shares(current_) &&
      slot.bytes_.data() + slot.bytes_.size() == current_.data() + current_used_) {
    current_used_ -= slot.bytes_.size();
  }
}

void ReplyQueue::commit_buffer(BufferRef buffer, ConstBytes bytes) {
  push(std::move(buffer), bytes);
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
  pending_.segments.push_back({std::move(buffer), bytes});
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
  if (sending_ || pending_.segments.empty()) return;
  sending_ = true;
  sends_.spawn(send_all(false));
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
  batch.segments.clear();
  batch.size = 0;
  const std::uint32_t replies = std::exchange(batch.replies, 0);
  const std::uint64_t charged = std::exchange(batch.charged, 0);
  if (replies != 0) in_flight_.give(replies, charged);
}

}  // namespace blockmig::nbd
