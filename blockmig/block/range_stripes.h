// SPDX-License-Identifier: Apache-2.0
// RangeStripes: keeps a read and a write of one sector apart between threads (I2).
//
// The page cache does not: a reader may copy a sector while a writer is in the middle of it. Two
// kinds of requests meet here:
//  - calls: one system call or one copy, made on the spot by any thread. They try, and are refused
//    where something conflicts; they never wait, so nothing can wait for them for long.
//  - asynchronous requests of the loop: announced first, which refuses new calls in their way at
//    once, and begun when the calls that were already inside have left. So they cannot starve.
//    Among themselves they are kept apart by RangeLock, exactly; here they never conflict.
//
// The range is divided into units of 64 KiB, and those into 1,024 stripes: one atomic word each.
// Two ranges that share a stripe and no byte may be refused for nothing; the refused call is made
// asynchronously then. Every range takes a stripe once, however long it is.
//
// Thread rule: any thread. Taking and leaving cost an atomic operation per 64 KiB.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <utility>

#include "blockmig/base/bytes.h"

namespace blockmig {

class RangeStripes final {
 public:
  static constexpr std::uint64_t kUnitBytes = 64 * kKiB;
  static constexpr std::uint64_t kStripes = 1024;

  enum class Access { kRead, kWrite };
  /// Whom a call must not meet.
  enum class Against {
    kAll,
    /// For calls on the loop's own thread after RangeLock has said that no asynchronous request
    /// touches the range: a stripe shared by chance is no reason to be refused.
    kCalls,
  };

  RangeStripes() = default;
  ~RangeStripes();
  RangeStripes(const RangeStripes&) = delete;
  RangeStripes& operator=(const RangeStripes&) = delete;

  /// A call's hold, if it was granted. Left by destruction, on the same thread.
  class [[nodiscard]] Call final {
   public:
    Call() = default;
    /// Granted without a claim, to whoever cannot meet anybody.
    static Call alone() {
      Call call;
      call.granted_ = true;
      return call;
    }
    Call(Call&& other) noexcept
        : stripes_(std::exchange(other.stripes_, nullptr)),
          granted_(std::exchange(other.granted_, false)),
          range_(other.range_),
          access_(other.access_) {}
    Call& operator=(Call&&) = delete;
    ~Call() {
      if (stripes_ != nullptr) stripes_->leave_call(range_, span_of(range_).count, access_);
    }
    explicit operator bool() const { return granted_; }

   private:
    friend class RangeStripes;
    Call(RangeStripes& stripes, ByteRange range, Access access)
        : stripes_(&stripes), granted_(true), range_(range), access_(access) {}
    RangeStripes* stripes_ = nullptr;
    bool granted_ = false;
    ByteRange range_;
    Access access_ = Access::kRead;
  };
  Call try_call(ByteRange range, Access access, Against against);

  /// An asynchronous request's hold: from the announcement until it is destroyed.
  class [[nodiscard]] Async final {
   public:
    Async() = default;
    Async(Async&& other) noexcept
        : stripes_(std::exchange(other.stripes_, nullptr)),
          range_(other.range_),
          access_(other.access_),
          cleared_(other.cleared_) {}
    Async& operator=(Async&&) = delete;
    ~Async() {
      if (stripes_ != nullptr) stripes_->leave_async(range_, access_);
    }
    /// No call is in the way any more, and none can come: the request may begin. Ask again if not.
    bool clear();

   private:
    friend class RangeStripes;
    Async(RangeStripes& stripes, ByteRange range, Access access)
        : stripes_(&stripes), range_(range), access_(access) {}
    RangeStripes* stripes_ = nullptr;
    ByteRange range_;
    Access access_ = Access::kRead;
    std::uint64_t cleared_ = 0;  ///< stripes of the range that are known to be clear
  };
  Async announce(ByteRange range, Access access);

 private:
  // One stripe: counts of those inside, by kind.
  using Word = std::uint64_t;
  static constexpr Word kReadingCall = 1;
  static constexpr Word kReadingCalls = 0xFFFF;
  static constexpr Word kWritingCall = Word{1} << 16;  // alone
  static constexpr Word kReadingAsync = Word{1} << 20;
  static constexpr Word kReadingAsyncs = Word{0x3FFFFF} << 20;
  static constexpr Word kWritingAsync = Word{1} << 42;
  static constexpr Word kWritingAsyncs = Word{0x3FFFFF} << 42;

  struct Span {
    std::uint64_t first = 0;
    std::uint64_t count = 0;
  };
  static Span span_of(ByteRange range) {
    if (range.empty()) return {};
    const std::uint64_t first = range.offset / kUnitBytes;
    const std::uint64_t count = (range.end() - 1) / kUnitBytes - first + 1;
    return {first, count < kStripes ? count : kStripes};
  }
  std::atomic<Word>& word(std::uint64_t unit) { return words_[unit % kStripes]; }
  static bool enter_call(std::atomic<Word>& word, Access access, Against against);
  void leave_call(ByteRange range, std::uint64_t stripes, Access access);
  void leave_async(ByteRange range, Access access);

  std::array<std::atomic<Word>, kStripes> words_{};
};

}  // namespace blockmig
