// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/receive_buffer.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "blockmig/base/bytes.h"
#include "blockmig/base/check.h"

namespace blockmig::nbd {
namespace {

/// Less room than this is not worth a receive.
constexpr std::size_t kMinRoomBytes = 32 * 1024;

}  // namespace

void ReceiveBuffer::prepare(std::size_t unparsed_bytes) {
  BM_CHECK(unparsed_bytes + kMinRoomBytes <= kBytes);
  if (!retired_.empty()) drop_unpinned();
  high_water_ = std::max(high_water_, end_);
  if (buffer_ && holds_nothing()) begin_ = end_ = 0;
  const bool fits_whole = buffer_ && capacity_ - begin_ >= unparsed_bytes;
  // The rest of a long request that fits behind its head is worth a receive of its own.
  const bool worth_it = capacity_ - end_ >= kMinRoomBytes || unparsed_bytes >= kMinRoomBytes;
  if (fits_whole && worth_it && capacity_ > end_) return;
  start_anew();
}

void ReceiveBuffer::start_anew() {
  const std::size_t unparsed = end_ - begin_;
  if (buffer_ && buffer_.is_sole()) {
    std::memmove(data_, data_ + begin_, unparsed);
  } else {
    BM_CHECK(retired_.size() < kMaxPinned || !buffer_);
    BufferRef fresh = pool_.take(kBytes);
    if (unparsed != 0) std::memcpy(fresh.data(), data_ + begin_, unparsed);
    if (buffer_) retired_.push_back(std::move(buffer_));
    buffer_ = std::move(fresh);
    data_ = buffer_.data();
    capacity_ = buffer_.capacity();
    high_water_ = capacity_;  // the pool does not say what is backed
  }
  begin_ = 0;
  end_ = unparsed;
}

void ReceiveBuffer::keep_waiting(BufferRef& keep, ConstBytes& payload) {
  if (!keep || !keep.shares(buffer_) || retired_.size() < kMaxPinned) return;
  drop_unpinned();
  if (retired_.size() < kMaxPinned) return;
  BufferRef copy = pool_.take_fitting(payload.size());
  if (!payload.empty()) std::memcpy(copy.data(), payload.data(), payload.size());
  payload = ConstBytes(copy.data(), payload.size());
  keep = std::move(copy);
}

void ReceiveBuffer::seed(ConstBytes bytes) {
  start_anew();
  BM_CHECK(end_ == 0 && bytes.size() <= capacity_);
  if (!bytes.empty()) std::memcpy(data_, bytes.data(), bytes.size());
  end_ = bytes.size();
}

void ReceiveBuffer::drop_unpinned() {
  std::erase_if(retired_, [](const BufferRef& old) { return old.is_sole(); });
}

void ReceiveBuffer::let_go() {
  if (!buffer_ || !holds_nothing() || !pool_.keeps(capacity_)) return;
  buffer_ = BufferRef();
  data_ = nullptr;
  capacity_ = begin_ = end_ = high_water_ = 0;
}

void ReceiveBuffer::forget_contents() {
  drop_unpinned();
  if (!buffer_ || !buffer_.is_sole() || high_water_ == 0) return;
  static const auto page_bytes = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const bool empty = begin_ == end_;
  const std::size_t first = empty ? 0 : align_down(begin_, page_bytes);
  const std::size_t last = empty ? 0 : align_up(end_, page_bytes);
  // The pages read as zeros afterwards and come back when they are written to. A hint that fails is
  // no loss.
  static_cast<void>(::madvise(data_, first, MADV_DONTNEED));
  static_cast<void>(::madvise(data_ + last, capacity_ - last, MADV_DONTNEED));
  high_water_ = 0;
}

}  // namespace blockmig::nbd
