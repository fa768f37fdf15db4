// SPDX-License-Identifier: Apache-2.0
#include "sharedfs/image_scan.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "blockmig/io/event.h"
#include "blockmig/io/offload.h"
#include "blockmig/io/task_scope.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kChunkBytes = ChunkDigests::kChunkBytes;

struct ChunkHash {
  std::uint64_t chunk = 0;
  bool zero = false;
  Digest digest;
};

class Scan final {
 public:
  Scan(EventLoop& loop, BlockDevice& device, ChunkDigests& into, ScanOptions options)
      : loop_(loop), device_(device), into_(into), options_(std::move(options)), ended_(loop) {}

  Task<Status> run() {
    const std::uint64_t size = into_.size_bytes();
    std::uint64_t offset = 0;
    while (offset < size && !stopped()) {
      const auto extents = co_await device_.extents(offset, size - offset);
      if (!extents) {
        note(extents.error().with_context("asking for what is allocated at offset " +
                                          std::to_string(offset)));
        break;
      }
      const std::vector<Extent>& list = *extents;
      for (const Extent& extent : list) {
        const ByteRange range{extent.offset, extent.length};
        if (!extent.zero) co_await take(range);
        offset = range.end();
        if (options_.progress) options_.progress(offset);
      }
    }
    co_await requests_.join();
    if (failure_.ok() && stopped()) co_return Error(ErrorCode::kCancelled, "stopped");
    co_return failure_;
  }

 private:
  bool stopped() const {
    return !failure_.ok() || (options_.cancel != nullptr && options_.cancel->cancelled());
  }
  void note(const Error& error) {
    if (failure_.ok()) failure_ = error;
  }

  /// Starts what covers the chunks of `range` that have not been taken.
  Task<void> take(ByteRange range) {
    const std::uint64_t end = std::min(align_up(range.end(), kChunkBytes), into_.size_bytes());
    next_ = std::max(next_, align_down(range.offset, kChunkBytes));
    while (next_ < end && !stopped()) {
      if (options_.wanted && !options_.wanted(next_ / kChunkBytes)) {
        next_ = std::min(next_ + kChunkBytes, end);
        continue;
      }
      ByteRange piece{next_, 0};
      while (next_ < end && piece.length < ScanOptions::kRequestBytes &&
             (!options_.wanted || options_.wanted(next_ / kChunkBytes))) {
        next_ = std::min(next_ + kChunkBytes, end);
        piece.length = next_ - piece.offset;
      }
      while (requests_.running() >= options_.depth) {
        ended_.reset();
        co_await ended_.wait();
      }
      auto task = hash(piece);
      requests_.spawn(std::move(task));
    }
  }

  Task<void> hash(ByteRange range) {
    std::vector<std::byte> content(range.length);
    const MutableBytes buffer(content);
    const Status read = co_await device_.read(range.offset, buffer);
    if (read.ok()) {
      const auto hashes = co_await offload(loop_, [&range, &buffer] {
        std::vector<ChunkHash> found;
        for (std::uint64_t at = 0; at < range.length; at += kChunkBytes) {
          const ConstBytes chunk = buffer.subspan(at, std::min(kChunkBytes, range.length - at));
          ChunkHash one{(range.offset + at) / kChunkBytes, is_all_zero(chunk), {}};
          if (!one.zero) one.digest = digest_of(chunk);
          found.push_back(one);
        }
        return found;
      });
      for (const ChunkHash& one : hashes) {
        if (one.zero) {
          into_.set_zero(one.chunk);
        } else {
          into_.set_digest(one.chunk, one.digest);
        }
      }
    } else {
      note(read.error().with_context("reading at offset " + std::to_string(range.offset)));
    }
    ended_.set();
  }

  EventLoop& loop_;
  BlockDevice& device_;
  ChunkDigests& into_;
  ScanOptions options_;
  Event ended_;
  TaskScope requests_;
  std::uint64_t next_ = 0;  ///< extents may share a chunk: it is hashed once
  Status failure_;
};

}  // namespace

Task<Status> scan_image(EventLoop& loop, BlockDevice& device, ChunkDigests& into,
                        ScanOptions options) {
  Scan scan(loop, device, into, std::move(options));
  const Status status = co_await scan.run();
  co_return status;
}

}  // namespace blockmig
