// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/mirror.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/base/planted.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kMaxMirroredZeroBytes = 8 * kMiB;
// A write gives up on a target that answers others, but not it, after this many deadlines.
constexpr int kDeadlinesOfPatience = 20;

CopyWindow::Limits window_limits(const JobOptions& options) {
  CopyWindow::Limits limits;
  limits.min_bytes = kDefaultGranularityBytes;
  limits.max_bytes = options.mirror_window_bytes;
  limits.goal = options.mirror_deadline / 4;
  return limits;
}

}  // namespace

/// One mirrored write, shared by its source half (the guest's request) and its target half (the
/// op): the range is free when both have let go.
struct Mirror::Pair {
  Pair(ChunkLedger& ledger, ByteRange range) : guard(std::in_place, ledger, range) {}
  std::optional<RangeGuard> guard;
  std::shared_ptr<TargetOp> op;
};

class Mirror::Inside final {
 public:
  explicit Inside(Mirror& mirror) : mirror_(mirror) { ++mirror_.inside_; }
  ~Inside() {
    if (--mirror_.inside_ == 0) mirror_.left_.pulse();
  }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

 private:
  Mirror& mirror_;
};

Mirror::Mirror(EventLoop& loop, Replica& replica, SyncState& sync, const JobOptions& options)
    : loop_(loop),
      replica_(replica),
      sync_(sync),
      options_(options),
      window_(window_limits(options)),
      left_(loop) {}

Mirror::~Mirror() { BM_CHECK(inside_ == 0); }

Task<void> Mirror::wait_empty() {
  while (inside_ > 0) co_await left_.wait();
}

Mirror::Route Mirror::route(ByteRange range) const {
  if (target_gone()) return Route::kSourceOnly;
  if (sync_.ledger.copying_exclusively(range)) return Route::kWait;
  if (sync_.ledger.copying(range) || sync_.dirty->any_dirty(range.offset, range.length)) {
    return Route::kSourceOnly;
  }
  if (sync_.ledger.overlaps_mirrored(range) && !planted(PlantedBug::kSmallWriteOvertakes)) {
    return Route::kWait;
  }
  // A full window: the target makes room as long as it answers.
  if (in_flight_bytes_ > 0 && in_flight_bytes_ + range.length > window_.bytes()) {
    return Route::kWait;
  }
  if (replica_.stuck(options_.mirror_deadline)) return Route::kWait;
  // Small requests overtake large ones at many targets; the copy must get through for this to end.
  if (replica_.bulk_waits(options_.mirror_deadline / 2)) return Route::kWait;
  return Route::kMirror;
}

std::vector<Mirror::Part> Mirror::plan(ByteRange range) const {
  const Route whole = route(range);
  if (whole != Route::kSourceOnly || target_gone()) {
    return {{range, whole}};
  }
  std::vector<Part> parts;
  const std::uint64_t granularity = sync_.dirty->granularity_bytes();
  for (std::uint64_t at = range.offset; at < range.end();) {
    const std::uint64_t end = std::min(align_down(at, granularity) + granularity, range.end());
    const ByteRange here{at, end - at};
    const Route part = route(here);
    if (part == Route::kWait) return {{range, part}};
    if (!parts.empty() && parts.back().route == part) {
      parts.back().range.length += here.length;
    } else {
      parts.push_back({here, part});
    }
    at = end;
  }
  return parts;
}

/// A plan without kWait. What it says holds until the next suspension.
Task<std::vector<Mirror::Part>> Mirror::settle_plan(ByteRange range) {
  const TimePoint arrived = loop_.now();
  const TimePoint give_up = arrived + kDeadlinesOfPatience * options_.mirror_deadline;
  const TimePoint deadline = arrived + options_.mirror_deadline;
  for (;;) {
    std::vector<Part> parts = plan(range);
    if (parts.front().route != Route::kWait) co_return parts;
    const bool silent = replica_.stuck(options_.mirror_deadline);
    if (loop_.now() >= give_up || (silent && loop_.now() >= deadline)) {
      parts.front().route = Route::kSourceOnly;
      co_return parts;
    }
    // Something ends, or the target is found stuck.
    const TimePoint until =
        silent ? deadline
               : std::min(give_up, std::max(deadline, replica_.stuck_at(options_.mirror_deadline)));
    co_await sync_.ledger.changed().wait_until(until);
  }
}

std::shared_ptr<Mirror::Pair> Mirror::submit(std::shared_ptr<TargetOp> op, ByteRange range) {
  auto pair = std::make_shared<Pair>(sync_.ledger, range);
  pair->op = op;
  op->offset = range.offset;
  op->length = range.length;
  op->on_answer = [this, pair](TargetOp& answered) {
    in_flight_bytes_ -= answered.length;
    window_.answered(answered.length, answered.took);
    if (!answered.status.ok()) {
      ++stats_.target_errors;
      mark(pair->guard->range());
    }
  };
  ++stats_.writes_mirrored;
  stats_.bytes_mirrored += range.length;
  in_flight_bytes_ += range.length;
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
      ++stats_.writes_tracked;
      mark(part.range);
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
    } else if (sync_.digests) {
      sync_.digests->invalidate(part.range.offset, part.range.length);
    }
    pairs.push_back(submit(std::move(op), part.range));
  }
  return pairs;
}

/// The source has answered: marks what must be marked, waits for the target at most the deadline.
Task<Status> Mirror::finish(std::vector<Part> parts, std::vector<std::shared_ptr<Pair>> pairs,
                            Status source_status) {
  const bool forget = !source_status.ok() && planted(PlantedBug::kFailedWriteUnmarked);
  for (const Part& part : parts) {
    // The second mark of a tracked part; and after a failure, the source may hold part of the
    // write.
    if ((part.route != Route::kMirror || !source_status.ok()) && !forget) mark(part.range);
  }
  for (const auto& pair : pairs) co_await await_target(pair);
  co_return source_status;
}

Task<void> Mirror::await_target(std::shared_ptr<Pair> pair) {
  const TimePoint deadline = pair->op->submitted + options_.mirror_deadline;
  const TimePoint give_up = pair->op->submitted + kDeadlinesOfPatience * options_.mirror_deadline;
  bool in_time = co_await pair->op->done.wait_until(deadline);
  while (!in_time && !replica_.stuck(options_.mirror_deadline) && loop_.now() < give_up) {
    const TimePoint until = std::min(give_up, replica_.stuck_at(options_.mirror_deadline));
    in_time = co_await pair->op->done.wait_until(until);
  }
  if (in_time && pair->op->status.ok()) co_return;
  mark(pair->guard->range());
  if (in_time) co_return;
  ++stats_.deadline_misses;
  if (planted(PlantedBug::kTimedOutWriteLosesRange)) pair->guard.reset();
}

Task<Status> Mirror::write(BlockDevice& store, std::uint64_t offset, ConstBytes from,
                           WriteFlags flags) {
  const Inside inside(*this);
  const ByteRange range{offset, from.size()};
  if (range.empty()) {
    const Status nothing = co_await store.write(offset, from, flags);
    co_return nothing;
  }
  auto parts = co_await settle_plan(range);
  auto pairs = submit_parts(parts, range, &from, flags.fua);
  Status status = co_await store.write(offset, from, flags);
  const Status result = co_await finish(std::move(parts), std::move(pairs), std::move(status));
  co_return result;
}

Task<Status> Mirror::write_zeroes(BlockDevice& store, std::uint64_t offset, std::uint64_t length,
                                  ZeroFlags flags) {
  const Inside inside(*this);
  const ByteRange range{offset, length};
  if (range.empty() || planted(PlantedBug::kZeroesNotMirrored)) {
    const Status status = co_await store.write_zeroes(offset, length, flags);
    co_return status;
  }
  // Very long ones are left to the copier, in its own pace.
  std::vector<Part> parts(1, Part{range, Route::kSourceOnly});
  if (length <= kMaxMirroredZeroBytes) parts = co_await settle_plan(range);
  auto pairs = submit_parts(parts, range, nullptr, flags.fua);
  Status status = co_await store.write_zeroes(offset, length, flags);
  const Status result = co_await finish(std::move(parts), std::move(pairs), std::move(status));
  co_return result;
}

Task<Status> Mirror::trim(BlockDevice& store, std::uint64_t offset, std::uint64_t length,
                          WriteFlags flags) {
  const Inside inside(*this);
  ++stats_.writes_tracked;
  sync_.dirty->mark(offset, length);
  const Status status = co_await store.trim(offset, length, flags);
  if (!planted(PlantedBug::kZeroesNotMirrored)) sync_.dirty->mark(offset, length);
  co_return status;
}

Task<Status> Mirror::flush(BlockDevice& store) {
  const Inside inside(*this);
  if (target_gone()) {
    const Status status = co_await store.flush();
    co_return status;
  }
  const TimePoint deadline = loop_.now() + options_.mirror_deadline;
  auto op = std::make_shared<TargetOp>(loop_, TargetOpKind::kFlush);
  replica_.submit(op);
  const Status status = co_await store.flush();
  co_await op->done.wait_until(deadline);
  co_return status;
}

}  // namespace blockmig
