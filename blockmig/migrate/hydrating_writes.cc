// SPDX-License-Identifier: Apache-2.0
// How a HydratingDevice changes data: on both stores, or on the new one alone.
#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "blockmig/base/planted.h"
#include "blockmig/io/visit.h"
#include "blockmig/migrate/hydrating_device.h"

namespace blockmig {
namespace {

/// Reverse deadlines that a mirrored write may wait for a base that answers others.
constexpr int kBusyBase = 3;

}  // namespace

Task<Status> HydratingDevice::change(Change change) {
  const Visit inside(inside_);
  Status status;
  if (change.range.empty() || (local_alone() && core_.map->all_present(change.range))) {
    status = co_await apply_local(change, change.range, true);
  } else {
    status = co_await change_held(change);
  }
  // What the base lacks is acknowledged when a restart would not take it for a copy any more (I1).
  if (status.ok() && !reverse_) status = co_await keeper_.record_mirror_end();
  co_return status;
}

/// Claims what the change may meet: its bytes where both stores are written, else whole chunks. The
/// reverse mirror may have been given up while it waited.
Task<Status> HydratingDevice::change_held(const Change& change) {
  for (;;) {
    const bool both = reverse_;
    const ByteRange chunks = core_.map->outwards(change.range);
    const ByteRange claimed = both ? change.range : chunks;
    RangeLock::Hold hold = co_await core_.order.lock(claimed);
    if (both != reverse_) continue;
    puller_.overtaken(claimed);
    const TimePoint deadline = core_.loop.now() + core_.options.patience;
    if (!both) {
      const Status status = co_await change_local(change, deadline);
      co_return status;
    }
    const ByteRange local_part = part_for_local(change.range);
    const std::optional<Status> made = co_await change_both(change, local_part);
    if (made.has_value()) co_return *made;
    ++remaking_;
    hold = co_await hold.widen(chunks);
    puller_.overtaken(chunks);
    const Status status = co_await change_ends(change, local_part, deadline);
    --remaking_;
    co_return status;
  }
}

/// Without the chunks at the ends that are absent and not covered whole.
ByteRange HydratingDevice::part_for_local(ByteRange range) const {
  std::uint64_t begin = range.offset;
  std::uint64_t end = range.end();
  const ByteRange first = core_.map->outwards({range.offset, 1});
  const ByteRange last = core_.map->outwards({range.end() - 1, 1});
  const bool first_whole = first.offset >= range.offset && first.end() <= range.end();
  const bool last_whole = last.offset >= range.offset && last.end() <= range.end();
  if (!first_whole && !core_.map->all_present(first)) begin = std::min(first.end(), end);
  if (!last_whole && !core_.map->all_present(last)) end = std::max(last.offset, begin);
  return {begin, end > begin ? end - begin : 0};
}

Task<std::optional<Status>> HydratingDevice::change_both(const Change& change,
                                                         ByteRange local_part) {
  const bool base_only = local_part.length < change.range.length;
  if (base_only) ++base_only_inside_;
  const auto op = submit_to_base(change);
  Status local;
  if (!local_part.empty()) local = co_await apply_local(change, local_part, false);
  const bool in_base = co_await wait_for_base(op, base_only ? BaseNeed::kRemade : BaseNeed::kSpare);
  if (base_only) --base_only_inside_;
  if (in_base) {
    if (base_only && !change.fua) {
      base_only_unflushed_ = true;
      ++base_only_count_;
    }
    if (local.ok()) filled(local_part);
    if (planted(PlantedBug::kPartErrorOverwritten)) co_return Status();
    co_return local;
  }
  give_up_mirror("writing to the base failed");
  if (base_only) {
    base_uncertain_ = true;
    if (!local.ok()) co_return local;
    // Not to be connected again, so what the chunk holds besides is not to be had either.
    const bool lost = core_.base->disconnected();
    if (lost || core_.stop.is_set()) {
      co_return Error(ErrorCode::kIo,
                      "writing into a chunk that is still in the base: " + core_.stats.last_error);
    }
    filled(local_part);
    co_return std::nullopt;
  }
  if (local.ok()) filled(local_part);
  if (local.ok() && change.fua) local = co_await keeper_.save();
  co_return local;
}

/// What of a change only the base would have had, and has failed: it may have got it in part, or
/// get it later. So its chunks are fetched and it is made over them, also a trim, whose chunk would
/// else be left to what the base does. They are held, and nobody else's change came in between: it
/// would be undone, after a reader of the base may have seen this one before it (I2). For the same
/// reason `made`, the part between the ends, is not made again.
Task<Status> HydratingDevice::change_ends(const Change& change, ByteRange made,
                                          TimePoint deadline) {
  const ByteRange ends[] = {{change.range.offset, made.offset - change.range.offset},
                            {made.end(), change.range.end() - made.end()}};
  for (const ByteRange& end : ends) {
    if (end.empty()) continue;
    ConstBytes content;
    Change part = change;
    part.range = end;
    part.trim = false;
    if (change.content != nullptr) {
      content = change.content->subspan(end.offset - change.range.offset, end.length);
      part.content = &content;
    }
    const Status status = co_await change_local(part, deadline);
    if (!status.ok()) co_return status;
  }
  if (!change.fua) co_return Status();
  const Status saved = co_await keeper_.save();  // the part between has become present as well
  co_return saved;
}

/// The base is only read. The chunks are held.
Task<Status> HydratingDevice::change_local(const Change& change, TimePoint deadline) {
  ByteRange part = part_for_local(change.range);
  if (part.length < change.range.length && change.trim) {
    // A hint: what would have to be fetched for it is left alone.
    if (part.empty()) co_return Status();
  } else if (part.length < change.range.length && !planted(PlantedBug::kPartialWriteNoFetch)) {
    const ByteRange ends[] = {core_.map->outwards({change.range.offset, 1}),
                              core_.map->outwards({change.range.end() - 1, 1})};
    for (const ByteRange& chunk : ends) {
      const bool covered = chunk.offset >= change.range.offset && chunk.end() <= change.range.end();
      if (covered || core_.map->all_present(chunk)) continue;
      ++readers_waiting_;
      const Status fetched = co_await puller_.fill(chunk, deadline);
      --readers_waiting_;
      if (!fetched.ok()) co_return fetched;
    }
    part = change.range;
  } else if (part.length < change.range.length) {
    part = change.range;
  }
  const bool was_present = core_.map->all_present(part);
  Status status = co_await apply_local(change, part, was_present);
  if (status.ok() && !was_present) {
    const ByteRange touched =
        planted(PlantedBug::kPartialWriteNoFetch) ? core_.map->outwards(part) : part;
    filled(touched);
    if (change.fua) status = co_await keeper_.save();
  }
  co_return status;
}

/// Writes `part` to the new store. Where the change is a trim, the part reads as zeros afterwards
/// unless it `stays_present` on the new store alone: the stores must not differ, and what was
/// absent must not show what happens to be there.
Task<Status> HydratingDevice::apply_local(const Change& change, ByteRange part,
                                          bool stays_present) {
  Status status;
  if (change.content != nullptr) {
    const ConstBytes from = change.content->subspan(part.offset - change.range.offset, part.length);
    const WriteFlags flags{.fua = change.fua};
    if (core_.written && !part.empty()) core_.written->mark(part.offset, part.length);
    const StoreSilence::Request request(core_.silence);
    status = co_await core_.local->write(part.offset, from, flags);
  } else if (change.trim && stays_present && !reverse_) {
    const WriteFlags flags{.fua = change.fua};
    const StoreSilence::Request request(core_.silence);
    status = co_await core_.local->trim(part.offset, part.length, flags);
  } else {
    const ZeroFlags flags{.fua = change.fua, .no_hole = change.no_hole};
    const StoreSilence::Request request(core_.silence);
    status = co_await core_.local->write_zeroes(part.offset, part.length, flags);
  }
  // Durable only with its presence (I12); with the mirror, the base's write was durable as well.
  if (status.ok() && change.fua && !reverse_ && stays_present && keeper_.needs_save(part)) {
    status = co_await keeper_.save();
  }
  co_return status;
}

std::shared_ptr<TargetOp> HydratingDevice::submit_to_base(const Change& change) {
  const bool zero = change.content == nullptr;
  auto op =
      std::make_shared<TargetOp>(core_.loop, zero ? TargetOpKind::kZero : TargetOpKind::kWrite);
  op->offset = change.range.offset;
  op->length = change.range.length;
  op->fua = change.fua;
  if (!zero) {
    // Owned: it may outlive the guest's request (I9, trap 16).
    op->memory = std::make_shared<Buffer>(change.range.length);
    op->bytes = op->memory->bytes();
    std::memcpy(op->bytes.data(), change.content->data(), change.range.length);
  }
  core_.base->submit(op);
  return op;
}

/// Something that it can answer at once: nobody else may have asked it anything meanwhile.
std::shared_ptr<TargetOp> HydratingDevice::ask_base(std::uint64_t offset) {
  const std::uint64_t block = core_.base->info().min_io_bytes;
  auto op = std::make_shared<TargetOp>(core_.loop, TargetOpKind::kRead);
  op->offset = offset / block * block;
  op->length = block;
  op->memory = std::make_shared<Buffer>(block);
  op->bytes = op->memory->bytes();
  core_.base->submit(op);
  return op;
}

/// True: the base has done it. A spare change waits while the base answers anything, but not much
/// longer than for one that answers nothing; one that is made again elsewhere must leave time for
/// that, which needs the base as well; what only the base can do waits as a read would.
Task<bool> HydratingDevice::wait_for_base(std::shared_ptr<TargetOp> op, BaseNeed need) {
  const HydrationOptions& options = core_.options;
  const Duration silence = options.reverse_deadline;
  const TimePoint busy_end = op->submitted + std::min(options.patience, kBusyBase * silence);
  TimePoint give_up = busy_end;
  if (need == BaseNeed::kRemade) give_up = op->submitted + std::max(silence, options.patience / 2);
  if (need == BaseNeed::kOnly) give_up = op->submitted + options.patience;
  TimePoint look = std::min(give_up, op->submitted + silence);
  std::shared_ptr<TargetOp> probe;
  bool answered = co_await op->done.wait_until(look);
  while (!answered && core_.loop.now() < give_up) {
    const bool replied = probe != nullptr && probe->done.is_set();
    const bool stuck = !replied && core_.base->stuck(silence);
    if (need == BaseNeed::kSpare && stuck) break;
    if (need == BaseNeed::kRemade && !stuck && core_.loop.now() >= busy_end) break;
    const bool asks = need == BaseNeed::kRemade && (stuck || replied);
    if (asks && (probe == nullptr || replied)) probe = ask_base(op->offset);
    look = need == BaseNeed::kSpare ? core_.base->stuck_at(silence) : core_.loop.now() + silence;
    answered = co_await op->done.wait_until(std::min(look, give_up));
  }
  if (answered && op->status.ok()) co_return true;
  ++core_.stats.base_errors;
  core_.stats.last_error =
      answered ? op->status.error().message() : core_.base->info().name + " does not answer";
  co_return false;
}

/// From now on the base is only read, so a late write of ours can change nothing that counts: what
/// is present is never pulled again once the next save is done.
void HydratingDevice::give_up_mirror(const std::string& why) {
  if (!reverse_) return;
  reverse_ = false;
  core_.stats.last_error = why + ": " + core_.stats.last_error;
  keeper_.mirror_given_up();
}

void HydratingDevice::filled(ByteRange part) {
  const std::uint64_t before = core_.map->absent_bytes();
  core_.map->set_present(part);
  core_.stats.bytes_spared += before - core_.map->absent_bytes();
  if (core_.map->absent_bytes() != before) core_.changed.pulse();
}

}  // namespace blockmig
