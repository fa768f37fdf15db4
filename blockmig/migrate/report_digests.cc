// SPDX-License-Identifier: Apache-2.0
// The digest of the whole disk at its decision, for the job's report.
#include <algorithm>
#include <vector>

#include "blockmig/io/cancel.h"
#include "blockmig/io/offload.h"
#include "blockmig/migrate/switchover.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kChunkBytes = ChunkDigests::kChunkBytes;
constexpr std::uint64_t kReadBytes = 8 * kChunkBytes;
/// Read and hashed in one go after the decision, about 0.5 ms: guests come first, but each turn of
/// a busy one takes half of that.
constexpr std::uint64_t kBytesPerTurn = 32 * kChunkBytes;
constexpr Duration kBetweenTurns = std::chrono::microseconds(1);

/// What stays at rest was hashed where it lies.
void know_what_rests(Migration& migration) {
  const ChunkDigests* const rest = migration.at_rest->digests();
  if (rest == nullptr) return;
  ChunkDigests& digests = *migration.sync->digests;
  const PresenceMap& map = migration.hydrating->map();
  for (const DirtyBitmap::Run& run : map.runs({0, digests.size_bytes()}, SIZE_MAX)) {
    if (run.dirty) digests.take(*rest, run.range);
  }
}

/// Unknown chunks from the first at or after `offset` on that lie together.
std::optional<ByteRange> next_unknown_run(const ChunkDigests& digests, std::uint64_t offset) {
  auto run = digests.next_unknown(offset);
  while (run && run->length < kReadBytes && run->end() < digests.size_bytes()) {
    const auto next = digests.next_unknown(run->end());
    if (!next || next->offset != run->end()) break;
    run->length += next->length;
  }
  return run;
}

}  // namespace

/// Chunks that the guest wrote in part were compared piece by piece, and those that were copied
/// before a restart were hashed by a process that is gone; what the whole is, the old store still
/// holds, since nobody writes it any more (of a point in time: the target). The image's digest is
/// made off the loop: a large disk has many chunks, and the guest is running again.
Task<void> report_digests(Migration& migration) {
  // Of what is pulled into its new store, when that is whole (hydration.cc).
  if (migration.hydration_digests || !migration.sync->digests) co_return;
  if (migration.pivot && migration.at_rest == nullptr) co_return;
  // Most of the target was not copied now: to hash that costs what an incremental is to spare.
  if (!migration.options.since_bitmap.empty()) co_return;
  ChunkDigests& digests = *migration.sync->digests;
  if (migration.pivot) know_what_rests(migration);
  BlockDevice& whole = migration.old_store ? *migration.old_store : migration.replica->target();
  std::vector<std::byte> content;
  std::uint64_t in_this_turn = 0;
  for (auto run = next_unknown_run(digests, 0); run; run = next_unknown_run(digests, run->end())) {
    if (migration.interrupt.is_set()) co_return;  // the daemon stops, and waits for nobody
    content.resize(run->length);
    const MutableBytes into(content);
    const Status status = co_await whole.read_once(run->offset, into);
    if (!status.ok()) co_return;  // the move is done; what cannot be known is not reported
    digests.set(run->offset, into);
    in_this_turn += run->length;
    if (in_this_turn < kBytesPerTurn) continue;
    in_this_turn = 0;
    co_await sleep_for(migration.loop, kBetweenTurns);
  }
  const Digest image = co_await offload(migration.loop, [&digests] { return digests.image(); });
  migration.status.source_digest = image.hex();
  migration.status.target_digest = image.hex();
  migration.status.read_back = migration.options.verify == Verify::kFull;
}

}  // namespace blockmig
