// SPDX-License-Identifier: Apache-2.0
// ChunkPuller's way with what the base calls zero: filled in without being read.
#include <algorithm>
#include <utility>

#include "blockmig/base/planted.h"
#include "blockmig/migrate/chunk_puller.h"

namespace blockmig {
namespace {

/// Of one run of zeros, 128 MiB as a rule: writes to it wait while the new store makes them.
constexpr std::uint64_t kMaxZeroPulls = 128;
/// Where data and holes alternate, asking costs more than reading: not sooner than after so many.
constexpr std::uint64_t kAskAgainPulls = 16;
constexpr std::size_t kMaxRuns = 4096;
constexpr unsigned kRounds = 3;

}  // namespace

ChunkPuller::Zeros ChunkPuller::push_zeros(ByteRange ahead) {
  // Everything is to be read back: then it may as well be read.
  if (core_.options.read_back || core_.stop.is_set()) return Zeros::kNone;
  if (core_.base->disconnected()) return Zeros::kNone;
  if (zeros_ != nullptr) return Zeros::kUnderWay;
  if (core_.base->is_asked()) return Zeros::kNone;  // it has not answered the last question yet
  if (no_zeros_.overlaps({ahead.offset, 1})) return Zeros::kNone;
  ahead.length = std::min(ahead.length, kMaxZeroPulls * core_.options.pull_bytes);
  const auto runs = core_.map->runs(core_.map->outwards(ahead), 1);
  if (runs.empty() || !runs.front().dirty) return Zeros::kNone;
  const ByteRange free = free_part(runs.front().range);
  if (free.empty()) return Zeros::kNone;
  zeros_ = std::make_shared<Pull>();
  zeros_->range = free;
  auto task = run_zeros(zeros_);
  scope_.spawn(std::move(task));
  return zeros_ != nullptr ? Zeros::kUnderWay : Zeros::kDone;
}

Task<void> ChunkPuller::run_zeros(std::shared_ptr<Pull> pull) {
  const ByteRange asked = pull->range;
  const Status status = co_await pull_zeros(*pull);
  // What could not be done this way is pulled like everything else, which also says why.
  if (!status.ok()) no_zeros_ = asked;
  zeros_.reset();
  core_.changed.pulse();
}

/// Up to a write that is under way: that one may take as long as the base likes.
ByteRange ChunkPuller::free_part(ByteRange range) const {
  return core_.map->inwards(core_.order.untouched_part(range));
}

/// As pull_chunks(), with the base's word that there are zeros in place of what it holds. Others
/// may pull some of these chunks meanwhile: whoever comes first fills them. It waits for nobody's
/// write: of so long a range, a part is given up instead.
Task<Status> ChunkPuller::pull_zeros(Pull& pull) {
  for (unsigned round = 0; round < kRounds; ++round) {
    pull.range = free_part(pull.range);
    if (pull.range.empty() || !core_.map->all_absent(pull.range)) co_return Status();
    pull.overtaken = false;  // later writes say so
    const ByteRange zeros = co_await zeros_of_base(pull.range);
    if (zeros.empty()) co_return Status();
    pull.range = zeros;
    if (!planted(PlantedBug::kZerosOverwriteNewer)) {
      if (pull.overtaken || !core_.map->all_absent(pull.range)) {
        ++core_.stats.overtaken;
        continue;
      }
      if (core_.order.touches(pull.range)) continue;
    }
    const RangeLock::Hold hold = co_await core_.order.lock(pull.range);  // at once
    const Status filled = co_await zero_local(pull.range);
    if (!filled.ok()) co_return filled;
    overtaken(pull.range);
    core_.map->set_present(pull.range);
    if (core_.on_pulled) core_.on_pulled(pull.range, {});
    ++core_.stats.pulls[static_cast<std::size_t>(PullKind::kPush)];
    core_.stats.bytes_pulled[static_cast<std::size_t>(PullKind::kPush)] += pull.range.length;
    core_.stats.bytes_zero += pull.range.length;
    co_return Status();
  }
  co_return Error(ErrorCode::kBusy, "written to again and again");
}

/// The whole chunks at the beginning of the range that are zeros. None where they are too few to
/// bother: no_zeros_ then says where it is not worth asking again.
Task<ByteRange> ChunkPuller::zeros_of_base(ByteRange range) {
  std::uint64_t end = range.offset;
  std::uint64_t data_end = range.end();
  for (bool known = true; end < range.end() && known;) {
    const std::uint64_t length = range.end() - end;
    if (core_.base->disconnected()) co_return ByteRange();  // it may be being connected again
    const TimePoint deadline = core_.loop.now() + core_.options.patience;
    const auto extents = co_await core_.base->extents(end, length, deadline);
    known = extents.ok() && !extents->empty();
    if (!known) break;
    for (const Extent& extent : *extents) {
      known = extent.zero;
      if (!known) data_end = extent.offset + extent.length;
      if (!known) break;
      end = extent.offset + extent.length;
    }
  }
  // A chunk that is zero in part only is pulled.
  const std::uint64_t found = std::min(end, range.end()) - range.offset;
  const ByteRange zeros = core_.map->inwards({range.offset, found});
  if (zeros.length == range.length || zeros.length >= core_.options.pull_bytes) co_return zeros;
  const std::uint64_t data = data_end - range.offset;
  const std::uint64_t pull = core_.options.pull_bytes;
  no_zeros_ = {range.offset, data >= pull ? data : kAskAgainPulls * pull};
  co_return ByteRange();
}

/// A new store that is known to be zero where nothing was written is left alone (trap 9).
Task<Status> ChunkPuller::zero_local(ByteRange range) {
  const ZeroFlags flags{};
  Status status;
  if (core_.written == nullptr) {
    const StoreSilence::Request request(core_.silence);
    status = co_await core_.local->write_zeroes(range.offset, range.length, flags);
    co_return status;
  }
  for (std::uint64_t at = range.offset; at < range.end() && status.ok();) {
    for (const auto& run : core_.written->runs(at, range.end() - at, kMaxRuns)) {
      at = run.range.end();
      if (!run.dirty || planted(PlantedBug::kTargetAssumedZero)) continue;
      const std::uint64_t length = std::min(run.range.end(), range.end()) - run.range.offset;
      const StoreSilence::Request request(core_.silence);
      status = co_await core_.local->write_zeroes(run.range.offset, length, flags);
      if (!status.ok()) break;
    }
  }
  co_return status;
}

}  // namespace blockmig
