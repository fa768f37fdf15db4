// SPDX-License-Identifier: Apache-2.0
#include "blockmig/disk/disk.h"

#include <algorithm>
#include <utility>

#include "blockmig/base/planted.h"
#include "blockmig/disk/disk_lane.h"

namespace blockmig {

/// Counts one request and how long it took, waiting at the gate included: that wait is the stall
/// which a migration must keep short.
class Disk::Measured final {
 public:
  Measured(Disk& disk, DiskOp op) : disk_(disk), op_(op), begun_(disk.loop_.now()) {
    disk_.stats_.begin(op_);
  }
  Measured(const Measured&) = delete;
  Measured& operator=(const Measured&) = delete;
  ~Measured() {
    const auto took = static_cast<std::uint64_t>((disk_.loop_.now() - begun_).count());
    if (succeeded_) {
      disk_.stats_.end(op_, took, bytes_);
    } else {
      disk_.stats_.fail(op_, took, error_);
    }
  }
  TimePoint begun() const { return begun_; }
  /// Without a call of either the request counts as cancelled.
  template <typename Value>
  void ended(const Result<Value>& result, std::uint64_t bytes) {
    succeeded_ = result.ok();
    bytes_ = bytes;
    if (!succeeded_) error_ = result.error().code();
  }
  const Error& failed(const Error& error) {
    error_ = error.code();
    return error;
  }

 private:
  Disk& disk_;
  DiskOp op_;
  TimePoint begun_;
  std::uint64_t bytes_ = 0;
  ErrorCode error_ = ErrorCode::kCancelled;
  bool succeeded_ = false;
};

Disk::Disk(EventLoop& loop, std::string name, std::unique_ptr<BlockDevice> store,
           std::string store_uri, std::uint64_t epoch)
    : loop_(loop),
      name_(std::move(name)),
      store_(std::move(store)),
      store_uri_(std::move(store_uri)),
      epoch_(epoch),
      info_(store_->info()),
      gate_(loop),
      tracking_(loop),
      write_throttle_(loop, 0),
      write_heat_(info_.size_bytes),
      read_heat_(info_.size_bytes),
      written_(write_heat_),
      read_(read_heat_) {
  info_.name = name_;
  info_.zero_initialised = false;
  store_->share_between_threads(false);
}

Disk::~Disk() { BM_CHECK(lanes_.empty()); }

void Disk::add_lane(DiskLane& lane, MarkShard& marks) {
  if (lanes_.empty()) store_->share_between_threads(true);
  lanes_.push_back(&lane);
  tracking_.add_shard(marks);
}

void Disk::remove_lane(DiskLane& lane, MarkShard& marks) {
  tracking_.remove_shard(marks);
  std::erase(lanes_, &lane);
  if (lanes_.empty()) store_->share_between_threads(false);
  stats_.merge(lane.stats());
}

RequestStats Disk::stats() const {
  RequestStats all = stats_;
  for (const DiskLane* lane : lanes_) all.merge(lane->stats());
  return all;
}

std::uint64_t Disk::guest_bytes_written() const {
  std::uint64_t bytes = stats_.bytes_written();
  for (const DiskLane* lane : lanes_) bytes += lane->stats().bytes_written();
  return bytes;
}

Task<Status> Disk::read(std::uint64_t offset, MutableBytes into) {
  Measured measured(*this, DiskOp::kRead);
  const auto hold = co_await gate_.enter();
  if (!hold.ok()) co_return measured.failed(hold.error());
  read_.record(offset, into.size(), measured.begun());
  const Status status = co_await store_->read(offset, into);
  measured.ended(status, into.size());
  co_return status;
}

Task<Status> Disk::write(std::uint64_t offset, ConstBytes from, WriteFlags flags) {
  Measured measured(*this, DiskOp::kWrite);
  if (!write_throttle_.unlimited()) co_await write_throttle_.take(from.size());
  MirrorVisit visit;
  for (;;) {
    const auto hold = co_await gate_.enter();
    if (!hold.ok()) co_return measured.failed(hold.error());
    if (!tracking_.covers(offset, from.size())) {
      const Status active = co_await tracking_.activate(offset, from.size());
      if (!active.ok()) co_return measured.failed(active.error());
    }
    WriteMirror* const mirror = mirror_;
    const TrackedWrite marks(tracking_, offset, from.size(), mirror != nullptr);
    Status status;
    if (mirror != nullptr) {
      visit.turned_away = false;
      status = co_await mirror->write(*store_, offset, from, flags, visit);
      if (visit.turned_away && !planted(PlantedBug::kTurnedAwayAcknowledged)) continue;
    } else {
      status = co_await store_->write(offset, from, flags);
    }
    written_.record(offset, from.size(), measured.begun());
    measured.ended(status, from.size());
    co_return status;
  }
}

bool Disk::read_now(std::uint64_t offset, MutableBytes into) {
  const GateHold hold = gate_.try_enter();
  if (!hold) return false;
  const TimePoint begun = loop_.now();
  if (!store_->read_now(offset, into)) return false;
  read_.record(offset, into.size(), begun);
  stats_.done_now(DiskOp::kRead, loop_.now() - begun, into.size());
  return true;
}

bool Disk::write_now(std::uint64_t offset, ConstBytes from) {
  if (!writes_go_straight_through()) return false;
  const GateHold hold = gate_.try_enter();
  if (!hold) return false;
  if (!tracking_.covers(offset, from.size())) return false;
  const TimePoint begun = loop_.now();
  const TrackedWrite marks(tracking_, offset, from.size(), false);
  if (!store_->write_now(offset, from)) return false;
  written_.record(offset, from.size(), begun);
  stats_.done_now(DiskOp::kWrite, loop_.now() - begun, from.size());
  return true;
}

bool Disk::lend_now(std::uint64_t offset, std::size_t length, FunctionRef<bool(ConstBytes)> use) {
  const GateHold hold = gate_.try_enter();
  if (!hold) return false;
  const TimePoint begun = loop_.now();
  if (!store_->lend_now(offset, length, use)) return false;
  read_.record(offset, length, begun);
  stats_.done_now(DiskOp::kRead, loop_.now() - begun, length);
  return true;
}

ConstBytes Disk::borrow_now(std::uint64_t offset, std::size_t length) {
  // The gate need not be held while the bytes are used: it is closed, and the store changed, by
  // tasks of this loop.
  const GateHold hold = gate_.try_enter();
  if (!hold || !lanes_.empty()) return {};
  const ConstBytes bytes = store_->borrow_now(offset, length);
  if (bytes.empty()) return {};
  read_.record(offset, length, loop_.now());
  stats_.done_now(DiskOp::kRead, Duration::zero(), length);  // shorter than looking at the clock
  return bytes;
}

bool Disk::fill_now(std::uint64_t offset, std::size_t length,
                    FunctionRef<std::size_t(MutableBytes)> fill) {
  if (!writes_go_straight_through()) return false;
  const GateHold hold = gate_.try_enter();
  if (!hold) return false;
  if (!tracking_.covers(offset, length)) return false;
  const TimePoint begun = loop_.now();
  const TrackedWrite marks(tracking_, offset, length, false);
  std::size_t filled = 0;
  const auto counted = [&filled, fill](MutableBytes into) { return filled = fill(into); };
  if (!store_->fill_now(offset, length, counted)) return false;
  if (filled == length) written_.record(offset, length, begun);
  stats_.filled_now(loop_.now() - begun, filled, filled == length);
  return true;
}

Task<Status> Disk::flush() {
  Measured measured(*this, DiskOp::kFlush);
  const auto hold = co_await gate_.enter();
  if (!hold.ok()) co_return measured.failed(hold.error());
  Status status;
  if (WriteMirror* const mirror = mirror_; mirror != nullptr) {
    status = co_await mirror->flush(*store_);
  } else {
    status = co_await store_->flush();
  }
  measured.ended(status, 0);
  co_return status;
}

Task<Status> Disk::trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) {
  Measured measured(*this, DiskOp::kTrim);
  if (!write_throttle_.unlimited()) co_await write_throttle_.take(0);
  const auto hold = co_await gate_.enter();
  if (!hold.ok()) co_return measured.failed(hold.error());
  if (!tracking_.covers(offset, length)) {
    const Status active = co_await tracking_.activate(offset, length);
    if (!active.ok()) co_return measured.failed(active.error());
  }
  WriteMirror* const mirror = mirror_;
  const TrackedWrite marks(tracking_, offset, length, mirror != nullptr);
  Status status;
  if (mirror != nullptr) {
    status = co_await mirror->trim(*store_, offset, length, flags);
  } else {
    status = co_await store_->trim(offset, length, flags);
  }
  measured.ended(status, length);
  co_return status;
}

Task<Status> Disk::write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroFlags flags) {
  Measured measured(*this, DiskOp::kZero);
  if (!write_throttle_.unlimited()) co_await write_throttle_.take(0);
  MirrorVisit visit;
  for (;;) {
    const auto hold = co_await gate_.enter();
    if (!hold.ok()) co_return measured.failed(hold.error());
    if (!tracking_.covers(offset, length)) {
      const Status active = co_await tracking_.activate(offset, length);
      if (!active.ok()) co_return measured.failed(active.error());
    }
    WriteMirror* const mirror = mirror_;
    const TrackedWrite marks(tracking_, offset, length, mirror != nullptr);
    Status status;
    if (mirror != nullptr) {
      visit.turned_away = false;
      status = co_await mirror->write_zeroes(*store_, offset, length, flags, visit);
      if (visit.turned_away && !planted(PlantedBug::kTurnedAwayAcknowledged)) continue;
    } else {
      status = co_await store_->write_zeroes(offset, length, flags);
    }
    written_.record(offset, length, measured.begun());
    measured.ended(status, length);
    co_return status;
  }
}

Task<Result<std::vector<Extent>>> Disk::extents(std::uint64_t offset, std::uint64_t length) {
  Measured measured(*this, DiskOp::kBlockStatus);
  const auto hold = co_await gate_.enter();
  if (!hold.ok()) co_return measured.failed(hold.error());
  auto result = co_await store_->extents(offset, length);
  measured.ended(result, length);
  co_return result;
}

Task<Status> Disk::prefetch(std::uint64_t offset, MutableBytes scratch) {
  Measured measured(*this, DiskOp::kCache);
  const auto hold = co_await gate_.enter();
  if (!hold.ok()) co_return measured.failed(hold.error());
  const Status status = co_await store_->prefetch(offset, scratch);
  measured.ended(status, scratch.size());
  co_return status;
}

Task<Status> Disk::stop() {
  if (gate_.state() == Gate::State::kOpen) co_await gate_.close();
  gate_.shut();
  const Status flushed = co_await store_->flush();
  co_return flushed;
}

Task<Status> Disk::close() {
  const Status flushed = co_await stop();
  const Status closed = co_await store_->close();
  co_return flushed.ok() ? closed : flushed;
}

std::unique_ptr<BlockDevice> Disk::swap_store(std::unique_ptr<BlockDevice> next, std::string uri,
                                              std::uint64_t epoch) {
  // With that bug planted the guest is to notice, not we.
  BM_CHECK(gate_.state() == Gate::State::kClosed &&
           (gate_.inside() == 0 || planted(PlantedBug::kWriteBypassesClosedGate) ||
            planted(PlantedBug::kAdmittedUncounted)));
  BM_CHECK(next->info().size_bytes >= info_.size_bytes && epoch > epoch_);
  next->share_between_threads(!lanes_.empty());
  store_uri_ = std::move(uri);
  epoch_ = epoch;
  return std::exchange(store_, std::move(next));
}

std::unique_ptr<BlockDevice> Disk::swap_layer(std::unique_ptr<BlockDevice> next) {
  BM_CHECK(gate_.state() == Gate::State::kClosed && gate_.inside() == 0);
  BM_CHECK(next->info().size_bytes >= info_.size_bytes);
  next->share_between_threads(!lanes_.empty());
  return std::exchange(store_, std::move(next));
}

Duration Disk::take_longest_latency() {
  std::uint64_t longest = stats_.take_longest_ns();
  for (DiskLane* lane : lanes_) longest = std::max(longest, lane->take_longest_ns());
  return Duration(static_cast<Duration::rep>(longest));
}

}  // namespace blockmig
