// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/mirror.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/base/planted.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/visit.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kMaxMirroredZeroBytes = 8 * kMiB;

}  // namespace

/// One mirrored write, shared by its source half (the guest's request) and its target half (the
/// op): the range is free when both have let go.
struct Mirror::Pair {
  Pair(ChunkLedger& ledger, ByteRange range) : guard(std::in_place, ledger, range) {}
  std::optional<RangeGuard> guard;
  std::shared_ptr<TargetOp> op;
};

Mirror::Mirror(EventLoop& loop, Replica& replica, SyncState& sync, const JobOptions& options)
    : loop_(loop),
      replica_(replica),
      sync_(sync),
      options_(options),
      fallback_(options.mirror_deadline),
      share_({options.mirror_deadline, sync.dirty->granularity_bytes()}),
      turning_away_(loop),
      left_(loop) {}

Mirror::~Mirror() { BM_CHECK(inside_ == 0); }

Task<void> Mirror::wait_empty() {
  while (inside_ > 0) co_await left_.wait();
}

std::shared_ptr<Mirror::Pair> Mirror::submit(std::shared_ptr<TargetOp> op, ByteRange range) {
  auto pair = std::make_shared<Pair>(sync_.ledger, range);
  pair->op = op;
  op->offset = range.offset;
  op->length = range.length;
  op->on_answer = [this, pair](TargetOp& answered) {
    in_flight_bytes_ -= answered.length;
    typical_answer_ += (answered.took - typical_answer_) / 8;
    turn_changed();
    if (!answered.status.ok()) {
      if (answered.status.error().code() == ErrorCode::kMismatch) {
        ++sync_.mismatches;
        sync_.corruption = answered.status.error();
      }
      mark(pair->guard->range());
    }
  };
  ++stats_.writes_mirrored;
  stats_.bytes_mirrored += range.length;
  share_.guest_sent(range.length, target_now());
  in_flight_bytes_ += range.length;
  turn_changed();
  replica_.submit(op);
  return pair;
}

/// Starts the target's half of every mirrored part and marks the others. `content` null: zeros.
std::vector<std::shared_ptr<Mirror::Pair>> Mirror::submit_parts(const std::vector<Part>& parts,
                                                                ByteRange whole,
                                                                const ConstBytes* content,
                                                                bool fua) {
  std::vector<std::shared_ptr<Pair>> pairs;
  for (const Part& part : parts) {
    if (part.route != Route::kMirror) {
      if (!forgets()) mark(part.range);
      continue;
    }
    auto op = std::make_shared<TargetOp>(
        loop_, content != nullptr ? TargetOpKind::kWrite : TargetOpKind::kZero);
    op->fua = fua;
    if (content != nullptr) {
      op->memory = std::make_shared<Buffer>(part.range.length);
      op->bytes = op->memory->bytes();
      std::memcpy(op->bytes.data(), content->data() + (part.range.offset - whole.offset),
                  part.range.length);
      sync_.written->mark(part.range.offset, part.range.length);
      if (sync_.digests) sync_.digests->set(part.range.offset, op->bytes);
      if (sync_.digests) op->digest = digest_of(op->bytes);
    } else if (sync_.digests) {
      sync_.digests->invalidate(part.range.offset, part.range.length);
    }
    if (sync_.unverified && !planted(PlantedBug::kMirrorNotVerified)) {
      sync_.unverified->mark(part.range.offset, part.range.length);
    }
    pairs.push_back(submit(std::move(op), part.range));
  }
  return pairs;
}

/// The source has answered: marks what must be marked, waits for the target at most the deadline.
Task<Status> Mirror::finish(std::vector<Part> parts, std::vector<std::shared_ptr<Pair>> pairs,
                            Status source_status, Clocks clocks) {
  const TimePoint source_done = loop_.now();
  const bool forget =
      forgets() || (!source_status.ok() && planted(PlantedBug::kFailedWriteUnmarked));
  for (const Part& part : parts) {
    // The second mark of a tracked part; and after a failure, the source may hold part of the
    // write.
    if ((part.route != Route::kMirror || !source_status.ok()) && !forget) mark(part.range);
  }
  for (const auto& pair : pairs) co_await await_target(pair, clocks.arrived);
  note_wait(clocks.sent - clocks.arrived + loop_.now() - source_done);
  co_return source_status;
}

void Mirror::note_wait(Duration waited) {
  stats_.longest_wait = std::max(stats_.longest_wait, waited);
  const Duration limit = options_.max_guest_latency;
  if (limit > Duration::zero() && waited > limit) ++stats_.writes_slow;
}

Task<void> Mirror::await_target(std::shared_ptr<Pair> pair, TimePoint arrived) {
  const TimePoint since = planted(PlantedBug::kDeadlineFromSubmission) ? loop_.now() : arrived;
  const TimePoint deadline = since + options_.mirror_deadline;
  const bool in_time = co_await pair->op->done.wait_until(deadline);
  fallback_.ended(in_time, loop_.now());
  if (in_time && pair->op->status.ok()) co_return;
  mark(pair->guard->range());
  if (in_time) co_return;
  ++stats_.deadline_misses;
  if (planted(PlantedBug::kTimedOutWriteLosesRange)) pair->guard.reset();
}

Task<Status> Mirror::write(BlockDevice& store, std::uint64_t offset, ConstBytes from,
                           WriteFlags flags, MirrorVisit& visit) {
  const Visit inside(inside_, left_);
  const ByteRange range{offset, from.size()};
  if (range.empty()) {
    const Status nothing = co_await store.write(offset, from, flags);
    co_return nothing;
  }
  const TimePoint arrived = loop_.now() - visit.waited;
  auto parts = co_await take_turn(range, arrived);
  if (parts.empty()) {
    let_out(visit, arrived);
    co_return Status();
  }
  const Clocks clocks{arrived, loop_.now()};
  auto pairs = submit_parts(parts, range, &from, flags.fua);
  Status status = co_await store.write(offset, from, flags);
  const Status result =
      co_await finish(std::move(parts), std::move(pairs), std::move(status), clocks);
  co_return result;
}

Task<Status> Mirror::write_zeroes(BlockDevice& store, std::uint64_t offset, std::uint64_t length,
                                  ZeroFlags flags, MirrorVisit& visit) {
  const Visit inside(inside_, left_);
  const ByteRange range{offset, length};
  if (range.empty() || planted(PlantedBug::kZeroesNotMirrored)) {
    const Status status = co_await store.write_zeroes(offset, length, flags);
    co_return status;
  }
  // Very long ones are left to the copier, in its own pace.
  std::vector<Part> parts(1, Part{range, Route::kSourceOnly});
  const TimePoint arrived = loop_.now() - visit.waited;
  if (length <= kMaxMirroredZeroBytes) parts = co_await take_turn(range, arrived);
  if (parts.empty()) {
    let_out(visit, arrived);
    co_return Status();
  }
  const Clocks clocks{arrived, loop_.now()};
  auto pairs = submit_parts(parts, range, nullptr, flags.fua);
  Status status = co_await store.write_zeroes(offset, length, flags);
  const Status result =
      co_await finish(std::move(parts), std::move(pairs), std::move(status), clocks);
  co_return result;
}

Task<Status> Mirror::trim(BlockDevice& store, std::uint64_t offset, std::uint64_t length,
                          WriteFlags flags) {
  const Visit inside(inside_, left_);
  sync_.dirty->mark(offset, length);
  const Status status = co_await store.trim(offset, length, flags);
  if (!planted(PlantedBug::kZeroesNotMirrored)) sync_.dirty->mark(offset, length);
  co_return status;
}

void Mirror::let_out(MirrorVisit& visit, TimePoint arrived) {
  visit.waited = loop_.now() - arrived;
  visit.turned_away = true;
}

Task<Status> Mirror::flush(BlockDevice& store) {
  const Visit inside(inside_, left_);
  if (target_gone()) {
    const Status status = co_await store.flush();
    co_return status;
  }
  const TimePoint deadline = loop_.now() + options_.mirror_deadline;
  auto op = std::make_shared<TargetOp>(loop_, TargetOpKind::kFlush);
  replica_.submit(op);
  const Status status = co_await store.flush();
  const TimePoint source_done = loop_.now();
  co_await op->done.wait_until(deadline);
  note_wait(loop_.now() - source_done);
  if (planted(PlantedBug::kFlushErrorNotPassedOn)) co_return Status();
  co_return status;
}

}  // namespace blockmig
