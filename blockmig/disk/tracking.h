// SPDX-License-Identifier: Apache-2.0
// DirtyTracking: which bitmaps see a disk's writes. TrackedWrite: the marks of one write.
//
// Tracking is two-sided (I5): a write marks before it is submitted, and again when it has ended,
// however it ended (a failed write may have changed part of the range, trap 5). The first mark
// keeps a pass from calling the chunk clean; the second repairs a lease that cleared the mark while
// the write was in flight, and covers writes that were already in flight when the bitmap was
// attached (I17): what is marked at the end are the bitmaps attached *then*. Thread rule: the
// disk's loop; writes that other threads serve mark their MarkShard in the same two-sided way.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bitmap/dirty_bitmap.h"
#include "blockmig/base/planted.h"
#include "blockmig/disk/activity_log.h"
#include "blockmig/disk/mark_shard.h"
#include "blockmig/io/event.h"
#include "blockmig/io/gate.h"

namespace blockmig {

class DirtyTracking final : private PendingMarks {
 public:
  explicit DirtyTracking(EventLoop& loop) : loop_(loop), written_(loop) {}
  ~DirtyTracking();
  DirtyTracking(const DirtyTracking&) = delete;
  DirtyTracking& operator=(const DirtyTracking&) = delete;

  /// A bitmap that a user asked for: there until removed, through every migration. Without
  /// `recording` no write marks it: it is there to be merged into.
  Status add(std::string name, std::unique_ptr<DirtyBitmap> bitmap, bool recording = true);
  Status remove(std::string_view name);
  const DirtyBitmap* find(std::string_view name) const;
  /// To merge into, which only adds marks.
  DirtyBitmap* find(std::string_view name);
  std::vector<std::string> names() const;

  /// The bitmap of the running migration, of which there is one at a time. It outlives its
  /// attachment.
  void attach_job(DirtyBitmap& bitmap);
  /// Nothing where another one is attached: that is another migration's.
  void detach_job(const DirtyBitmap* bitmap);
  DirtyBitmap* job() const { return job_; }

  /// A thread's marks count from here on; `shard` outlives its removal, which is after the last
  /// mark().
  void add_shard(MarkShard& shard);
  void remove_shard(MarkShard& shard);

  /// Whose record of the bitmaps an activity log keeps true: of the job's, of the named ones'.
  enum class Recorded : unsigned char { kJob, kNamed };
  /// From the next write on, the range must be active in `log`; it outlives quiesce() after its
  /// removal (null).
  void set_log(Recorded whose, ActivityLog* log) {
    logs_[static_cast<std::size_t>(whose)].store(log, std::memory_order_seq_cst);
  }
  ActivityLog* log(Recorded whose) const {
    return logs_[static_cast<std::size_t>(whose)].load(std::memory_order_seq_cst);
  }
  /// Any thread, inside the gate: a write to the range may go ahead now.
  bool covers(std::uint64_t offset, std::uint64_t length) const {
    bool all = true;
    for (const auto& entry : logs_) {
      ActivityLog* const of = entry.load(std::memory_order_seq_cst);
      if (of != nullptr && !of->covers(offset, length)) all = false;
    }
    return all;
  }
  /// Waits until covers(). With no await between its return and the first mark the write is safe.
  Task<Status> activate(std::uint64_t offset, std::uint64_t length);
  /// Waits until every write that was admitted before the call has ended, on every thread. One at a
  /// time; later callers wait.
  Task<void> quiesce(Gate& gate);

  void mark_named(std::uint64_t offset, std::uint64_t length) {
    for (DirtyBitmap* const bitmap : recording_) bitmap->mark(offset, length);
  }
  void mark_job(std::uint64_t offset, std::uint64_t length) {
    if (job_ != nullptr) job_->mark(offset, length);
  }

 private:
  friend class TrackedWrite;
  void deliver() override;
  /// Tells the shards what there is to mark; what they had was delivered.
  void instruct_shards();

  struct Named {
    std::string name;
    std::unique_ptr<DirtyBitmap> bitmap;
    bool recording = true;
  };
  const Named* look_up(std::string_view name) const;
  /// After every change of `named_`.
  void list_recording();

  std::vector<Named> named_;
  std::vector<DirtyBitmap*> recording_;  ///< of `named_`: what a write marks
  DirtyBitmap* job_ = nullptr;
  std::vector<MarkShard*> shards_;
  std::array<std::atomic<ActivityLog*>, 2> logs_{};

  EventLoop& loop_;
  /// Writes under way, by the generation in which they began.
  std::array<std::uint64_t, 2> writing_{};
  unsigned generation_ = 0;
  bool quiescing_ = false;
  Event written_;  ///< pulsed when the last write of a generation ended, and when quiesce() did
};

class [[nodiscard]] TrackedWrite final {
 public:
  /// `mirrored`: a WriteMirror owns this request and keeps the job's bitmap itself.
  TrackedWrite(DirtyTracking& tracking, std::uint64_t offset, std::uint64_t length, bool mirrored)
      : tracking_(tracking),
        offset_(offset),
        length_(length),
        mirrored_(mirrored),
        generation_(tracking.generation_) {
    ++tracking_.writing_[generation_];
    mark();
  }
  TrackedWrite(const TrackedWrite&) = delete;
  TrackedWrite& operator=(const TrackedWrite&) = delete;
  ~TrackedWrite() {
    if (!planted(PlantedBug::kUnmarkedAfterCompletion)) mark();
    if (--tracking_.writing_[generation_] == 0 && tracking_.quiescing_) tracking_.written_.pulse();
  }

 private:
  void mark() {
    tracking_.mark_named(offset_, length_);
    if (!mirrored_) tracking_.mark_job(offset_, length_);
  }

  DirtyTracking& tracking_;
  std::uint64_t offset_;
  std::uint64_t length_;
  bool mirrored_;
  unsigned generation_;
};

}  // namespace blockmig
