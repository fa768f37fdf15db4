// SPDX-License-Identifier: Apache-2.0
#include "blockmig/disk/tracking.h"

#include <algorithm>

namespace blockmig {

DirtyTracking::~DirtyTracking() { BM_CHECK(shards_.empty()); }

Status DirtyTracking::add(std::string name, std::unique_ptr<DirtyBitmap> bitmap) {
  if (find(name) != nullptr) return Error(ErrorCode::kBusy, "bitmap '" + name + "' exists already");
  deliver();  // what was written before is not in the new one
  bitmap->set_pending(this);
  named_.emplace_back(std::move(name), std::move(bitmap));
  instruct_shards();
  return {};
}

Status DirtyTracking::remove(std::string_view name) {
  const auto place = std::find_if(named_.begin(), named_.end(),
                                  [&](const auto& entry) { return entry.first == name; });
  if (place == named_.end()) {
    return Error(ErrorCode::kNotFound, "no bitmap '" + std::string(name) + "'");
  }
  deliver();
  named_.erase(place);
  instruct_shards();
  return {};
}

void DirtyTracking::attach_job(DirtyBitmap* bitmap) {
  deliver();
  if (job_ != nullptr) job_->set_pending(nullptr);
  job_ = bitmap;
  if (job_ != nullptr) job_->set_pending(this);
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
    for (auto& entry : named_) entry.second->merge(*marks.folded);
    if (job_ != nullptr) job_->merge(*marks.folded);
  }
}

void DirtyTracking::instruct_shards() {
  const DirtyBitmap* finest = job_;
  for (const auto& entry : named_) {
    if (finest == nullptr || entry.second->granularity_bytes() < finest->granularity_bytes()) {
      finest = entry.second.get();
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

const DirtyBitmap* DirtyTracking::find(std::string_view name) const {
  for (const auto& [entry_name, bitmap] : named_) {
    if (entry_name == name) return bitmap.get();
  }
  return nullptr;
}

std::vector<std::string> DirtyTracking::names() const {
  std::vector<std::string> names;
  for (const auto& entry : named_) names.push_back(entry.first);
  return names;
}

}  // namespace blockmig
