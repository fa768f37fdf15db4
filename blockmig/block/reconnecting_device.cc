// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/reconnecting_device.h"

#include <utility>

#include "blockmig/base/back_off.h"
#include "blockmig/base/check.h"
#include "blockmig/base/units.h"
#include "blockmig/io/visit.h"

namespace blockmig {
namespace {

constexpr BackOff kBackOff{std::chrono::milliseconds(50), std::chrono::seconds(2)};
/// Connections that one request may lose. A server that breaks with each answer to it would have it
/// asked for ever.
constexpr int kMaxLosses = 5;

}  // namespace

ReconnectingDevice::ReconnectingDevice(EventLoop& loop, std::unique_ptr<BlockDevice> device,
                                       Duration patience)
    : loop_(loop), device_(std::move(device)), patience_(patience), changed_(loop) {}

ReconnectingDevice::~ReconnectingDevice() { BM_CHECK(inside_ == 0); }

std::string ReconnectingDevice::trouble() const {
  if (given_up_) {
    return why_ +
           "; what was written since the last flush may be lost, so it is not connected "
           "again: serve the disk anew";
  }
  return away_ ? why_ + "; being connected again" : "";
}

void ReconnectingDevice::outlast() {
  outlasts_ = true;
  if (info().read_only) {
    unflushed_ = false;  // nobody here writes to it
    return;
  }
  auto task = flush_once();
  scope_.spawn(std::move(task));
}

Task<void> ReconnectingDevice::flush_once() {
  const Status flushed = co_await flush();
  static_cast<void>(flushed);  // then it counts as unflushed until somebody's flush works
}

bool ReconnectingDevice::is_loss(const Status& status) {
  if (status.ok() || status.error().code() != ErrorCode::kDisconnected) return false;
  note_loss(status.error());
  return true;
}

void ReconnectingDevice::note_loss(const Error& why) {
  if (away_ || given_up_ || stopped_ || !outlasts_) return;
  why_ = why.message();
  if (unflushed_) {
    given_up_ = true;
    return;
  }
  away_ = true;
  auto task = bring_back();
  scope_.spawn(std::move(task));
}

Task<void> ReconnectingDevice::bring_back() {
  unsigned failures = 0;
  while (!stopped_) {
    const TimePoint next = loop_.now() + kBackOff.after(failures);
    while (!stopped_ && (loop_.now() < next || inside_ > 0)) {
      const TimePoint until = loop_.now() < next ? next : TimePoint::max();
      co_await changed_.wait_until(until);
    }
    if (stopped_) break;
    const Status revived = co_await device_->revive();
    if (revived.ok()) break;
    why_ = revived.error().message();
    ++failures;
  }
  away_ = false;
  changed_.pulse();
}

Task<bool> ReconnectingDevice::wait_back(TimePoint deadline) {
  while (away_ && !stopped_ && loop_.now() < deadline) co_await changed_.wait_until(deadline);
  co_return !away_ && !given_up_ && !stopped_ && outlasts_;
}

Task<Status> ReconnectingDevice::read_as(Read how, std::uint64_t offset, MutableBytes into) {
  const TimePoint deadline = loop_.now() + patience_;
  int losses = 0;
  for (;;) {
    if (away_) co_await wait_back(deadline);
    Status status;
    {
      const Visit inside(inside_, changed_);
      switch (how) {
        case Read::kPlain:
          status = co_await device_->read(offset, into);
          break;
        case Read::kOnce:
          status = co_await device_->read_once(offset, into);
          break;
        case Read::kMedium:
          status = co_await device_->read_medium(offset, into);
          break;
      }
    }
    if (!is_loss(status) || ++losses == kMaxLosses) co_return status;
    const bool back = co_await wait_back(deadline);
    if (!back) co_return status;
  }
}

Task<Status> ReconnectingDevice::read(std::uint64_t offset, MutableBytes into) {
  const Status status = co_await read_as(Read::kPlain, offset, into);
  co_return status;
}

Task<Status> ReconnectingDevice::read_once(std::uint64_t offset, MutableBytes into) {
  const Status status = co_await read_as(Read::kOnce, offset, into);
  co_return status;
}

Task<Status> ReconnectingDevice::read_medium(std::uint64_t offset, MutableBytes into) {
  const Status status = co_await read_as(Read::kMedium, offset, into);
  co_return status;
}

Task<Result<std::vector<Extent>>> ReconnectingDevice::extents(std::uint64_t offset,
                                                              std::uint64_t length) {
  const TimePoint deadline = loop_.now() + patience_;
  int losses = 0;
  for (;;) {
    if (away_) co_await wait_back(deadline);
    Result<std::vector<Extent>> found = std::vector<Extent>();
    {
      const Visit inside(inside_, changed_);
      found = co_await device_->extents(offset, length);
    }
    const Status status = found.ok() ? Status() : Status(found.error());
    if (!is_loss(status) || ++losses == kMaxLosses) co_return std::move(found);
    const bool back = co_await wait_back(deadline);
    if (!back) co_return status.error();
  }
}

Task<Status> ReconnectingDevice::pass_change(const Change& change) {
  Status status;
  if (change.content != nullptr) {
    const ConstBytes from = *change.content;
    status = co_await device_->write(change.offset, from, change.write_flags);
  } else if (change.trim) {
    status = co_await device_->trim(change.offset, change.length, change.write_flags);
  } else {
    status = co_await device_->write_zeroes(change.offset, change.length, change.zero_flags);
  }
  co_return status;
}

/// A device that is known to be lost gets nothing to do: then nothing is under way that could be.
Task<Status> ReconnectingDevice::change(const Change& change) {
  const auto lost = lost_of(*device_);
  if (lost) note_loss(*lost);
  if (away_) {
    const TimePoint deadline = loop_.now() + patience_;
    const bool back = co_await wait_back(deadline);
    if (!back) co_return Error(ErrorCode::kDisconnected, why_);
  }
  const Visit inside(inside_, changed_);
  const Visit changing(changes_inside_, changed_);
  unflushed_ = true;
  ++changes_;
  const Status status = co_await pass_change(change);
  ++changes_;
  is_loss(status);
  co_return status;
}

Task<Status> ReconnectingDevice::write(std::uint64_t offset, ConstBytes from, WriteFlags flags) {
  Change wanted;
  wanted.offset = offset;
  wanted.length = from.size();
  wanted.content = &from;
  wanted.write_flags = flags;
  const Status status = co_await change(wanted);
  co_return status;
}

Task<Status> ReconnectingDevice::trim(std::uint64_t offset, std::uint64_t length,
                                      WriteFlags flags) {
  Change wanted;
  wanted.offset = offset;
  wanted.length = length;
  wanted.trim = true;
  wanted.write_flags = flags;
  const Status status = co_await change(wanted);
  co_return status;
}

Task<Status> ReconnectingDevice::write_zeroes(std::uint64_t offset, std::uint64_t length,
                                              ZeroFlags flags) {
  Change wanted;
  wanted.offset = offset;
  wanted.length = length;
  wanted.zero_flags = flags;
  const Status status = co_await change(wanted);
  co_return status;
}

Task<Status> ReconnectingDevice::flush() {
  const TimePoint deadline = loop_.now() + patience_;
  int losses = 0;
  for (;;) {
    if (away_) co_await wait_back(deadline);
    const std::uint64_t changes = changes_;
    const bool quiet = changes_inside_ == 0;
    Status status;
    {
      const Visit inside(inside_, changed_);
      status = co_await device_->flush();
    }
    if (status.ok() && quiet && changes == changes_) unflushed_ = false;
    if (!is_loss(status) || ++losses == kMaxLosses) co_return status;
    const bool back = co_await wait_back(deadline);
    if (!back) co_return status;
  }
}

void ReconnectingDevice::abandon() {
  stopped_ = true;
  changed_.pulse();
  device_->abandon();
}

void ReconnectingDevice::withdraw() {
  stopped_ = true;
  changed_.pulse();
  device_->withdraw();
}

/// For who can write again what may be lost, or knows that nothing is. Requests wait meanwhile, as
/// while it is away: only one at a time may connect it again. What is still inside may be the flush
/// of outlast().
Task<Status> ReconnectingDevice::revive() {
  const bool is_brought_back = away_;
  while (away_ && !stopped_) co_await changed_.wait();
  if (stopped_) co_return Error(ErrorCode::kDisconnected, info().name + ": given up");
  if (is_brought_back && !given_up_ && !lost_of(*device_)) co_return Status();
  why_ = info().name + ": what was connected is given up";
  away_ = true;
  while (inside_ > 0 && !stopped_) co_await changed_.wait();
  Status revived = Error(ErrorCode::kDisconnected, info().name + ": given up");
  if (!stopped_) revived = co_await device_->revive();
  if (revived.ok()) given_up_ = false;
  if (revived.ok()) unflushed_ = false;
  if (!revived.ok()) why_ = revived.error().message();
  away_ = false;
  changed_.pulse();
  co_return revived;
}

Task<Status> ReconnectingDevice::close() {
  stopped_ = true;
  changed_.pulse();
  co_await scope_.join();
  const Status closed = co_await device_->close();
  co_return closed;
}

}  // namespace blockmig
