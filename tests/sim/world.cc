// SPDX-License-Identifier: Apache-2.0
#include "world.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <utility>

#include "blockmig/base/chunk_digests.h"
#include "sim_opener.h"

namespace blockmig::sim {
namespace {

constexpr Duration kJobPatience = std::chrono::seconds(20);
/// For a job at the lowest rate that it may be given.
constexpr Duration kQuietPatience = std::chrono::seconds(200);
constexpr Duration kCrashWithin = std::chrono::milliseconds(300);
constexpr Duration kSweptMove = std::chrono::milliseconds(60);

std::uint64_t draw_size(Random& random) {
  const std::uint64_t whole = random.between(4, 64) * 16 * kKiB;
  switch (random.below(4)) {
    case 0:
      return whole;
    case 1:
      return whole + random.between(1, 31) * kSectorBytes;
    // A short last sector must still hold a value and its check: 16 bytes.
    case 2:
      return whole + random.between(0, 7) * kSectorBytes + random.between(16, 511);
    default:
      return whole + kKiB * 60 + 17;
  }
}

std::uint64_t draw_short(Random& random) {
  return random.between(5, 13) * 16 * kKiB + random.below(2) * (kSectorBytes + 17);
}

}  // namespace

World::World(const RunOptions& options)
    : SimRun(options, options.sweep ? draw_short : draw_size),
      history_(size_bytes_),
      stamp_random_(options.seed + 1),
      owners_(loop_, stamp_random_) {
  owners_.on_change = journal_.on_applied = [this] { check_stamps(); };
  journal_.on_decision = [this](const DiskRecord& record) {
    check_guest();
    switched_ = true;
    check_equal(record);
  };
  journal_.on_unknown = [this] { switched_ = owner_unknown_ = true; };
}

World::~World() = default;

std::shared_ptr<FaultDevice> World::make_store(const std::string& name) {
  auto store = std::make_shared<FaultDevice>(loop_, random_, name, size_bytes_);
  store->plan().min_delay = std::chrono::microseconds(random_.between(1, 100));
  store->plan().max_delay = std::chrono::microseconds(random_.between(100, 4000));
  if (is_sparse()) store->plan().most_extents = 1;
  stores_.push_back(store);
  return store;
}

void World::fill_source() {
  const std::uint64_t filled = random_.between(0, history_.sectors());
  for (std::uint64_t i = 0; i < filled; ++i) {
    std::uint64_t sector = random_.below(history_.sectors());
    if (is_sparse()) sector /= 8;
    const ByteRange range = history_.sector_range(sector);
    std::byte bytes[kSectorBytes];
    const MutableBytes content(bytes, range.length);
    const SectorValue value = history_.next_value();
    history_.encode(sector, value, content);
    history_.end_write(history_.begin_write(sector, {value}), true);
    owner_->preload(range.offset, content);
  }
  history_.acknowledge_flush(history_.tick());
}

JobOptions World::draw_options() {
  JobOptions options;
  static constexpr Mode kModes[] = {Mode::kCold,     Mode::kSnapshot, Mode::kDbt,    Mode::kMirror,
                                    Mode::kPostcopy, Mode::kHybrid,   Mode::kShared, Mode::kAuto};
  // A way back is kept of the first four alone, and what they leave behind nobody needs.
  const bool only_moves =
      options_.returns || options_.journal_fails || options_.restarts || source_lost_;
  const std::size_t modes = only_moves ? 4 : std::size(kModes);
  options.mode = options_.mode.value_or(kModes[random_.below(modes)]);
  static constexpr OnStall kActions[] = {OnStall::kMirror, OnStall::kThrottle, OnStall::kFail,
                                         OnStall::kPostcopy};
  options.on_stall = kActions[random_.below(std::size(kActions))];
  options.reverse_mirror = random_.chance(1, 2);
  options.granularity_bytes = 4096u << random_.below(5);
  // The world asks of the new store alone, in the end, what the disk holds.
  options.hydrate = Hydrate::kBackground;
  if (options.mode == Mode::kShared) options.granularity_bytes = 65536;
  options.copy_depth = static_cast<std::uint32_t>(random_.between(1, 8));
  options.copy_request_bytes = options.granularity_bytes << random_.below(3);
  options.copy_window_bytes = options.copy_request_bytes * random_.between(1, 8);
  options.mirror_deadline =
      std::chrono::milliseconds(random_.between(2, random_.chance(1, 2) ? 4 : 40));
  if (has_slow_requests()) options.mirror_deadline = std::chrono::milliseconds(2);
  options.max_downtime = std::chrono::milliseconds(random_.between(20, 200));
  options.target_timeout = std::chrono::milliseconds(random_.between(200, 5000));
  options.mirror_window_bytes = random_.between(1, 64) * 16 * kKiB;
  static constexpr Verify kLevels[] = {Verify::kNone, Verify::kDigest, Verify::kFull};
  options.verify = kLevels[random_.below(3)];
  if (options_.verify) options.verify = *options_.verify;
  options.snapshot_buffer_bytes = options.granularity_bytes * random_.between(1, 64);
  options.point_in_time = options.mode == Mode::kSnapshot && random_.chance(1, 2);
  if (options.point_in_time && options.verify == Verify::kFull) options.verify = Verify::kDigest;
  static constexpr OnRestart kRestarts[] = {OnRestart::kResume, OnRestart::kResume,
                                            OnRestart::kPause, OnRestart::kAbort};
  options.on_restart = kRestarts[random_.below(4)];
  options.checkpoint_interval = std::chrono::microseconds(random_.between(500, 60'000));
  options.activity_region_bytes = 4096u << random_.below(5);
  static constexpr OnTargetError kTroubles[] = {OnTargetError::kRetry, OnTargetError::kRetry,
                                                OnTargetError::kPause, OnTargetError::kFail};
  options.on_target_error = kTroubles[random_.below(4)];
  options.retry_for = std::chrono::milliseconds(random_.below(2000));
  if (options_.returns) {
    options.keep_record = !options.point_in_time;
  }
  if ((only_moves || options_.source_fails) && options.on_stall == OnStall::kPostcopy)
    options.on_stall = OnStall::kThrottle;
  if (options_.restarts) plan_restarts(options);
  if (options_.sweep) plan_sweep(options);
  if (options_.overlays) plan_overlay(options);
  // Checkpoints would flush the source.
  if (has_cold_writes()) options.on_restart = OnRestart::kAbort;
  return options;
}

std::unique_ptr<TargetOpener> World::make_opener(std::shared_ptr<FaultDevice> target) {
  auto opener = std::make_unique<SimOpener>(loop_, random_, std::move(target), owner_,
                                            manifests_[owner_->info().name]);
  opener->keeper = keeper_.get();
  opener->mute = options_.seed % 4 == 3;
  opener->away = std::exchange(away_, 0);
  opener->discards = [this](bool closed) {
    held_.reset();
    if (closed) complain("a target is discarded that may be the next move's already (I9)");
    if (owner_unknown_) complain("a target is discarded that may own the disk (I3)");
  };
  opener->begins = [this] {
    if (instant_ != 0) history_.end_read(instant_);
    instant_ = history_.begin_read();
    note_instant();
  };
  opener->completes = [this] {
    if (crashed_) return;
    check_instant();
    if (target_ == copy_) bitmaps_of_copy_ = bitmaps_of_instant_;
  };
  const std::string& name = target_->info().name;
  return std::make_unique<StampedOpener>(std::move(opener), owners_, owner_->info().name, name,
                                         disk_->epoch() + 1);
}

std::shared_ptr<FaultDevice> World::find_store(const std::string& name) const {
  for (const auto& store : stores_) {
    if (store->info().name == name) return store;
  }
  return nullptr;
}

void World::open_daemon(std::uint64_t epoch) {
  disk_ = std::make_unique<Disk>(loop_, "disk", open_owner(), "sim:" + owner_->info().name, epoch);
  board_ = std::make_unique<JobBoard>(loop_, journal_);
  make_keeper();
}

void World::make_keeper() {
  if (!options_.bitmaps && !options_.returns && !options_.backups) return;
  const Duration interval = std::chrono::microseconds(random_.between(500, 60'000));
  keeper_ =
      std::make_unique<BitmapKeeper>(loop_, journal_, *disk_, interval, 4096u << random_.below(5));
}

void World::start_guest() {
  guest_ = std::make_unique<Guest>(loop_, random_, *disk_, history_, guest_plan_);
  guest_->flush_must_fail = [this] { return flush_must_fail(); };
  workers_ = std::make_unique<TaskScope>();
  for (std::uint64_t i = 0; i < guest_workers_; ++i) {
    auto worker = guest_->work();
    workers_->spawn(std::move(worker));
  }
}

Task<void> World::story() {
  owner_ = make_store("store-0");
  fill_source();
  open_daemon(1);
  const std::string first = owner_->info().name;
  co_await owners_.set(first, StampState::kCurrent, 1, "");
  guest_plan_.max_request_sectors = random_.between(1, 300);
  guest_plan_.max_think = std::chrono::microseconds(random_.between(0, 3000));
  guest_plan_.hot_percent = static_cast<std::uint32_t>(random_.below(100));
  guest_workers_ = random_.between(1, 8);
  if (has_slow_requests()) {
    guest_plan_.max_request_sectors = 16;
    guest_plan_.max_think = std::chrono::microseconds(300);
  }
  if (options_.restarts) calm_guest();
  if (options_.sweep) hurry_guest();
  start_guest();
  if (has_cold_writes()) co_await let_cool();
  TaskScope crashes;
  if (options_.bitmaps) {
    co_await begin_bitmap();
    if (random_.chance(1, 2)) {
      // While writes are under way that began before it.
      auto falls = crash_later(std::chrono::milliseconds(20));
      crashes.spawn(std::move(falls));
    }
  }
  begun_ = true;
  const bool many = options_.returns || options_.overlays || options_.backups;
  std::uint64_t migrations = many ? random_.between(2, 4) : random_.between(1, 2);
  if (options_.sweep) migrations = many ? 2 : 1;
  for (std::uint64_t i = 0; i < migrations; ++i) {
    const Duration wait = std::chrono::microseconds(random_.between(1, 20000));
    co_await sleep_for(loop_, wait);
    if (dies_by_lot(i)) {
      auto falls = has_cold_writes() ? lose_power_when_switched()
                                     : crash_later(options_.sweep ? kSweptMove : kCrashWithin);
      crashes.spawn(std::move(falls));
    }
    const bool copies = !crashed_ && options_.backups && random_.chance(3, 4);
    if (copies) co_await back_up_once();
    if (!crashed_ && !copies) co_await migrate_once();
    while (crashed_) {
      if (!options_.sweep && random_.chance(options_.restarts ? 2 : 1, 4)) {
        auto falls = crash_later(kCrashWithin);
        crashes.spawn(std::move(falls));
      }
      co_await restart();
    }
  }
  ended_ = true;
  const Duration after = std::chrono::milliseconds(random_.between(1, 20));
  co_await sleep_for(loop_, after);
  co_await crashes.join();
  guest_->stop();
  check_guest();
  if (options_.bitmaps) co_await close_bitmap();
  co_await bury_daemon();
  const std::string untold = owners_.judge_at_rest(journal_owner());
  if (!untold.empty()) complain(untold + " (I3)");
  check_survivors();
  finished_ = true;
}

Task<void> World::migrate_once() {
  watch_guest();
  const std::shared_ptr<FaultDevice> left = options_.returns ? find_way_back() : nullptr;
  target_ = left ? left : make_store("store-" + std::to_string(stores_.size()));
  if (left) {
    target_->reopen();
    target_->mutable_info().zero_initialised = false;
    held_ = left;
  } else if (random_.chance(1, 2)) {
    target_->fill(std::byte{0xA5});
  } else {
    target_->mutable_info().zero_initialised = random_.chance(1, 2);
  }
  if (!options_.sweep) plan_faults(*target_);
  journal_.save_error_ppm = random_.chance(1, 8) && !options_.sweep ? 300'000 : 0;
  JobOptions options = draw_options();
  if (left) {
    options.mode = Mode::kReturn;
    options.keep_record = random_.chance(3, 4);
    options.point_in_time = false;
  }
  target_lies_ = false;
  if (options.verify == Verify::kFull && random_.chance(1, 2) && !options_.sweep) {
    // A target that lies: only reading it back tells (I13).
    target_lies_ = true;
    target_->plan().lost_write_ppm = static_cast<std::uint32_t>(random_.below(30'000));
    target_->plan().torn_write_ppm = static_cast<std::uint32_t>(random_.below(30'000));
    const auto astray = static_cast<std::uint32_t>(random_.below(30'000));
    // What strays into a store that was left is where its record does not look.
    if (!left) target_->plan().misdirected_write_ppm = astray;
  }
  auto opener = make_opener(target_);
  const auto job = board_->start(*disk_, std::move(opener), options, "as planned");
  if (!job.ok()) {
    complain("a job did not start: " + job.error().message());
    co_return;
  }
  note("started " + *job + " mode " + std::string(to_string(options.mode)));
  planned_[*job] = {options, target_};
  if (options_.journal_fails) {
    auto fails = fail_journal_later();
    disturbances_.spawn(std::move(fails));
  }
  co_await see_job_through(*job);
  if (journal_.failed() && !crashed_) co_await live_without_journal();
}

/// Until it ended, or the daemon crashed.
Task<void> World::see_job_through(std::string job) {
  if (!options_.sweep) trouble_job(job);
  co_await wait_for_end(job);
  guest_->rest(false);
  if (crashed_) co_return;
  const auto status = board_->status(job);
  note("ended " + std::string(to_string(status->state)) + ", " +
       std::to_string(status->checkpoints) + " checkpoints" +
       (status->error ? ": " + status->error->message() : ""));
  const auto deadline =
      std::chrono::duration<double, std::milli>(planned_[job].options.mirror_deadline).count();
  const double late = std::chrono::duration<double, std::milli>(kLateLook).count();
  if (status->longest_mirror_wait_ms > deadline + 2 * late) {  // its beginning, and its end
    complain("the mirror held a write for " + std::to_string(status->longest_mirror_wait_ms) +
             " ms, its deadline is " + std::to_string(deadline) + " ms (I10)");
  }
  if (status->state == JobState::kDone) {
    ++result_.jobs_done;
    if (status->mode == Mode::kReturn) ++result_.returns;
    held_.reset();
    check_digests(*status, planned_[job].options.verify);
    if (status->mode == Mode::kShared && owner_ != target_) {
      check_manifest(*owner_, !source_may_fail_);
    }
    if (!planned_[job].options.point_in_time) owner_ = target_;
  } else {
    ++result_.jobs_not_done;
    check_outlasted(*status, planned_[job].options.on_target_error);
    check_withdrawn(*status);
  }
  heal();
}

Task<void> World::wait_for_end(const std::string& job) {
  const TimePoint patience = loop_.now() + kJobPatience;
  const TimePoint trouble_ends = loop_.now() + std::chrono::milliseconds(random_.between(20, 1500));
  bool healed = false;
  bool woken = false;
  while (!crashed_) {
    const auto status = board_->status(job);
    if (status->attempt > 1 && status->state == JobState::kPaused && !woken) {
      const Status resumed = board_->resume(job);  // a job that a restart paused
      woken = resumed.ok();
    }
    if (is_final(status->state) && board_->job_of("disk").empty()) co_return;
    if (options_.verbose && status->verdict != last_verdict_) {
      last_verdict_ = status->verdict;
      note(last_verdict_);
    }
    if (!healed && loop_.now() > trouble_ends) {
      note("healing");
      heal();
      healed = true;
    }
    // A guest that never pauses can outrun dbt for ever.
    if (loop_.now() > patience) guest_->rest(true);
    if (loop_.now() > patience + kQuietPatience) {
      JobStatus last = *status;
      co_await end_by_force(std::move(last));
      co_return;
    }
    if (!guest_->violation().empty()) complain(guest_->violation());
    co_await sleep_for(loop_, std::chrono::milliseconds(5));
  }
}

}  // namespace blockmig::sim
