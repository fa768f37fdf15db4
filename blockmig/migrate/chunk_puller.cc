// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/chunk_puller.h"

#include <algorithm>
#include <string>
#include <utility>

#include "blockmig/base/back_off.h"
#include "blockmig/base/digest.h"
#include "blockmig/base/planted.h"
#include "blockmig/migrate/copy_plan.h"

namespace blockmig {
namespace {

constexpr std::size_t kMaxRunsPerWant = 256;
constexpr unsigned kRoundsBeforeClaim = 3;
constexpr std::size_t kMaxRefused = 4096;

std::size_t index_of(PullKind kind) { return static_cast<std::size_t>(kind); }

}  // namespace

const ChunkPuller::Pull* ChunkPuller::find(ByteRange range) const {
  for (const auto& pull : pulls_) {
    if (pull->range.overlaps(range)) return pull.get();
  }
  return nullptr;
}

bool ChunkPuller::slow_to_keep(ByteRange range) const {
  const TimePoint late = core_.loop.now() - core_.options.keep_deadline;
  return std::any_of(pulls_.begin(), pulls_.end(), [&](const std::shared_ptr<Pull>& pull) {
    return pull->range.overlaps(range) && pull->fetched && *pull->fetched <= late;
  });
}

bool ChunkPuller::has_room(PullKind kind, std::uint64_t bytes) const {
  if (kind == PullKind::kDemand) {
    return demanded_bytes_ == 0 || demanded_bytes_ + bytes <= 2 * core_.options.window_bytes;
  }
  const std::uint64_t background = bytes_in_flight_ - demanded_bytes_;
  return background == 0 || background + bytes <= core_.options.window_bytes;
}

std::uint64_t ChunkPuller::want(ByteRange range, PullKind kind) {
  if (core_.stop.is_set() || range.empty()) return 0;
  std::uint64_t started = 0;
  const std::uint64_t most = std::max(core_.options.pull_bytes, core_.map->granularity_bytes());
  for (const DirtyBitmap::Run& run : core_.map->runs(core_.map->outwards(range), kMaxRunsPerWant)) {
    if (!run.dirty) continue;
    for (std::uint64_t at = run.range.offset; at < run.range.end();) {
      const ByteRange chunk = core_.map->outwards({at, 1});
      if (const Pull* const under_way = find(chunk); under_way != nullptr) {
        at = under_way->range.end();
        continue;
      }
      ByteRange next = chunk;
      while (next.end() < run.range.end()) {
        const ByteRange further = core_.map->outwards({next.end(), 1});
        if (next.length + further.length > most || find(further) != nullptr) break;
        next.length += further.length;
      }
      if (!has_room(kind, next.length)) return started;
      started += next.length;
      at = next.end();
      start(next, kind);
    }
  }
  return started;
}

void ChunkPuller::start(ByteRange range, PullKind kind) {
  auto pull = std::make_shared<Pull>();
  pull->range = range;
  pull->kind = kind;
  pulls_.push_back(pull);
  bytes_in_flight_ += range.length;
  if (kind == PullKind::kDemand) demanded_bytes_ += range.length;
  auto task = run(std::move(pull));
  scope_.spawn(std::move(task));
}

void ChunkPuller::overtaken(ByteRange range) {
  if (planted(PlantedBug::kPullOverwritesNewer)) return;
  for (const auto& pull : pulls_) {
    if (pull->range.overlaps(range)) pull->overtaken = true;
  }
  if (zeros_ != nullptr && zeros_->range.overlaps(range)) zeros_->overtaken = true;
}

Task<void> ChunkPuller::run(std::shared_ptr<Pull> pull) {
  const Status status = co_await pull_chunks(*pull);
  const bool splits = !status.ok() && pull->refused && !is_one_chunk(pull->range);
  if (status.ok()) {
    failures_ = 0;
  } else if (!splits) {
    ++failures_;
  }
  std::erase(pulls_, pull);
  bytes_in_flight_ -= pull->range.length;
  if (pull->kind == PullKind::kDemand) demanded_bytes_ -= pull->range.length;
  if (splits) start_each(pull->range, pull->kind);
  core_.changed.pulse();
}

bool ChunkPuller::is_one_chunk(ByteRange range) const {
  return core_.map->outwards({range.offset, 1}).length >= range.length;
}

/// One bad sector is not to keep its neighbours from being pulled.
void ChunkPuller::start_each(ByteRange range, PullKind kind) {
  for (std::uint64_t at = range.offset; at < range.end() && !core_.stop.is_set();) {
    const ByteRange chunk = core_.map->outwards({at, 1});
    at = chunk.end();
    if (core_.map->all_absent(chunk) && find(chunk) == nullptr) start(chunk, kind);
  }
}

bool ChunkPuller::refused(ByteRange range) const {
  const auto first = refused_.lower_bound(core_.map->outwards({range.offset, 1}).offset);
  return first != refused_.end() && *first < range.end();
}

/// Success also where a write has filled some of the chunks meanwhile: then there is nothing to do,
/// or somebody asks again for the rest.
Task<Status> ChunkPuller::pull_chunks(Pull& pull) {
  std::optional<TimePoint> deadline;
  auto content = std::make_shared<Buffer>(pull.range.length);
  unsigned failures = 0;
  for (unsigned round = 0;;) {
    // Writes that had begun before are waited for, and keep nobody else waiting: one that the base
    // does not answer must not hold up its neighbours (I10). Those that come later say so.
    pull.overtaken = false;
    co_await core_.order.passed(pull.range);
    RangeLock::Hold hold;
    if (round >= kRoundsBeforeClaim) {
      hold = co_await core_.order.lock(pull.range);
      pull.overtaken = false;
    }
    if (!core_.map->all_absent(pull.range)) co_return Status();
    if (!deadline) deadline = core_.loop.now() + core_.options.patience;
    Status status = co_await read_base(pull.range, content, *deadline);
    if (!status.ok()) {
      hold.release();
      if (core_.stop.is_set() || core_.loop.now() >= *deadline) co_return status;
      pull.refused = !core_.base->disconnected();
      if (pull.refused && !is_one_chunk(pull.range)) co_return status;
      if (pull.refused && refused_.size() < kMaxRefused) refused_.insert(pull.range.offset);
      const TimePoint next =
          std::min(*deadline, core_.loop.now() + kStoreBackOff.after(failures++));
      co_await core_.stop.wait_until(next);
      continue;
    }
    if (round < kRoundsBeforeClaim) {
      // Claimed when it is free, for the same reason.
      while (!pull.overtaken && core_.order.touches(pull.range)) {
        co_await core_.order.passed(pull.range);
      }
      if (!pull.overtaken) hold = co_await core_.order.lock(pull.range);
    }
    if (pull.overtaken) {
      ++core_.stats.overtaken;
      ++round;
      continue;
    }
    pull.fetched = core_.loop.now();
    status = co_await store(pull.range, content);
    note_stored(pull.kind, status);
    if (status.ok()) {
      ++core_.stats.pulls[index_of(pull.kind)];
      core_.stats.bytes_pulled[index_of(pull.kind)] += pull.range.length;
    }
    co_return status;
  }
}

Task<Status> ChunkPuller::fill(ByteRange range, TimePoint deadline) {
  auto content = std::make_shared<Buffer>();
  const Status read = co_await read_patiently(range, content, deadline);
  if (!read.ok()) co_return read;
  const Status stored = co_await store(range, content);
  if (stored.ok()) {
    ++core_.stats.pulls[index_of(PullKind::kDemand)];
    core_.stats.bytes_pulled[index_of(PullKind::kDemand)] += range.length;
  }
  co_return stored;
}

/// For a caller who holds the chunks, so that nobody else can bring them meanwhile.
Task<Status> ChunkPuller::read_patiently(ByteRange range, std::shared_ptr<Buffer> into,
                                         TimePoint deadline) {
  unsigned failures = 0;
  for (;;) {
    const Status status = co_await read_base(range, into, deadline);
    if (status.ok() || core_.stop.is_set() || core_.loop.now() >= deadline) co_return status;
    const TimePoint next = std::min(deadline, core_.loop.now() + kStoreBackOff.after(failures++));
    co_await core_.stop.wait_until(next);
  }
}

/// A base that answers nothing must not cost a buffer for every try (I10).
Task<Status> ChunkPuller::wait_for_late_reads(TimePoint deadline) {
  while (core_.late_read_bytes >= core_.options.window_bytes) {
    if (core_.stop.is_set() || core_.loop.now() >= deadline) {
      co_return Error(ErrorCode::kTimedOut, core_.base->info().name + " does not answer");
    }
    co_await core_.changed.wait_until(deadline);
  }
  co_return Status();
}

void ChunkPuller::leave_late(TargetOp& op) {
  core_.late_read_bytes += op.length;
  op.on_answer = [&core = core_](TargetOp& late) {
    core.late_read_bytes -= late.length;
    core.changed.pulse();
  };
}

Task<Status> ChunkPuller::read_base(ByteRange range, std::shared_ptr<Buffer> into,
                                    TimePoint deadline) {
  Status read = co_await wait_for_late_reads(deadline);
  if (!read.ok()) co_return read;
  auto op = std::make_shared<TargetOp>(core_.loop, TargetOpKind::kRead);
  op->offset = range.offset;
  op->length = range.length;
  op->memory = std::make_shared<Buffer>(range.length);
  op->bytes = op->memory->bytes();
  read = co_await core_.base->perform(op, deadline);
  if (!op->done.is_set()) leave_late(*op);
  if (read.ok()) {
    // The op's own memory: a late answer of an earlier try must not change what was read.
    *into = std::move(*op->memory);
    if (!core_.cannot_keep) core_.stats.last_error.clear();
    co_return read;
  }
  ++core_.stats.base_errors;
  const Error error =
      read.error().with_context("reading the base at offset " + std::to_string(range.offset));
  // One state of the store, wherever it was asked: whoever logs its changes logs it once.
  core_.stats.last_error = read.error().with_context("reading the base").message();
  if (core_.on_base_failed) core_.on_base_failed();
  co_return Error(ErrorCode::kIo, error.message());
}

Task<Status> ChunkPuller::store(ByteRange range, std::shared_ptr<Buffer> content) {
  const bool compare = core_.options.compare && !planted(PlantedBug::kPullBufferFlips);
  const Digest read = compare ? digest_of(content->bytes()) : Digest();
  if (planted(PlantedBug::kPullBufferFlips) && range.offset % 3 == 0) {
    content->bytes()[0] ^= std::byte{1};
  }
  const Status written = co_await write_local(range, content->bytes());
  core_.cannot_keep = !written.ok();
  if (written.ok()) refusal_.reset();
  if (!written.ok()) {
    // One state of the store, whichever chunk it refuses: whoever logs its changes logs it once.
    if (!refusal_ || refusal_->code() != written.error().code()) refusal_ = written.error();
    core_.stats.last_error = refusal_->message();
    core_.changed.pulse();
    co_return written;
  }
  // The store has taken what is in the buffer now: is it what was read (I13)?
  if (compare && digest_of(content->bytes()) != read) {
    ++core_.stats.mismatches;
    core_.stats.last_error = "what was fetched of offset " + std::to_string(range.offset) +
                             " changed in memory on its way";
    co_return Error(ErrorCode::kMismatch, core_.stats.last_error);
  }
  if (core_.options.read_back) {
    const Status compared = co_await read_back(range, content->bytes());
    if (!compared.ok()) co_return compared;
  }
  core_.map->set_present(range);
  refused_.erase(refused_.lower_bound(range.offset), refused_.lower_bound(range.end()));
  if (core_.on_pulled) core_.on_pulled(range, content->bytes());
  core_.changed.pulse();
  co_return Status();
}

/// All that were under way when it began to refuse are one try. What readers ask for counts as a
/// try only where it works: it must not put off the background's for ever.
void ChunkPuller::note_stored(PullKind kind, const Status& status) {
  const TimePoint now = core_.loop.now();
  if (status.ok()) {
    store_refusals_ = 0;
  } else if (kind == PullKind::kPush && (!store_refuses() || now >= store_again_)) {
    store_again_ = now + kStoreBackOff.after(store_refusals_++);
  }
}

Task<Status> ChunkPuller::write_local(ByteRange range, ConstBytes content) {
  const auto surely_zero = [this](std::uint64_t chunk) {
    return planted(PlantedBug::kTargetAssumedZero) ||
           (core_.written != nullptr && !core_.written->is_dirty(chunk));
  };
  const std::uint32_t granularity = core_.map->granularity_bytes();
  const std::uint32_t block = core_.local->info().min_io_bytes;
  const auto pieces = plan_copy(range.offset, content, granularity, block, surely_zero);
  for (const CopyPiece& piece : pieces) {
    Status status;
    const StoreSilence::Request request(core_.silence);
    if (piece.kind != CopyPiece::Kind::kWrite) core_.stats.bytes_zero += piece.range.length;
    if (piece.kind == CopyPiece::Kind::kWrite) {
      const ConstBytes from =
          content.subspan(piece.range.offset - range.offset, piece.range.length);
      const WriteFlags flags{};
      status = co_await core_.local->write(piece.range.offset, from, flags);
    } else if (piece.kind == CopyPiece::Kind::kZero) {
      const ZeroFlags flags{};
      status = co_await core_.local->write_zeroes(piece.range.offset, piece.range.length, flags);
    }
    if (!status.ok()) {
      // A part of it may have happened: the chunks may hold something now.
      if (core_.written) core_.written->mark(range.offset, range.length);
      co_return status.error().with_context("filling the new store at offset " +
                                            std::to_string(piece.range.offset));
    }
    if (core_.written && piece.kind == CopyPiece::Kind::kWrite) {
      core_.written->mark(piece.range.offset, piece.range.length);
    }
  }
  co_return Status();
}

Task<Status> ChunkPuller::read_back(ByteRange range, ConstBytes content) {
  Buffer found(range.length);
  const MutableBytes into = found.bytes();
  const StoreSilence::Request request(core_.silence);
  const Status read = co_await core_.local->read(range.offset, into);
  if (!read.ok()) co_return read.error().with_context("reading back");
  const auto place = std::mismatch(content.begin(), content.end(), into.begin());
  if (place.first == content.end()) co_return Status();
  const auto at = range.offset + static_cast<std::uint64_t>(place.first - content.begin());
  ++core_.stats.mismatches;
  // Also where it was known to hold zeros, so that the next try writes them.
  if (core_.written) core_.written->mark(range.offset, range.length);
  core_.stats.last_error =
      "the new store gives back something else than was written at offset " + std::to_string(at);
  co_return Error(ErrorCode::kMismatch, core_.stats.last_error);
}

}  // namespace blockmig
