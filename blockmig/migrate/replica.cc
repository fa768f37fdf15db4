// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/replica.h"

#include <string>
#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/base/planted.h"
#include "blockmig/migrate/target_trouble.h"

namespace blockmig {
namespace {

std::string what_of(const TargetOp& op) {
  switch (op.kind) {
    case TargetOpKind::kWrite:
    case TargetOpKind::kZero:
      return "writing the target at offset " + std::to_string(op.offset);
    case TargetOpKind::kFlush:
      return "flushing the target";
    case TargetOpKind::kRead:
    case TargetOpKind::kReadBack:
      return "reading the target at offset " + std::to_string(op.offset);
  }
  return "the target";
}

/// Bytes that a request keeps under way: zeros do not travel, however many.
std::uint64_t load_of(const TargetOp& op) { return op.kind == TargetOpKind::kZero ? 0 : op.length; }

Error given_up() { return Error(ErrorCode::kCancelled, "the target was given up"); }

}  // namespace

struct Replica::Question {
  explicit Question(EventLoop& loop) : done(loop) {}
  Event done;
  Result<std::vector<Extent>> found = given_up();
};

struct Replica::Revival {
  explicit Revival(EventLoop& loop) : done(loop) {}
  Event done;
  Status status = given_up();
};

Replica::Replica(EventLoop& loop, std::unique_ptr<BlockDevice> target)
    : loop_(loop), target_(std::move(target)), progress_at_(loop.now()), idle_(loop) {
  idle_.set();
}

Replica::~Replica() { BM_CHECK(in_flight() == 0); }

void Replica::submit(const std::shared_ptr<TargetOp>& op) {
  op->submitted = loop_.now();
  if (abandoned_) {
    op->status = given_up();
    op->done.set();
    return;
  }
  if (revival_) {
    op->status = being_opened();
    if (op->on_answer) std::exchange(op->on_answer, nullptr)(*op);
    op->done.set();
    return;
  }
  if (ops_.empty()) progress_at_ = op->submitted;
  op->number = ++last_number_;
  ops_.emplace(op->number, op);
  if (op->bulk) {
    bulk_submitted_.insert(op->submitted);
    bulk_in_flight_bytes_ += load_of(*op);
  }
  if (unflushed_ && op->kind == TargetOpKind::kFlush) op->flush = unflushed_->flush_begins();
  idle_.reset();
  scope_.spawn(run(op));
}

Task<Status> Replica::perform(std::shared_ptr<TargetOp> op, TimePoint deadline) {
  submit(op);
  const bool answered_in_time = co_await op->done.wait_until(deadline);
  if (!answered_in_time) {
    co_return Error(ErrorCode::kTimedOut, "target " + info().name + " does not answer");
  }
  co_return op->status;
}

Task<Result<std::vector<Extent>>> Replica::extents(std::uint64_t offset, std::uint64_t length,
                                                   std::optional<TimePoint> deadline) {
  auto question = std::make_shared<Question>(loop_);
  if (abandoned_) co_return std::move(question->found);
  if (revival_) co_return being_opened();
  idle_.reset();
  questions_.push_back(question);
  scope_.spawn(ask(question, offset, length));
  bool answered = true;
  if (deadline) {
    answered = co_await question->done.wait_until(*deadline);
  } else {
    co_await question->done.wait();
  }
  if (!answered)
    co_return Error(ErrorCode::kTimedOut, "target " + info().name + " does not answer");
  co_return std::move(question->found);
}

Task<void> Replica::ask(std::shared_ptr<Question> question, std::uint64_t offset,
                        std::uint64_t length) {
  auto found = co_await target_->extents(offset, length);
  if (!question->done.is_set()) question->found = std::move(found);
  question->done.set();
  questions_.remove(question);
  if (in_flight() == 0) idle_.set();
}

Task<void> Replica::run(std::shared_ptr<TargetOp> op) {
  Status status;
  const WriteFlags write_flags{.fua = op->fua};
  const ZeroFlags zero_flags{.fua = op->fua};
  switch (op->kind) {
    case TargetOpKind::kWrite: {
      const ConstBytes from = op->bytes;
      status = co_await target_->write(op->offset, from, write_flags);
      break;
    }
    case TargetOpKind::kZero:
      status = co_await target_->write_zeroes(op->offset, op->length, zero_flags);
      break;
    case TargetOpKind::kFlush:
      status = co_await target_->flush();
      break;
    case TargetOpKind::kRead: {
      const MutableBytes into = op->bytes;
      status = co_await target_->read_once(op->offset, into);
      break;
    }
    case TargetOpKind::kReadBack: {
      const MutableBytes into = op->bytes;
      status = co_await target_->read_medium(op->offset, into);
      break;
    }
  }
  if (status.ok() && op->digest && digest_of(op->bytes) != *op->digest) {
    status =
        Error(ErrorCode::kMismatch, "verification failed: what was written to target " +
                                        info().name + " at offset " + std::to_string(op->offset) +
                                        " changed in memory on its way there");
  }
  answered(op, std::move(status));
}

void Replica::answered(const std::shared_ptr<TargetOp>& op, Status status) {
  const TimePoint now = loop_.now();
  op->took = now - op->submitted;
  if (op->kind == TargetOpKind::kWrite) {
    pace_.answered(op->length, op->took, now - progress_at_);
  }
  progress_at_ = now;
  judge(*op, status);
  if (!op->done.is_set()) {
    op->status = std::move(status);
    if (op->on_answer) std::exchange(op->on_answer, nullptr)(*op);
    op->done.set();
  }
  if (op->bulk) {
    bulk_submitted_.erase(bulk_submitted_.find(op->submitted));
    bulk_in_flight_bytes_ -= load_of(*op);
  }
  ops_.erase(op->number);
  if (in_flight() == 0) idle_.set();
}

/// Before anybody hears of the answer: what it says about what the target holds.
void Replica::judge(const TargetOp& op, const Status& status) {
  if (abandoned_) return;
  if (!status.ok() && status.error().code() == ErrorCode::kDisconnected) {
    to_revive_ = disconnected_ = true;
    last_lost_ = last_number_;
  }
  if (!unflushed_) {
    if (status.ok() && op.number > last_lost_) to_revive_ = disconnected_ = false;
    return;
  }
  const bool flush = op.kind == TargetOpKind::kFlush;
  if (flush) {
    if (status.ok()) unflushed_->flush_worked(op.flush);
    unflushed_->flush_ended(op.flush);
  }
  const bool write = op.kind == TargetOpKind::kWrite || op.kind == TargetOpKind::kZero;
  // A write that failed may have reached it in part; whoever sent it marks that.
  if (status.ok() && write) unflushed_->taken(op.offset, op.length);
  if (status.ok() || !is_trouble(status.error())) return;
  ++errors_;
  note_trouble(status.error().with_context(what_of(op)));
  if (status.error().code() == ErrorCode::kDisconnected) {
    if (!planted(PlantedBug::kReconnectKeepsUnflushedClean)) lose();
  } else if (flush || op.fua) {
    to_revive_ = true;
    if (!planted(PlantedBug::kFsyncRetriedAndBelieved)) lose();
  }
}

void Replica::lose() {
  ++losses_;
  unflushed_->lose_into(*lost_);
}

Status Replica::mark_losses_in(DirtyBitmap& dirty) {
  auto unflushed = UnflushedWrites::create(dirty.size_bytes(), dirty.granularity_bytes());
  if (!unflushed.ok()) return unflushed.error();
  unflushed_ = std::move(*unflushed);
  lost_ = &dirty;
  return {};
}

void Replica::note_trouble(const Error& error) {
  if (!trouble_) trouble_ = error;
}

Error Replica::being_opened() const {
  return Error(ErrorCode::kDisconnected, info().name + " is being opened anew");
}

Error Replica::silent_in_revival() const {
  return Error(ErrorCode::kTimedOut,
               "target " + info().name + " is being opened anew, and does not answer");
}

Task<Status> Replica::revive(std::optional<TimePoint> deadline) {
  BM_CHECK(in_flight() == 0);
  if (!to_revive_) co_return Status();
  // What was answered after the loss was noticed is not believed either.
  const bool keeps = planted(PlantedBug::kReconnectKeepsUnflushedClean) ||
                     planted(PlantedBug::kFsyncRetriedAndBelieved);
  if (!keeps && unflushed_ && unflushed_->bytes() > 0) lose();
  if (abandoned_) co_return given_up();
  auto revival = std::make_shared<Revival>(loop_);
  idle_.reset();
  revival_ = revival;
  scope_.spawn(open_anew(revival));
  const TimePoint until = deadline.value_or(TimePoint::max());
  const bool ended = co_await revival->done.wait_until(until);
  if (!ended) co_return silent_in_revival();
  co_return revival->status;
}

Task<void> Replica::open_anew(std::shared_ptr<Revival> revival) {
  const Status revived = co_await target_->revive();
  if (revived.ok()) to_revive_ = disconnected_ = false;
  if (!revival->done.is_set()) revival->status = revived;
  revival_.reset();
  if (in_flight() == 0) idle_.set();
  revival->done.set();
}

Task<bool> Replica::idle_until(TimePoint deadline) {
  bool idle = co_await idle_.wait_until(deadline);
  // Between the last answer and this task's turn something new may have been submitted.
  while (idle && in_flight() != 0) idle = co_await idle_.wait_until(deadline);
  co_return idle;
}

void Replica::abandon() {
  if (abandoned_) return;
  abandoned_ = true;
  for (const auto& [number, op] : ops_) {
    if (op->done.is_set()) continue;
    op->status = given_up();
    op->on_answer = nullptr;
    op->done.set();
  }
  for (const auto& question : questions_) question->done.set();
  if (revival_) revival_->done.set();
  if (target_) target_->withdraw();
}

void Replica::cut() {
  abandon();
  if (target_) target_->abandon();
}

Task<void> Replica::drain() { co_await scope_.join(); }

Task<Status> Replica::close() {
  if (!target_) co_return Status();
  const Status status = co_await target_->close();
  co_return status;
}

std::unique_ptr<BlockDevice> Replica::release_target() {
  BM_CHECK(in_flight() == 0 && !abandoned_);
  return std::move(target_);
}

}  // namespace blockmig
