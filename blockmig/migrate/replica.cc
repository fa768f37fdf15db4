// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/replica.h"

#include <utility>

#include "blockmig/base/check.h"

namespace blockmig {

Replica::Replica(EventLoop& loop, std::unique_ptr<BlockDevice> target)
    : loop_(loop), target_(std::move(target)), progress_at_(loop.now()), idle_(loop) {
  idle_.set();
}

Replica::~Replica() { BM_CHECK(ops_.empty()); }

void Replica::submit(const std::shared_ptr<TargetOp>& op) {
  op->submitted = loop_.now();
  if (abandoned_) {
    op->status = Error(ErrorCode::kCancelled, "the target was given up");
    op->done.set();
    return;
  }
  if (ops_.empty()) progress_at_ = op->submitted;
  op->number = ++last_number_;
  ops_.emplace(op->number, op);
  if (op->bulk) bulk_submitted_.insert(op->submitted);
  in_flight_bytes_ += op->length;
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
  progress_at_ = loop_.now();
  op->took = progress_at_ - op->submitted;
  if (!op->done.is_set()) {
    op->status = std::move(status);
    if (op->on_answer) std::exchange(op->on_answer, nullptr)(*op);
    op->done.set();
  }
  in_flight_bytes_ -= op->length;
  if (op->bulk) bulk_submitted_.erase(bulk_submitted_.find(op->submitted));
  ops_.erase(op->number);
  if (ops_.empty()) idle_.set();
}

Task<bool> Replica::idle_until(TimePoint deadline) {
  const bool idle = co_await idle_.wait_until(deadline);
  co_return idle;
}

void Replica::abandon() {
  if (abandoned_) return;
  abandoned_ = true;
  for (const auto& [number, op] : ops_) {
    if (op->done.is_set()) continue;
    op->status = Error(ErrorCode::kCancelled, "the target was given up");
    op->on_answer = nullptr;
    op->done.set();
  }
  if (target_) target_->abandon();
}

Task<void> Replica::drain() { co_await scope_.join(); }

Task<Status> Replica::close() {
  if (!target_) co_return Status();
  const Status status = co_await target_->close();
  co_return status;
}

std::unique_ptr<BlockDevice> Replica::release_target() {
  BM_CHECK(ops_.empty() && !abandoned_);
  return std::move(target_);
}

}  // namespace blockmig
