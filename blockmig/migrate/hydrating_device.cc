// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/hydrating_device.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "blockmig/base/back_off.h"
#include "blockmig/base/check.h"
#include "blockmig/base/planted.h"
#include "blockmig/disk/disk.h"
#include "blockmig/io/visit.h"

namespace blockmig {
namespace {

constexpr std::size_t kMaxRunsPerRead = 1024;
/// A pull ends with a pulse; this only bounds what a missed one could cost.
constexpr Duration kAskAgain = std::chrono::milliseconds(100);

}  // namespace

HydratingDevice::HydratingDevice(Parts parts, const HydrationOptions& options)
    : core_(parts.loop, std::move(parts.local), std::move(parts.map), options),
      keeper_(core_, parts.journal, std::move(parts.record)),
      puller_(core_),
      info_(core_.local->info()),
      reverse_(keeper_.record().reverse_mirror) {
  core_.written = std::move(parts.written);
  core_.on_base_failed = [this] { mend_base(); };
  info_.size_bytes = parts.size_bytes;
  info_.zero_initialised = false;
}

HydratingDevice::~HydratingDevice() { BM_CHECK(inside_ == 0); }

void HydratingDevice::attach_base(std::unique_ptr<BlockDevice> base) {
  base->share_between_threads(false);
  // What is absent is read there, and a part of it written: in what both take.
  info_.min_io_bytes = std::max(info_.min_io_bytes, base->info().min_io_bytes);
  core_.base = std::make_unique<Replica>(core_.loop, std::move(base));
}

Task<Status> HydratingDevice::read(std::uint64_t offset, MutableBytes into) {
  const Visit inside(inside_);
  const ByteRange range{offset, into.size()};
  if (!core_.options.keep_reads && !core_.map->all_present(range)) {
    const Status through = co_await read_through(range, into);
    co_return through;
  }
  if (!core_.map->all_present(range) && !planted(PlantedBug::kAbsentReadsAsFound)) {
    const Status present = co_await wait_present(range);
    if (!present.ok() && not_kept(range)) {
      const Status through = co_await read_through(range, into);
      co_return through;
    }
    if (!present.ok()) co_return present;
  }
  const Status status = co_await core_.local->read(offset, into);
  co_return status;
}

/// Pulls what of the range is absent, with what follows it, until all of it is there.
Task<Status> HydratingDevice::wait_present(ByteRange range) {
  const TimePoint begun = core_.loop.now();
  const TimePoint deadline = begun + core_.options.patience;
  ++readers_waiting_;
  bool hopeful = true;
  while (hopeful && !core_.stop.is_set() && !core_.map->all_present(range)) {
    mend_base();
    puller_.want(range, PullKind::kDemand);
    const std::uint64_t ahead =
        std::min<std::uint64_t>(core_.options.read_ahead_bytes, info_.size_bytes - range.end());
    puller_.want({range.end(), ahead}, PullKind::kPrefetch);
    // A store that never waits, or one that is known to keep nothing now.
    if (core_.map->all_present(range) || new_store_silent() || core_.cannot_keep) break;
    const TimePoint again = std::min(deadline, core_.loop.now() + kAskAgain);
    co_await core_.changed.wait_until(again);
    hopeful = !not_kept(range) && core_.loop.now() < deadline;
  }
  --readers_waiting_;
  core_.stats.demand_latency.record(static_cast<std::uint64_t>((core_.loop.now() - begun).count()));
  if (core_.map->all_present(range)) co_return Status();
  co_return Error(ErrorCode::kIo,
                  "the content at offset " + std::to_string(range.offset) +
                      " is still in the base, which does not deliver it" +
                      (core_.stats.last_error.empty() ? "" : ": " + core_.stats.last_error));
}

/// The base may deliver what is absent, or the part of a chunk that is asked for, and the new store
/// does not take it, or not in time.
bool HydratingDevice::not_kept(ByteRange range) const {
  const bool kept_in_time = !new_store_silent() && !puller_.slow_to_keep(range);
  return core_.cannot_keep || !kept_in_time || puller_.refused(range);
}

/// Each run from where it is, looked up before every try of the base: what a write fills while the
/// base fails is read where it is then. A try that finds its chunks absent has no such write
/// acknowledged before it, so it may deliver what was before: the two are concurrent (I2); nothing
/// leads back from present, so no later try is older.
Task<Status> HydratingDevice::read_through(ByteRange range, MutableBytes into) {
  const TimePoint begun = core_.loop.now();
  const TimePoint deadline = begun + core_.options.patience;
  auto content = std::make_shared<Buffer>();
  Status of_base;
  unsigned failures = 0;
  while (!range.empty()) {
    const DirtyBitmap::Run run = core_.map->runs(range, 1).front();
    const MutableBytes part = into.first(run.range.length);
    if (run.dirty) {
      if (!of_base.ok() && !asks_again(deadline)) co_return of_base;
      of_base = co_await puller_.read_base(run.range, content, deadline);
      if (!of_base.ok()) {
        const Duration pause = kStoreBackOff.after(failures++);
        co_await absent_until(run.range, std::min(deadline, core_.loop.now() + pause));
        continue;
      }
      std::memcpy(part.data(), content->bytes().data(), part.size());
    } else {
      const Status local = co_await core_.local->read(run.range.offset, part);
      if (!local.ok()) co_return local;
    }
    failures = 0;
    into = into.subspan(part.size());
    range = {run.range.end(), range.end() - run.range.end()};
  }
  core_.stats.demand_latency.record(static_cast<std::uint64_t>((core_.loop.now() - begun).count()));
  co_return Status();
}

/// Sooner where some of the range becomes present, or the device is left.
Task<void> HydratingDevice::absent_until(ByteRange range, TimePoint time) {
  while (asks_again(time) && core_.map->all_absent(range)) {
    co_await core_.changed.wait_until(time);
  }
}

Task<Status> HydratingDevice::write(std::uint64_t offset, ConstBytes from, WriteFlags flags) {
  Change wanted;
  wanted.range = {offset, from.size()};
  wanted.content = &from;
  wanted.fua = flags.fua;
  const Status status = co_await change(wanted);
  co_return status;
}

Task<Status> HydratingDevice::write_zeroes(std::uint64_t offset, std::uint64_t length,
                                           ZeroFlags flags) {
  if (flags.fast_only && !core_.local->info().can_fast_zero) {
    co_return Error(ErrorCode::kNotSupported, "the store cannot zero faster than write");
  }
  Change wanted;
  wanted.range = {offset, length};
  wanted.fua = flags.fua;
  wanted.no_hole = flags.no_hole;
  const Status status = co_await change(wanted);
  co_return status;
}

Task<Status> HydratingDevice::trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) {
  Change wanted;
  wanted.range = {offset, length};
  wanted.fua = flags.fua;
  wanted.trim = true;
  const Status status = co_await change(wanted);
  co_return status;
}

Task<Status> HydratingDevice::flush() {
  const Visit inside(inside_);
  if ((reverse_ || base_only_unflushed_) && !planted(PlantedBug::kBaseNotFlushed)) {
    const Status both = co_await flush_both();
    if (!both.ok()) co_return both;
    if (reverse_) co_return both;  // otherwise it was given up meanwhile
  }
  const Status saved = co_await keeper_.save();
  co_return saved;
}

/// Success without the reverse mirror: the base was flushed, or nothing depends on its flush.
Task<Status> HydratingDevice::flush_both() {
  const std::uint64_t base_only = base_only_count_;
  auto op = std::make_shared<TargetOp>(core_.loop, TargetOpKind::kFlush);
  core_.base->submit(op);
  const Status local = co_await core_.local->flush();
  const BaseNeed need = base_only_unflushed_ ? BaseNeed::kOnly : BaseNeed::kSpare;
  const bool flushed = co_await wait_for_base(op, need);
  if (flushed && base_only == base_only_count_) base_only_unflushed_ = false;
  if (!flushed) {
    give_up_mirror("flushing the base failed");
    if (base_only_unflushed_) {
      co_return Error(ErrorCode::kIo, "writes that only the base has cannot be flushed there: " +
                                          core_.stats.last_error);
    }
  }
  co_return local;
}

Task<Result<std::vector<Extent>>> HydratingDevice::extents(std::uint64_t offset,
                                                           std::uint64_t length) {
  const Visit inside(inside_);
  const auto runs = core_.map->runs({offset, length}, kMaxRunsPerRead);
  if (runs.empty() || !runs.front().dirty) {
    const std::uint64_t here = runs.empty() ? length : runs.front().range.length;
    auto found = co_await core_.local->extents(offset, here);
    co_return found;
  }
  // What is absent is data: zeros of the base were not left behind. The base is not asked.
  Extent absent;
  absent.offset = runs.front().range.offset;
  absent.length = runs.front().range.length;
  absent.zero = absent.hole = planted(PlantedBug::kAbsentIsAHole);
  co_return std::vector<Extent>{absent};
}

bool HydratingDevice::read_now(std::uint64_t offset, MutableBytes into) {
  return served_alone(offset, into.size()) && core_.local->read_now(offset, into);
}

bool HydratingDevice::write_now(std::uint64_t offset, ConstBytes from) {
  // First whether this may be another thread, which must not look at the rest.
  return served_alone(offset, from.size()) && local_alone() && core_.local->write_now(offset, from);
}

bool HydratingDevice::lend_now(std::uint64_t offset, std::size_t length,
                               FunctionRef<bool(ConstBytes)> use) {
  return served_alone(offset, length) && core_.local->lend_now(offset, length, use);
}

void HydratingDevice::share_between_threads(bool on) {
  shared_ = on;
  core_.local->share_between_threads(on);
}

void HydratingDevice::abandon() {
  core_.stop.set();
  core_.changed.pulse();
  if (core_.base) core_.base->cut();
  if (core_.local) core_.local->abandon();
}

std::uint64_t HydratingDevice::push(std::uint64_t& cursor, std::uint64_t max_bytes) {
  mend_base();
  if (puller_.must_wait()) return 0;
  ByteRange ahead;
  for (auto zeros = ChunkPuller::Zeros::kDone; zeros == ChunkPuller::Zeros::kDone;) {
    const auto next = core_.map->next_absent(cursor / core_.map->granularity_bytes());
    if (!next) {
      cursor = 0;
      return 0;
    }
    const ByteRange first = core_.map->chunk_range(*next);
    ahead = {first.offset, info_.size_bytes - first.offset};
    max_bytes = puller_.store_refuses() ? first.length : std::max(max_bytes, first.length);
    zeros = puller_.push_zeros(ahead);
    if (zeros == ChunkPuller::Zeros::kUnderWay) return 0;
  }
  const ByteRange range{ahead.offset, std::min(ahead.length, max_bytes)};
  const std::uint64_t started = puller_.want(range, PullKind::kPush);
  const bool held_up = started == 0 && puller_.bytes_in_flight() >= core_.options.window_bytes;
  if (!held_up) cursor = range.end() < info_.size_bytes ? range.end() : 0;
  return started;
}

std::unique_ptr<BlockDevice> HydratingDevice::release_local() {
  BM_CHECK(whole() && inside_ == 0 && core_.map->has_fresh() == false);
  return std::move(core_.local);
}

Task<Status> HydratingDevice::close() {
  Status saved;
  if (core_.local && !retired_) saved = co_await keeper_.save();
  co_await keeper_.join();
  core_.stop.set();
  core_.changed.pulse();
  if (core_.base) {
    const TimePoint grace = core_.loop.now() + core_.options.reverse_deadline;
    const bool idle = co_await core_.base->idle_until(grace);
    // Nobody waits for it any more but this: until it has answered, nobody else may write there.
    // One that is away has nothing to answer, and would be looked for until it is back.
    if (!idle || mending_) core_.base->abandon();
    co_await puller_.join();
    co_await mender_.join();
    co_await core_.base->drain();
    const Status closed = co_await core_.base->close();
    static_cast<void>(closed);  // nothing of it was promised here that was not flushed before
  }
  if (!core_.local) co_return saved;
  const Status closed = co_await core_.local->close();
  co_return saved.ok() ? closed : saved;
}

HydratingDevice* hydrating_layer(Disk& disk) {
  return dynamic_cast<HydratingDevice*>(&disk.store());
}

}  // namespace blockmig
