// SPDX-License-Identifier: Apache-2.0
// DirtyFilter against a std::set, through blocks that go from clear to sparse to dense to full and
// back.
#include <gtest/gtest.h>
// After gtest, which it extends.
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <bit>
#include <set>
#include <string>

#include "bitmap/dirty_filter.h"
#include "blockmig/base/random.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kBlock = DirtyFilter::kBlockChunks;

/// A filter whose first blocks use up what is dense anyway, and behind them a few that the test
/// changes: three whole ones and a short last one.
class Machine final {
 public:
  explicit Machine(std::uint64_t seed) : random_(seed) {
    for (std::uint64_t i = 0; i < DirtyFilter::kDenseAnyway; ++i) filter_.set(i * kBlock);
  }

  void run(int steps) {
    for (int i = 0; i < steps; ++i) {
      step();
      ask();
      if (random_.chance(1, 8)) follow();
    }
    compare();
    RC_ASSERT(filter_.clear_range(kFirst, kEnd) == model_.size());
    RC_ASSERT(filter_.count() == DirtyFilter::kDenseAnyway);
    follow();
    RC_ASSERT(copy_.memory_bytes() == idle_bytes_);
    // Every form gives its memory back.
    RC_ASSERT(filter_.memory_bytes() == idle_bytes_);
  }

 private:
  static constexpr std::uint64_t kFirst = DirtyFilter::kDenseAnyway * kBlock;
  static constexpr std::uint64_t kEnd = kFirst + 3 * kBlock + 5000;

  void step() {
    switch (random_.below(6)) {
      case 0:  // scattered marks, enough of them to cross the border upwards now and then
      case 1:
        scatter(random_.between(1, 600), true);
        break;
      case 2:
        scatter(random_.between(1, 600), false);
        break;
      case 3:
        change(place(), random_.between(1, 900), true);
        break;
      case 4:
        change(place(), random_.between(1, 900), false);
        break;
      default:  // much of a block, or several: down to a few chunks, or to a full block
        change(place(), random_.between(1, 2 * kBlock), random_.chance(1, 3));
    }
  }
  std::uint64_t place() {
    // The borders of blocks are where the bugs are.
    if (random_.chance(1, 4)) return kFirst + random_.below(3) * kBlock + random_.below(3);
    return random_.between(kFirst, kEnd - 1);
  }
  /// Marks or clears single chunks near each other, so that one block fills.
  void scatter(std::uint64_t many, bool set) {
    const std::uint64_t from = kFirst + random_.below(4) * kBlock;
    const std::uint64_t span = std::min(kBlock, kEnd - from);
    for (std::uint64_t i = 0; i < many; ++i) {
      const std::uint64_t chunk = from + random_.below(span);
      if (set) {
        RC_ASSERT(filter_.set(chunk) == model_.insert(chunk).second);
      } else {
        RC_ASSERT(filter_.clear_range(chunk, chunk + 1) == model_.erase(chunk));
      }
    }
  }
  void change(std::uint64_t first, std::uint64_t length, bool set) {
    const std::uint64_t end = std::min(kEnd, first + length);
    const std::uint64_t before = model_.size();
    if (set) {
      auto hint = model_.lower_bound(first);
      for (std::uint64_t at = first; at < end; ++at) hint = ++model_.insert(hint, at);
      RC_ASSERT(filter_.set_range(first, end) == model_.size() - before);
    } else {
      model_.erase(model_.lower_bound(first), model_.lower_bound(end));
      RC_ASSERT(filter_.clear_range(first, end) == before - model_.size());
    }
  }
  void ask() {
    RC_ASSERT(filter_.count() == model_.size() + DirtyFilter::kDenseAnyway);
    for (int i = 0; i < 20; ++i) {
      const std::uint64_t from = place();
      const std::uint64_t end = random_.between(from, kEnd);
      RC_ASSERT(filter_.test(from) == model_.contains(from));
      const auto next = model_.lower_bound(from);
      RC_ASSERT(filter_.next_set(from, end) == (next == model_.end() ? end : std::min(end, *next)));
      std::uint64_t clear = from;
      for (auto at = next; clear < end && at != model_.end() && *at == clear; ++at) ++clear;
      RC_ASSERT(filter_.next_clear(from, end) == clear);
    }
  }
  /// A copy, made block by block of whatever it was before; and what both of them hold.
  void follow() {
    std::uint64_t both = 0;
    for (std::size_t i = 0; i < filter_.block_count(); ++i) {
      DirtyFilter::Block expected{};
      copy_.add_block(i, expected);
      filter_.add_block(i, expected);
      for (const std::uint64_t word : expected)
        both += static_cast<std::uint64_t>(std::popcount(word));
      merged_.copy_block(i, copy_);
      merged_.merge_block(i, filter_);
      DirtyFilter::Block merged{};
      merged_.add_block(i, merged);
      RC_ASSERT(merged == expected);
      copy_.copy_block(i, filter_);
      RC_ASSERT(copy_.same_block(filter_, i));
    }
    RC_ASSERT(copy_.count() == filter_.count());
    RC_ASSERT(merged_.count() == both);
  }

  void compare() {
    auto expected = model_.begin();
    for (std::uint64_t chunk = kFirst; chunk < kEnd; ++chunk) {
      const bool set = expected != model_.end() && *expected == chunk;
      if (set) ++expected;
      if (filter_.test(chunk) != set) RC_FAIL("chunk " + std::to_string(chunk) + " differs");
    }
    for (std::uint64_t i = 0; i < kFirst; ++i) {
      if (filter_.test(i) != (i % kBlock == 0)) RC_FAIL("a block that nobody changed differs");
    }
  }

  static std::size_t idle_bytes() {
    DirtyFilter filter(kEnd);
    for (std::uint64_t i = 0; i < DirtyFilter::kDenseAnyway; ++i) filter.set(i * kBlock);
    return filter.memory_bytes();
  }

  Random random_;
  DirtyFilter filter_{kEnd};
  DirtyFilter copy_{kEnd};
  DirtyFilter merged_{kEnd};
  std::set<std::uint64_t> model_;
  const std::size_t idle_bytes_ = idle_bytes();
};

RC_GTEST_PROP(DirtyFilterProperty, AgreesWithASetInEveryForm, ()) {
  Machine machine(*rc::gen::arbitrary<std::uint64_t>());
  machine.run(20);
}

}  // namespace
}  // namespace blockmig
