// SPDX-License-Identifier: Apache-2.0
// ReceiveBuffer: the bytes of one connection that have arrived and have not been parsed yet.
//
// Requests are parsed where they were received, and the payload of a WRITE stays there until the
// device has taken it: pin() keeps the memory alive. New bytes go behind the old ones; when the end
// is reached, or when nothing is left over, the buffer begins anew, in the same memory if nobody
// has it pinned, else in fresh memory from the pool.
//
// A pin keeps the whole buffer, however little of it the request is charged for, and a slow store
// can keep it for hours. So a payload that the device does not take at once may be pinned only
// while fewer than kMaxPinned old buffers are; beyond them keep_waiting() copies it to memory of
// its own size. Memory is bounded by (1 + kMaxPinned) buffers and what the requests are charged,
// and the intake never has to wait for a pin to go.
//
// Who waits with nothing left over lets go of the memory (let_go()): the next connection of the
// loop receives into what is still in the processor's caches, and a thousand idle ones hold
// nothing. Where the stream must have the memory while it waits, or the client has stopped in the
// middle of a request, forget_contents() gives the other pages back to the kernel. Thread rule: one
// loop.
#pragma once

#include <cstddef>
#include <vector>

#include "blockmig/base/bytes.h"
#include "nbdserver/buffer_pool.h"

namespace blockmig::nbd {

class ReceiveBuffer final {
 public:
  static constexpr std::size_t kBytes = 1024 * 1024;
  /// A payload up to this is received here, from 32 KiB on only if the store takes writes at once;
  /// another one goes straight to a buffer of its own.
  static constexpr std::size_t kMaxPayloadBytes = 128 * 1024;

  /// Old buffers that may be kept by payloads: enough for what streams through a store of usual
  /// speed without a copy.
  static constexpr std::size_t kMaxPinned = 4;

  explicit ReceiveBuffer(BufferPool& pool) : pool_(pool) {}

  ConstBytes available() const { return {data_ + begin_, end_ - begin_}; }
  void consume(std::size_t bytes) { begin_ += bytes; }
  /// Keeps what available() and consume() have shown alive, for as long as nothing is received.
  BufferRef pin() const { return buffer_; }
  /// `payload`, which `keep` has pinned, is used for longer: brings it elsewhere if its place is
  /// too much to keep. Does nothing if `keep` is not of this buffer.
  void keep_waiting(BufferRef& keep, ConstBytes& payload);

  /// Makes room so that what is unparsed can grow to `unparsed_bytes` and something can be
  /// received.
  void prepare(std::size_t unparsed_bytes);
  /// Where to receive to; not empty after prepare().
  MutableBytes room() const { return {data_ + end_, capacity_ - end_}; }
  void received(std::size_t bytes) { end_ += bytes; }
  /// Puts bytes in that came with the handshake; only before the first receive.
  void seed(ConstBytes bytes);

  /// Before waiting: the memory goes to the pool if nothing is held in it and the pool keeps it.
  void let_go();
  /// Gives those of the memory's pages back to the kernel in which nothing is held; a receive may
  /// be waiting.
  void forget_contents();

 private:
  bool holds_nothing() const { return begin_ == end_ && buffer_.is_sole(); }
  void start_anew();
  void drop_unpinned();

  BufferPool& pool_;
  BufferRef buffer_;
  std::byte* data_ = nullptr;
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::size_t high_water_ = 0;      ///< bytes of the memory that may be backed by pages
  std::vector<BufferRef> retired_;  ///< left behind while pinned, at most kMaxPinned
};

}  // namespace blockmig::nbd
