// SPDX-License-Identifier: Apache-2.0
// ReplyQueue: the sending half of a connection. Replies are built in place in batch buffers and go
// out together, one gathered write per batch.
//
// Use: reserve() room, fill it, commit() it; finish() once per request, after the last commit of
// its reply. What is committed leaves in the order of the commits. While the queue is corked (the
// connection is working through a batch of requests) replies collect; uncork() and send_now() start
// sending. Outside a cork a commit starts a send by itself, from the loop, so that completions of
// one turn go together. After a write error the queue is broken: it drops what it has and accepts
// and drops the rest.
//
// Lifecycle: join() before destruction. Thread rule: one loop; one write on the stream at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "blockmig/base/bytes.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/stream.h"
#include "blockmig/io/task.h"
#include "blockmig/io/task_scope.h"
#include "nbdserver/buffer_pool.h"
#include "nbdserver/client_counters.h"
#include "nbdserver/in_flight.h"
#include "nbdserver/reply_codec.h"

namespace blockmig::nbd {

class ReplyQueue;

/// Reserved room in a batch buffer. What is not committed is given back.
class [[nodiscard]] ReplySlot final {
 public:
  ReplySlot() = default;
  ReplySlot(ReplySlot&& other) noexcept
      : buffer_(std::move(other.buffer_)),
        bytes_(std::exchange(other.bytes_, {})),
        waiting_(std::exchange(other.waiting_, false)) {}
  ReplySlot& operator=(ReplySlot&& other) noexcept {
    buffer_ = std::move(other.buffer_);
    bytes_ = std::exchange(other.bytes_, {});
    waiting_ = std::exchange(other.waiting_, false);
    return *this;
  }

  /// Null if the slot is empty.
  std::byte* data() const { return bytes_.data(); }
  MutableBytes bytes() const { return bytes_; }

 private:
  friend class ReplyQueue;
  ReplySlot(BufferRef buffer, MutableBytes bytes) : buffer_(std::move(buffer)), bytes_(bytes) {}
  BufferRef buffer_;
  MutableBytes bytes_;
  bool waiting_ = false;  ///< counted in ReplyQueue::waiting_
};

class ReplyQueue final {
 public:
  /// Replies longer than this travel in a buffer of their own.
  static constexpr std::size_t kMaxSlotBytes = 64 * 1024;
  static constexpr std::size_t kBatchBufferBytes = 256 * 1024;
  /// Batch buffers in which replies wait for a device: enough for what streams.
  static constexpr std::size_t kMaxWaitingBuffers = 4;

  ReplyQueue(EventLoop& loop, Stream& stream, BufferPool& pool, InFlight& in_flight,
             ClientCounters& counters)
      : loop_(loop), stream_(stream), pool_(pool), in_flight_(in_flight), counters_(counters) {}
  ReplyQueue(const ReplyQueue&) = delete;
  ReplyQueue& operator=(const ReplyQueue&) = delete;

  /// `bytes` <= kMaxSlotBytes. To be committed or cancelled before the loop has its next turn.
  ReplySlot reserve(std::size_t bytes);
  /// The same for a reply that waits for a device. It keeps its whole batch buffer, however long
  /// that takes and whatever its request is charged for; so it is empty if kMaxWaitingBuffers
  /// others are kept like that.
  ReplySlot reserve_waiting(std::size_t bytes);
  /// Sends the first `used` bytes of the slot.
  void commit(ReplySlot&& slot, std::size_t used);
  /// Gives a slot back unused.
  void cancel(ReplySlot&& slot);
  /// Sends bytes of a buffer of its own, without copying them.
  void commit_buffer(BufferRef buffer, ConstBytes bytes);
  /// Sends bytes that a device has lent (BlockDevice::borrow_now): before the loop has its next
  /// turn they are sent or copied. Only while can_borrow(), and right after the header of
  /// `header_bytes` that promises them to `request`: if they cannot be had, an error takes the
  /// place of both, or the connection ends if the header is on its way already. Counted as read
  /// once they are sent.
  void commit_borrowed(const Request& request, HeaderStyle style, std::size_t header_bytes,
                       ConstBytes bytes);
  bool can_borrow() const { return corked_ && !sending_ && !broken_; }
  /// Before the range changes at the device: copies what was borrowed from it and not yet sent.
  void copy_borrowed(ByteRange range);
  /// The reply of one request is complete; `bytes` are what InFlight took for it.
  void finish(std::uint64_t bytes);

  void cork() { corked_ = true; }
  void uncork() { corked_ = false; }
  /// Starts sending on the spot unless a send is under way.
  void send_now();

  /// Resumes when everything committed has been sent or dropped, and no send runs.
  TaskScope::JoinAwaiter join() { return sends_.join(); }
  bool broken() const { return broken_; }
  bool sending() const { return sending_; }
  std::size_t unsent_bytes() const { return unsent_bytes_; }
  std::uint32_t pending_replies() const { return pending_.replies; }
  std::size_t pending_bytes() const { return pending_.size; }

 private:
  struct Segment {
    BufferRef buffer;  ///< empty: the bytes are borrowed
    ConstBytes bytes;
    // Of borrowed bytes:
    std::uint64_t offset = 0;  ///< at the device
    Request request;
    HeaderStyle style = HeaderStyle::kSimple;
    std::size_t header_bytes = 0;  ///< the end of the segment before, while nothing is sent

    bool is_borrowed() const { return !buffer; }
  };
  struct Batch {
    std::vector<Segment> segments;
    std::size_t size = 0;       ///< bytes on the wire
    std::uint32_t replies = 0;  ///< requests that are finished with it
    std::uint64_t charged = 0;  ///< their bytes in InFlight
    std::uint64_t lent = 0;     ///< bytes that were borrowed for it, refused ones not
    bool borrows = false;       ///< some of the segments may be borrowed
  };

  /// Slots that wait, in one batch buffer. They share it: its address is its own while they do.
  struct Waiting {
    const std::byte* memory;
    std::uint32_t slots;
  };

  /// True if nothing was reserved behind it.
  bool is_youngest(const ReplySlot& slot) const;
  /// A slot's wait is over.
  void stop_waiting(ReplySlot& slot);
  void push(BufferRef buffer, ConstBytes bytes);
  /// Sends what the stream takes without waiting; true if that was all.
  bool send_at_once();
  void drop_sent(std::size_t bytes);
  void copy_segment(std::size_t index);
  bool refuse_segment(std::size_t index);
  void release(Batch& batch);
  Task<void> send_all(bool yield_first);

  EventLoop& loop_;
  Stream& stream_;
  BufferPool& pool_;
  InFlight& in_flight_;
  ClientCounters& counters_;
  BufferRef current_;
  std::size_t current_used_ = 0;
  std::vector<Waiting> waiting_;  ///< at most kMaxWaitingBuffers
  Batch pending_;
  Batch outgoing_;
  std::vector<ConstBytes> parts_;
  std::size_t unsent_bytes_ = 0;
  bool corked_ = false;
  bool sending_ = false;
  bool broken_ = false;
  TaskScope sends_;
};

}  // namespace blockmig::nbd
