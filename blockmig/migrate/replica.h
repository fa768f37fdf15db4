// SPDX-License-Identifier: Apache-2.0
// Replica: owns the target of a migration. Every request to the target goes through it.
//
// A request is a TargetOp that owns its bytes. Whoever submitted it waits for op->done, with a
// deadline of its own; the op itself runs until the device has answered, however late, and keeps
// its bytes and its range until then (I9). abandon() settles every op at once for those who wait,
// and leaves only the device's own late answers to be drained, so nobody else waits for a frozen
// target. They are not cut off: a server does what it has read from a connection all the same, and
// until it has answered, nobody else may write there (unanswered.h).
//
// It knows what the target has taken and not made durable since. When a flush fails or the
// connection breaks, that is marked dirty before anybody hears of the error (I11), and the target
// is in trouble() until forget_trouble() (target_trouble.h).
//
// Lifecycle: submit…, then either release_target() when idle (the switchover), or abandon();
// drain(); close. Thread rule: the disk's loop.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "blockmig/base/bytes.h"
#include "blockmig/base/digest.h"
#include "blockmig/block/block_device.h"
#include "blockmig/io/event.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/migrate/buffer.h"
#include "blockmig/migrate/target_pace.h"
#include "blockmig/migrate/unflushed_writes.h"

namespace blockmig {

enum class TargetOpKind : unsigned char {
  kWrite,
  kZero,
  kFlush,
  kRead,
  kReadBack,  ///< from the medium, as far as the device can (BlockDevice::read_medium)
};

struct TargetOp {
  TargetOp(EventLoop& loop, TargetOpKind op_kind) : kind(op_kind), done(loop) {}

  TargetOpKind kind;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  bool fua = false;
  bool bulk = false;               ///< the copier's: counts for bulk_waits()
  std::shared_ptr<Buffer> memory;  ///< owns what `bytes` points into
  MutableBytes bytes;              ///< kWrite: what to write; kRead, kReadBack: what was read
  std::optional<Digest> digest;    ///< kWrite: what `bytes` must still be when it is answered
  Event done;                      ///< set when `status` is final for those who wait
  Status status;
  TimePoint submitted{};
  Duration took{};
  std::uint64_t number = 0;  ///< the replica's
  std::uint64_t flush = 0;   ///< kFlush: of UnflushedWrites
  /// Runs once, when the device has answered (kMismatch: `digest`); not after abandon().
  std::function<void(TargetOp&)> on_answer;
};

class Replica final {
 public:
  Replica(EventLoop& loop, std::unique_ptr<BlockDevice> target);
  ~Replica();

  /// Starts the request; the op may be answered before submit() returns.
  void submit(const std::shared_ptr<TargetOp>& op);
  /// What the target says of the range (BlockDevice::extents), until the deadline, then kTimedOut,
  /// or abandon(); in flight until it has answered.
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length,
                                            std::optional<TimePoint> deadline = {});
  /// Submits, and waits until the answer or the deadline. kTimedOut leaves the op running.
  Task<Status> perform(std::shared_ptr<TargetOp> op, TimePoint deadline);

  const DeviceInfo& info() const { return target_->info(); }
  BlockDevice& target() { return *target_; }
  /// An extents() has not been answered, whether anybody waits for it or not.
  bool is_asked() const { return !questions_.empty(); }
  std::uint64_t in_flight() const {
    return ops_.size() + questions_.size() + (revival_ != nullptr ? 1 : 0);
  }
  /// A revive() has not ended, whether anybody waits for it or not.
  bool is_reviving() const { return revival_ != nullptr; }
  /// What is wrong where it is, and has been for too long.
  Error silent_in_revival() const;
  std::uint64_t bulk_in_flight_bytes() const { return bulk_in_flight_bytes_; }
  /// Of what is written to it.
  const TargetPace& pace() const { return pace_; }
  /// A bulk request has been in flight for longer than `patience`: others should leave it room.
  bool bulk_waits(Duration patience) const {
    return !bulk_submitted_.empty() && loop_.now() - *bulk_submitted_.begin() > patience;
  }
  /// Waits until nothing is in flight; false at the deadline.
  Task<bool> idle_until(TimePoint deadline);
  /// Something is in flight, and for `patience` the device has answered nothing at all.
  bool stuck(Duration patience) const {
    return !ops_.empty() && loop_.now() - progress_at_ >= patience;
  }
  /// The earliest time at which stuck(patience) can become true.
  TimePoint stuck_at(Duration patience) const {
    return (ops_.empty() ? loop_.now() : progress_at_) + patience;
  }

  /// From now on what is lost is marked in `dirty`, which outlives the replica's requests. Errors
  /// as DirtyBitmap::create().
  Status mark_losses_in(DirtyBitmap& dirty);
  /// A flush that worked has made durable all that it has taken. Nobody knows without
  /// mark_losses_in(): then no.
  bool all_flushed() const { return unflushed_ && unflushed_->bytes() == 0; }
  /// Before `dirty` goes.
  void forget_losses() { unflushed_.reset(); }
  /// The first error of the target since the last forget_trouble().
  const std::optional<Error>& trouble() const { return trouble_; }
  void note_trouble(const Error& error);
  void forget_trouble() { trouble_.reset(); }
  /// How often something was lost. Whoever concludes from a flush that something is durable there
  /// looks whether this changed meanwhile.
  std::uint64_t losses() const { return losses_; }
  std::uint64_t errors() const { return errors_; }
  /// The connection to it was lost, and neither has revive() brought it back, nor, where nobody
  /// asked for mark_losses_in(), the device itself: then a request that was made later has worked.
  bool disconnected() const { return disconnected_; }
  /// Opens the target anew if it lost something (BlockDevice::revive). Requires in_flight() == 0,
  /// and is in flight itself until the device has answered; who waits for that waits until the
  /// deadline, then kTimedOut, or abandon(). Requests made meanwhile fail with kDisconnected.
  Task<Status> revive(std::optional<TimePoint> deadline = {});

  void abandon();
  /// As abandon(), and drain() ends at once where the device allows it (BlockDevice::abandon): what
  /// the target has been sent may still take effect.
  void cut();
  bool abandoned() const { return abandoned_; }
  /// Waits for the device's own answers, without limit.
  Task<void> drain();
  Task<Status> close();
  /// Requires in_flight() == 0: a late write must not meet the new owner's (I9).
  std::unique_ptr<BlockDevice> release_target();

 private:
  struct Question;
  struct Revival;
  Task<void> run(std::shared_ptr<TargetOp> op);
  Task<void> ask(std::shared_ptr<Question> question, std::uint64_t offset, std::uint64_t length);
  Task<void> open_anew(std::shared_ptr<Revival> revival);
  Error being_opened() const;
  void answered(const std::shared_ptr<TargetOp>& op, Status status);
  void judge(const TargetOp& op, const Status& status);
  void lose();

  EventLoop& loop_;
  std::unique_ptr<BlockDevice> target_;
  TaskScope scope_;
  std::map<std::uint64_t, std::shared_ptr<TargetOp>> ops_;  ///< by number: in order of submission
  std::list<std::shared_ptr<Question>> questions_;          ///< extents() under way
  std::shared_ptr<Revival> revival_;                        ///< under way
  std::uint64_t last_number_ = 0;
  std::uint64_t bulk_in_flight_bytes_ = 0;
  TargetPace pace_;
  std::multiset<TimePoint> bulk_submitted_;
  TimePoint progress_at_{};  ///< the last answer, or when the first op in flight was submitted
  Event idle_;
  std::unique_ptr<UnflushedWrites> unflushed_;
  DirtyBitmap* lost_ = nullptr;  ///< where it is marked
  std::optional<Error> trouble_;
  std::uint64_t losses_ = 0;
  std::uint64_t errors_ = 0;
  bool to_revive_ = false;
  bool disconnected_ = false;
  std::uint64_t last_lost_ = 0;  ///< the last request made before that was known
  bool abandoned_ = false;
};

}  // namespace blockmig
