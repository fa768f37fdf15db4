// SPDX-License-Identifier: Apache-2.0
// DirtyBitmap against the simplest thing that could be right: a vector of flags, one per chunk.
#include <gtest/gtest.h>
// After gtest, which it extends.
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "bitmap/bitmap_codec.h"
#include "bitmap/dirty_bitmap.h"
#include "blockmig/base/random.h"

namespace blockmig {
namespace {

/// The oracle: every rule of the header spelled out chunk by chunk.
struct Oracle {
  std::uint64_t size = 0;
  std::uint64_t granularity = 0;
  std::vector<bool> dirty;

  Oracle(std::uint64_t size_bytes, std::uint64_t granularity_bytes)
      : size(size_bytes), granularity(granularity_bytes) {
    for (std::uint64_t at = 0; at < size; at += granularity) dirty.push_back(false);
  }
  std::uint64_t begin(std::uint64_t chunk) const { return chunk * granularity; }
  std::uint64_t end(std::uint64_t chunk) const {
    return std::min(size, begin(chunk) + granularity);
  }
  bool touches(std::uint64_t chunk, std::uint64_t from, std::uint64_t to) const {
    return begin(chunk) < to && from < end(chunk);
  }
  void mark(std::uint64_t from, std::uint64_t to) {
    for (std::uint64_t i = 0; i < dirty.size(); ++i) {
      if (from < to && touches(i, from, to)) dirty[i] = true;
    }
  }
  void clear(std::uint64_t from, std::uint64_t to) {
    for (std::uint64_t i = 0; i < dirty.size(); ++i) {
      if (from <= begin(i) && end(i) <= to) dirty[i] = false;
    }
  }
  bool any(std::uint64_t from, std::uint64_t to) const {
    for (std::uint64_t i = 0; i < dirty.size(); ++i) {
      if (from < to && touches(i, from, to) && dirty[i]) return true;
    }
    return false;
  }
  std::vector<std::uint32_t> list() const {
    std::vector<std::uint32_t> chunks;
    for (std::uint64_t i = 0; i < dirty.size(); ++i) {
      if (dirty[i]) chunks.push_back(static_cast<std::uint32_t>(i));
    }
    return chunks;
  }
  std::uint64_t bytes() const {
    std::uint64_t sum = 0;
    for (const std::uint32_t chunk : list()) sum += end(chunk) - begin(chunk);
    return sum;
  }
  std::vector<DirtyBitmap::Run> runs(std::uint64_t from, std::uint64_t to) const {
    std::vector<DirtyBitmap::Run> result;
    for (std::uint64_t i = 0; i < dirty.size(); ++i) {
      if (from >= to || !touches(i, from, to)) continue;
      const std::uint64_t cut_from = std::max(from, begin(i));
      const std::uint64_t cut_to = std::min(to, end(i));
      if (!result.empty() && result.back().dirty == dirty[i]) {
        result.back().range.length += cut_to - cut_from;
      } else {
        result.push_back({{cut_from, cut_to - cut_from}, dirty[i]});
      }
    }
    return result;
  }
};

/// A lease under test and what the oracle says it holds.
struct Taken {
  DirtyLease lease;
  std::vector<bool> acknowledged;
};

void compare(const DirtyBitmap& bitmap, const Oracle& oracle) {
  const std::vector<std::uint32_t> expected = oracle.list();
  RC_ASSERT(bitmap.dirty_count() == expected.size());
  RC_ASSERT(bitmap.dirty_bytes() == oracle.bytes());
  std::vector<std::uint32_t> found;
  for (auto at = bitmap.next_dirty(0); at; at = bitmap.next_dirty(*at + 1)) {
    found.push_back(static_cast<std::uint32_t>(*at));
  }
  RC_ASSERT(found == expected);
  std::uint64_t differ = 0;
  for (std::uint64_t i = 0; i < oracle.dirty.size(); ++i) {
    differ += bitmap.is_dirty(i) != oracle.dirty[i] ? 1 : 0;
  }
  RC_ASSERT(differ == 0U);
  RC_ASSERT(bitmap.runs(0, bitmap.size_bytes(), ~std::size_t{0}) == oracle.runs(0, oracle.size));
}

void compare_through_codec(const DirtyBitmap& bitmap, const Oracle& oracle) {
  const std::vector<std::byte> frame = encode_bitmap(bitmap);
  auto decoded = decode_bitmap(frame);
  RC_ASSERT(decoded.ok());
  RC_ASSERT((*decoded)->granularity_bytes() == bitmap.granularity_bytes());
  RC_ASSERT((*decoded)->size_bytes() == bitmap.size_bytes());
  compare(**decoded, oracle);
  // Roaring's view, not only the filter's.
  DirtyLease all = (*decoded)->lease(0, ~std::size_t{0});
  RC_ASSERT(all.chunks() == oracle.list());
  all.acknowledge_all();
}

/// Block by block into one that held something else.
void compare_copied_blocks(const DirtyBitmap& bitmap, const Oracle& oracle, Random& random) {
  const auto copy = *DirtyBitmap::create(bitmap.size_bytes(), bitmap.granularity_bytes());
  for (int i = 0; i < 20; ++i) {
    const std::uint64_t at = random.between(0, oracle.size);
    copy->mark(at, random.between(0, std::min<std::uint64_t>(oracle.size - at, 1'000'000)));
  }
  for (std::size_t block = 0; block < bitmap.block_count(); ++block) {
    copy->copy_block(block, bitmap);
    RC_ASSERT(!copy->copy_block(block, bitmap));
  }
  compare_through_codec(*copy, oracle);
}

std::pair<std::uint64_t, std::uint64_t> random_range(Random& random, std::uint64_t size) {
  const std::uint64_t a = random.between(0, size);
  // Short ranges and ranges to the very end are where the bugs are.
  const std::uint64_t longest =
      random.chance(1, 2) ? std::min<std::uint64_t>(size - a, 100'000) : size - a;
  const std::uint64_t b = random.chance(1, 8) ? size : a + random.between(0, longest);
  return {a, std::max(a, b)};
}

/// One run: `steps` random operations on both, compared after each.
class Machine final {
 public:
  Machine(std::uint64_t size, std::uint32_t granularity, std::uint64_t seed)
      : bitmap_(*DirtyBitmap::create(size, granularity)),
        oracle_(size, granularity),
        random_(seed) {}

  void run(int steps, int compare_every = 1) {
    for (int i = 1; i <= steps; ++i) {
      step();
      if (i % compare_every == 0) compare(*bitmap_, oracle_);
    }
    compare_through_codec(*bitmap_, oracle_);
    compare_copied_blocks(*bitmap_, oracle_, random_);
    while (!taken_.empty()) finish(taken_.size() - 1);
    compare(*bitmap_, oracle_);
    compare_through_codec(*bitmap_, oracle_);
  }

 private:
  void step() {
    const auto [from, to] = random_range(random_, oracle_.size);
    switch (random_.below(12)) {
      case 0:
      case 1:
      case 2:
      case 3:
        bitmap_->mark(from, to - from);
        oracle_.mark(from, to);
        break;
      case 4:
        bitmap_->clear(from, to - from);
        oracle_.clear(from, to);
        break;
      case 5:
        if (!random_.chance(1, 4)) break;
        bitmap_->mark_all();
        oracle_.dirty.assign(oracle_.dirty.size(), true);
        break;
      case 6:
        if (!random_.chance(1, 4)) break;
        bitmap_->clear_all();
        oracle_.dirty.assign(oracle_.dirty.size(), false);
        break;
      case 7:
      case 8:
        take_ascending();
        break;
      case 9:
        take_chosen();
        break;
      case 10:
        if (!taken_.empty()) finish(random_.below(taken_.size()));
        break;
      default:
        RC_ASSERT(bitmap_->any_dirty(from, to - from) == oracle_.any(from, to));
        RC_ASSERT(bitmap_->runs(from, to - from, ~std::size_t{0}) == oracle_.runs(from, to));
        merge_other(from, to);
    }
  }

  void take_ascending() {
    const std::uint64_t from = random_.between(0, oracle_.dirty.size() + 1);
    const std::size_t max = random_.between(0, 40);
    std::vector<std::uint32_t> expected;
    for (const std::uint32_t chunk : oracle_.list()) {
      if (chunk >= from && expected.size() < max) expected.push_back(chunk);
    }
    accept(bitmap_->lease(from, max), expected);
  }
  void take_chosen() {
    std::vector<std::uint32_t> asked;
    std::vector<std::uint32_t> expected;
    for (int i = 0; i < 10 && !oracle_.dirty.empty(); ++i) {
      asked.push_back(static_cast<std::uint32_t>(random_.below(oracle_.dirty.size())));
    }
    for (const std::uint32_t chunk : oracle_.list()) {
      if (std::find(asked.begin(), asked.end(), chunk) != asked.end()) expected.push_back(chunk);
    }
    accept(bitmap_->lease_chunks(asked), expected);
  }
  void accept(DirtyLease lease, const std::vector<std::uint32_t>& expected) {
    RC_ASSERT(lease.chunks() == expected);
    RC_ASSERT(lease.empty() == expected.empty());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      oracle_.dirty[expected[i]] = false;
      RC_ASSERT(lease.range(i).offset == oracle_.begin(expected[i]));
      RC_ASSERT(lease.range(i).end() == oracle_.end(expected[i]));
    }
    Taken taken{std::move(lease), std::vector<bool>(expected.size(), false)};
    for (std::size_t i = 0; i < expected.size(); ++i) {
      if (!random_.chance(1, 2)) continue;
      taken.lease.acknowledge(i);
      taken.acknowledged[i] = true;
    }
    taken_.push_back(std::move(taken));
  }
  void finish(std::size_t index) {
    const Taken taken = std::move(taken_[index]);
    taken_.erase(taken_.begin() + static_cast<std::ptrdiff_t>(index));
    for (std::size_t i = 0; i < taken.acknowledged.size(); ++i) {
      if (!taken.acknowledged[i]) oracle_.dirty[taken.lease.chunks()[i]] = true;
    }
    // `taken` is destroyed here, before anybody looks.
  }
  void merge_other(std::uint64_t from, std::uint64_t to) {
    const std::uint32_t granularity = kMinGranularityBytes << random_.below(9);
    const auto other = *DirtyBitmap::create(oracle_.size, granularity);
    Oracle other_oracle(oracle_.size, granularity);
    other->mark(from, to - from);
    other_oracle.mark(from, to);
    const bool subtracts = random_.chance(1, 2);
    if (subtracts) {
      bitmap_->subtract(*other);
    } else {
      bitmap_->merge(*other);
    }
    // One range was marked, so what the other one holds is one range too.
    const std::vector<std::uint32_t> held = other_oracle.list();
    if (held.empty()) return;
    const std::uint64_t begin = other_oracle.begin(held.front());
    const std::uint64_t end = other_oracle.end(held.back());
    if (subtracts) {
      oracle_.clear(begin, end);
    } else {
      oracle_.mark(begin, end);
    }
  }

  std::unique_ptr<DirtyBitmap> bitmap_;
  Oracle oracle_;
  Random random_;
  std::vector<Taken> taken_;
};

// Sizes come from the seed and not from RapidCheck's ranges, which start tiny.
RC_GTEST_PROP(DirtyBitmapProperty, AgreesWithTheOracleAtEveryGranularity, ()) {
  Random random(*rc::gen::arbitrary<std::uint64_t>());
  const std::uint32_t granularity = kMinGranularityBytes << random.below(9);
  const std::uint64_t tail = random.chance(1, 3) ? 0 : random.below(granularity);
  const std::uint64_t size = random.below(200) * granularity + tail;
  Machine machine(size, granularity, random.next());
  machine.run(100);
}

// Several filter blocks and Roaring containers: their borders, and containers that change kind.
RC_GTEST_PROP(DirtyBitmapProperty, AgreesAcrossBlocksAndContainers, ()) {
  const auto seed = *rc::gen::arbitrary<std::uint64_t>();
  // Around one filter block, one Roaring container, and more than two of them.
  const auto blocks = *rc::gen::element<std::uint64_t>(1, 1, 1, 1, 2, 2, 2, 4);
  const auto chunks = blocks * 32'768 + *rc::gen::inRange<std::uint64_t>(0, 300) - 150;
  const auto tail = *rc::gen::inRange<std::uint64_t>(0, 4096);
  Machine machine(chunks * 4096 + tail, 4096, seed);
  machine.run(5, 8);
}

// Random single chunks, enough to fill and fold the log many times over.
RC_GTEST_PROP(DirtyBitmapProperty, AgreesWhenTheLogOverflows, ()) {
  const auto seed = *rc::gen::arbitrary<std::uint64_t>();
  Random random(seed);
  constexpr std::uint64_t kChunks = 66'001;
  const auto bitmap = *DirtyBitmap::create(kChunks * 4096 - 5, 4096);
  Oracle oracle(kChunks * 4096 - 5, 4096);
  for (int i = 0; i < 2500; ++i) {
    const std::uint64_t chunk = random.below(kChunks);
    bitmap->mark(chunk * 4096 + random.below(4091), 1);
    oracle.dirty[chunk] = true;
    if (random.chance(1, 1000)) {
      const std::uint64_t from = random.below(kChunks);
      bitmap->clear(from * 4096, bitmap->size_bytes() - from * 4096);
      for (std::uint64_t k = from; k < kChunks; ++k) oracle.dirty[k] = false;
    }
  }
  compare(*bitmap, oracle);
  compare_through_codec(*bitmap, oracle);
}

}  // namespace
}  // namespace blockmig
