// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/mirror.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/base/planted.h"
#include "blockmig/io/cancel.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kMaxMirroredZeroBytes = 8 * kMiB;
/// Of the typical answer time: what is left to a write that is sent last.
constexpr int kAnswersOfMargin = 2;

CopyWindow::Limits window_limits(const JobOptions& options) {
  CopyWindow::Limits limits;
  limits.min_bytes = kDefaultGranularityBytes;
  limits.max_bytes = options.mirror_window_bytes;
  // The fence waits for what is in flight: it should be a small part of the downtime.
  limits.goal = std::min(options.mirror_deadline, options.max_downtime) / 4;
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
      fallback_(options.mirror_deadline),
      left_(loop) {}

Mirror::~Mirror() { BM_CHECK(inside_ == 0); }

Task<void> Mirror::wait_empty() {
  while (inside_ > 0) co_await left_.wait();
}

/// A place in the queue for room in the window, given up by destruction.
class Mirror::Turn final {
 public:
  explicit Turn(Mirror& mirror) : mirror_(mirror), arrival_(++mirror.arrivals_) {}
  ~Turn() { leave(); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  std::uint64_t arrival() const { return arrival_; }
  void wait() { mirror_.waiting_for_room_.insert(arrival_); }
  void leave() {
    if (mirror_.waiting_for_room_.erase(arrival_) == 0 || mirror_.waiting_for_room_.empty()) return;
    mirror_.sync_.ledger.changed().pulse();  // the next one is first now
  }

 private:
  Mirror& mirror_;
  std::uint64_t arrival_;
};

Mirror::Route Mirror::route(ByteRange range, std::uint64_t arrival) const {
  if (target_gone() || tracking_only()) return Route::kSourceOnly;
  // The target is busy with what the copier sent before it knew better: no write behind that would
  // be in time, and waiting would not make it so.
  if (replica_.bulk_waits(2 * options_.mirror_deadline)) return Route::kSourceOnly;
  if (sync_.ledger.copying_exclusively(range)) return Route::kWait;
  if (sync_.ledger.copying(range) || sync_.dirty->any_dirty(range.offset, range.length)) {
    return Route::kSourceOnly;
  }
  if (sync_.ledger.overlaps_mirrored(range) && !planted(PlantedBug::kSmallWriteOvertakes)) {
    return Route::kWait;
  }
  // A full window: the target makes room as long as it answers.
  if (in_flight_bytes_ > 0 && in_flight_bytes_ + range.length > window_.bytes()) {
    return Route::kWaitForRoom;
  }
  if (!waiting_for_room_.empty() && *waiting_for_room_.begin() < arrival) {
    return Route::kWaitForRoom;
  }
  if (replica_.stuck(options_.mirror_deadline)) return Route::kWait;
  // Small requests overtake large ones at many targets; the copy must get through for this to end.
  if (replica_.bulk_waits(options_.mirror_deadline / 2)) return Route::kWait;
  return Route::kMirror;
}

std::vector<Mirror::Part> Mirror::plan(ByteRange range, std::uint64_t arrival) const {
  const Route whole = route(range, arrival);
  if (whole != Route::kSourceOnly || target_gone() || tracking_only()) {
    return {{range, whole}};
  }
  std::vector<Part> parts;
  const std::uint64_t granularity = sync_.dirty->granularity_bytes();
  for (std::uint64_t at = range.offset; at < range.end();) {
    const std::uint64_t end = std::min(align_down(at, granularity) + granularity, range.end());
    const ByteRange here{at, end - at};
    const Route part = route(here, arrival);
    if (part == Route::kWait || part == Route::kWaitForRoom) return {{range, part}};
    if (!parts.empty() && parts.back().route == part) {
      parts.back().range.length += here.length;
    } else {
      parts.push_back({here, part});
    }
    at = end;
  }
  return parts;
}

/// A plan that does not wait. What it says holds until the next suspension. Where the turn does not
/// come early enough to be answered by the deadline, the write is not sent: a target that cannot
/// follow has better things to do than late writes.
Task<std::vector<Mirror::Part>> Mirror::settle_plan(ByteRange range, TimePoint arrived) {
  const Duration deadline = options_.mirror_deadline;
  const TimePoint last_turn =
      arrived + std::max(deadline / 2, deadline - kAnswersOfMargin * typical_answer_);
  Turn turn(*this);
  for (;;) {
    std::vector<Part> parts = plan(range, turn.arrival());
    const Route first = parts.front().route;
    if (first == Route::kMirror || first == Route::kSourceOnly) co_return parts;
    if (loop_.now() >= last_turn) {
      parts.front().route = Route::kSourceOnly;
      ++stats_.deadline_misses;
      fallback_.ended(false, loop_.now());
      co_return parts;
    }
    if (first == Route::kWaitForRoom) {
      turn.wait();
    } else {
      turn.leave();
    }
    co_await sync_.ledger.changed().wait_until(last_turn);
  }
}

/// Waits for the pace, if one is set, then for the plan. Half of the deadline is left to a write
/// that goes to both sides; one that does not may as well wait for most of it.
Task<std::vector<Mirror::Part>> Mirror::take_turn(ByteRange range, TimePoint arrived) {
  if (pace_ != 0 && !target_gone() && !tracking_only()) {
    const Duration deadline = options_.mirror_deadline;
    const std::chrono::duration<double> cost(static_cast<double>(range.length) /
                                             static_cast<double>(pace_));
    const TimePoint free = std::max(pace_free_at_, arrived);
    // More than a deadline cannot be waited for: no debt beyond it.
    pace_free_at_ = std::min(free + std::chrono::duration_cast<Duration>(cost), arrived + deadline);
    const Duration first_wait = std::min(free, arrived + deadline / 2) - arrived;
    co_await sleep_for(loop_, first_wait);
    const bool source_only = plan(range, arrivals_ + 1).front().route == Route::kSourceOnly;
    const Duration rest = std::min(free, arrived + deadline / 10 * 9) - loop_.now();
    if (source_only && rest > Duration::zero()) co_await sleep_for(loop_, rest);
  }
  auto parts = co_await settle_plan(range, arrived);
  co_return parts;
}

std::shared_ptr<Mirror::Pair> Mirror::submit(std::shared_ptr<TargetOp> op, ByteRange range) {
  auto pair = std::make_shared<Pair>(sync_.ledger, range);
  pair->op = op;
  op->offset = range.offset;
  op->length = range.length;
  op->on_answer = [this, pair](TargetOp& answered) {
    in_flight_bytes_ -= answered.length;
    window_.answered(answered.length, answered.took);
    typical_answer_ += (answered.took - typical_answer_) / 8;
    if (!waiting_for_room_.empty()) sync_.ledger.changed().pulse();
    if (!answered.status.ok()) {
      ++stats_.target_errors;
      if (answered.status.error().code() == ErrorCode::kMismatch) {
        sync_.corruption = answered.status.error();
      }
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
  const bool forget = !source_status.ok() && planted(PlantedBug::kFailedWriteUnmarked);
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
                           WriteFlags flags) {
  const Inside inside(*this);
  const ByteRange range{offset, from.size()};
  if (range.empty()) {
    const Status nothing = co_await store.write(offset, from, flags);
    co_return nothing;
  }
  const TimePoint arrived = loop_.now();
  auto parts = co_await take_turn(range, arrived);
  const Clocks clocks{arrived, loop_.now()};
  auto pairs = submit_parts(parts, range, &from, flags.fua);
  Status status = co_await store.write(offset, from, flags);
  const Status result =
      co_await finish(std::move(parts), std::move(pairs), std::move(status), clocks);
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
  const TimePoint arrived = loop_.now();
  // Very long ones are left to the copier, in its own pace.
  std::vector<Part> parts(1, Part{range, Route::kSourceOnly});
  if (length <= kMaxMirroredZeroBytes) parts = co_await take_turn(range, arrived);
  const Clocks clocks{arrived, loop_.now()};
  auto pairs = submit_parts(parts, range, nullptr, flags.fua);
  Status status = co_await store.write_zeroes(offset, length, flags);
  const Status result =
      co_await finish(std::move(parts), std::move(pairs), std::move(status), clocks);
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
  const TimePoint source_done = loop_.now();
  co_await op->done.wait_until(deadline);
  note_wait(loop_.now() - source_done);
  co_return status;
}

}  // namespace blockmig
