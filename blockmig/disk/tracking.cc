// SPDX-License-Identifier: Apache-2.0
#include "blockmig/disk/tracking.h"

#include <algorithm>

#include "blockmig/io/cancel.h"

namespace blockmig {
namespace {

/// Writes of other threads take microseconds.
constexpr Duration kShardPollInterval = std::chrono::microseconds(50);

}  // namespace

DirtyTracking::~DirtyTracking() { BM_CHECK(shards_.empty()); }

Status DirtyTracking::add(std::string name, std::unique_ptr<DirtyBitmap> bitmap, bool recording) {
  if (find(name) != nullptr) return Error(ErrorCode::kBusy, "bitmap '" + name + "' exists already");
  deliver();  // what was written before is not in the new one
  if (recording) bitmap->set_pending(this);
  named_.push_back({std::move(name), std::move(bitmap), recording});
  list_recording();
  return {};
}

Status DirtyTracking::remove(std::string_view name) {
  const Named* const found = look_up(name);
  if (found == nullptr) {
    return Error(ErrorCode::kNotFound, "no bitmap '" + std::string(name) + "'");
  }
  deliver();
  named_.erase(named_.begin() + (found - named_.data()));
  list_recording();
  return {};
}

void DirtyTracking::list_recording() {
  recording_.clear();
  for (const Named& entry : named_) {
    if (entry.recording) recording_.push_back(entry.bitmap.get());
  }
  instruct_shards();
}

void DirtyTracking::attach_job(DirtyBitmap& bitmap) {
  BM_CHECK(job_ == nullptr);  // whoever has it would miss writes from now on (I5)
  deliver();
  job_ = &bitmap;
  job_->set_pending(this);
  instruct_shards();
}

void DirtyTracking::detach_job(const DirtyBitmap* bitmap) {
  if (job_ == nullptr || job_ != bitmap) return;
  deliver();
  job_->set_pending(nullptr);
  job_ = nullptr;
  instruct_shards();
}

void DirtyTracking::add_shard(MarkShard& shard) {
  shards_.push_back(&shard);
  deliver();
  instruct_shards();
}

void DirtyTracking::remove_shard(MarkShard& shard) {
  deliver();
  shard.stop_recording();
  std::erase(shards_, &shard);
}

void DirtyTracking::deliver() {
  for (MarkShard* shard : shards_) {
    if (!shard->pending()) continue;
    const MarkShard::Marks marks = shard->take();
    for (const ByteRange& range : marks.ranges) {
      mark_named(range.offset, range.length);
      mark_job(range.offset, range.length);
    }
    if (marks.folded == nullptr) continue;
    for (DirtyBitmap* const bitmap : recording_) bitmap->merge(*marks.folded);
    if (job_ != nullptr) job_->merge(*marks.folded);
  }
}

void DirtyTracking::instruct_shards() {
  const DirtyBitmap* finest = job_;
  for (const DirtyBitmap* const bitmap : recording_) {
    if (finest == nullptr || bitmap->granularity_bytes() < finest->granularity_bytes()) {
      finest = bitmap;
    }
  }
  for (MarkShard* shard : shards_) {
    if (finest == nullptr) {
      shard->stop_recording();
    } else {
      shard->record(finest->size_bytes(), finest->granularity_bytes());
    }
  }
}

Task<Status> DirtyTracking::activate(std::uint64_t offset, std::uint64_t length) {
  while (!covers(offset, length)) {
    for (const auto& entry : logs_) {
      ActivityLog* const of = entry.load();
      if (of == nullptr || of->covers(offset, length)) continue;
      const Status active = co_await of->activate(offset, length);
      if (!active.ok()) co_return active;
    }
  }
  co_return Status();
}

Task<void> DirtyTracking::quiesce(Gate& gate) {
  while (quiescing_) co_await written_.wait();
  quiescing_ = true;
  const unsigned ended = generation_;
  generation_ ^= 1;
  while (writing_[ended] != 0) co_await written_.wait();
  // Other threads' writes are short, and whoever enters from here on sees what was done before.
  gate.watch_shards();
  while (!gate.shards_were_empty()) co_await sleep_for(loop_, kShardPollInterval);
  quiescing_ = false;
  written_.pulse();
}

const DirtyTracking::Named* DirtyTracking::look_up(std::string_view name) const {
  for (const Named& entry : named_) {
    if (entry.name == name) return &entry;
  }
  return nullptr;
}

const DirtyBitmap* DirtyTracking::find(std::string_view name) const {
  const Named* const found = look_up(name);
  return found != nullptr ? found->bitmap.get() : nullptr;
}

DirtyBitmap* DirtyTracking::find(std::string_view name) {
  const Named* const found = look_up(name);
  return found != nullptr ? found->bitmap.get() : nullptr;
}

std::vector<std::string> DirtyTracking::names() const {
  std::vector<std::string> names;
  for (const Named& entry : named_) names.push_back(entry.name);
  return names;
}

}  // namespace blockmig
