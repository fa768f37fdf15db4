// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/digest_record.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "blockmig/base/planted.h"
#include "blockmig/io/cancel.h"

namespace blockmig {
namespace {

static_assert(kDigestsPerContainer == ChunkDigests::kGroupChunks);

/// Of one turn, 256 KiB: guests come first (I10).
constexpr std::uint64_t kGroupsPerTurn = 64;
constexpr Duration kBetweenTurns = std::chrono::nanoseconds(1);

/// It tells of chunks that the disk has: of its last container only the first ones are there.
bool fits(const DigestContainer& container, std::uint64_t chunks) {
  const std::uint64_t first = std::uint64_t{container.index} * kDigestsPerContainer;
  if (first >= chunks) return false;
  return ((container.known | container.zeros) >> (chunks - first)).none();
}

}  // namespace

bool knows_all_digests(const JobOptions& options) {
  const bool in_part = options.mode == Mode::kShared || options.mode == Mode::kSettle ||
                       !options.since_bitmap.empty();
  return options.verify != Verify::kNone && !in_part;
}

DigestRecord::DigestRecord(RegionSetId set, ChunkDigests& digests)
    : set_(std::move(set)),
      digests_(digests),
      recorded_(digests.group_count()),
      waiting_(digests.group_count()) {}

void DigestRecord::know(const DigestContainer& container, const DirtyBitmap& dirty) {
  const std::uint64_t first = std::uint64_t{container.index} * kDigestsPerContainer;
  std::size_t digest = 0;
  for (std::uint64_t i = 0; i < kDigestsPerContainer; ++i) {
    const std::uint64_t chunk = first + i;
    const bool known = container.known[i];
    if (!known && !container.zeros[i]) continue;
    const ByteRange range = digests_.chunk_range(chunk);
    if (dirty.any_dirty(range.offset, range.length)) {
      // From here on it is told of when it changes, also to zeros.
      digests_.invalidate(range.offset, range.length);
    } else if (known) {
      digests_.set_digest(chunk, container.digests[digest]);
    } else {
      digests_.set_zero(chunk);
    }
    if (known) ++digest;
  }
}

Task<Status> DigestRecord::recall(EventLoop& loop, Journal& journal, const DirtyBitmap& dirty) {
  Status result;
  std::uint64_t from = 0;
  while (from < digests_.group_count()) {
    const auto found = co_await journal.load_digests(set_, static_cast<std::uint32_t>(from));
    if (!found.ok()) result = found.error();
    if (!found.ok() || found->empty()) break;
    std::uint64_t in_this_turn = 0;
    for (const DigestContainer& container : *found) {
      if (!fits(container, digests_.chunk_count())) {
        result = Error(ErrorCode::kProtocol, "a recorded digest is of a chunk behind the end");
        break;
      }
      know(container, dirty);
      recorded_.set(container.index);
      if (++in_this_turn % kGroupsPerTurn == 0) co_await sleep_for(loop, kBetweenTurns);
    }
    if (!result.ok()) break;
    from = std::uint64_t{found->back().index} + 1;
  }
  // As it is recorded, or dirty, or nobody has hashed it.
  static_cast<void>(digests_.take_changed());
  co_return result;
}

DigestContainer DigestRecord::container_of(std::uint64_t group) const {
  DigestContainer container;
  container.index = static_cast<std::uint32_t>(group);
  const std::uint64_t first = group * kDigestsPerContainer;
  const std::uint64_t end = std::min(first + kDigestsPerContainer, digests_.chunk_count());
  for (std::uint64_t chunk = first; chunk < end; ++chunk) {
    if (digests_.is_zero(chunk)) {
      container.zeros.set(chunk - first);
    } else if (const auto digest = digests_.find(chunk); digest) {
      container.known.set(chunk - first);
      container.digests.push_back(*digest);
    }
  }
  return container;
}

Task<void> DigestRecord::add_change(EventLoop& loop, JournalBatch& batch) {
  for (const std::uint64_t group : digests_.take_changed()) {
    if (planted(PlantedBug::kDigestsRecordedOnce) && recorded_.test(group)) continue;
    waiting_.set(group);
  }
  const std::uint64_t count = digests_.group_count();
  DigestChange change{set_, {}, {}};
  std::uint64_t in_this_turn = 0;
  const auto next_waiting = [this, count](std::uint64_t from) {
    const std::uint64_t next = waiting_.next_set(from, count);
    return next < count ? next : waiting_.next_set(0, from);
  };
  while (waiting_.count() > 0 && change.put.size() < kMaxContainersPerChange) {
    const std::uint64_t group = next_waiting(next_);
    change.put.push_back(container_of(group));
    waiting_.clear_range(group, group + 1);
    recorded_.set(group);
    next_ = (group + 1) % count;
    if (++in_this_turn % kGroupsPerTurn == 0) co_await sleep_for(loop, kBetweenTurns);
  }
  if (!change.put.empty()) batch.digests.push_back(std::move(change));
  // What is recorded of the others is not what they are now.
  DigestChange old{set_, {}, {}};
  for (std::uint64_t group = waiting_.next_set(0, count); group < count;
       group = waiting_.next_set(group + 1, count)) {
    if (recorded_.clear_range(group, group + 1) == 0) continue;
    old.erase.push_back(static_cast<std::uint32_t>(group));
    if (old.erase.size() < kMaxContainersPerChange) continue;
    batch.digests.push_back(std::exchange(old, DigestChange{set_, {}, {}}));
    co_await sleep_for(loop, kBetweenTurns);
  }
  if (!old.erase.empty()) batch.digests.push_back(std::move(old));
}

void DigestRecord::begin_anew() {
  recorded_.clear_range(0, recorded_.chunk_count());
  digests_.change_all();
}

}  // namespace blockmig
