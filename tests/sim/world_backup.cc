// SPDX-License-Identifier: Apache-2.0
// Backups in a world: a full one, and others into it of what a bitmap marks, between moves, over
// crashes and restarts. A copy that is complete is the disk of its instant, whole (I5); one that
// ended before is brought up to date by any bitmap that marked all that the one before it lacked.
#include <algorithm>

#include "world.h"

namespace blockmig::sim {

void World::note_instant() {
  bitmaps_of_instant_.clear();
  if (keeper_ == nullptr || !options_.backups) return;
  for (const BitmapFacts& facts : keeper_->bitmaps()) {
    if (facts.bitmap != nullptr && facts.recording) bitmaps_of_instant_.push_back(facts.name);
  }
}

/// Empty: everything is to be copied.
std::string World::usable_bitmap() const {
  for (const BitmapFacts& facts : keeper_->bitmaps()) {
    const bool fits = std::find(bitmaps_of_copy_.begin(), bitmaps_of_copy_.end(), facts.name) !=
                      bitmaps_of_copy_.end();
    if (fits && facts.bitmap != nullptr) return facts.name;
  }
  return {};
}

Task<void> World::back_up_once() {
  watch_guest();
  BitmapPlan fresh;
  fresh.name = "backup-" + std::to_string(++backups_);
  fresh.granularity_bytes = 4096u << random_.below(5);
  BitmapPlan plan = fresh;
  const Status added = co_await keeper_->add(std::move(plan));
  if (crashed_) co_return;
  if (!added.ok()) note("no bitmap: " + added.error().message());
  const std::string since = usable_bitmap();
  if (since.empty()) {
    bitmaps_of_copy_.clear();
    copy_ = make_store("copy-" + std::to_string(backups_));
    if (random_.chance(1, 2)) copy_->fill(std::byte{0xA5});
  }
  target_ = copy_;
  // The daemon refuses a target that an ended job's requests may still change (I9).
  co_await board_->wait_answered("sim:" + copy_->info().name, std::chrono::seconds(10));
  if (crashed_ || !board_->unanswered().empty()) co_return;
  target_->reopen();
  target_->mutable_info().zero_initialised = false;
  if (!options_.sweep) plan_faults(*target_);
  target_lies_ = false;
  JobOptions options = draw_options();
  options.mode = Mode::kSnapshot;
  options.point_in_time = true;
  options.since_bitmap = since;
  options.on_restart = OnRestart::kAbort;
  options.keep_record = false;
  if (options.verify == Verify::kFull) options.verify = Verify::kDigest;
  auto opener = make_opener(target_);
  const auto job = board_->start(*disk_, std::move(opener), options, "as planned");
  if (!job.ok()) co_return complain("a backup did not start: " + job.error().message());
  note("backup " + *job + (since.empty() ? ", full" : ", since " + since));
  planned_[*job] = {options, target_};
  co_await see_job_through(*job);
  if (crashed_) co_return;
  const bool done = board_->status(*job)->state == JobState::kDone;
  if (done) ++(since.empty() ? result_.backups : result_.incrementals);
  // Of a copy that was not made nothing has begun; of one that was, what it began with may go.
  std::string gone = done ? since : fresh.name;
  if (gone.empty() || (done && random_.chance(1, 2))) co_return;
  const Status removed = co_await keeper_->remove(std::move(gone));
  if (!removed.ok()) note("a bitmap stays: " + removed.error().message());
}

Task<void> World::reopen_backups() {
  std::string nothing_to_compare;
  const Status opened = co_await keeper_->open(true, std::move(nothing_to_compare));
  if (!opened.ok()) blame("the bitmaps cannot be taken up: " + opened.error().message());
}

}  // namespace blockmig::sim
