// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/copy_engine.h"

#include <algorithm>
#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/base/planted.h"
#include "blockmig/migrate/copy_plan.h"
#include "blockmig/migrate/loop_use.h"

namespace blockmig {
namespace {

constexpr unsigned kRoundsBeforeExclusive = 2;
constexpr Duration kWindowAlone = std::chrono::milliseconds(100);
constexpr std::uint64_t kMostWindowAlone = 4 * kMiB;
constexpr int kSourceReadAttempts = 3;
constexpr Duration kBetweenRuns = std::chrono::nanoseconds(1);
constexpr Duration kSourceRetryDelay = std::chrono::milliseconds(10);

/// One request's alone until the target has answered (trap 16).
std::shared_ptr<Buffer> make_content(std::uint64_t length) {
  if (!planted(PlantedBug::kCopierSharesBuffer)) return std::make_shared<Buffer>(length);
  static std::shared_ptr<Buffer> of_all;
  if (!of_all || of_all->bytes().size() != length) of_all = std::make_shared<Buffer>(length);
  return of_all;
}

}  // namespace

CopyEngine::CopyEngine(const Parts& parts)
    : loop_(parts.loop),
      disk_(parts.disk),
      replica_(parts.replica),
      sync_(parts.sync),
      options_(parts.options),
      cancel_(parts.cancel),
      bandwidth_(parts.share),
      depth_(parts.options.copy_depth),
      progress_(parts.loop),
      rate_limit_(parts.loop, parts.options.bwlimit_bytes_per_second),
      on_cancel_(parts.cancel, [this] {
        rate_limit_.set_rate(0);
        bandwidth_.release();
        progress_.pulse();
      }) {}

void CopyEngine::resume() {
  paused_ = false;
  progress_.pulse();
}

bool CopyEngine::pass_over(const std::optional<TimePoint>& deadline) const {
  return stop_pass_ || !failure_.ok() || cancel_.cancelled() ||
         (deadline && loop_.now() >= *deadline);
}

void CopyEngine::set_mirror(Mirror* mirror) {
  if (mirror_ != nullptr) mirror_->bulk_waits(nullptr);
  mirror_ = mirror;
  progress_.pulse();
}

bool CopyEngine::has_room() const {
  if (paused_ || runs_.running() >= most_runs()) return false;
  if (mirror_ != nullptr) return share_fits();
  return runs_.running() == 0 || in_flight_bytes_ + run_bytes() <= window_bytes();
}

std::uint32_t CopyEngine::most_runs() const {
  return std::min(depth_, bandwidth_.depth(options_.copy_depth));
}

/// What the mirror leaves of the target.
bool CopyEngine::share_fits() const {
  const std::uint64_t bytes = run_bytes();
  if (runs_.running() > 0 && in_flight_bytes_ + bytes > options_.copy_window_bytes) return false;
  return mirror_->bulk_fits(bytes);
}

Task<void> CopyEngine::wait_for_room(std::optional<TimePoint> deadline) {
  const TimePoint never = TimePoint::max();
  while (!has_room() && !pass_over(deadline)) {
    const bool for_share = mirror_ != nullptr && !paused_ && runs_.running() < most_runs();
    if (mirror_ != nullptr) mirror_->bulk_waits(for_share ? &progress_ : nullptr);
    co_await progress_.wait_until(deadline.value_or(never));
  }
  if (mirror_ != nullptr) mirror_->bulk_waits(nullptr);
}

/// Bytes in flight at most: what a mirror would share, and more where nobody waits for that.
std::uint64_t CopyEngine::window_bytes() const {
  const TargetShare::Limits limits{options_.mirror_deadline, sync_.dirty->granularity_bytes()};
  const TargetPace& pace = replica_.pace();
  const TargetShare::Target target{pace.bytes_per_second(), pace.quickest(), 0, 0};
  const std::uint64_t least =
      mirror_ != nullptr ? 0
                         : std::min(TargetShare::bytes_in(kWindowAlone, target), kMostWindowAlone);
  return std::min(std::max(TargetShare(limits).window(target), least), options_.copy_window_bytes);
}

/// Until the next run may go; it is charged when its length is known. A guest waits behind a fence:
/// what is copied there is held up by no other job, nor by a rate. What follows pays for it.
Task<void> CopyEngine::wait_for_rate(std::optional<TimePoint> deadline, std::uint64_t& cursor) {
  if (deadline) co_return;
  if (!rate_limit_.unlimited() && next_in_pass(cursor)) co_await rate_limit_.take(0);
  if (!bandwidth_.limited() || pass_over(deadline)) co_return;
  if (next_in_pass(cursor)) co_await bandwidth_.wait_turn();
}

std::uint64_t CopyEngine::run_bytes() const {
  // Two in the window: the target has the next one when it has answered the first.
  std::uint64_t bytes = std::min<std::uint64_t>(options_.copy_request_bytes, window_bytes() / 2);
  // Under a tight rate limit, requests of a tenth of a second keep the rate even and abort quick.
  if (!rate_limit_.unlimited()) bytes = std::min(bytes, rate_limit_.rate() / 10);
  bytes = std::min(bytes, bandwidth_.turn_bytes());
  return std::max<std::uint64_t>(bytes, sync_.dirty->granularity_bytes());
}

Task<Status> CopyEngine::run_pass(std::optional<TimePoint> deadline) {
  stop_pass_ = false;
  failure_ = Status();
  std::uint64_t cursor = 0;
  ordered_ = order_ != nullptr && !deadline;
  if (ordered_) order_->begin_pass(loop_.now());
  // Behind a fence no guest asks for anything; where its latency is the limit, that decides.
  const bool shares = !deadline && options_.max_guest_latency == Duration::zero();
  LoopUse use(loop_, need_, shares ? &disk_.guest_share() : nullptr, mirror_ != nullptr);
  for (;;) {
    co_await wait_for_room(deadline);
    if (pass_over(deadline)) break;
    co_await wait_for_rate(deadline, cursor);
    if (pass_over(deadline)) break;
    auto run = take_run(cursor);
    if (!run) break;
    const std::uint64_t travels = run->holes ? 0 : run->range.length;
    rate_limit_.charge(travels);
    bandwidth_.charge(travels);
    in_flight_bytes_ += run->memory;
    stats_.bytes_leased += run->range.length;
    if (mirror_ != nullptr) mirror_->bulk_sent(travels);
    const TimePoint begun = loop_.now();
    auto task = copy_run(std::move(*run));
    runs_.spawn(std::move(task));
    use.worked(begun);
    // What is cached is read on the spot: a window full of that would hold up the guest for long.
    co_await sleep_for(loop_, kBetweenRuns);
  }
  while (runs_.running() > 0) {
    const TimePoint until = deadline.value_or(TimePoint::max());
    const bool progressed = co_await progress_.wait_until(until);
    if (!progressed) co_return Error(ErrorCode::kTimedOut, "the last pass exceeds the fence");
  }
  if (cancel_.cancelled()) co_return Error(ErrorCode::kCancelled, "the job was aborted");
  co_return failure_;
}

Task<Status> CopyEngine::copy_one() {
  BM_CHECK(runs_.running() == 0);
  failure_ = Status();
  ordered_ = false;
  for (auto next = chunks().next_dirty(0); next; next = chunks().next_dirty(*next + 1)) {
    const auto chunk = static_cast<std::uint32_t>(*next);
    if (!sync_.ledger.try_begin_copy(chunk, false)) continue;
    const ByteRange range = chunks().chunk_range(chunk);
    Run run{chunks().lease_chunks({chunk}), range, false, range.length};
    in_flight_bytes_ += run.memory;
    stats_.bytes_leased += run.range.length;
    auto task = copy_run(std::move(run));
    runs_.spawn(std::move(task));
    co_await runs_.join();
    break;
  }
  co_return failure_;
}

Task<void> CopyEngine::join() { co_await runs_.join(); }

bool CopyEngine::in_sweep(std::uint64_t chunk) const {
  return !ordered_ || order_->takes(sync_.dirty->chunk_range(chunk));
}

std::optional<std::uint64_t> CopyEngine::next_in_sweep(std::uint64_t cursor) {
  auto next = chunks().next_dirty(cursor);
  while (next && !in_sweep(*next)) next = chunks().next_dirty(*next + 1);
  return next;
}

/// Goes on to the next sweep where one has ended.
std::optional<std::uint64_t> CopyEngine::next_in_pass(std::uint64_t& cursor) {
  auto next = next_in_sweep(cursor);
  while (!next && ordered_ && order_->next_sweep()) {
    cursor = 0;
    next = next_in_sweep(cursor);
  }
  return next;
}

std::optional<CopyEngine::Run> CopyEngine::take_run(std::uint64_t& cursor) {
  if (source_ != nullptr) {
    const auto urgent = source_->urgent();
    std::uint64_t aside = 0;
    if (urgent && sync_.ledger.try_begin_copy(static_cast<std::uint32_t>(*urgent), false)) {
      return take_chunks(*urgent, aside);
    }
  }
  for (auto next = next_in_pass(cursor); next; next = next_in_pass(cursor)) {
    const auto chunk = static_cast<std::uint32_t>(*next);
    cursor = *next + 1;
    const auto overtaken = rounds_.find(chunk);
    const bool exclusive = mirror_ != nullptr && overtaken != rounds_.end() &&
                           overtaken->second >= kRoundsBeforeExclusive;
    auto holes = take_holes(*next, cursor);
    if (holes) return holes;
    // A busy chunk stays dirty for the next pass.
    if (sync_.ledger.try_begin_copy(chunk, exclusive)) return take_chunks(*next, cursor);
  }
  return std::nullopt;
}

/// A contiguous run from `first`, which is claimed.
CopyEngine::Run CopyEngine::take_chunks(std::uint64_t first, std::uint64_t& cursor) {
  const std::uint64_t max_chunks =
      std::max<std::uint64_t>(run_bytes() / chunks().granularity_bytes(), 1);
  std::vector<std::uint32_t> taken{static_cast<std::uint32_t>(first)};
  for (std::uint64_t chunk = first + 1; taken.size() < max_chunks; ++chunk) {
    if (chunk >= chunks().chunk_count() || !chunks().is_dirty(chunk) || !in_sweep(chunk)) break;
    if (sync_.holes && source_ == nullptr && sync_.holes->is_dirty(chunk)) break;
    // One that writes overtook gets a run of its own, where it may be exclusive.
    if (mirror_ != nullptr && rounds_.contains(static_cast<std::uint32_t>(chunk))) break;
    if (!sync_.ledger.try_begin_copy(static_cast<std::uint32_t>(chunk), false)) break;
    taken.push_back(static_cast<std::uint32_t>(chunk));
    cursor = chunk + 1;
  }
  const std::uint64_t begin = chunks().chunk_range(taken.front()).offset;
  const std::uint64_t end = chunks().chunk_range(taken.back()).end();
  return Run{chunks().lease_chunks(taken), {begin, end - begin}, false, end - begin};
}

Task<void> CopyEngine::copy_run(Run run) {
  Status status;
  if (run.holes) {
    status = co_await copy_holes(run.range);
  } else {
    status = co_await copy_range(run.range);
  }
  finish_run(run, status);
}

void CopyEngine::finish_run(Run& run, const Status& status) {
  const auto& chunks = run.lease.chunks();
  if (status.ok()) {
    if (planted(PlantedBug::kClearMarkAfterRead))
      sync_.dirty->clear(run.range.offset, run.range.length);
    run.lease.acknowledge_all();
    if (source_ != nullptr) source_->copied(chunks);
    stats_.bytes_copied += run.range.length;
    for (const std::uint32_t chunk : chunks) {
      if (run.holes) break;  // none was overtaken before
      if (!sync_.dirty->is_dirty(chunk)) {
        if (!rounds_.empty()) rounds_.erase(chunk);
      } else if (mirror_ != nullptr) {
        ++rounds_[chunk];
      }
    }
  } else if (failure_.ok()) {
    failure_ = status;
  }
  const std::vector<std::uint32_t> claimed = chunks;
  run.lease = DirtyLease();  // marks what was not acknowledged, before anybody may take the chunks
  end_claims(run, claimed);
  in_flight_bytes_ -= run.memory;
  progress_.pulse();
}

Task<Status> CopyEngine::copy_range(ByteRange range) {
  // Before the read: from now on the target answers for these chunks.
  if (sync_.rest && !planted(PlantedBug::kRestKeepsCopied)) {
    sync_.rest->clear(range.offset, range.length);
  }
  auto content = make_content(range.length);
  const MutableBytes into = content->bytes();
  const Status read = co_await read_source(range, into);
  if (!read.ok()) co_return read;
  if (sync_.digests) sync_.digests->set(range.offset, into);
  if (sync_.unverified) sync_.unverified->mark(range.offset, range.length);
  if (planted(PlantedBug::kCopyBufferFlips) && range.offset % 3 == 0) into[0] ^= std::byte{1};
  const Status written = co_await write_target(range, content);
  if (!written.ok() || !sync_.digests || planted(PlantedBug::kCopyBufferFlips)) co_return written;
  // The target has taken what is in the buffer now: is it what was read (I13)?
  const auto changed = sync_.digests->first_difference(range.offset, into);
  if (!changed) co_return written;
  ++sync_.mismatches;
  co_return Error(ErrorCode::kMismatch,
                  "verification failed: the copy of offset " + std::to_string(*changed) +
                      " changed in memory on its way to target " + replica_.info().name);
}

bool CopyEngine::judged_by_chunk(ByteRange range) const {
  constexpr std::uint64_t kChunk = ChunkDigests::kChunkBytes;
  const bool ends_whole = range.end() % kChunk == 0 || range.end() == sync_.dirty->size_bytes();
  return range.offset % kChunk == 0 && ends_whole;
}

Task<Status> CopyEngine::read_source(ByteRange range, MutableBytes into) {
  Status status;
  for (int attempt = 0; attempt < kSourceReadAttempts && !cancel_.cancelled(); ++attempt) {
    if (source_ != nullptr) {
      status = co_await source_->read(range, into);
    } else {
      status = co_await disk_.store().read_once(range.offset, into);
    }
    if (status.ok()) co_return status;
    co_await sleep_for(loop_, kSourceRetryDelay);
  }
  if (status.ok()) co_return Error(ErrorCode::kCancelled, "the job was aborted");
  co_return status.error().with_context("reading the source at offset " +
                                        std::to_string(range.offset));
}

Task<Status> CopyEngine::write_target(ByteRange range, std::shared_ptr<Buffer> content) {
  const std::uint32_t granularity = sync_.dirty->granularity_bytes();
  const auto surely_zero = [&](std::uint64_t chunk) {
    return planted(PlantedBug::kTargetAssumedZero) || !sync_.written->is_dirty(chunk);
  };
  const std::uint32_t block = replica_.info().min_io_bytes;
  const auto pieces = plan_copy(range.offset, content->bytes(), granularity, block, surely_zero);
  std::vector<std::shared_ptr<TargetOp>> ops;
  for (const CopyPiece& piece : pieces) {
    if (piece.kind != CopyPiece::Kind::kWrite) stats_.bytes_zero += piece.range.length;
    if (piece.kind == CopyPiece::Kind::kSkip) continue;
    const bool zero = piece.kind == CopyPiece::Kind::kZero;
    auto op = std::make_shared<TargetOp>(loop_, zero ? TargetOpKind::kZero : TargetOpKind::kWrite);
    op->offset = piece.range.offset;
    op->length = piece.range.length;
    op->bulk = true;
    if (!zero) {
      op->memory = content;
      op->bytes = content->bytes().subspan(piece.range.offset - range.offset, piece.range.length);
      if (sync_.digests && !judged_by_chunk(range)) op->digest = digest_of(op->bytes);
      sync_.written->mark(piece.range.offset, piece.range.length);
      stats_.bytes_written += piece.range.length;
    }
    replica_.submit(op);
    ops.push_back(std::move(op));
  }
  // Every part is awaited, and the first error wins: a later success does not hide it (trap 12).
  Status result;
  for (const auto& op : ops) {
    const Status done = co_await await_op(*op);
    if (!done.ok() && done.error().code() == ErrorCode::kMismatch) ++sync_.mismatches;
    if (!done.ok() && result.ok()) result = done;
  }
  co_return result;
}

Task<Status> CopyEngine::await_op(TargetOp& op) {
  const TimePoint deadline = op.submitted + options_.target_timeout;
  const bool answered = co_await op.done.wait_until(deadline);
  if (answered && op.status.ok()) co_return Status();
  const bool zero = op.kind == TargetOpKind::kZero;
  const std::string where = " at offset " + std::to_string(op.offset);
  if (answered) {
    const std::string what = zero ? "zeroing the target" : "writing the target";
    co_return op.status.error().with_context(what + where);
  }
  const std::string what = zero ? "a request to zero" : "a write";
  const Error silence(ErrorCode::kTimedOut, "target " + replica_.info().name + " did not answer " +
                                                what + where + " in time");
  replica_.note_trouble(silence);
  co_return silence;
}

}  // namespace blockmig
