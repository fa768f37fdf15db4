// SPDX-License-Identifier: Apache-2.0
#include "blockmig/disk/activity_log.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/base/planted.h"
#include "blockmig/disk/region_snapshot.h"
#include "blockmig/io/cancel.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kSmallestDefaultRegionBytes = 4U << 20;
constexpr std::uint64_t kMostDefaultRegions = 65536;
/// A record says the size in 32 bits; a disk of more than 128 TiB has more regions.
constexpr std::uint64_t kLargestRegionBytes = std::uint64_t{1} << 31;
constexpr unsigned kCommitAttempts = 8;
constexpr Duration kRetryDelay = std::chrono::milliseconds(5);

/// One user of the log; the last one to leave says so.
class Counted final {
 public:
  Counted(std::uint32_t& count, Event& changed) : count_(count), changed_(changed) { ++count_; }
  ~Counted() {
    if (--count_ == 0) changed_.pulse();
  }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

 private:
  std::uint32_t& count_;
  Event& changed_;
};

void for_each_set(const DirtyFilter& set, const std::function<void(std::uint64_t)>& visit) {
  const std::uint64_t end = set.chunk_count();
  for (std::uint64_t i = set.next_set(0, end); i < end; i = set.next_set(i + 1, end)) visit(i);
}

}  // namespace

std::uint64_t ActivityLog::default_region_bytes(std::uint64_t size_bytes) {
  const std::uint64_t wanted = std::bit_ceil(size_bytes / kMostDefaultRegions);
  return std::clamp(wanted, kSmallestDefaultRegionBytes, kLargestRegionBytes);
}

ActivityLog::ActivityLog(EventLoop& loop, Journal& journal, RegionSetId set,
                         std::uint64_t size_bytes, std::uint64_t region_bytes)
    : loop_(loop),
      journal_(journal),
      set_(std::move(set)),
      size_bytes_(size_bytes),
      shift_(static_cast<unsigned>(
          std::countr_zero(region_bytes != 0 ? region_bytes : default_region_bytes(size_bytes)))),
      region_count_((size_bytes + (std::uint64_t{1} << shift_) - 1) >> shift_),
      states_(std::make_unique<std::atomic<std::uint8_t>[]>(region_count_)),
      recorded_(region_count_),
      leaving_(region_count_),
      wanted_(region_count_),
      committed_(loop) {
  BM_CHECK(region_bytes == 0 || std::has_single_bit(region_bytes));
  BM_CHECK(std::uint64_t{1} << shift_ <= kLargestRegionBytes);
}

ActivityLog::~ActivityLog() { BM_CHECK(users_ == 0); }

RegionSetRecord ActivityLog::description() const {
  RegionSetRecord record;
  record.disk = set_.disk;
  record.name = set_.name;
  record.kind = "active";
  record.size_bytes = size_bytes_;
  record.granularity_bytes = std::uint32_t{1} << shift_;
  return record;
}

void ActivityLog::activate_all() {
  BM_CHECK(!described_);
  recorded_.set_range(0, region_count_);
  for (std::uint64_t i = 0; i < region_count_; ++i) states_[i].store(kActive);
}

Status ActivityLog::load(const std::vector<RegionContainer>& containers) {
  const Status loaded =
      for_each_run(containers, region_count_, [this](std::uint64_t first, std::uint64_t end) {
        recorded_.set_range(first, end);
        for (std::uint64_t i = first; i < end; ++i) states_[i].store(kActive);
      });
  described_ = loaded.ok();
  return loaded;
}

bool ActivityLog::take_back(std::uint64_t first, std::uint64_t last) {
  bool all = true;
  for (std::uint64_t region = first; region <= last; ++region) {
    if ((states_[region].load() & kActive) != 0) continue;
    // Recorded as active, and no commit is on its way that says otherwise: it just goes on.
    if (!committing_ && !rewrite_ && leaving_.test(region)) {
      leaving_.clear_range(region, region + 1);
      states_[region].store(kActive | kTouched);
      continue;
    }
    all = false;
    wanted_.set(region);
  }
  return all;
}

Task<Status> ActivityLog::activate(std::uint64_t offset, std::uint64_t length) {
  const Counted user(users_, committed_);
  const std::uint64_t first = offset >> shift_;
  const std::uint64_t last = (offset + length - 1) >> shift_;
  if (planted(PlantedBug::kActivityLogSkipped)) {
    for (std::uint64_t i = first; i <= last; ++i) states_[i].store(kActive | kTouched);
    co_return Status();
  }
  unsigned failures = 0;
  while (!take_back(first, last)) {
    if (committing_) {
      co_await committed_.wait();
      continue;
    }
    JournalBatch batch;
    const Status written = co_await write(batch, false);
    if (written.ok()) continue;
    // One that has failed for good needs no more attempts.
    if (++failures < kCommitAttempts && journal_.health().ok()) {
      co_await sleep_for(loop_, kRetryDelay);
      continue;
    }
    const Status given_up = co_await give_up();
    if (!given_up.ok()) co_return written;
  }
  co_return Status();
}

Task<Status> ActivityLog::give_up() {
  while (committing_) co_await committed_.wait();
  if (abandoned_) co_return Status();
  committing_ = true;
  const Status distrusted = co_await journal_.distrust_sets();
  if (distrusted.ok()) {
    abandoned_ = true;
    // Also what began to leave meanwhile: no commit will say what becomes of it.
    leaving_.clear_range(0, region_count_);
    wanted_.clear_range(0, region_count_);
    for (std::uint64_t i = 0; i < region_count_; ++i) states_[i].store(kActive);
  }
  committing_ = false;
  committed_.pulse();
  co_return distrusted;
}

void ActivityLog::begin_retire(bool all) {
  BM_CHECK(leaving_.count() == 0);
  // A write into a region that left could not come back: there is nothing to wait for any more.
  if (abandoned_ && !planted(PlantedBug::kRetiresAfterJournal)) return;
  for (std::uint64_t region = 0; region < region_count_; ++region) {
    std::uint8_t now = states_[region].load();
    if ((now & kActive) == 0) continue;
    if (all || (now & kTouched) == 0) {
      // A write that comes in between has set kTouched, and the region stays.
      if (states_[region].compare_exchange_strong(now, 0)) leaving_.set(region);
    } else {
      states_[region].fetch_and(static_cast<std::uint8_t>(~kTouched));
    }
  }
}

void ActivityLog::cancel_retire() {
  for_each_set(leaving_, [this](std::uint64_t region) { states_[region].store(kActive); });
  leaving_.clear_range(0, region_count_);
}

Task<Status> ActivityLog::write_batch(JournalBatch batch, bool retire) {
  const Counted user(users_, committed_);
  while (committing_) co_await committed_.wait();
  if (abandoned_) {
    co_return Error(ErrorCode::kIo, "the journal failed: nothing about this disk is recorded");
  }
  const Status written = co_await write(batch, retire);
  co_return written;
}

Task<Status> ActivityLog::write(JournalBatch& batch, bool retire) {
  committing_ = true;
  DirtyFilter next(region_count_);
  DirtyFilter adding(region_count_);
  for_each_set(recorded_, [&](std::uint64_t region) {
    if (!retire || !leaving_.test(region)) next.set(region);
  });
  for_each_set(wanted_, [&](std::uint64_t region) {
    next.set(region);
    adding.set(region);
  });
  wanted_.clear_range(0, region_count_);
  if (!described_) batch.sets.push_back(description());
  const DirtyFilter nothing(region_count_);
  const bool whole = !described_ || rewrite_;
  if (whole) batch.removed_sets.push_back(set_);
  if (whole && described_) batch.sets.push_back(description());
  add_change(batch, whole ? nothing : recorded_, next, set_);
  const Status written = co_await journal_.commit(batch);
  if (written.ok()) {
    described_ = true;
    rewrite_ = false;
    recorded_.clear_range(0, region_count_);
    for_each_set(next, [this](std::uint64_t region) { recorded_.set(region); });
    for_each_set(adding, [this](std::uint64_t region) {
      states_[region].store(kActive | kTouched);
      leaving_.clear_range(region, region + 1);
    });
    if (retire) leaving_.clear_range(0, region_count_);
    if (whole) {
      for_each_set(next, [this](std::uint64_t region) {
        if (!leaving_.test(region)) states_[region].fetch_or(kActive);
      });
    }
  } else {
    // It may have happened or not. Nothing that was recorded as active is forgotten, and what was
    // leaving is used again only when a commit has written it all anew.
    rewrite_ = true;
    leaving_.clear_range(0, region_count_);
    for_each_set(adding, [this](std::uint64_t region) { recorded_.set(region); });
  }
  committing_ = false;
  committed_.pulse();
  co_return written;
}

std::uint64_t ActivityLog::active_regions() const {
  std::uint64_t count = 0;
  for (std::uint64_t i = 0; i < region_count_; ++i) count += states_[i].load() & kActive;
  return count;
}

}  // namespace blockmig
