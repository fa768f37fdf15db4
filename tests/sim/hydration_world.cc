// SPDX-License-Identifier: Apache-2.0
#include "hydration_world.h"

#include <algorithm>
#include <utility>

#include "blockmig/block/reconnecting_device.h"
#include "blockmig/migrate/hydration.h"

namespace blockmig::sim {
namespace {

const std::string kRegions = "absent.job-1.2";
constexpr Duration kPatienceForEnd = std::chrono::seconds(60);
constexpr Duration kHoldingLife = std::chrono::seconds(4);
constexpr Duration kConnectionPatience = std::chrono::milliseconds(300);

std::uint64_t draw_size(Random& random) {
  return random.between(4, 48) * 16 * kKiB + random.below(4) * 3 * kSectorBytes;
}

}  // namespace

HydrationWorld::HydrationWorld(const RunOptions& options)
    : SimRun(options, draw_size), history_(std::make_unique<History>(size_bytes_)) {}

HydrationWorld::~HydrationWorld() = default;

/// As a switchover leaves it: what is present is equal on both stores, the rest is in the base.
void HydrationWorld::prepare() {
  local_ = std::make_shared<FaultDevice>(loop_, random_, "new", size_bytes_);
  base_ = std::make_shared<FaultDevice>(loop_, random_, "base", size_bytes_);
  if (random_.chance(1, 2)) local_->fill(std::byte{0xA5});
  const std::uint32_t granularity = 4096u << random_.below(5);
  auto absent = *DirtyBitmap::create(size_bytes_, granularity);
  absent->mark_all();
  const std::uint64_t present_percent = random_.below(60);
  for (std::uint64_t chunk = 0; chunk < absent->chunk_count(); ++chunk) {
    if (random_.below(100) >= present_percent) continue;
    const ByteRange range = absent->chunk_range(chunk);
    absent->clear(range.offset, range.length);
  }
  // Whole chunks of zeros, which are filled in without being read.
  const std::uint64_t hole_at = random_.below(size_bytes_ / 2);
  const std::uint64_t hole_bytes = size_bytes_ / 4 + random_.below(size_bytes_ / 2);
  const ByteRange hole{hole_at, random_.chance(3, 4) ? hole_bytes : 0};
  for (std::uint64_t sector = 0; sector < history_->sectors(); ++sector) {
    const ByteRange range = history_->sector_range(sector);
    if (random_.chance(1, 3) || hole.overlaps(range)) continue;
    std::byte bytes[kSectorBytes];
    const MutableBytes content(bytes, range.length);
    const SectorValue value = history_->next_value();
    history_->encode(sector, value, content);
    history_->end_write(history_->begin_write(sector, {value}), true);
    base_->preload(range.offset, content);
  }
  history_->acknowledge_flush(history_->tick());
  std::vector<std::byte> chunk_bytes(granularity);
  for (std::uint64_t chunk = 0; chunk < absent->chunk_count(); ++chunk) {
    if (absent->is_dirty(chunk)) continue;
    const ByteRange range = absent->chunk_range(chunk);
    const MutableBytes content(chunk_bytes.data(), range.length);
    base_->peek(range.offset, content);
    local_->preload(range.offset, content);
  }
  auto map = *PresenceMap::create(size_bytes_, granularity);
  map->set_absent(*absent);
  journal_.preset({kDisk, "sim:new", 2, size_bytes_, "sim:base", kRegions},
                  {kDisk, 2, "sim:base", granularity, random_.chance(1, 2), kRegions, "job-1"},
                  map->durable_form());
}

void HydrationWorld::plan_faults(bool power_loss) {
  heal();
  base_is_full_ = random_.chance(1, 6);
  if (base_is_full_) {
    base_->plan().write_error_ppm = 1'000'000;
    return;
  }
  base_holds_writes_ = random_.chance(1, 6);
  if (base_holds_writes_) {
    // Some, for longer than anybody waits; it answers everything else.
    base_->plan().slow_ppm = 100'000;
    base_->plan().slow_delay = std::chrono::seconds(40);
    base_->plan().slow_writes_only = true;
    return;
  }
  for (FaultDevice* const store : {local_.get(), base_.get()}) {
    FaultPlan& plan = store->plan();
    plan.max_delay = std::chrono::microseconds(random_.between(100, 4000));
    if (random_.chance(1, 4)) plan.max_delay = std::chrono::milliseconds(random_.between(5, 60));
    if (random_.chance(1, 3)) {
      plan.slow_ppm = static_cast<std::uint32_t>(random_.between(10'000, 500'000));
      plan.slow_delay = std::chrono::milliseconds(random_.between(5, 100));
    }
    if (random_.chance(1, 4)) {
      plan.write_error_ppm = static_cast<std::uint32_t>(random_.below(30'000));
    }
    if (random_.chance(1, 3)) {
      plan.read_error_ppm = static_cast<std::uint32_t>(random_.below(100'000));
    }
    // Only a power loss makes a store forget that a flush has failed.
    if (power_loss && random_.chance(1, 6)) {
      plan.flush_error_ppm = static_cast<std::uint32_t>(random_.below(100'000));
    }
  }
  journal_.save_error_ppm = random_.chance(1, 8) ? 200'000 : 0;
}

void HydrationWorld::heal() {
  for (FaultDevice* const store : {local_.get(), base_.get()}) {
    store->unstall();
    store->plan() = FaultPlan();
    store->plan().min_delay = std::chrono::microseconds(1);
    store->plan().max_delay = std::chrono::milliseconds(1);
  }
  journal_.save_error_ppm = 0;
  base_is_full_ = base_holds_writes_ = false;
}

/// With what was not flushed there.
Task<void> HydrationWorld::lose_base() {
  note("the base is lost");
  base_lost_ = true;
  base_->disconnect();
  const Duration gone = std::chrono::milliseconds(random_.between(1, 200));
  co_await sleep_for(loop_, gone);
  base_->reconnect();
}

Task<void> HydrationWorld::leave_no_room(FaultDevice& store) {
  note("no room on " + store.info().name);
  store.plan().space_bytes = random_.below(size_bytes_);
  const Duration full = std::chrono::milliseconds(random_.between(1, 200));
  co_await sleep_for(loop_, full);
  store.plan().space_bytes = UINT64_MAX;
}

Task<void> HydrationWorld::disturb(std::shared_ptr<Life> life) {
  const std::uint64_t count = random_.below(3);
  for (std::uint64_t i = 0; i < count; ++i) {
    const Duration wait = std::chrono::microseconds(random_.between(1, 60000));
    co_await sleep_for(loop_, wait);
    if (life->over) co_return;
    if (random_.chance(1, 3)) {
      co_await lose_base();
      continue;
    }
    FaultDevice& store = random_.chance(1, 2) ? *base_ : *local_;
    if (random_.chance(1, 3)) {
      co_await leave_no_room(store);
      continue;
    }
    note("stall of " + store.info().name);
    store.stall();
    const Duration frozen = std::chrono::milliseconds(random_.between(1, 600));
    co_await sleep_for(loop_, frozen);
    store.unstall();
  }
}

Task<void> HydrationWorld::story() {
  prepare();
  const std::uint64_t deaths = random_.between(1, 4);
  for (std::uint64_t i = 0; i < deaths && !whole_; ++i) {
    const std::uint64_t dice = random_.below(4);
    const Death death = dice == 0 ? Death::kOrderly : dice == 1 ? Death::kKill : Death::kPowerLoss;
    plan_faults(death == Death::kPowerLoss);
    co_await live(death);
  }
  heal();
  if (!whole_) {
    co_await live(Death::kNone);
    if (!whole_) complain("healed, and hydration does not end");
  }
  ++(whole_ ? result_.jobs_done : result_.jobs_not_done);
  // The new store alone is the disk now, whatever becomes of the base.
  base_->fill(std::byte{0xDB});
  local_->crash();
  check_survivors("its end");
  finished_ = true;
}

JobOptions HydrationWorld::draw_options() {
  JobOptions options;
  options.mode = Mode::kPostcopy;
  options.base_patience = std::chrono::milliseconds(random_.between(50, 2000));
  if (base_is_full_ || base_holds_writes_) options.base_patience = std::chrono::seconds(30);
  options.mirror_deadline = std::chrono::milliseconds(random_.between(2, 40));
  options.copy_request_bytes = 4096u << random_.below(7);
  options.copy_window_bytes = options.copy_request_bytes * random_.between(1, 8);
  options.bwlimit_bytes_per_second = random_.chance(1, 2) ? random_.between(500, 20'000) * kKiB : 0;
  options.verify = random_.chance(1, 4) ? Verify::kFull : Verify::kDigest;
  return options;
}

/// Until then, or until hydration has ended, or something illegal was seen.
Task<void> HydrationWorld::pass_time(Duration span, JobBoard& board, Guest& guest) {
  const TimePoint end = loop_.now() + span;
  while (loop_.now() < end && !board.job_of(kDisk).empty() && guest.violation().empty()) {
    const TimePoint next = std::min(end, loop_.now() + std::chrono::milliseconds(5));
    co_await sleep_for(loop_, next - loop_.now());
  }
}

/// No guest writes any more: the report's digest is the store's.
Task<void> HydrationWorld::end_quietly(Duration span, JobBoard& board, Guest& guest, Disk& disk,
                                       Verify verify) {
  if (hydrating_layer(disk) == nullptr) co_return;
  const std::string job = board.job_of(kDisk);
  co_await pass_time(span, board, guest);
  if (!job.empty()) check_digest(*board.status(job), verify);
}

/// The instant of death. A dead daemon acknowledges nothing: what its tasks still say on their way
/// out was not heard.
void HydrationWorld::strike(Death death, Life& life, Guest& guest) {
  if (base_is_full_ && guest.errors() > 0) {
    complain("a guest has got an error for a base that can be read and not be written (I8)");
  }
  check_base();
  life.over = death == Death::kPowerLoss || death == Death::kKill;
  if (death == Death::kPowerLoss) {
    local_->crash();
    base_->crash();
  }
  if (life.over) {
    guest.cut();
  } else {
    guest.stop();
  }
  local_->unstall();
  base_->unstall();
}

GuestPlan HydrationWorld::draw_guest() {
  GuestPlan plan;
  plan.max_request_sectors = random_.between(1, 300);
  plan.max_think = std::chrono::microseconds(random_.between(0, 3000));
  return plan;
}

/// A new life opens it anew.
Task<void> HydrationWorld::find_base_again() {
  base_lost_ = false;
  if (base_->connected()) co_return;
  base_->reconnect();
  const Status again = co_await base_->revive();
  if (!again.ok()) complain("the base cannot be opened again: " + again.error().message());
}

/// In every other world it is served as the daemon serves what is behind a connection.
std::unique_ptr<BlockDevice> HydrationWorld::open_base(std::shared_ptr<Life> life) {
  auto base = std::make_unique<MortalDevice>(base_, std::move(life));
  if (options_.seed % 2 == 0) return base;
  auto lasting = std::make_unique<ReconnectingDevice>(loop_, std::move(base), kConnectionPatience);
  lasting->outlast();
  return lasting;
}

/// One life of the daemon: opens the disk as the journal has it, serves guests, hydrates, dies.
Task<void> HydrationWorld::live(Death death) {
  auto life = std::make_shared<Life>();
  co_await find_base_again();
  MortalJournal journal(journal_, life);
  const DiskRecord record = journal_.disk_record(kDisk);
  std::unique_ptr<BlockDevice> store = std::make_unique<MortalDevice>(local_, life);
  const JobOptions options = draw_options();
  const auto rest = co_await load_rest(journal, record);
  if (!rest.ok()) co_return complain(rest.error().message());
  std::unique_ptr<BlockDevice> base = open_base(life);
  auto opened = co_await open_hydrating(loop_, journal, record, *rest, store, base, options);
  if (!opened.ok()) co_return complain(opened.error().message());
  HydratingDevice* const hydrating = opened->get();
  note("a life begins, " + std::to_string(hydrating->map().absent_chunks()) + " chunks absent");
  Disk disk(loop_, kDisk, std::move(*opened), record.store_uri, record.epoch);
  JobBoard board(loop_, journal);
  const auto job = board.hydrate(disk, *hydrating, options);
  if (!job.ok()) complain("hydration does not go on: " + job.error().message());
  const GuestPlan plan = draw_guest();
  Guest guest(loop_, random_, disk, *history_, plan);
  TaskScope workers;
  const std::uint64_t count = random_.between(1, 6);
  for (std::uint64_t i = 0; i < count; ++i) {
    auto worker = guest.work();
    workers.spawn(std::move(worker));
  }
  if (death != Death::kNone && !base_is_full_ && !base_holds_writes_) {
    auto disturbance = disturb(life);
    disturbances_.spawn(std::move(disturbance));
  }
  const Duration span = death == Death::kNone
                            ? kPatienceForEnd
                            : Duration(std::chrono::microseconds(random_.between(1, 150'000))) +
                                  (base_holds_writes_ ? kHoldingLife : Duration());
  if (death == Death::kNone && random_.chance(1, 2)) {
    const Duration active = std::chrono::microseconds(random_.between(1, 50'000));
    co_await pass_time(active, board, guest);
    guest.stop();
    co_await workers.join();
    co_await end_quietly(span, board, guest, disk, options.verify);
  }
  co_await pass_time(span, board, guest);
  const auto* const layer = hydrating_layer(disk);
  const bool hydrated = layer == nullptr;
  const bool mirrored = !hydrated && layer->mirrors_back();
  // Without the mirror a kill may lose what was not flushed, as a power loss does.
  const bool copied = mirrored && !base_lost_;
  if (death == Death::kKill && !copied && !hydrated) death = Death::kPowerLoss;
  strike(death, *life, guest);
  co_await workers.join();
  if (base_holds_writes_) check_patience(guest, options);
  if (!guest.violation().empty()) complain(guest.violation());
  result_.guest_requests += guest.requests();
  result_.guest_errors += guest.errors();
  co_await board.stop();
  const std::uint64_t closing = history_->tick();
  const Status closed = co_await disk.close();
  if (death == Death::kOrderly && closed.ok()) history_->acknowledge_flush(closing);
  if (death == Death::kOrderly && !closed.ok()) {
    local_->crash();
    base_->crash();
    death = Death::kPowerLoss;
  }
  co_await disturbances_.join();
  co_await die(death);
}

Task<void> HydrationWorld::die(Death death) {
  while (local_->in_flight() + base_->in_flight() > 0) {
    co_await sleep_for(loop_, std::chrono::milliseconds(1));
  }
  whole_ = journal_.disk_record(kDisk).hydration.empty();
  note(whole_ ? "whole" : "not whole yet");
  switch (death) {
    case Death::kPowerLoss:
      check_survivors("a power loss");
      break;
    case Death::kKill: {
      // The page cache survives the process: everything acknowledged is there, for now.
      const History before = *history_;
      history_->acknowledge_flush(history_->tick());
      check_survivors("a kill");
      *history_ = before;
      break;
    }
    case Death::kOrderly: {
      const History before = *history_;
      check_survivors("an orderly end");
      *history_ = before;
      break;
    }
    case Death::kNone:
      break;
  }
}

}  // namespace blockmig::sim
