// SPDX-License-Identifier: Apache-2.0
// ReceiveBuffer: the bytes of one connection that have arrived and have not been parsed yet.
//
// Requests are parsed where they were received, and the payload of a WRITE stays there until the
// device has taken it: pin() keeps the memory alive. New bytes go behind the old ones; when the end
// is reached, or when nothing is left over, the buffer begins anew, in the same memory if nobody
// has it pinned, else in fresh memory from the pool. Idle connections: forget_contents() gives the
// pages back to the kernel while a receive may be waiting. Thread rule: one loop.
#pragma once

#include <cstddef>
#include <vector>

#include "blockmig/base/bytes.h"
#include "nbdserver/buffer_pool.h"

namespace blockmig::nbd {

class ReceiveBuffer final {
 public:
  static constexpr std::size_t kBytes = 1024 * 1024;
  /// A payload up to this is received here; a longer one goes straight to a buffer of its own.
  static constexpr std::size_t kMaxPayloadBytes = 128 * 1024;

  /// At most `max_pinned` old buffers may still be pinned when another one is needed.
  ReceiveBuffer(BufferPool& pool, std::size_t max_pinned) : pool_(pool), max_pinned_(max_pinned) {}

  ConstBytes available() const { return {data_ + begin_, end_ - begin_}; }
  void consume(std::size_t bytes) { begin_ += bytes; }
  /// Keeps what available() and consume() have shown alive.
  BufferRef pin() const { return buffer_; }

  /// Makes room so that what is unparsed can grow to `unparsed_bytes` and something can be
  /// received. False if too many old buffers are pinned: wait until a request finishes.
  bool prepare(std::size_t unparsed_bytes);
  /// Where to receive to; not empty after prepare().
  MutableBytes room() const { return {data_ + end_, capacity_ - end_}; }
  void received(std::size_t bytes) { end_ += bytes; }
  /// Puts bytes in that came with the handshake; only before the first receive.
  void seed(ConstBytes bytes);

  /// Gives the memory's pages back to the kernel if nothing is held in them.
  void forget_contents();

 private:
  bool start_anew();
  void drop_unpinned();

  BufferPool& pool_;
  const std::size_t max_pinned_;
  BufferRef buffer_;
  std::byte* data_ = nullptr;
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::size_t high_water_ = 0;      ///< bytes of the memory that may be backed by pages
  std::vector<BufferRef> retired_;  ///< left behind while pinned
};

}  // namespace blockmig::nbd
