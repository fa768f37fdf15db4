// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/range_stripes.h"

#include "blockmig/base/check.h"

namespace blockmig {

RangeStripes::~RangeStripes() {
  for (const std::atomic<Word>& word : words_) BM_CHECK(word.load(std::memory_order_relaxed) == 0);
}

bool RangeStripes::enter_call(std::atomic<Word>& word, Access access, Against against) {
  Word blocking = kWritingCall;
  if (against == Against::kAll) blocking |= kWritingAsyncs;
  if (access == Access::kWrite) {
    blocking |= kReadingCalls;
    if (against == Against::kAll) blocking |= kReadingAsyncs;
  }
  const Word mine = access == Access::kRead ? kReadingCall : kWritingCall;
  Word seen = word.load(std::memory_order_relaxed);
  do {
    if ((seen & blocking) != 0) return false;
  } while (!word.compare_exchange_weak(seen, seen + mine, std::memory_order_acquire,
                                       std::memory_order_relaxed));
  return true;
}

RangeStripes::Call RangeStripes::try_call(ByteRange range, Access access, Against against) {
  const Span span = span_of(range);
  for (std::uint64_t i = 0; i < span.count; ++i) {
    if (enter_call(word(span.first + i), access, against)) continue;
    leave_call(range, i, access);
    return Call();
  }
  return Call(*this, range, access);
}

/// Of the first `stripes` stripes of the range.
void RangeStripes::leave_call(ByteRange range, std::uint64_t stripes, Access access) {
  const Word mine = access == Access::kRead ? kReadingCall : kWritingCall;
  const std::uint64_t first = range.offset / kUnitBytes;
  for (std::uint64_t i = 0; i < stripes; ++i) {
    word(first + i).fetch_sub(mine, std::memory_order_release);
  }
}

RangeStripes::Async RangeStripes::announce(ByteRange range, Access access) {
  const Word mine = access == Access::kRead ? kReadingAsync : kWritingAsync;
  const Span span = span_of(range);
  for (std::uint64_t i = 0; i < span.count; ++i) {
    word(span.first + i).fetch_add(mine, std::memory_order_acq_rel);
  }
  return Async(*this, range, access);
}

bool RangeStripes::Async::clear() {
  const Word in_the_way =
      access_ == Access::kRead ? kWritingCall : Word{kWritingCall | kReadingCalls};
  const Span span = span_of(range_);
  while (cleared_ < span.count) {
    const Word seen = stripes_->word(span.first + cleared_).load(std::memory_order_acquire);
    if ((seen & in_the_way) != 0) return false;
    ++cleared_;
  }
  return true;
}

void RangeStripes::leave_async(ByteRange range, Access access) {
  const Word mine = access == Access::kRead ? kReadingAsync : kWritingAsync;
  const Span span = span_of(range);
  for (std::uint64_t i = 0; i < span.count; ++i) {
    word(span.first + i).fetch_sub(mine, std::memory_order_release);
  }
}

}  // namespace blockmig
