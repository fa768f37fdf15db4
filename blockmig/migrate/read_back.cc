// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/read_back.h"

#include <algorithm>
#include <optional>
#include <string>

namespace blockmig {
namespace {

std::optional<std::uint64_t> first_difference(ConstBytes a, ConstBytes b) {
  const auto place = std::mismatch(a.begin(), a.end(), b.begin());
  if (place.first == a.end()) return std::nullopt;
  return static_cast<std::uint64_t>(place.first - a.begin());
}

/// The first differing offset of the range, if any.
Task<Result<std::optional<std::uint64_t>>> compare(Migration& migration, ByteRange range,
                                                   TimePoint deadline) {
  auto op = std::make_shared<TargetOp>(migration.loop, TargetOpKind::kRead);
  op->memory = std::make_shared<Buffer>(range.length);
  op->bytes = op->memory->bytes();
  op->offset = range.offset;
  op->length = range.length;
  Buffer source(range.length);
  const MutableBytes into = source.bytes();
  const Status read = co_await migration.disk.store().read(range.offset, into);
  if (!read.ok()) co_return read.error().with_context("verifying: reading the source");
  const Status target_read = co_await migration.replica->perform(op, deadline);
  if (!target_read.ok()) co_return target_read.error().with_context("verifying");
  const auto difference = first_difference(into, op->bytes);
  if (!difference) co_return std::optional<std::uint64_t>();
  co_return std::optional<std::uint64_t>(range.offset + *difference);
}

}  // namespace

Task<Status> read_back(Migration& migration) {
  SyncState& sync = *migration.sync;
  for (auto chunk = sync.unverified->next_dirty(0); chunk && !migration.cancel.cancelled();
       chunk = sync.unverified->next_dirty(*chunk + 1)) {
    const auto index = static_cast<std::uint32_t>(*chunk);
    if (sync.dirty->is_dirty(index) || !sync.ledger.try_begin_copy(index, false)) continue;
    const ByteRange range = sync.unverified->chunk_range(index);
    const TimePoint deadline = migration.loop.now() + migration.options.target_timeout;
    const auto difference = co_await compare(migration, range, deadline);
    if (difference.ok() && !difference->has_value()) {
      sync.unverified->clear(range.offset, range.length);
    }
    sync.ledger.end_copy(index);
    if (!difference.ok()) co_return difference.error();
  }
  if (migration.cancel.cancelled()) co_return Error(ErrorCode::kCancelled, "the job was aborted");
  co_return Status();
}

Task<Result<bool>> read_back_under_fence(Migration& migration, TimePoint deadline) {
  SyncState& sync = *migration.sync;
  for (auto chunk = sync.unverified->next_dirty(0); chunk;
       chunk = sync.unverified->next_dirty(*chunk + 1)) {
    if (migration.loop.now() >= deadline) co_return false;
    const ByteRange range = sync.unverified->chunk_range(*chunk);
    const auto difference = co_await compare(migration, range, deadline);
    if (!difference.ok() && difference.error().code() == ErrorCode::kTimedOut) co_return false;
    if (!difference.ok()) co_return difference.error();
    if (difference->has_value()) {
      co_return Error(ErrorCode::kMismatch,
                      "verification failed: target " + migration.status.target_uri +
                          " differs from the source at offset " + std::to_string(**difference));
    }
    sync.unverified->clear(range.offset, range.length);
  }
  co_return true;
}

}  // namespace blockmig
