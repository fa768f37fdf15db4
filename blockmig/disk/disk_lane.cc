// SPDX-License-Identifier: Apache-2.0
#include "blockmig/disk/disk_lane.h"

#include "blockmig/io/call_on.h"

namespace blockmig {

DiskLane::DiskLane(Disk& disk, EventLoop& own)
    : disk_(disk),
      home_(disk.loop()),
      own_(own),
      info_(disk.info()),
      gate_(disk.gate()),
      written_(disk.write_heat()),
      read_(disk.read_heat()) {
  disk_.add_lane(*this, marks_);
}

DiskLane::~DiskLane() { disk_.remove_lane(*this, marks_); }

bool DiskLane::read_now(std::uint64_t offset, MutableBytes into) {
  if (!gate_.try_enter()) return false;
  const TimePoint begun = own_.now();
  const bool done = disk_.store().read_now(offset, into);
  if (done) {
    stats_.done_now(DiskOp::kRead, own_.now() - begun, into.size());
    read_.record(offset, into.size(), begun);
  }
  gate_.leave();
  return done;
}

bool DiskLane::write_now(std::uint64_t offset, ConstBytes from) {
  if (!gate_.try_enter()) return false;
  bool done = false;
  // Asked inside the gate: whoever attaches a mirror while this runs finds the chunks marked.
  if (disk_.writes_go_straight_through() && disk_.tracking().covers(offset, from.size())) {
    const TimePoint begun = own_.now();
    marks_.mark(offset, from.size());
    done = disk_.store().write_now(offset, from);
    // Again, also where it was not done: a part of it may have been.
    marks_.mark(offset, from.size());
    if (done) {
      stats_.done_now(DiskOp::kWrite, own_.now() - begun, from.size());
      written_.record(offset, from.size(), begun);
    }
  }
  gate_.leave();
  return done;
}

bool DiskLane::lend_now(std::uint64_t offset, std::size_t length,
                        FunctionRef<bool(ConstBytes)> use) {
  if (!gate_.try_enter()) return false;
  const TimePoint begun = own_.now();
  const bool done = disk_.store().lend_now(offset, length, use);
  if (done) {
    stats_.done_now(DiskOp::kRead, own_.now() - begun, length);
    read_.record(offset, length, begun);
  }
  gate_.leave();
  return done;
}

bool DiskLane::fill_now(std::uint64_t offset, std::size_t length,
                        FunctionRef<std::size_t(MutableBytes)> fill) {
  if (!gate_.try_enter()) return false;
  bool done = false;
  if (disk_.writes_go_straight_through() && disk_.tracking().covers(offset, length)) {
    const TimePoint begun = own_.now();
    std::size_t filled = 0;
    const auto counted = [&filled, fill](MutableBytes into) { return filled = fill(into); };
    marks_.mark(offset, length);
    done = disk_.store().fill_now(offset, length, counted);
    marks_.mark(offset, length);
    if (done) {
      stats_.filled_now(own_.now() - begun, filled, filled == length);
      if (filled == length) written_.record(offset, length, begun);
    }
  }
  gate_.leave();
  return done;
}

Task<Status> DiskLane::read(std::uint64_t offset, MutableBytes into) {
  if (read_now(offset, into)) co_return Status();
  const Status status = co_await call_on(own_, home_, calls_,
                                         [this, offset, into] { return disk_.read(offset, into); });
  co_return status;
}

Task<Status> DiskLane::write(std::uint64_t offset, ConstBytes from, WriteFlags flags) {
  if (!flags.fua && write_now(offset, from)) co_return Status();
  const Status status = co_await call_on(own_, home_, calls_, [this, offset, from, flags] {
    return disk_.write(offset, from, flags);
  });
  co_return status;
}

Task<Status> DiskLane::flush() {
  const Status status = co_await call_on(own_, home_, calls_, [this] { return disk_.flush(); });
  co_return status;
}

Task<Status> DiskLane::trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) {
  const Status status = co_await call_on(own_, home_, calls_, [this, offset, length, flags] {
    return disk_.trim(offset, length, flags);
  });
  co_return status;
}

Task<Status> DiskLane::write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroFlags flags) {
  const Status status = co_await call_on(own_, home_, calls_, [this, offset, length, flags] {
    return disk_.write_zeroes(offset, length, flags);
  });
  co_return status;
}

Task<Result<std::vector<Extent>>> DiskLane::extents(std::uint64_t offset, std::uint64_t length) {
  auto found = co_await call_on(own_, home_, calls_,
                                [this, offset, length] { return disk_.extents(offset, length); });
  co_return found;
}

Task<Status> DiskLane::prefetch(std::uint64_t offset, MutableBytes scratch) {
  const Status status = co_await call_on(
      own_, home_, calls_, [this, offset, scratch] { return disk_.prefetch(offset, scratch); });
  co_return status;
}

Task<Status> DiskLane::close() { co_return Status(); }

}  // namespace blockmig
