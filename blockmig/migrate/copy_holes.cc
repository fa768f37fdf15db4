// SPDX-License-Identifier: Apache-2.0
// CopyEngine's way with the source's holes, on a target that may hold something there: they are not
// read. The source is asked for its extents where it would have been read, after the marks were
// cleared: so a write that comes in between marks again, as for any copy (I6).
#include <algorithm>
#include <utility>

#include "blockmig/base/planted.h"
#include "blockmig/migrate/copy_engine.h"

namespace blockmig {
namespace {

constexpr std::size_t kMaxRuns = 1024;
constexpr Duration kZeroRequestAlone = std::chrono::seconds(1);
/// Requests to zero in flight for one run of holes.
constexpr std::size_t kMaxOps = 64;

}  // namespace

std::optional<CopyEngine::Run> CopyEngine::take_holes(std::uint64_t first, std::uint64_t& cursor) {
  if (!sync_.holes || source_ != nullptr || !sync_.holes->is_dirty(first)) return std::nullopt;
  const std::uint64_t granularity = sync_.dirty->granularity_bytes();
  const std::uint64_t offset = first * granularity;
  std::uint64_t length = std::min(hole_step_.bytes(), sync_.dirty->size_bytes() - offset);
  for (const DirtyBitmap* const bitmap : {sync_.holes.get(), sync_.dirty.get()}) {
    length = std::min(length, bitmap->runs(offset, length, 1).front().range.length);
  }
  const std::uint64_t wanted = div_up(length, granularity);
  const std::uint64_t claimed =
      sync_.ledger.try_begin_run(static_cast<std::uint32_t>(first), wanted);
  if (claimed == 0) return std::nullopt;
  cursor = first + claimed;
  const std::uint64_t end = sync_.dirty->chunk_range(first + claimed - 1).end();
  return Run{sync_.dirty->lease(first, claimed), {offset, end - offset}, true, granularity};
}

void CopyEngine::end_claims(const Run& run, const std::vector<std::uint32_t>& chunks) {
  if (run.holes) return sync_.ledger.end_run(chunks.front(), chunks.size());
  for (const std::uint32_t chunk : chunks) sync_.ledger.end_copy(chunk);
}

Task<Status> CopyEngine::copy_holes(ByteRange range) {
  while (!range.empty()) {
    const std::uint64_t zeros = co_await zeros_of_source(range);
    const std::uint64_t chunk = sync_.dirty->granularity_bytes();
    const ByteRange piece{range.offset, zeros > 0 ? zeros : std::min(chunk, range.length)};
    Status done;
    if (zeros > 0) {
      done = co_await zero_target(piece);
    } else {
      // The guest has written there since. From now on it is a chunk like any other.
      sync_.holes->clear(piece.offset, piece.length);
      rate_limit_.charge(piece.length);
      bandwidth_.charge(piece.length);
      done = co_await copy_range(piece);
    }
    if (!done.ok()) co_return done;
    range = {piece.end(), range.length - piece.length};
  }
  co_return Status();
}

Task<std::uint64_t> CopyEngine::zeros_of_source(ByteRange range) {
  if (planted(PlantedBug::kHolesNotAskedAgain)) co_return range.length;
  std::uint64_t end = range.offset;
  for (bool zero = true; zero && end < range.end();) {
    const std::uint64_t length = range.end() - end;
    const auto extents = co_await disk_.store().extents(end, length);
    // A source that cannot say is read, which also says why.
    zero = extents.ok() && !extents->empty();
    if (!zero) break;
    for (const Extent& extent : *extents) {
      zero = extent.zero;
      if (!zero) break;
      end = extent.offset + extent.length;
    }
  }
  if (end >= range.end()) co_return range.length;
  co_return align_down(end, sync_.dirty->granularity_bytes()) - range.offset;
}

Task<Status> CopyEngine::zero_target(ByteRange range) {
  // Before anything else: from now on the target answers for these chunks.
  if (sync_.rest) sync_.rest->clear(range.offset, range.length);
  if (sync_.digests) sync_.digests->set_zeros(range.offset, range.length);
  if (sync_.unverified) sync_.unverified->mark(range.offset, range.length);
  stats_.bytes_zero += range.length;
  stats_.bytes_holes += range.length;
  // A request to zero is in the way of mirrored writes as long as it takes.
  const Duration goal = mirror_ != nullptr ? options_.mirror_deadline : kZeroRequestAlone;
  Status result;
  for (std::uint64_t at = range.offset; at < range.end() && result.ok();) {
    std::vector<std::shared_ptr<TargetOp>> ops;
    for (const auto& run : sync_.written->runs(at, range.end() - at, kMaxRuns)) {
      if (ops.size() == kMaxOps) break;
      at = run.range.end();
      if (!run.dirty) continue;  // known to be zero
      auto op = std::make_shared<TargetOp>(loop_, TargetOpKind::kZero);
      op->offset = run.range.offset;
      op->length = run.range.length;
      op->bulk = true;
      replica_.submit(op);
      ops.push_back(std::move(op));
    }
    for (const auto& op : ops) {
      const Status done = co_await await_op(*op);
      if (!done.ok() && result.ok()) result = done;
      if (op->done.is_set()) hole_step_.answered(op->took, goal);
    }
  }
  co_return result;
}

}  // namespace blockmig
