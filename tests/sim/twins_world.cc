// SPDX-License-Identifier: Apache-2.0
#include "twins_world.h"

#include <algorithm>
#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/migrate/unfinished_jobs.h"
#include "sim_opener.h"

namespace blockmig::sim {
namespace {

constexpr Duration kBusyPatience = std::chrono::seconds(20);
constexpr Duration kQuietPatience = std::chrono::seconds(200);

std::uint64_t draw_size(Random& random) {
  return random.between(4, 32) * 16 * kKiB + random.below(4) * 3 * kSectorBytes;
}

const std::string kScheme = "sim:";

}  // namespace

TwinsWorld::TwinsWorld(const RunOptions& options) : SimRun(options, draw_size) {
  journal_.on_decision = [this](const DiskRecord& record) { check_decision(record); };
}

TwinsWorld::~TwinsWorld() = default;

TwinsWorld::Twin& TwinsWorld::twin_of(const std::string& disk) {
  return twins_[0].name == disk ? twins_[0] : twins_[1];
}

std::shared_ptr<FaultDevice> TwinsWorld::make_store(Twin& twin) {
  const std::string name = twin.name + "-" + std::to_string(twin.stores.size());
  auto store = std::make_shared<FaultDevice>(loop_, random_, name, twin.size_bytes);
  store->plan().max_delay = std::chrono::microseconds(random_.between(100, 4000));
  twin.stores.push_back(store);
  return store;
}

Task<void> TwinsWorld::prepare(Twin& twin, std::string name) {
  twin.name = std::move(name);
  twin.size_bytes = size_bytes_ + random_.below(8) * 16 * kKiB;
  twin.history = std::make_unique<History>(twin.size_bytes);
  twin.owner = make_store(twin);
  for (std::uint64_t sector = 0; sector < twin.history->sectors(); ++sector) {
    if (random_.chance(1, 3)) continue;
    const ByteRange range = twin.history->sector_range(sector);
    std::byte bytes[kSectorBytes];
    const MutableBytes content(bytes, range.length);
    const SectorValue value = twin.history->next_value();
    twin.history->encode(sector, value, content);
    twin.history->end_write(twin.history->begin_write(sector, {value}), true);
    twin.owner->preload(range.offset, content);
  }
  twin.history->acknowledge_flush(twin.history->tick());
  co_return;
}

JobOptions TwinsWorld::draw_options() {
  JobOptions options;
  static constexpr Mode kModes[] = {Mode::kCold, Mode::kSnapshot, Mode::kDbt, Mode::kMirror,
                                    Mode::kAuto};
  options.mode = kModes[random_.below(std::size(kModes))];
  options.on_stall = random_.chance(1, 2) ? OnStall::kMirror : OnStall::kThrottle;
  options.granularity_bytes = 4096u << random_.below(5);
  options.copy_depth = static_cast<std::uint32_t>(random_.between(1, 8));
  options.copy_request_bytes = options.granularity_bytes << random_.below(3);
  options.copy_window_bytes = options.copy_request_bytes * random_.between(1, 8);
  options.mirror_deadline = std::chrono::milliseconds(random_.between(2, 40));
  options.max_downtime = std::chrono::milliseconds(random_.between(20, 200));
  options.target_timeout = std::chrono::milliseconds(random_.between(500, 5000));
  static constexpr Verify kLevels[] = {Verify::kNone, Verify::kDigest, Verify::kFull};
  options.verify = kLevels[random_.below(3)];
  options.checkpoint_interval = std::chrono::microseconds(random_.between(500, 20'000));
  options.activity_region_bytes = 4096u << random_.below(5);
  static constexpr Priority kPriorities[] = {Priority::kLow, Priority::kNormal, Priority::kHigh};
  options.priority = kPriorities[random_.below(3)];
  return options;
}

void TwinsWorld::plan_faults(FaultDevice& target) {
  FaultPlan& plan = target.plan();
  if (random_.chance(1, 3)) {
    plan.write_error_ppm = static_cast<std::uint32_t>(random_.below(50'000));
  }
  if (random_.chance(1, 4)) plan.max_delay = std::chrono::milliseconds(random_.between(5, 60));
  if (random_.chance(1, 3)) plan.bytes_per_second = random_.between(500, 20'000) * kKiB;
}

void TwinsWorld::heal() {
  for (Twin& twin : twins_) {
    for (const auto& store : twin.stores) {
      store->plan() = FaultPlan();
      store->plan().max_delay = std::chrono::milliseconds(1);
    }
  }
  journal_.save_error_ppm = 0;
  if (board_) board_->bandwidth().set_rate(0);
}

/// At its own decision: of its own disk.
void TwinsWorld::check_decision(const DiskRecord& record) {
  Twin& twin = twin_of(record.disk);
  if (record.epoch == twin.epoch) return;
  twin.epoch = record.epoch;
  std::vector<std::byte> source(twin.size_bytes);
  std::vector<std::byte> target(twin.size_bytes);
  twin.owner->peek(0, source);
  twin.target->peek_durable(0, target);
  const auto place = std::mismatch(source.begin(), source.end(), target.begin());
  if (place.first != source.end()) {
    complain("decision for " + record.store_uri + ": source and target differ at offset " +
             std::to_string(place.first - source.begin()) + " (I4)");
  }
  twin.target->plan().write_error_ppm = 0;  // from here on it is the disk's store
}

void TwinsWorld::find_owner(Twin& twin) {
  if (!journal_records_.contains(disk_key(twin.name))) return;
  const DiskRecord record = journal_.disk_record(twin.name);
  twin.epoch = record.epoch;
  for (const auto& store : twin.stores) {
    if (kScheme + store->info().name == record.store_uri) twin.owner = store;
  }
}

std::optional<JobRecord> TwinsWorld::unfinished_of(const Twin& twin,
                                                   const std::vector<JobRecord>& jobs) {
  for (const JobRecord& job : find_unfinished(jobs).open) {
    if (job.disk == twin.name) return job;
  }
  for (const JobRecord& job : jobs) {
    const bool goes_on = job.state == "running" || job.state == "paused";
    if (job.id == twin.job && goes_on) complain(job.id + " is forgotten by a restart (I7)");
  }
  return std::nullopt;
}

Task<void> TwinsWorld::open(Twin& twin, std::optional<JobRecord> unfinished) {
  twin.disk = std::make_unique<Disk>(loop_, twin.name, std::make_unique<SharedDevice>(twin.owner),
                                     kScheme + twin.owner->info().name, twin.epoch);
  if (unfinished) {
    if (unfinished->target_uri == kScheme + twin.owner->info().name) {
      complain(unfinished->id + " has switched, and is recorded as " + unfinished->state + " (I7)");
    }
    ++result_.resumed;
    auto found = co_await recover(journal_, *twin.disk, unfinished->id, loop_);
    if (!found.ok()) complain("recovering: " + found.error().message());
    if (found.ok()) twin.recovered = std::move(*found);
    if (!twin.recovered.empty()) ++result_.recovered;
  }
  GuestPlan plan;
  plan.max_request_sectors = random_.between(1, 200);
  plan.max_think = std::chrono::microseconds(random_.between(500, 8000));
  plan.flush_percent = static_cast<std::uint32_t>(random_.below(9));
  twin.guest = std::make_unique<Guest>(loop_, random_, *twin.disk, *twin.history, plan);
  twin.workers = std::make_unique<TaskScope>();
  for (std::uint64_t i = random_.between(1, 4); i > 0; --i) {
    auto worker = twin.guest->work();
    twin.workers->spawn(std::move(worker));
  }
}

void TwinsWorld::move(Twin& twin, std::optional<JobRecord> unfinished) {
  if (!unfinished) {
    twin.target = make_store(twin);
    if (random_.chance(1, 2)) twin.target->fill(std::byte{0xA5});
    twin.options = draw_options();
  }
  twin.target->mutable_info().zero_initialised = false;
  plan_faults(*twin.target);
  auto opener =
      std::make_unique<SimOpener>(loop_, random_, twin.target, twin.owner, nothing_at_rest_);
  opener->discards = [](bool) {};
  opener->begins = opener->completes = [] {};
  Result<std::string> id = std::string();
  if (unfinished) {
    id = board_->resume_recorded(*twin.disk, std::move(opener), twin.options, *unfinished,
                                 twin.recovered);
  } else {
    id = board_->start(*twin.disk, std::move(opener), twin.options, "as planned");
  }
  if (!id.ok()) return complain("a job did not start: " + id.error().message());
  twin.job = *id;
  note(*id + " moves " + twin.name + " to " + twin.target->info().name + ", mode " +
       std::string(to_string(twin.options.mode)));
}

Task<void> TwinsWorld::story() {
  for (Twin& twin : twins_) {
    std::string name = &twin == &twins_[0] ? "castor" : "pollux";
    co_await prepare(twin, std::move(name));
  }
  const std::uint64_t deaths = random_.between(1, 4);
  for (std::uint64_t i = 0; i < deaths; ++i) {
    const Death death = random_.chance(1, 2) ? Death::kPowerLoss : Death::kKill;
    co_await live(death);
  }
  co_await live(Death::kNone);
  for (Twin& twin : twins_) {
    twin.owner->crash();
    check_survivors(twin, Death::kPowerLoss);
  }
  finished_ = true;
}

/// Until the end of that time, or of both moves.
Task<void> TwinsWorld::pass_time(Duration span, bool until_ended) {
  const TimePoint end = loop_.now() + span;
  while (loop_.now() < end) {
    bool moves = false;
    for (Twin& twin : twins_) {
      if (!twin.guest->violation().empty()) complain(twin.name + ": " + twin.guest->violation());
      moves = moves || !board_->job_of(twin.name).empty();
    }
    if (until_ended && !moves) co_return;
    co_await sleep_for(loop_, std::min(end - loop_.now(), Duration(std::chrono::milliseconds(5))));
  }
}

Task<void> TwinsWorld::live(Death death) {
  for (Twin& twin : twins_) find_owner(twin);
  board_ = std::make_unique<JobBoard>(loop_, journal_);
  const Status loaded = co_await board_->load();
  if (!loaded.ok()) complain("the journal cannot be read: " + loaded.error().message());
  const auto jobs = co_await journal_.load_jobs();
  std::array<std::optional<JobRecord>, 2> unfinished;
  for (std::size_t i = 0; i < twins_.size(); ++i) {
    unfinished[i] = unfinished_of(twins_[i], *jobs);
    std::optional<JobRecord> its = unfinished[i];
    co_await open(twins_[i], std::move(its));
  }
  for (std::size_t i = 0; i < twins_.size(); ++i) {
    const Duration wait = std::chrono::microseconds(random_.below(20'000));
    co_await sleep_for(loop_, wait);
    move(twins_[i], unfinished[i]);
  }
  if (death != Death::kNone) journal_.save_error_ppm = random_.chance(1, 8) ? 200'000 : 0;
  if (random_.chance(1, 2)) {
    board_->bandwidth().set_rate(random_.between(1000, 20'000) * kKiB);
  }
  if (death == Death::kNone) {
    heal();
    co_await pass_time(kBusyPatience, true);
    for (Twin& twin : twins_) twin.guest->rest(true);
    co_await pass_time(kQuietPatience, true);
  } else {
    const Duration span = std::chrono::microseconds(random_.between(1, 250'000));
    co_await pass_time(span, false);
  }
  for (Twin& twin : twins_) {
    const auto status = board_->status(twin.job);
    const bool ended = status.ok() && is_final(status->state);
    const bool done = ended && status->state == JobState::kDone;
    ++(done ? result_.jobs_done : result_.jobs_not_done);
    if (death == Death::kNone && !ended) complain(twin.job + " does not end");
  }
  strike(death);
  co_await bury();
  for (Twin& twin : twins_) {
    find_owner(twin);
    check_survivors(twin, death);
  }
}

void TwinsWorld::strike(Death death) {
  note(death == Death::kNone ? "the end" : death == Death::kKill ? "KILL" : "POWER LOSS");
  for (Twin& twin : twins_) {
    if (twin.guest->errors() > 0) {
      complain("a guest of " + twin.name + " has got an error, and its store never failed (I8)");
    }
    if (death == Death::kNone) {
      twin.guest->stop();
      continue;
    }
    twin.guest->cut();
    for (const auto& store : twin.stores) {
      if (death == Death::kPowerLoss) store->crash();
      store->abandon();
    }
  }
  if (death == Death::kNone) return;
  ++result_.crashes;
  journal_.alive = false;
}

/// What the dead daemon still does on its way out has no effect.
Task<void> TwinsWorld::bury() {
  for (Twin& twin : twins_) co_await twin.workers->join();
  co_await board_->stop();
  co_await board_->leave_disks();
  for (Twin& twin : twins_) {
    co_await discard(*twin.disk, std::move(twin.recovered));
    twin.recovered = {};
    const std::uint64_t closing = twin.history->tick();
    const Status closed = co_await twin.disk->close();
    if (closed.ok() && journal_.alive) twin.history->acknowledge_flush(closing);
    result_.guest_requests += twin.guest->requests();
    twin.guest.reset();
  }
  board_.reset();
  for (Twin& twin : twins_) {
    twin.disk.reset();
    for (const auto& store : twin.stores) store->reopen();
  }
  journal_.alive = true;
  heal();
}

void TwinsWorld::check_survivors(Twin& twin, Death death) {
  History cached = *twin.history;
  cached.acknowledge_flush(cached.tick());
  const bool lost = death == Death::kPowerLoss;
  for (std::uint64_t sector = 0; sector < twin.history->sectors(); ++sector) {
    const ByteRange range = twin.history->sector_range(sector);
    std::byte bytes[kSectorBytes];
    const MutableBytes content(bytes, range.length);
    twin.owner->peek(range.offset, content);
    const auto value = twin.history->decode(sector, content);
    const auto problem = value ? (lost ? *twin.history : cached).check_survivor(sector, *value)
                               : std::optional<std::string>("is no value ever written");
    if (problem) return complain(twin.name + " after a death: " + *problem + " (I1)");
    if (lost) twin.history->start_again(sector, *value);
  }
}

}  // namespace blockmig::sim
