// SPDX-License-Identifier: Apache-2.0
#include "blockmig/disk/region_snapshot.h"

#include <algorithm>
#include <string>
#include <utility>

#include "blockmig/base/endian.h"
#include "blockmig/io/cancel.h"

namespace blockmig {
namespace {

static_assert(kChunksPerContainer == DirtyFilter::kBlockChunks);

constexpr Duration kBetweenTurns = std::chrono::nanoseconds(1);

/// Into as many changes as their limits ask for.
class ChangeWriter final {
 public:
  ChangeWriter(JournalBatch& batch, const RegionSetId& set)
      : batch_(batch), part_{set.disk, set.name, {}, {}} {}

  /// Looks at one container.
  void compare(const DirtyFilter& before, const DirtyFilter& now, std::uint32_t index) {
    if (now.same_block(before, index)) return;
    DirtyFilter::Block members{};
    now.add_block(index, members);
    RegionContainer container = container_of(index, members);
    if (container.bits.empty()) {
      part_.erase.push_back(index);
    } else {
      part_.put.push_back(std::move(container));
    }
    if (part_.put.size() + part_.erase.size() == kMaxContainersPerChange) end();
  }
  void end() {
    if (part_.put.empty() && part_.erase.empty()) return;
    RegionChange next{part_.disk, part_.name, {}, {}};
    batch_.regions.push_back(std::exchange(part_, std::move(next)));
  }

 private:
  JournalBatch& batch_;
  RegionChange part_;
};

}  // namespace

std::uint32_t container_count(std::uint64_t chunk_count) {
  return static_cast<std::uint32_t>((chunk_count + kChunksPerContainer - 1) / kChunksPerContainer);
}

RegionContainer container_of(std::uint32_t index, const DirtyFilter::Block& members) {
  RegionContainer container;
  container.index = index;
  std::size_t words = members.size();
  while (words > 0 && members[words - 1] == 0) --words;
  container.bits.resize(words * 8);
  for (std::size_t i = 0; i < words; ++i) store_le(container.bits.data() + i * 8, members[i]);
  while (!container.bits.empty() && container.bits.back() == std::byte{0}) {
    container.bits.pop_back();
  }
  return container;
}

Status for_each_run(const std::vector<RegionContainer>& containers, std::uint64_t chunk_count,
                    const std::function<void(std::uint64_t first, std::uint64_t end)>& visit) {
  for (const RegionContainer& container : containers) {
    const std::uint64_t first = std::uint64_t{container.index} * kChunksPerContainer;
    const std::uint64_t count = container.bits.size() * 8;
    /// The first bit from `i` on that is `set`: whole bytes at once where they are uniform.
    const auto next = [&container, count](std::uint64_t i, bool set) {
      const std::byte uniform = set ? std::byte{0} : std::byte{0xFF};
      while (i < count) {
        const std::byte byte = container.bits[i / 8];
        if (i % 8 == 0 && byte == uniform) {
          i += 8;
        } else if (((byte >> (i % 8) & std::byte{1}) != std::byte{0}) == set) {
          break;
        } else {
          ++i;
        }
      }
      return i;
    };
    for (std::uint64_t i = next(0, true); i < count; i = next(i, true)) {
      const std::uint64_t begun = i;
      i = next(i, false);
      if (first + i > chunk_count) {
        return Error(ErrorCode::kProtocol, "a recorded set has chunk " +
                                               std::to_string(first + i - 1) + " of a disk of " +
                                               std::to_string(chunk_count));
      }
      visit(first + begun, first + i);
    }
  }
  return {};
}

Task<void> copy_dirty(EventLoop& loop, const DirtyBitmap& bitmap, DirtyFilter& into,
                      AddAtOnce at_once) {
  const auto containers = static_cast<std::uint32_t>(bitmap.block_count());
  for (std::uint32_t first = 0; first < containers; first += kContainersPerTurn) {
    if (first != 0) co_await sleep_for(loop, kBetweenTurns);
    const std::uint32_t end = std::min(containers, first + kContainersPerTurn);
    for (std::uint32_t index = first; index < end; ++index) bitmap.copy_block_to(index, into);
    at_once(first, end);
  }
}

void add_change(JournalBatch& batch, const DirtyFilter& before, const DirtyFilter& now,
                const RegionSetId& set) {
  ChangeWriter writer(batch, set);
  for (std::uint32_t index = 0; index < now.block_count(); ++index) {
    writer.compare(before, now, index);
  }
  writer.end();
}

Task<void> add_change_in_turns(EventLoop& loop, JournalBatch& batch, const DirtyFilter& before,
                               const DirtyFilter& now, const RegionSetId& set) {
  ChangeWriter writer(batch, set);
  for (std::uint32_t index = 0; index < now.block_count(); ++index) {
    writer.compare(before, now, index);
    if ((index + 1) % kContainersPerTurn == 0) co_await sleep_for(loop, kBetweenTurns);
  }
  writer.end();
}

}  // namespace blockmig
