// SPDX-License-Identifier: Apache-2.0
#include "settle_world.h"

#include <algorithm>
#include <utility>

#include "blockmig/migrate/checkpoint.h"
#include "blockmig/migrate/hydration.h"
#include "blockmig/migrate/pivot.h"
#include "blockmig/migrate/unfinished_jobs.h"

namespace blockmig::sim {
namespace {

const std::string kDisk = "disk";
const std::string kRegions = "absent.job-0.2";
constexpr std::uint32_t kChunk = 65536;
constexpr Duration kPatienceForEnd = std::chrono::seconds(60);

std::uint64_t draw_size(Random& random) {
  return random.between(3, 16) * kChunk + random.below(4) * 3 * kSectorBytes;
}

std::uint64_t draw_short(Random& random) {
  return random.between(2, 4) * kChunk + random.below(4) * 3 * kSectorBytes;
}

}  // namespace

SettleWorld::SettleWorld(const RunOptions& options)
    : SimRun(options, options.sweep ? draw_short : draw_size),
      history_(std::make_unique<History>(size_bytes_)) {
  journal_.on_decision = [this](const DiskRecord& record) { check_decision(record); };
}

SettleWorld::~SettleWorld() = default;

/// As a move in mode shared and some time afterwards leave it: chunks are at rest, or were fetched,
/// or were written in the overlay.
void SettleWorld::prepare() {
  overlay_ = std::make_shared<FaultDevice>(loop_, random_, "overlay", size_bytes_);
  folder_.image = std::make_shared<FaultDevice>(loop_, random_, "image", size_bytes_);
  if (random_.chance(1, 2)) overlay_->fill(std::byte{0xA5});
  Manifest manifest(size_bytes_);
  manifest.generation = 3;
  manifest.owner = kDisk;
  manifest.owner_epoch = 2;
  // The daemon died before it had described more than what is at rest.
  manifest.changing = random_.chance(1, 4);
  auto map = *PresenceMap::create(size_bytes_, kChunk);
  prepare_overlay(*map, manifest);
  folder_.manifest = std::make_shared<const Manifest>(std::move(manifest));
  history_->acknowledge_flush(history_->tick());
  first_image_.resize(size_bytes_);
  folder_.image->peek(0, first_image_);
  HydrationRecord rest{kDisk, 2, "sim:image", kChunk, false, kRegions, "job-0"};
  rest.base_generation = 3;
  rest.hydrate = random_.chance(1, 2) ? Hydrate::kOnDemand : Hydrate::kNever;
  journal_.preset({kDisk, "sim:overlay", 2, size_bytes_, "sim:image", kRegions}, rest,
                  map->durable_form());
}

void SettleWorld::prepare_overlay(PresenceMap& map, Manifest& manifest) {
  auto absent = *DirtyBitmap::create(size_bytes_, kChunk);
  std::vector<std::byte> content(kChunk);
  const std::uint64_t absent_percent = random_.between(10, 100);
  for (std::uint64_t chunk = 0; chunk < absent->chunk_count(); ++chunk) {
    const ByteRange range = absent->chunk_range(chunk);
    const bool hole = random_.chance(1, 5);
    const bool rests = random_.below(100) < absent_percent;
    const bool newer = !rests && random_.chance(1, 2);
    const MutableBytes bytes(content.data(), range.length);
    std::fill(bytes.begin(), bytes.end(), std::byte{0});
    for (std::uint64_t at = 0; !hole && at < range.length;) {
      const std::uint64_t sector = (range.offset + at) / kSectorBytes;
      const ByteRange where = history_->sector_range(sector);
      const MutableBytes here = bytes.subspan(at, where.length);
      const SectorValue value = history_->next_value();
      history_->encode(sector, value, here);
      history_->end_write(history_->begin_write(sector, {value}), true);
      at += where.length;
    }
    if (!rests) overlay_->preload(range.offset, bytes);
    if (newer) {
      if (manifest.changing) {
        // Hashed before the guest changed it and, when it had left, changed it back.
        manifest.digests.set(range.offset, bytes);
      } else {
        manifest.digests.invalidate(range.offset, 1);
      }
      // The image has something older, which is nobody's business any more.
      std::fill(bytes.begin(), bytes.end(), std::byte{0x5A});
    } else if (!hole) {
      manifest.digests.set(range.offset, bytes);
    }
    if (newer || !hole) folder_.image->preload(range.offset, bytes);
    // Zeros are never absent.
    if (rests && !hole) absent->mark(range.offset, range.length);
    if (rests && hole) overlay_->preload(range.offset, bytes);
  }
  map.set_absent(*absent);
}

JobOptions SettleWorld::draw_options() {
  JobOptions options;
  options.mode = Mode::kSettle;
  options.granularity_bytes = kChunk;
  options.on_stall = random_.chance(1, 2) ? OnStall::kThrottle : OnStall::kMirror;
  options.copy_depth = static_cast<std::uint32_t>(random_.between(1, 4));
  options.copy_request_bytes = kChunk << random_.below(2);
  options.copy_window_bytes = options.copy_request_bytes * random_.between(1, 4);
  options.max_downtime = std::chrono::milliseconds(random_.between(50, 300));
  options.target_timeout = std::chrono::milliseconds(random_.between(500, 3000));
  options.checkpoint_interval = std::chrono::microseconds(random_.between(500, 40'000));
  options.activity_region_bytes = 65536;
  options.bwlimit_bytes_per_second =
      random_.chance(1, 2) ? random_.between(2000, 20'000) * kKiB : 0;
  static constexpr Verify kLevels[] = {Verify::kNone, Verify::kDigest, Verify::kDigest,
                                       Verify::kFull};
  options.verify = kLevels[random_.below(4)];
  static constexpr OnTargetError kTroubles[] = {OnTargetError::kRetry, OnTargetError::kRetry,
                                                OnTargetError::kPause, OnTargetError::kFail};
  options.on_target_error = kTroubles[random_.below(4)];
  options.retry_for = std::chrono::milliseconds(random_.below(2000));
  options.on_restart = random_.chance(2, 3) ? OnRestart::kResume : OnRestart::kAbort;
  if (options_.sweep) {
    options.on_restart = options_.seed % 8 == 7 ? OnRestart::kAbort : OnRestart::kResume;
    options.checkpoint_interval = std::chrono::microseconds(random_.between(500, 3000));
  }
  return options;
}

bool SettleWorld::settled() const { return journal_.disk_record(kDisk).hydration.empty(); }

Task<void> SettleWorld::story() {
  prepare();
  if (!folder_.manifest->changing) {
    auto stranger = read_as_a_stranger();
    disturbances_.spawn(std::move(stranger));
  }
  // Of a sweep every other seed has one besides.
  const std::uint64_t deaths = options_.sweep ? options_.seed % 2 ^ 1 : random_.between(1, 4);
  for (std::uint64_t i = 0; i < deaths; ++i) {
    if (!options_.sweep) plan_faults();
    const Death death = random_.chance(1, 2) ? Death::kKill : Death::kPowerLoss;
    co_await live(death);
    if (settled()) break;
  }
  heal();
  last_life_ = true;
  do {
    died_early_ = false;
    co_await live(Death::kNone);
  } while (died_early_);
  if (!settled()) complain("healed, and the disk is not settled");
  strangers_leave_ = true;
  co_await disturbances_.join();
  check_end();
  finished_ = true;
}

/// As the journal has it: on the image alone, or on the overlay above it.
Task<std::unique_ptr<Disk>> SettleWorld::open_disk(std::shared_ptr<Life> life, Journal& journal) {
  const DiskRecord record = journal_.disk_record(kDisk);
  if (settled()) {
    co_return std::make_unique<Disk>(loop_, kDisk,
                                     std::make_unique<MortalDevice>(folder_.image, life),
                                     record.store_uri, record.epoch);
  }
  const auto rest = co_await load_rest(journal, record);
  if (!rest.ok()) {
    if (!life->over) complain(rest.error().message());
    co_return nullptr;
  }
  const FolderImage::Expected expected{rest->base_generation, 0, size_bytes_, kDisk, rest->epoch};
  const std::shared_ptr<const ChunkDigests> digests(folder_.manifest, &folder_.manifest->digests);
  SharedImageOptions patience;
  patience.patience = std::chrono::milliseconds(random_.between(300, 3000));
  auto image = std::make_unique<SharedImage>(
      loop_, std::make_unique<SimFolderImage>(folder_, expected, life), digests, patience);
  const Status found = co_await image->open();
  if (!found.ok() && !life->over)
    complain("the image cannot be opened: " + found.error().message());
  std::unique_ptr<BlockDevice> base = std::move(image);
  std::unique_ptr<BlockDevice> store = std::make_unique<MortalDevice>(overlay_, life);
  const JobOptions options = options_of(*rest);
  auto opened = co_await open_hydrating(loop_, journal, record, *rest, store, base, options);
  if (!opened.ok()) {
    if (!life->over) complain(opened.error().message());
    co_return nullptr;
  }
  co_return std::make_unique<Disk>(loop_, kDisk, std::move(*opened), record.store_uri,
                                   record.epoch);
}

/// Jobs, one after the other, until one has settled the disk.
Task<void> SettleWorld::settle(std::shared_ptr<Life> life, JobBoard& board, Guest& guest,
                               TimePoint end) {
  const auto jobs = co_await journal_.load_jobs();
  std::optional<JobRecord> unfinished;
  for (const JobRecord& job : *jobs) {
    if (job.state == "running" || job.state == "paused") unfinished = job;
  }
  while (loop_.now() < end && !settled() && guest.violation().empty() && !life->over) {
    if (board.job_of(kDisk).empty()) {
      auto opener = std::make_unique<SimMergeOpener>(loop_, random_, folder_, life);
      const bool resumes = unfinished && job_options_.on_restart == OnRestart::kResume;
      if (!resumes) job_options_ = draw_options();
      // In the end the operator lets it go as fast as it can: nothing else beats some guests.
      if (last_life_) job_options_.bwlimit_bytes_per_second = 0;
      Result<std::string> id = std::string();
      if (resumes) {
        id =
            board.resume_recorded(*disk_, std::move(opener), job_options_, *unfinished, recovered_);
        ++result_.resumed;
      } else {
        id = board.start(*disk_, std::move(opener), job_options_);
      }
      unfinished.reset();
      last_job_ = id.ok() ? *id : "";
      if (!id.ok()) complain("a job did not start: " + id.error().message());
      note("job " + (id.ok() ? *id : ""));
    }
    const TimePoint next = std::min(end, loop_.now() + std::chrono::milliseconds(5));
    co_await sleep_for(loop_, next - loop_.now());
  }
}

const char* SettleWorld::name_of(Death death) {
  switch (death) {
    case Death::kPowerLoss:
      return "a power loss";
    case Death::kKill:
      return "a kill";
    case Death::kNone:
      return "its end";
  }
  return "";
}

bool SettleWorld::can_die() const { return life_ && !life_->over; }

void SettleWorld::die_now(bool power_loss) {
  early_death_ = power_loss ? Death::kPowerLoss : Death::kKill;
  died_early_ = true;
  strike(early_death_, *life_);
}

void SettleWorld::strike(Death death, Life& life) {
  note(name_of(death));
  life.over = death != Death::kNone;
  if (life.over) ++result_.crashes;
  if (death == Death::kPowerLoss) {
    overlay_->crash();
    folder_.image->crash();
    if (random_.chance(1, 2)) folder_.time_as_left = true;
  }
  if (guest_ != nullptr && life.over) guest_->cut();
  if (guest_ != nullptr && !life.over) guest_->stop();
  overlay_->unstall();
  folder_.image->unstall();
}

/// What a restart does about the jobs that its journal names: they are tracked again, or end.
Task<void> SettleWorld::take_up_jobs(Journal& journal) {
  recovered_ = {};
  const auto jobs = co_await journal_.load_jobs();
  if (settled()) co_return;
  const UnfinishedJobs found = find_unfinished(*jobs);
  if (found.open.size() > 1) complain("jobs before the disk's latest one are to go on (I7)");
  for (const JobRecord& job : found.stale) co_await end_job(journal, job);
  for (const JobRecord& job : found.open) {
    if (job_options_.on_restart != OnRestart::kResume) {
      co_await end_job(journal, job);
      continue;
    }
    auto tracking = co_await recover(journal, *disk_, job.id, loop_);
    if (tracking.ok()) recovered_ = std::move(*tracking);
    if (!recovered_.empty()) ++result_.recovered;
  }
}

Task<void> SettleWorld::end_job(Journal& journal, JobRecord job) {
  JournalBatch batch;
  batch.removed_sets = records_of(kDisk, job.id);
  job.state = "failed";
  batch.jobs.push_back(job);
  const Status ends = co_await journal.commit(batch);
  Status forgotten;
  if (!ends.ok()) forgotten = co_await forget(journal, kDisk, job.id);
  static_cast<void>(forgotten);  // as lost as the record of its end
}

GuestPlan SettleWorld::draw_guest() {
  GuestPlan plan;
  plan.max_request_sectors = random_.between(1, 300);
  plan.max_think = std::chrono::microseconds(random_.between(0, 5000));
  // Some write so little that a chunk can be as it was when a power loss has taken what was new.
  if (random_.chance(1, 2) || options_.sweep) {
    plan.max_request_sectors = random_.between(1, 8);
    plan.max_think = std::chrono::milliseconds(random_.between(5, 60));
  }
  return plan;
}

Task<void> SettleWorld::live(Death death) {
  auto life = std::make_shared<Life>();
  life_ = life;
  MortalJournal journal(journal_, life);
  disk_ = co_await open_disk(life, journal);
  if (!disk_) co_return;
  JobBoard board(loop_, journal);
  const Status loaded = co_await board.load();
  if (!loaded.ok()) complain(loaded.error().message());
  last_job_.clear();
  co_await take_up_jobs(journal);
  note(settled() ? "a life on the image" : "a life on the overlay");
  const GuestPlan plan = draw_guest();
  Guest guest(loop_, random_, *disk_, *history_, plan);
  guest_ = &guest;
  if (life->over) guest.cut();
  TaskScope workers;
  for (std::uint64_t i = random_.between(1, 4); i > 0; --i) {
    auto worker = guest.work();
    workers.spawn(std::move(worker));
  }
  TaskScope disturbance;
  if (death != Death::kNone && !options_.sweep) {
    auto disturbing = disturb(death, life, board);
    disturbance.spawn(std::move(disturbing));
  }
  // Some outlast all that befalls them.
  const std::uint64_t longest = random_.chance(1, 3) && !options_.sweep ? 4'000'000 : 150'000;
  const Duration span = death == Death::kNone
                            ? kPatienceForEnd
                            : Duration(std::chrono::microseconds(random_.between(1, longest)));
  const TimePoint end = loop_.now() + span;
  co_await settle(life, board, guest, end);
  const Duration rest = std::chrono::microseconds(random_.between(1, 20'000));
  co_await sleep_for(loop_, rest);
  check_report(board);
  if (guest.errors() > 0 && !overlay_fails_ && !settled()) {
    complain("a guest has got an error for the image that it is settled into (I8)");
  }
  if (life->over) {
    death = early_death_;
  } else {
    strike(death, *life);
  }
  guest_ = nullptr;
  life_.reset();
  co_await workers.join();
  co_await disturbance.join();
  if (!guest.violation().empty()) complain(guest.violation());
  result_.guest_requests += guest.requests();
  result_.guest_errors += guest.errors();
  co_await board.stop();
  co_await board.leave_disks();
  if (!recovered_.empty()) co_await discard(*disk_, std::move(recovered_));
  const std::uint64_t closing = history_->tick();
  const Status closed = co_await disk_->close();
  if (death == Death::kNone && closed.ok()) history_->acknowledge_flush(closing);
  disk_.reset();
  while (overlay_->in_flight() + folder_.image->in_flight() > 0) {
    co_await sleep_for(loop_, std::chrono::milliseconds(1));
  }
  if (death == Death::kNone && !closed.ok()) folder_.image->crash();  // it has failed a flush
  if (folder_.changed_unsaid) complain("the image was changed before its manifest said so");
  ++(settled() ? result_.jobs_done : result_.jobs_not_done);
  check_survivors(death);
}

}  // namespace blockmig::sim
