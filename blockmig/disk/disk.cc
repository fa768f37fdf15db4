// SPDX-License-Identifier: Apache-2.0
#include "blockmig/disk/disk.h"

#include <algorithm>
#include <utility>

namespace blockmig {

/// Counts one request and how long it took, waiting at the gate included: that wait is the stall
/// which a migration must keep short.
class Disk::Measured final {
 public:
  Measured(Disk& disk, DiskOp op) : disk_(disk), op_(op), begun_(disk.loop_.now()) {}
  Measured(const Measured&) = delete;
  Measured& operator=(const Measured&) = delete;
  ~Measured() {
    const Duration took = disk_.loop_.now() - begun_;
    const auto index = static_cast<std::size_t>(op_);
    ++disk_.stats_.requests[index];
    if (failed_) ++disk_.stats_.errors[index];
    disk_.stats_.latency.record(static_cast<std::uint64_t>(took.count()));
    disk_.longest_ = std::max(disk_.longest_, took);
  }
  void ended(const Status& status) { failed_ = !status.ok(); }

 private:
  Disk& disk_;
  DiskOp op_;
  TimePoint begun_;
  bool failed_ = false;
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
      write_throttle_(loop, 0) {
  info_.name = name_;
  info_.zero_initialised = false;
}

Disk::~Disk() = default;

Task<Status> Disk::read(std::uint64_t offset, MutableBytes into) {
  Measured measured(*this, DiskOp::kRead);
  const auto hold = co_await gate_.enter();
  if (!hold.ok()) co_return hold.error();
  const Status status = co_await store_->read(offset, into);
  stats_.bytes_read += into.size();
  measured.ended(status);
  co_return status;
}

Task<Status> Disk::write(std::uint64_t offset, ConstBytes from, WriteFlags flags) {
  Measured measured(*this, DiskOp::kWrite);
  if (!write_throttle_.unlimited()) co_await write_throttle_.take(from.size());
  const auto hold = co_await gate_.enter();
  if (!hold.ok()) co_return hold.error();
  WriteMirror* const mirror = mirror_;
  const TrackedWrite marks(tracking_, offset, from.size(), mirror != nullptr);
  Status status;
  if (mirror != nullptr) {
    status = co_await mirror->write(*store_, offset, from, flags);
  } else {
    status = co_await store_->write(offset, from, flags);
  }
  stats_.bytes_written += from.size();
  measured.ended(status);
  co_return status;
}

Task<Status> Disk::flush() {
  Measured measured(*this, DiskOp::kFlush);
  const auto hold = co_await gate_.enter();
  if (!hold.ok()) co_return hold.error();
  Status status;
  if (mirror_ != nullptr) {
    status = co_await mirror_->flush(*store_);
  } else {
    status = co_await store_->flush();
  }
  measured.ended(status);
  co_return status;
}

Task<Status> Disk::trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) {
  Measured measured(*this, DiskOp::kTrim);
  if (!write_throttle_.unlimited()) co_await write_throttle_.take(0);
  const auto hold = co_await gate_.enter();
  if (!hold.ok()) co_return hold.error();
  WriteMirror* const mirror = mirror_;
  const TrackedWrite marks(tracking_, offset, length, mirror != nullptr);
  Status status;
  if (mirror != nullptr) {
    status = co_await mirror->trim(*store_, offset, length, flags);
  } else {
    status = co_await store_->trim(offset, length, flags);
  }
  measured.ended(status);
  co_return status;
}

Task<Status> Disk::write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroFlags flags) {
  Measured measured(*this, DiskOp::kZero);
  if (!write_throttle_.unlimited()) co_await write_throttle_.take(0);
  const auto hold = co_await gate_.enter();
  if (!hold.ok()) co_return hold.error();
  WriteMirror* const mirror = mirror_;
  const TrackedWrite marks(tracking_, offset, length, mirror != nullptr);
  Status status;
  if (mirror != nullptr) {
    status = co_await mirror->write_zeroes(*store_, offset, length, flags);
  } else {
    status = co_await store_->write_zeroes(offset, length, flags);
  }
  stats_.bytes_written += length;
  measured.ended(status);
  co_return status;
}

Task<Result<std::vector<Extent>>> Disk::extents(std::uint64_t offset, std::uint64_t length) {
  const auto hold = co_await gate_.enter();
  if (!hold.ok()) co_return hold.error();
  auto result = co_await store_->extents(offset, length);
  co_return result;
}

Task<Status> Disk::close() {
  if (gate_.state() == Gate::State::kOpen) co_await gate_.close();
  gate_.shut();
  const Status flushed = co_await store_->flush();
  const Status closed = co_await store_->close();
  co_return flushed.ok() ? closed : flushed;
}

std::unique_ptr<BlockDevice> Disk::swap_store(std::unique_ptr<BlockDevice> next, std::string uri,
                                              std::uint64_t epoch) {
  BM_CHECK(gate_.state() == Gate::State::kClosed && gate_.inside() == 0);
  BM_CHECK(next->info().size_bytes >= info_.size_bytes && epoch > epoch_);
  store_uri_ = std::move(uri);
  epoch_ = epoch;
  return std::exchange(store_, std::move(next));
}

Duration Disk::take_longest_latency() { return std::exchange(longest_, Duration{}); }

}  // namespace blockmig
