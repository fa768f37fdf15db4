// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/direct_file.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/base/planted.h"
#include "blockmig/block/aligned_buffer.h"
#include "blockmig/block/file_transfer.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kPageBytes = 4096;

}  // namespace

DirectFile::DirectFile(IoLoop& loop, FileIo& io, const OpenedFile& file, const std::string& name)
    : io_(io), file_(file), name_(name), tail_begin_(file.size_bytes), locks_(loop) {
  BM_CHECK(file.memory_alignment <= AlignedBuffer::kAlignment);
  BM_CHECK(file.offset_alignment <= kBounceBytes);
  if (file.buffered_fd) {
    tail_begin_ = align_down(file.size_bytes, std::max<std::uint64_t>(kPageBytes, align_of()));
  }
}

Task<Status> DirectFile::read(std::uint64_t offset, MutableBytes into) {
  const std::uint64_t main =
      offset < tail_begin_ ? std::min<std::uint64_t>(into.size(), tail_begin_ - offset) : 0;
  if (main != 0) {
    const MutableBytes part = into.first(main);
    if (straight(offset, part.data(), main)) {
      const Status done = co_await read_whole(io_, file_.fd.get(), offset, part, name_);
      if (!done) co_return done;
    } else {
      const Status done = co_await read_bounced(offset, part);
      if (!done) co_return done;
    }
  }
  const MutableBytes tail = into.subspan(main);
  if (tail.empty()) co_return Status();
  const Status done = co_await read_whole(io_, file_.buffered_fd.get(), offset + main, tail, name_);
  co_return done;
}

Task<Status> DirectFile::write(std::uint64_t offset, ConstBytes from, bool durable) {
  const std::uint64_t main =
      offset < tail_begin_ ? std::min<std::uint64_t>(from.size(), tail_begin_ - offset) : 0;
  if (main != 0) {
    const ConstBytes part = from.first(main);
    const ByteRange range{offset, main};
    RangeLock::Hold hold;
    if (!planted(PlantedBug::kEdgesNotHeld)) {
      RangeLock::Hold granted = co_await lock(range);
      hold = std::move(granted);
    }
    if (straight(offset, part.data(), main)) {
      const Status done = co_await write_whole(io_, file_.fd.get(), offset, part, durable, name_);
      if (!done) co_return done;
    } else {
      const Status done = co_await write_bounced(offset, part, durable);
      if (!done) co_return done;
    }
  }
  const ConstBytes tail = from.subspan(main);
  if (tail.empty()) co_return Status();
  const Status done =
      co_await write_whole(io_, file_.buffered_fd.get(), offset + main, tail, durable, name_);
  co_return done;
}

RangeLock::Awaiter DirectFile::lock(ByteRange range) { return locks_.lock(blocks_of(range)); }

ByteRange DirectFile::blocks_of(ByteRange range) const {
  const std::uint64_t begin = align_down(range.offset, align_of());
  return {begin, align_up(range.end(), align_of()) - begin};
}

bool DirectFile::straight(std::uint64_t offset, const std::byte* data, std::uint64_t length) const {
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  return ((offset | length) & (align_of() - 1)) == 0 &&
         (address & (file_.memory_alignment - 1)) == 0;
}

/// Where the bounced piece that begins at `offset` ends: inner boundaries are aligned.
std::uint64_t DirectFile::piece_end(std::uint64_t offset, std::uint64_t end) const {
  return std::min(end, align_down(offset, kBounceBytes) + kBounceBytes);
}

Task<Status> DirectFile::read_bounced(std::uint64_t offset, MutableBytes into) {
  const std::uint64_t end = offset + into.size();
  BouncePool::Lent buffer =
      bounces_.lend(std::min(blocks_of({offset, into.size()}).length, kBounceBytes));
  while (offset < end) {
    const std::uint64_t stop = piece_end(offset, end);
    const ByteRange blocks = blocks_of({offset, stop - offset});
    const MutableBytes bounce = buffer.bytes().first(blocks.length);
    const Status done = co_await read_whole(io_, file_.fd.get(), blocks.offset, bounce, name_);
    if (!done) co_return done;
    std::memcpy(into.data(), bounce.data() + (offset - blocks.offset), stop - offset);
    into = into.subspan(stop - offset);
    offset = stop;
  }
  co_return Status();
}

/// The caller holds the lock of the whole range's blocks.
Task<Status> DirectFile::write_bounced(std::uint64_t offset, ConstBytes from, bool durable) {
  const std::uint64_t end = offset + from.size();
  BouncePool::Lent buffer =
      bounces_.lend(std::min(blocks_of({offset, from.size()}).length, kBounceBytes));
  while (offset < end) {
    const std::uint64_t stop = piece_end(offset, end);
    const ByteRange range{offset, stop - offset};
    const ByteRange blocks = blocks_of(range);
    const MutableBytes bounce = buffer.bytes().first(blocks.length);
    const Status loaded = co_await load_edges(blocks, range, bounce);
    if (!loaded) co_return loaded;
    std::memcpy(bounce.data() + (offset - blocks.offset), from.data(), range.length);
    const Status done =
        co_await write_whole(io_, file_.fd.get(), blocks.offset, bounce, durable, name_);
    if (!done) co_return done;
    from = from.subspan(range.length);
    offset = stop;
  }
  co_return Status();
}

/// Reads the first and the last block of `blocks` into `buffer` where `range` covers them only in
/// part.
Task<Status> DirectFile::load_edges(ByteRange blocks, ByteRange range, MutableBytes buffer) {
  const std::uint64_t block = align_of();
  const bool head = range.offset != blocks.offset;
  const bool tail = range.end() != blocks.end();
  if (head || (tail && blocks.length == block)) {
    const MutableBytes first = buffer.first(block);
    const Status done = co_await read_whole(io_, file_.fd.get(), blocks.offset, first, name_);
    if (!done) co_return done;
  }
  if (tail && blocks.length > block) {
    const MutableBytes last = buffer.last(block);
    const Status done = co_await read_whole(io_, file_.fd.get(), blocks.end() - block, last, name_);
    if (!done) co_return done;
  }
  co_return Status();
}

}  // namespace blockmig
