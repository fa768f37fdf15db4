// SPDX-License-Identifier: Apache-2.0
// auto: begins like dbt, measures, and goes on in the mode that meets the limits at the least cost
// for the guest (choose_mode.h). It looks again about once a second, at first more often, in the
// middle of a pass too, and changes in either direction; what is equal stays equal, so nothing is
// copied again for it. Every decision and the numbers it rests on are in the job's report.
#include <algorithm>

#include "blockmig/base/units.h"
#include "blockmig/migrate/choose_mode.h"
#include "blockmig/migrate/migration.h"
#include "blockmig/migrate/switchover.h"

namespace blockmig {
namespace {

constexpr Duration kLookInterval = std::chrono::seconds(1);
/// At first, when little is known, and a fast target takes a disk within that second.
constexpr Duration kFirstLooksInterval = std::chrono::milliseconds(25);
constexpr Duration kFirstLooks = std::chrono::seconds(1);
/// The first look: so much has been copied, or so long it took.
constexpr std::uint64_t kProbeBytes = kMiB;
constexpr Duration kProbeStep = std::chrono::milliseconds(10);
constexpr Duration kProbeLongest = std::chrono::milliseconds(500);
/// A mode that failed is not thought of for so long, and longer each time.
constexpr Duration kFailureHold = std::chrono::seconds(10);
constexpr Duration kFailureHoldMost = std::chrono::seconds(120);
/// Of the disk, ever: fewer say little about where it is hot, of one in eight of them at that.
constexpr std::uint64_t kWritesToKnow = 1000;
/// Mirrored writes: fewer have no p99.
constexpr std::uint64_t kMirroredToJudge = 100;
/// Regions that are written again and again: two samples within the heat's half-life.
constexpr double kHotRequests = 2.0 * HeatSampler::kOneIn;

/// A mode that has failed, until it is worth another thought.
class Failure final {
 public:
  void happened(TimePoint now) {
    until_ = now + hold_;
    hold_ = std::min(2 * hold_, kFailureHoldMost);
  }
  bool holds(TimePoint now) const { return now < until_; }

 private:
  TimePoint until_{};
  Duration hold_ = kFailureHold;
};

struct Counters {
  TimePoint at{};
  std::uint64_t taken = 0;  ///< by the target
  std::uint64_t written = 0;
  std::uint64_t writes = 0;
  std::uint64_t dirtied = 0;  ///< chunks' bytes, but for a constant
  std::uint64_t held = 0;     ///< writes that the mirror let wait
  std::uint64_t mirrored = 0;
  std::uint64_t slow = 0;  ///< writes that it let wait longer than --max-guest-latency
};

struct Course {
  explicit Course(TimePoint now) : mode(Mode::kDbt, now) {}
  ModeSwitch mode;
  Counters last;
  Counters judged;  ///< when the mirror's p99 was last looked at
  ModeInputs inputs;
  Failure mirror_missed;
  Failure mirror_slow;
  Failure dbt_hopeless;
  std::uint64_t fallbacks = 0;
  unsigned pace_steps = 0;
  bool looked = false;
  bool over = false;  ///< nothing is chosen any more
  std::string unmet;
};

Counters count(const Migration& migration) {
  Counters now;
  now.at = migration.loop.now();
  const CopyStats& copy = migration.engine->stats();
  now.taken = copy.bytes_copied;
  if (migration.mirror) {
    now.taken += migration.mirror->stats().bytes_mirrored;
    now.held = migration.mirror->stats().writes_held;
    now.mirrored = migration.mirror->stats().writes_mirrored;
    now.slow = migration.mirror->stats().writes_slow;
  }
  const RequestStats guest = migration.disk.stats();
  now.written = guest.bytes_written();
  now.writes = guest.requests(DiskOp::kWrite) + guest.requests(DiskOp::kZero);
  now.dirtied = migration.sync->dirty->dirty_bytes() + copy.bytes_leased;
  return now;
}

std::uint64_t rate(std::uint64_t before, std::uint64_t now, double seconds) {
  return static_cast<std::uint64_t>(static_cast<double>(now - before) / std::max(seconds, 1e-3));
}

/// What has been going on since the last look.
void measure(Migration& migration, Course& course) {
  const Counters now = count(migration);
  const Counters& last = course.last;
  const double seconds = std::chrono::duration<double>(now.at - last.at).count();
  ModeInputs& in = course.inputs;
  const ModeInputs before = in;
  in.remaining_bytes = migration.sync->dirty->dirty_bytes();
  in.write_rate = rate(last.written, now.written, seconds);
  // A target with little to do shows little: what it could do is forgotten slowly.
  in.target_rate = std::max(rate(last.taken, now.taken, seconds), in.target_rate / 10 * 9);
  // Between two looks few large requests may end, or many.
  const std::uint64_t pace = migration.replica->pace().bytes_per_second();
  if (pace != 0) in.target_rate = std::min(in.target_rate, pace);
  // Where most is dirty, few chunks become dirty, and where writes are mirrored, none: then what
  // the writes could touch at most.
  const std::uint64_t total = std::max<std::uint64_t>(migration.status.bytes_total, 1);
  const double clean =
      1 - std::min(1.0, static_cast<double>(in.remaining_bytes) / static_cast<double>(total));
  if (clean >= 0.25 && course.mode.mode() == Mode::kDbt) {
    in.dirty_rate = static_cast<std::uint64_t>(
        static_cast<double>(rate(last.dirtied, now.dirtied, seconds)) / clean);
  } else {
    in.dirty_rate = std::max(in.write_rate, rate(last.writes, now.writes, seconds) *
                                                migration.options.granularity_bytes);
  }
  if (course.mode.mode() == Mode::kMirror &&
      now.held - last.held > (now.writes - last.writes) / 8) {
    // The mirror sets its pace: what it would do without one is what it did before.
    in.write_rate = std::max(in.write_rate, before.write_rate);
    in.dirty_rate = std::max(in.dirty_rate, before.dirty_rate);
  }
  const HeatMap::Summary heat = migration.disk.write_heat().summary(kHotRequests, now.at);
  in.hot_bytes = heat.hot_bytes;
  const double cold = heat.all > 0 ? 1 - heat.hot / heat.all : 1;
  in.cold_rate = static_cast<std::uint64_t>(static_cast<double>(in.dirty_rate) * cold);
  in.heat_is_known = now.writes >= kWritesToKnow;
  in.max_downtime = migration.options.max_downtime;
  if (migration.options.deadline > Duration::zero()) {
    const Duration left = migration.options.deadline - (now.at - migration.begun);
    in.time_left = std::max<Duration>(left, std::chrono::nanoseconds(1));
  }
  if (migration.mirror && migration.mirror->fallback().times() > course.fallbacks) {
    course.fallbacks = migration.mirror->fallback().times();
    course.mirror_missed.happened(now.at);
  }
  in.mirror_missed = course.mirror_missed.holds(now.at);
  in.dbt_hopeless = course.dbt_hopeless.holds(now.at);
  in.postcopy_allowed = migration.options.on_stall == OnStall::kPostcopy;
  in.max_guest_latency = migration.options.max_guest_latency;
  const std::uint64_t mirrored = now.mirrored - course.judged.mirrored;
  if (mirrored >= kMirroredToJudge) {
    if ((now.slow - course.judged.slow) * 100 > mirrored) course.mirror_slow.happened(now.at);
    course.judged = now;
  }
  in.mirror_slow = course.mirror_slow.holds(now.at);
  course.last = now;
}

void change_mode(Migration& migration, Mode mode) {
  if (mode == Mode::kMirror) {
    if (!migration.mirror) {
      migration.mirror = std::make_unique<Mirror>(migration.loop, *migration.replica,
                                                  *migration.sync, migration.options);
    }
    enter_phase(migration.status.phase, Phase::kMirroring);
    migration.mirror->begin();
    migration.engine->set_mirror(migration.mirror.get());
    migration.disk.set_mirror(migration.mirror.get());
  } else {
    migration.disk.set_mirror(nullptr);
    migration.engine->set_mirror(nullptr);
    enter_phase(migration.status.phase, Phase::kCopying);
  }
  // What is left is not copied any more, but left behind.
  if (mode == Mode::kPostcopy) {
    migration.engine->stop_pass();
  } else {
    migration.status.active_mode = mode;
  }
}

/// Chooses anew; `urgent` when the mode that is on has just failed.
void choose(Migration& migration, Course& course, bool urgent) {
  const bool first = !course.looked;
  course.looked = true;
  const ModeChoice choice = choose_mode(course.inputs);
  if (first && choice.mode == course.mode.mode()) {
    note_decision(migration, "stays " + std::string(to_string(choice.mode)), choice.why);
  }
  if (choice.unmet != course.unmet && course.unmet.empty()) {
    note_decision(migration, "a limit cannot be met", choice.unmet + "; " + choice.why);
  }
  course.unmet = choice.unmet;
  const Mode before = course.mode.mode();
  // A first look may be mistaken, and from postcopy there is no way back.
  const bool at_once = urgent || (first && choice.mode != Mode::kPostcopy);
  if (!course.mode.offer(choice.mode, migration.loop.now(), at_once)) return;
  note_decision(migration,
                std::string(to_string(before)) + " -> " + std::string(to_string(choice.mode)),
                choice.why);
  // The passes of the other mode say nothing about this one.
  if (!migration.passes.empty()) {
    migration.passes.erase(migration.passes.begin(), migration.passes.end() - 1);
  }
  course.pace_steps = 0;
  migration.postponed = 0;
  change_mode(migration, choice.mode);
  course.over = choice.mode == Mode::kPostcopy;  // there is no way back
}

/// The mode that is on makes no headway. What is left when no mode does is the user's to say.
Status fail_mode(Migration& migration, Course& course, const Judgement& judgement) {
  const TimePoint now = migration.loop.now();
  migration.postponed = 0;
  if (course.mode.mode() == Mode::kDbt) {
    course.dbt_hopeless.happened(now);
  } else if (pace_guest(migration, judgement, course.pace_steps)) {
    return {};
  } else {
    course.mirror_missed.happened(now);
  }
  course.inputs.dbt_hopeless = course.dbt_hopeless.holds(now);
  course.inputs.mirror_missed = course.mirror_missed.holds(now);
  if (!course.inputs.dbt_hopeless || !course.inputs.mirror_missed) return {};
  switch (migration.options.on_stall) {
    case OnStall::kFail:
      return Error(ErrorCode::kNotConverging, judgement.reason);
    case OnStall::kThrottle:
      throttle_guest(migration);
      break;
    case OnStall::kMirror:
    case OnStall::kPostcopy:  // choose_mode() does it
      break;
  }
  return {};
}

void look(Migration& migration, Course& course) {
  measure(migration, course);
  choose(migration, course, false);
}

/// Looks while passes go on; a mirror is attached and detached in the middle of one.
Task<void> keep_looking(Migration& migration, Course& course, Event& ended) {
  const TimePoint probe_ends = migration.loop.now() + kProbeLongest;
  const TimePoint first_looks_end = migration.loop.now() + kFirstLooks;
  bool over = false;
  while (!over && !course.looked && migration.loop.now() < probe_ends &&
         migration.engine->stats().bytes_copied < kProbeBytes) {
    const TimePoint next = migration.loop.now() + kProbeStep;
    over = co_await ended.wait_until(next);
  }
  bool was_paused = false;
  while (!over) {
    // At the fence there is nothing to choose. A job that is paused shows no rates, and decides
    // nothing: what has gone on meanwhile is no part of what is measured next.
    const bool paused = migration.status.state == JobState::kPaused || migration.yields;
    if (paused || was_paused) {
      course.last = count(migration);
    } else if (migration.status.phase != Phase::kSwitching && !course.over) {
      look(migration, course);
    }
    was_paused = paused;
    const TimePoint now = migration.loop.now();
    const TimePoint next = now + (now < first_looks_end ? kFirstLooksInterval : kLookInterval);
    over = co_await ended.wait_until(next);
  }
}

Task<Status> copy_until_switched(Migration& migration, Course& course) {
  for (bool bulk = true;; bulk = false) {
    if (!course.over) {
      const Status copied = co_await copy_pass(migration);
      if (!copied.ok()) co_return copied;
    }
    ++(bulk || course.mode.mode() == Mode::kDbt ? migration.status.passes
                                                : migration.status.catch_up_rounds);
    if (!course.looked && !course.over) look(migration, course);
    if (course.over) {
      const Status hydrated = co_await run_postcopy(migration);
      co_return hydrated;
    }
    const Judgement judgement = judge(migration, Duration::zero());
    if (judgement.verdict == Verdict::kReady && !judgement.worth_another_pass) {
      const auto outcome = co_await try_switchover(migration);
      if (!outcome.ok()) co_return outcome.error();
      if (*outcome == SwitchOutcome::kSwitched) co_return Status();
      co_await wait_to_retry(migration, *outcome);
    }
    if (judgement.verdict == Verdict::kNotConverging) {
      const Status failed = fail_mode(migration, course, judgement);
      if (!failed.ok()) co_return failed;
      choose(migration, course, true);
      if (course.over) {
        const Status hydrated = co_await run_postcopy(migration);
        co_return hydrated;
      }
    }
  }
}

}  // namespace

Task<Status> run_auto(Migration& migration) {
  enter_phase(migration.status.phase, Phase::kCopying);
  migration.status.active_mode = Mode::kDbt;
  Course course(migration.loop.now());
  course.last = count(migration);
  Event ended(migration.loop);
  TaskScope lookout;
  auto looking = keep_looking(migration, course, ended);
  lookout.spawn(std::move(looking));
  const Status moved = co_await copy_until_switched(migration, course);
  ended.set();
  co_await lookout.join();
  co_return moved;
}

}  // namespace blockmig
