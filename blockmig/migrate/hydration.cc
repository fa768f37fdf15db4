// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/hydration.h"

#include <algorithm>
#include <utility>

#include "blockmig/base/back_off.h"
#include "blockmig/base/planted.h"
#include "blockmig/base/units.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/offload.h"
#include "blockmig/migrate/guest_pace.h"
#include "blockmig/migrate/pivot.h"
#include "blockmig/migrate/room_watch.h"

namespace blockmig {
namespace {

/// What is pulled again after a crash at most, besides the pulls in flight.
constexpr std::uint64_t kSaveEveryBytes = 64 * kMiB;
constexpr Duration kLookAgain = std::chrono::milliseconds(100);
constexpr BackOff kSaveBackOff{kLookAgain, std::chrono::seconds(1)};
/// Between closed gates behind which a request stays.
constexpr BackOff kUnwrapBackOff{kLookAgain, std::chrono::seconds(5)};
constexpr Duration kBetweenRounds = std::chrono::nanoseconds(1);
/// Readers that wait come first; but for a base that fails them they wait in vain.
constexpr Duration kHeldForReaders = std::chrono::milliseconds(200);
/// Passes over what was written meanwhile that left more than half of it.
constexpr unsigned kIdlePasses = 3;
/// Fences at the end, and what they may take for what was written last.
constexpr unsigned kHashTries = 10;
constexpr Duration kHashUnderFence = std::chrono::milliseconds(5);

bool interrupted(const Migration& migration) { return migration.interrupt.is_set(); }

Error interruption() {
  return Error(ErrorCode::kShutdown,
               "the daemon stops in mid-hydration: it goes on when the disk is served again");
}

void hold_up(Migration& migration, const Error& error) { migration.status.error = error; }

/// Something that must work before the end is tried again, less and less often.
Task<void> wait_to_retry(Migration& migration, unsigned& failures) {
  const TimePoint until = migration.loop.now() + kSaveBackOff.after(failures++);
  co_await migration.interrupt.wait_until(until);
}

Task<Status> save_presence(Migration& migration, unsigned& failures) {
  const Status saved = co_await migration.hydrating->save();
  if (saved.ok()) {
    failures = 0;
    co_return saved;
  }
  hold_up(migration, saved.error());
  co_await wait_to_retry(migration, failures);
  co_return saved;
}

/// Pushes until every chunk is present, or it is interrupted.
Task<void> push_all(Migration& migration) {
  HydratingDevice& device = *migration.hydrating;
  std::uint64_t cursor = 0;
  std::uint64_t absent_at_save = device.map().absent_bytes();
  unsigned failures = 0;
  TimePoint held_until{};
  RoomWatch room(migration);
  while (!device.whole() && !interrupted(migration)) {
    if (!device.guest_waits()) held_until = migration.loop.now() + kHeldForReaders;
    const bool for_readers = device.guest_waits() && migration.loop.now() < held_until;
    const bool paused = migration.paused_by_user || migration.yields;
    const bool held = paused || for_readers;
    std::uint64_t started = 0;
    if (!held) {
      held_until = migration.loop.now() + kHeldForReaders;
      TokenBucket& rate = *migration.push_rate;
      std::uint64_t most = migration.options.copy_request_bytes;
      if (!rate.unlimited()) most = std::min(most, rate.rate() / 10);
      if (migration.share.limited()) co_await migration.share.wait_turn();
      most = std::min(most, migration.share.turn_bytes());
      started = device.push(cursor, most);
      migration.share.charge(started);
      if (started > 0 && !rate.unlimited()) co_await rate.take(started);
    }
    const std::optional<Error> failing = device.filling_fails();
    if (failing) {
      hold_up(migration, *failing);
    } else if (device.pull_failures() == 0 && !migration.held) {
      migration.status.error.reset();
    }
    room.look(failing);
    if (absent_at_save - device.map().absent_bytes() >= kSaveEveryBytes) {
      absent_at_save = device.map().absent_bytes();
      const Status saved = co_await save_presence(migration, failures);
      static_cast<void>(saved);  // tried again later; what is pulled twice is pulled twice
    }
    if (device.whole()) break;
    if (started > 0) {
      // What is cached is moved on the spot: without a turn for the others, all of it at once.
      co_await sleep_for(migration.loop, kBetweenRounds);
      continue;
    }
    const TimePoint until = migration.loop.now() + kLookAgain;
    co_await device.changed().wait_until(until);
  }
  room.over();
}

/// Every chunk is present: makes it durable, then the journal says that the new store is the disk.
Task<Status> record_whole(Migration& migration) {
  unsigned failures = 0;
  while (!interrupted(migration)) {
    const Status saved = co_await save_presence(migration, failures);
    if (!saved.ok()) continue;
    DiskRecord record;
    record.disk = migration.disk.name();
    record.store_uri = migration.disk.store_uri();
    record.epoch = migration.disk.epoch();
    record.size_bytes = migration.disk.info().size_bytes;
    record.previous_uri = migration.hydrating->record().base_uri;
    // With it the job's end, as at a switchover (I7).
    JournalBatch batch;
    batch.disks.push_back(record);
    if (!planted(PlantedBug::kWholeBeforeJobEnds)) {
      batch.jobs.push_back(record_of_job(migration, std::string(to_string(JobState::kDone))));
    }
    Status recorded = co_await migration.journal.reserve(batch);
    if (recorded.ok()) recorded = co_await migration.journal.commit(batch);
    if (recorded.ok()) co_return recorded;
    // It may have happened: either is true now, so nothing has to be undone.
    hold_up(migration, recorded.error());
    co_await wait_to_retry(migration, failures);
  }
  co_return interruption();
}

/// Hashes what nobody has hashed yet, until little is left or a guest keeps up with it.
Task<void> hash_rest(Migration& migration) {
  HydrationDigests& digests = *migration.hydration_digests;
  unsigned stuck = 0;
  while (!interrupted(migration) && stuck < kIdlePasses) {
    const std::uint64_t before = digests.unknown_bytes();
    if (before <= HydrationDigests::kUnderFenceBytes) co_return;
    const Status hashed = co_await digests.run_pass(migration.interrupt);
    if (!hashed.ok()) co_return;  // what cannot be known is not reported
    if (digests.unknown_bytes() > before / 2) ++stuck;
  }
}

/// With the gate closed. False: not yet, and it is worth another try. The last one may take what a
/// switchover may.
Task<bool> know_all(Migration& migration, unsigned tries) {
  if (!migration.hydration_digests) co_return true;
  const bool last = tries + 1 >= kHashTries;
  const Duration limit = migration.options.max_downtime;
  const Duration budget = last ? limit : std::min(limit, kHashUnderFence);
  const bool known = co_await migration.hydration_digests->finish(budget);
  if (!known && !last) co_return false;
  migration.hydration_digests->detach();
  if (!known) {
    migration.hydration_digests.reset();
    note_decision(migration, "no digest of the whole disk",
                  "the guest writes faster than it can be read, or it cannot be read");
  }
  co_return true;
}

/// Takes the layer away from under the guest, who waits for the requests under way, and for the
/// last chunks to be hashed.
Task<Status> unwrap(Migration& migration) {
  Disk& disk = migration.disk;
  // Or a slow one keeps requests inside, and its guest before a closed gate again and again.
  migration.hydrating->leave_base();
  bool over = false;
  unsigned in_vain = 0;
  for (unsigned tries = 0; !over && !interrupted(migration);) {
    if (migration.hydration_digests) co_await hash_rest(migration);
    const TimePoint deadline = migration.loop.now() + migration.options.max_downtime;
    const bool drained = co_await disk.gate().close_until(deadline);
    if (drained) over = co_await know_all(migration, tries++);
    if (over) {
      migration.hydrating->set_on_pulled({});
      auto local = migration.hydrating->release_local();
      migration.old_store = disk.swap_layer(std::move(local));
    }
    disk.gate().open();
    if (over) break;
    const Duration wait = drained ? kLookAgain : kUnwrapBackOff.after(in_vain++);
    const TimePoint until = migration.loop.now() + wait;
    co_await migration.interrupt.wait_until(until);
  }
  if (!over) co_return interruption();
  co_return Status();
}

/// After a restart nothing is known of what is in the new store.
Task<void> begin_digests_anew(Migration& migration) {
  const bool wanted = migration.options.verify != Verify::kNone;
  if (migration.hydration_digests || !wanted) co_return;
  auto created = HydrationDigests::create(migration.loop, migration.disk);
  if (!created.ok()) co_return;  // the report will have none
  migration.hydration_digests = std::move(*created);
  hash_what_is_pulled(migration);
  BlockDevice& local = migration.hydrating->local();
  co_await migration.hydration_digests->begin_from(local);
}

/// The disk's digest at the instant when its store was whole and alone.
Task<void> report_digest(Migration& migration) {
  if (!migration.hydration_digests) co_return;
  const ChunkDigests& digests = migration.hydration_digests->digests();
  const Digest image = co_await offload(migration.loop, [&digests] { return digests.image(); });
  migration.status.source_digest = image.hex();
  migration.status.target_digest = image.hex();
  migration.status.read_back = migration.options.verify == Verify::kFull;
  migration.hydration_digests.reset();
}

/// The job ends, and the layer stays on the disk.
void stop_digests(Migration& migration) {
  migration.hydrating->set_on_pulled({});
  migration.hydration_digests.reset();
}

}  // namespace

void hash_what_is_pulled(Migration& migration) {
  HydrationDigests* const digests = migration.hydration_digests.get();
  migration.hydrating->set_on_pulled(
      [digests](ByteRange range, ConstBytes content) { digests->pulled(range, content); });
}

std::string ways_on(const std::string& disk, const std::string& base_uri) {
  return "wait until it has fetched all from " + base_uri + "; or stop it with 'blockmig detach " +
         disk + "', which keeps what is recorded: 'blockmig serve " + disk + "' goes on with it";
}

HydrationOptions hydration_options(const JobOptions& options) {
  HydrationOptions hydration;
  hydration.patience = options.base_patience;
  hydration.reverse_deadline =
      std::min<Duration>(20 * options.mirror_deadline, options.base_patience);
  hydration.keep_deadline =
      std::min({hydration.keep_deadline, options.base_patience / 2, options.target_timeout});
  hydration.window_bytes = options.copy_window_bytes;
  hydration.pull_bytes = options.copy_request_bytes;
  hydration.compare = options.verify != Verify::kNone;
  hydration.read_back = options.verify == Verify::kFull;
  hydration.keep_reads = options.mode != Mode::kShared || options.hydrate != Hydrate::kNever;
  return hydration;
}

JobOptions options_of(const HydrationRecord& record, const JobOptions& asked) {
  JobOptions options = asked;
  options.mode = record.base_generation != 0 ? Mode::kShared : Mode::kPostcopy;
  options.hydrate = record.hydrate;
  options.granularity_bytes = record.granularity_bytes;
  options.reverse_mirror = record.reverse_mirror;
  options.bwlimit_bytes_per_second = record.bwlimit_bytes_per_second;
  if (record.patience_ms != 0)
    options.base_patience = std::chrono::milliseconds(record.patience_ms);
  if (record.read_back) options.verify = Verify::kFull;
  return options;
}

Task<Result<HydrationRecord>> load_rest(Journal& journal, const DiskRecord& disk) {
  const auto found = co_await journal.load_hydration(disk.disk);
  if (!found.ok()) co_return found.error();
  if (!found->has_value() || (*found)->regions != disk.hydration) {
    co_return Error(ErrorCode::kProtocol, "disk '" + disk.disk + "' is hydrating (" +
                                              disk.hydration +
                                              "), but the journal does not say from where");
  }
  co_return **found;
}

Task<Result<std::unique_ptr<HydratingDevice>>> open_hydrating(EventLoop& loop, Journal& journal,
                                                              const DiskRecord& disk,
                                                              const HydrationRecord& hydration,
                                                              std::unique_ptr<BlockDevice>& local,
                                                              std::unique_ptr<BlockDevice>& base,
                                                              const JobOptions& options) {
  const auto saved = co_await journal.load_regions(disk.disk, hydration.regions);
  if (!saved.ok()) co_return saved.error();
  auto map = PresenceMap::load(disk.size_bytes, hydration.granularity_bytes, *saved);
  if (!map.ok()) co_return map.error();
  for (const BlockDevice* const store : {local.get(), base.get()}) {
    if (store->info().min_io_bytes > hydration.granularity_bytes) {
      co_return Error(ErrorCode::kPrecondition,
                      store->info().name + " takes whole blocks of " +
                          format_bytes(store->info().min_io_bytes) + " only now, and disk '" +
                          disk.disk + "' goes on in chunks of " +
                          format_bytes(hydration.granularity_bytes) +
                          ": it must take smaller ones, as it did at the switchover");
    }
    if (store->info().size_bytes >= disk.size_bytes) continue;
    co_return Error(ErrorCode::kPrecondition,
                    store->info().name + " is smaller than disk '" + disk.disk + "'");
  }
  HydratingDevice::Parts parts{
      loop, journal, hydration, std::move(*map), std::move(local), nullptr, disk.size_bytes};
  const HydrationOptions how = hydration_options(options);
  auto device = std::make_unique<HydratingDevice>(std::move(parts), how);
  device->attach_base(std::move(base));
  co_return std::move(device);
}

Task<Status> run_hydration(Migration& migration) {
  enter_phase(migration.status.phase, Phase::kHydrating);
  migration.push_rate =
      std::make_unique<TokenBucket>(migration.loop, migration.options.bwlimit_bytes_per_second);
  co_await migration.hydrating->settle_base();
  co_await begin_digests_anew(migration);
  co_await push_all(migration);
  if (interrupted(migration)) {
    stop_digests(migration);
    co_return interruption();
  }
  const Status recorded = co_await record_whole(migration);
  if (!recorded.ok()) {
    stop_digests(migration);
    co_return recorded;
  }
  const HydrationRecord record = migration.hydrating->record();
  capture_hydration(migration, migration.status);
  const Status unwrapped = co_await unwrap(migration);
  if (!unwrapped.ok()) {
    // Recorded it is: the new store is the disk. The layer goes when the disk is closed.
    stop_digests(migration);
    co_return Status();
  }
  migration.hydrating = nullptr;
  migration.status.remaining_bytes = 0;
  migration.status.depends_on.clear();
  migration.status.reverse_mirror = false;
  co_await forget_rest(migration.journal, record);
  co_await report_digest(migration);
  co_return Status();
}

void capture_hydration(const Migration& migration, JobStatus& status) {
  if (migration.hydrating == nullptr) return;
  const HydratingDevice& device = *migration.hydrating;
  const HydrationStats& stats = device.stats();
  status.remaining_bytes = device.map().absent_bytes();
  status.pulls_demanded = stats.pulls[static_cast<std::size_t>(PullKind::kDemand)];
  status.pulls_prefetched = stats.pulls[static_cast<std::size_t>(PullKind::kPrefetch)];
  status.pulls_pushed = stats.pulls[static_cast<std::size_t>(PullKind::kPush)];
  status.bytes_hydrated = 0;
  for (const std::uint64_t bytes : stats.bytes_pulled) status.bytes_hydrated += bytes;
  const std::uint64_t copied_zeros = migration.engine ? migration.engine->stats().bytes_zero : 0;
  status.bytes_zero = copied_zeros + stats.bytes_zero;
  status.bytes_spared = stats.bytes_spared;
  status.mismatched_chunks = stats.mismatches;
  const GuestLatency demand = guest_latency(stats.demand_latency);
  status.demand_p50_ms = demand.p50_ms;
  status.demand_p99_ms = demand.p99_ms;
  status.reverse_mirror = device.mirrors_back();
  // While the layer is there the journal says that the rest is in the base, whether any is or not.
  const bool alone = device.mirrors_back() || device.base_left();
  status.depends_on = alone ? "" : device.at_rest() ? "the folder" : "both stores";
}

}  // namespace blockmig
