// SPDX-License-Identifier: Apache-2.0
// Whose turn it is: which path a write takes, and how long it waits for that.
#include <algorithm>
#include <utility>

#include "blockmig/base/planted.h"
#include "blockmig/migrate/mirror.h"

namespace blockmig {
namespace {

/// Of the typical answer time: what is left to a write that is sent last.
constexpr int kAnswersOfMargin = 2;
constexpr Duration kNearEnd = std::chrono::milliseconds(100);

}  // namespace

/// A place in the queue for room in the window, given up by destruction.
class Mirror::Turn final {
 public:
  explicit Turn(Mirror& mirror) : mirror_(mirror), arrival_(++mirror.arrivals_) {}
  ~Turn() { leave(); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  std::uint64_t arrival() const { return arrival_; }
  void wait(std::uint64_t bytes) {
    if (!mirror_.waiting_for_room_.emplace(arrival_, bytes).second) return;
    mirror_.share_.guest_waits(mirror_.share_.guest_waiting() + bytes);
  }
  void leave() {
    const auto found = mirror_.waiting_for_room_.find(arrival_);
    if (found == mirror_.waiting_for_room_.end()) return;
    mirror_.share_.guest_waits(mirror_.share_.guest_waiting() - found->second);
    mirror_.waiting_for_room_.erase(found);
    mirror_.turn_changed();  // the next one is first now
  }

 private:
  Mirror& mirror_;
  std::uint64_t arrival_;
};

TargetShare::Target Mirror::target_now() const {
  const TargetPace& pace = replica_.pace();
  return {pace.bytes_per_second(), pace.quickest(), in_flight_bytes_,
          replica_.bulk_in_flight_bytes()};
}

/// Whoever waits for a turn looks again.
void Mirror::turn_changed() {
  if (!waiting_for_room_.empty()) sync_.ledger.changed().pulse();
  if (bulk_wake_ != nullptr) bulk_wake_->pulse();
}

void Mirror::bulk_sent(std::uint64_t length) {
  // What a write waits here adds up with the switchover that is about to come.
  share_.near_end(sync_.dirty->dirty_bytes() < TargetShare::bytes_in(kNearEnd, target_now()));
  share_.bulk_sent(length, target_now());
  turn_changed();
}

void Mirror::bulk_waits(Event* wake) {
  bulk_wake_ = wake;
  share_.bulk_waits(wake != nullptr);
}

/// Of what may be under way at the target, for `length` bytes more.
bool Mirror::has_room(std::uint64_t length) const {
  if (most_in_flight_ && in_flight_bytes_ + length > *most_in_flight_) return false;
  const bool bounded =
      in_flight_bytes_ == 0 || in_flight_bytes_ + length <= options_.mirror_window_bytes;
  return bounded && share_.guest_fits(length, target_now());
}

void Mirror::begin_if_calm() {
  begun_ = begun_ || replica_.bulk_in_flight_bytes() <= share_.window(target_now());
}

Mirror::Route Mirror::route(ByteRange range, std::uint64_t arrival) const {
  if (only_tracks()) return Route::kSourceOnly;
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
  // The target makes room as long as it answers.
  if (!has_room(range.length)) return Route::kWaitForRoom;
  if (!waiting_for_room_.empty() && waiting_for_room_.begin()->first < arrival) {
    return Route::kWaitForRoom;
  }
  if (replica_.stuck(options_.mirror_deadline)) return Route::kWait;
  // Small requests overtake large ones at many targets; the copy must get through for this to end.
  if (replica_.bulk_waits(options_.mirror_deadline / 2)) return Route::kWait;
  return Route::kMirror;
}

std::vector<Mirror::Part> Mirror::plan(ByteRange range, std::uint64_t arrival) const {
  const Route whole = route(range, arrival);
  if (whole != Route::kSourceOnly || only_tracks()) return {{range, whole}};
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

/// What was missed must be copied again; as long as the target takes more than that, the copy makes
/// headway all the same, and the guest's waiting is what keeps it so little. Not where the target
/// is late by itself, however little it is asked for.
bool Mirror::worth_waiting() const {
  const std::uint64_t takes = replica_.pace().bytes_per_second();
  return typical_answer_ < options_.mirror_deadline / 2 &&
         missed_.bytes_per_second(loop_.now()) < takes / 10 * 9;
}

/// The turn did not come in time: the write is tracked.
std::vector<Mirror::Part> Mirror::miss(std::vector<Part> parts) {
  const ByteRange range = parts.front().range;
  const std::uint64_t granularity = sync_.dirty->granularity_bytes();
  const std::uint64_t begin = align_down(range.offset, granularity);
  missed_.add(align_up(range.end(), granularity) - begin, loop_.now());
  parts.front().route = Route::kSourceOnly;
  ++stats_.deadline_misses;
  if (!worth_waiting()) fallback_.ended(false, loop_.now());
  return parts;
}

/// A plan that does not wait; none if the write was turned away. What it says holds until the next
/// suspension. Where the turn does not come early enough to be answered by the deadline, the write
/// is not sent: a target that cannot follow has better things to do than late writes.
Task<std::vector<Mirror::Part>> Mirror::settle_plan(ByteRange range, TimePoint arrived) {
  const Duration deadline = options_.mirror_deadline;
  const TimePoint last_turn =
      arrived + std::max(deadline / 2, deadline - kAnswersOfMargin * typical_answer_);
  Turn turn(*this);
  bool held = false;
  for (;;) {
    std::vector<Part> parts = plan(range, turn.arrival());
    const Route first = parts.front().route;
    if (first == Route::kMirror || first == Route::kSourceOnly) co_return parts;
    if (!held) ++stats_.writes_held;
    held = true;
    if (leaving()) co_return std::vector<Part>();
    if (loop_.now() >= last_turn) {
      // It sets the guest's pace all the same, and nobody else's.
      turn.leave();
      const TimePoint most = arrived + deadline / 10 * 9;
      if (worth_waiting()) co_await wait_unless_turned_away(most);
      if (leaving()) continue;
      parts = miss(std::move(parts));
      co_return parts;
    }
    if (first == Route::kWaitForRoom) {
      turn.wait(range.length);
    } else {
      turn.leave();
    }
    co_await sync_.ledger.changed().wait_until(last_turn);
  }
}

Task<void> Mirror::wait_unless_turned_away(TimePoint until) {
  if (until > loop_.now()) co_await turning_away_.wait_until(until);
}

/// Waits for the pace, if one is set, then for the plan. Half of the deadline is left to a write
/// that goes to both sides; one that does not may as well wait for most of it.
Task<std::vector<Mirror::Part>> Mirror::take_turn(ByteRange range, TimePoint arrived) {
  begin_if_calm();
  if (pace_ != 0 && !only_tracks()) {
    const Duration deadline = options_.mirror_deadline;
    const std::chrono::duration<double> cost(static_cast<double>(range.length) /
                                             static_cast<double>(pace_));
    const TimePoint free = std::max(pace_free_at_, arrived);
    // More than a deadline cannot be waited for: no debt beyond it.
    pace_free_at_ = std::min(free + std::chrono::duration_cast<Duration>(cost), arrived + deadline);
    const TimePoint half = std::min(free, arrived + deadline / 2);
    co_await wait_unless_turned_away(half);
    const bool source_only = plan(range, arrivals_ + 1).front().route == Route::kSourceOnly;
    const TimePoint most = std::min(free, arrived + deadline / 10 * 9);
    if (source_only) co_await wait_unless_turned_away(most);
    if (leaving()) co_return std::vector<Part>();
  }
  auto parts = co_await settle_plan(range, arrived);
  co_return parts;
}

Task<bool> Mirror::approach(Duration drain, TimePoint deadline) {
  most_in_flight_ = TargetShare::bytes_in(drain, target_now());
  while (in_flight_bytes_ > *most_in_flight_ && loop_.now() < deadline) {
    co_await sync_.ledger.changed().wait_until(deadline);
  }
  co_return in_flight_bytes_ <= *most_in_flight_;
}

void Mirror::turn_away(bool on) {
  if (on) {
    turning_away_.set();
  } else {
    turning_away_.reset();
    most_in_flight_.reset();
  }
  sync_.ledger.changed().pulse();
}

}  // namespace blockmig
