// SPDX-License-Identifier: Apache-2.0
#include "blockmig/disk/bitmap_keeper.h"

#include <algorithm>
#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/base/planted.h"
#include "blockmig/disk/bitmap_records.h"
#include "blockmig/disk/region_snapshot.h"

namespace blockmig {
namespace {

using Recorded = DirtyTracking::Recorded;

}  // namespace

BitmapKeeper::BitmapKeeper(EventLoop& loop, Journal& journal, Disk& disk, Duration interval,
                           std::uint64_t region_bytes)
    : loop_(loop),
      journal_(journal),
      disk_(disk),
      interval_(interval),
      region_bytes_(region_bytes),
      wake_(loop),
      changed_(loop) {}

BitmapKeeper::~BitmapKeeper() { BM_CHECK(log_ == nullptr && !running_); }

BitmapKeeper::Kept* BitmapKeeper::look_up(const std::string& name) {
  for (const auto& kept : kept_) {
    if (kept->plan.name == name) return kept.get();
  }
  return nullptr;
}

bool BitmapKeeper::any_persistent() const {
  for (const auto& kept : kept_) {
    if (kept->plan.persistent && kept->inconsistent.empty()) return true;
  }
  return false;
}

bool BitmapKeeper::all_recorded() const {
  if (!leftovers_.empty()) return false;
  for (const auto& kept : kept_) {
    const bool wanted = kept->plan.persistent && kept->inconsistent.empty();
    if (wanted && kept->recorded == nullptr) return false;
  }
  return true;
}

void BitmapKeeper::forget_kept(const std::string& name) {
  std::erase_if(kept_, [&name](const auto& kept) { return kept->plan.name == name; });
}

std::vector<BitmapFacts> BitmapKeeper::bitmaps() const {
  std::vector<BitmapFacts> all;
  const DirtyTracking& tracking = disk_.tracking();
  for (const auto& kept : kept_) {
    const BitmapPlan& plan = kept->plan;
    BitmapFacts facts{plan.name,      plan.granularity_bytes, plan.persistent,
                      plan.recording, kept->inconsistent,     nullptr};
    facts.id = plan.id;
    if (kept->inconsistent.empty()) facts.bitmap = tracking.find(plan.name);
    all.push_back(std::move(facts));
  }
  return all;
}

Task<void> BitmapKeeper::take_turn() {
  while (in_turn_) co_await changed_.wait();
  in_turn_ = true;
}

void BitmapKeeper::end_turn() {
  in_turn_ = false;
  changed_.pulse();
}

RegionSetRecord BitmapKeeper::record_of(const Kept& kept) const {
  return bitmap_records::describe(disk_, kept.plan);
}

/// Inside a turn: what the bitmaps hold now, with `batch`, in one commit.
Task<Status> BitmapKeeper::write_down(JournalBatch batch, bool retire) {
  struct Look {
    Kept* kept;
    std::unique_ptr<DirtyFilter> now;
  };
  std::vector<Look> looks;
  batch.removed_sets.insert(batch.removed_sets.end(), leftovers_.begin(), leftovers_.end());
  // Others may add bitmaps that are not persistent meanwhile.
  for (std::size_t i = 0; i < kept_.size(); ++i) {
    Kept* const kept = kept_[i].get();
    if (!kept->plan.persistent || !kept->inconsistent.empty()) continue;
    const DirtyBitmap& bitmap = *disk_.tracking().find(kept->plan.name);
    auto now = std::make_unique<DirtyFilter>(bitmap.chunk_count());
    co_await copy_dirty(loop_, bitmap, *now, [](std::uint32_t, std::uint32_t) {});
    const RegionSetId set = bitmap_records::set_of(disk_.name(), kept->plan.name);
    const DirtyFilter nothing(bitmap.chunk_count());
    if (kept->recorded == nullptr) {
      batch.removed_sets.push_back(set);
      batch.sets.push_back(record_of(*kept));
    }
    co_await add_change_in_turns(loop_, batch,
                                 kept->recorded != nullptr ? *kept->recorded : nothing, *now, set);
    kept->recorded.reset();  // until it is known to be there
    looks.push_back({kept, std::move(now)});
  }
  Status written;
  if (retire) {
    written = co_await log_->commit(std::move(batch));
  } else {
    written = co_await log_->record(std::move(batch));
  }
  if (!written.ok()) co_return written;
  leftovers_.clear();
  for (Look& look : looks) look.kept->recorded = std::move(look.now);
  co_return written;
}

/// Every region is active, until the first checkpoint has looked.
void BitmapKeeper::arm() {
  if (log_ != nullptr) return;
  log_ = std::make_unique<ActivityLog>(loop_, journal_, bitmap_records::active_of(disk_.name()),
                                       disk_.info().size_bytes, region_bytes_);
  log_->activate_all();
  disk_.tracking().set_log(Recorded::kNamed, log_.get());
}

Task<Status> BitmapKeeper::add(BitmapPlan plan) {
  co_await take_turn();
  if (look_up(plan.name) != nullptr || stopping_) {
    end_turn();
    if (stopping_) co_return Error(ErrorCode::kShutdown, "the disk is being closed");
    co_return Error(ErrorCode::kBusy, "bitmap '" + plan.name + "' exists already");
  }
  auto bitmap = DirtyBitmap::create(disk_.info().size_bytes, plan.granularity_bytes);
  Status added = bitmap.ok() ? Status() : Status(bitmap.error());
  if (added.ok()) added = disk_.tracking().add(plan.name, *std::move(bitmap), plan.recording);
  if (!added.ok()) {
    end_turn();
    co_return added;
  }
  const std::string name = plan.name;
  const bool persistent = plan.persistent;
  auto kept = std::make_unique<Kept>();
  kept->plan = std::move(plan);
  kept_.push_back(std::move(kept));
  if (persistent) {
    // What is read from now on as the beginning must not be undone by a power loss, unmarked.
    if (!planted(PlantedBug::kBitmapBeginsUnflushed)) added = co_await disk_.flush();
    if (added.ok()) {
      arm();
      JournalBatch batch;
      added = co_await write_down(std::move(batch), false);
    }
    start_checkpoints();
  }
  if (!added.ok()) {
    const Status removed = disk_.tracking().remove(name);
    BM_CHECK(removed.ok());
    forget_kept(name);
    if (persistent) leftovers_.push_back(bitmap_records::set_of(disk_.name(), name));
  }
  end_turn();
  if (!added.ok()) co_return added.error().with_context("recording bitmap '" + name + "'");
  co_return Status();
}

Status BitmapKeeper::add_now(BitmapPlan plan, std::unique_ptr<DirtyBitmap> bitmap) {
  BM_CHECK(!plan.persistent);
  if (look_up(plan.name) != nullptr) {
    return Error(ErrorCode::kBusy, "bitmap '" + plan.name + "' exists already");
  }
  const Status added = disk_.tracking().add(plan.name, std::move(bitmap), plan.recording);
  if (!added.ok()) return added;
  kept_.push_back(std::make_unique<Kept>());
  kept_.back()->plan = std::move(plan);
  return {};
}

Error no_such_bitmap(const std::string& disk, const std::string& bitmap) {
  return Error(ErrorCode::kNotFound, "no bitmap '" + bitmap + "' of disk '" + disk +
                                         "': see 'blockmig bitmap ls " + disk + "'");
}

Task<Status> BitmapKeeper::remove(std::string name) {
  co_await take_turn();
  Kept* const kept = look_up(name);
  if (kept == nullptr) {
    end_turn();
    co_return no_such_bitmap(disk_.name(), name);
  }
  Status removed;
  if (kept->plan.persistent) {
    JournalBatch batch;
    batch.removed_sets.push_back(bitmap_records::set_of(disk_.name(), name));
    removed = co_await journal_.commit(batch);
    if (!removed.ok()) kept->recorded.reset();
  }
  if (removed.ok()) {
    const bool tracked = disk_.tracking().find(name) != nullptr;
    if (tracked) removed = disk_.tracking().remove(name);
    forget_kept(name);
  }
  end_turn();
  wake_.set();  // perhaps it was the last one
  co_return removed;
}

Task<Status> BitmapKeeper::merge(std::string target, std::vector<std::string> sources) {
  co_await take_turn();
  Status merged;
  std::vector<std::string> all = sources;
  all.push_back(target);
  for (const std::string& name : all) {
    const Kept* const kept = look_up(name);
    if (!merged.ok()) continue;
    if (kept == nullptr) {
      merged = no_such_bitmap(disk_.name(), name);
    } else if (!kept->inconsistent.empty()) {
      merged = Error(ErrorCode::kPrecondition, "bitmap '" + name + "' is inconsistent (" +
                                                   kept->inconsistent + "): remove it");
    }
  }
  if (merged.ok()) {
    DirtyBitmap& into = *disk_.tracking().find(target);
    for (const std::string& name : sources) {
      const DirtyBitmap& from = *disk_.tracking().find(name);
      if (name != target) into.merge(from);
    }
    if (look_up(target)->plan.persistent && log_ != nullptr) {
      JournalBatch batch;
      merged = co_await write_down(std::move(batch), false);
    }
  }
  end_turn();
  co_return merged;
}

void BitmapKeeper::start_checkpoints() {
  wake_.set();
  if (running_ || stopping_) return;
  running_ = true;
  auto task = run_checkpoints();
  scope_.spawn(std::move(task));
}

Task<void> BitmapKeeper::run_checkpoints() {
  while (!stopping_ && log_ != nullptr) {
    const TimePoint next = loop_.now() + interval_;
    co_await wake_.wait_until(next);
    wake_.reset();
    if (stopping_) break;
    if (any_persistent()) {
      co_await checkpoint();
    } else {
      co_await disarm();
    }
  }
  running_ = false;
}

/// Lets regions leave that no write has touched. One that fails is tried again: what is recorded
/// stays true, only with more surplus.
Task<void> BitmapKeeper::checkpoint() {
  // What leaves the log while nothing can be recorded would only have to come back.
  if (log_->abandoned() || !journal_.health().ok()) co_return;
  if (log_->active_regions() == 0 && all_recorded()) co_return;
  log_->begin_retire(false);
  // The first is that of every activity log; a job's alone is hardly ever caught by it.
  if (!planted(PlantedBug::kRetireWithoutQuiesce) && !planted(PlantedBug::kBitmapRetiresEarly)) {
    co_await disk_.tracking().quiesce(disk_.gate());
  }
  co_await take_turn();
  JournalBatch batch;
  const Status written = co_await write_down(std::move(batch), true);
  if (!written.ok()) log_->cancel_retire();
  end_turn();
}

/// The last persistent bitmap is gone: writes need no log any more.
Task<void> BitmapKeeper::disarm() {
  co_await take_turn();
  Status removed;
  if (!any_persistent() && !leftovers_.empty()) {
    JournalBatch batch;
    batch.removed_sets = leftovers_;
    removed = co_await journal_.commit(batch);
    if (removed.ok()) leftovers_.clear();
  }
  if (!any_persistent() && removed.ok()) {
    disk_.tracking().set_log(Recorded::kNamed, nullptr);
    co_await disk_.tracking().quiesce(disk_.gate());
    while (log_->in_use()) co_await log_->committed().wait();
    JournalBatch batch;
    batch.removed_sets.push_back(bitmap_records::active_of(disk_.name()));
    removed = co_await journal_.commit(batch);
    static_cast<void>(removed);  // it means nothing without a bitmap
    log_.reset();
  }
  end_turn();
}

Task<Status> BitmapKeeper::close(std::string identity) {
  if (failed_) {
    co_await abandon();
    co_return Status();
  }
  stopping_ = true;
  wake_.set();
  co_await scope_.join();
  co_await take_turn();
  Status written;
  if (log_ != nullptr) {
    // Nothing is written any more: no region is active, and the bitmaps are exact. What a failed
    // commit has left recorded takes part again after the first, and leaves with the second.
    do {
      log_->begin_retire(true);
      JournalBatch batch;
      batch.notes.push_back(bitmap_records::closed_in_order(disk_.name(), identity));
      written = co_await write_down(std::move(batch), true);
    } while (written.ok() && log_->active_regions() != 0);
    disk_.tracking().set_log(Recorded::kNamed, nullptr);
    while (log_->in_use()) co_await log_->committed().wait();
    log_.reset();
  }
  end_turn();
  co_return written;
}

Task<void> BitmapKeeper::abandon() {
  stopping_ = true;
  wake_.set();
  co_await scope_.join();
  co_await take_turn();
  if (log_ != nullptr) {
    disk_.tracking().set_log(Recorded::kNamed, nullptr);
    while (log_->in_use()) co_await log_->committed().wait();
    log_.reset();
  }
  end_turn();
}

}  // namespace blockmig
