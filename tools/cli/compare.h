// SPDX-License-Identifier: Apache-2.0
// ImageComparison: reads two devices side by side and says whether they hold the same bytes.
//
// Several windows are read ahead; ranges that both devices know to be zero are not read. Both
// images' digests are computed on the way: the same that a job's report shows. Different sizes are
// a difference; the part that both have is compared all the same. Thread rule: one loop.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "blockmig/base/chunk_digests.h"
#include "blockmig/block/block_device.h"
#include "blockmig/io/event.h"
#include "blockmig/io/task_scope.h"
#include "tools/control/messages.h"

namespace blockmig {

class ImageComparison final {
 public:
  /// `progress(done, total)` is called in bytes, from the loop.
  ImageComparison(EventLoop& loop, BlockDevice& a, BlockDevice& b,
                  std::function<void(std::uint64_t, std::uint64_t)> progress);

  /// Once. Errors name the device.
  Task<Result<CompareReport>> run();

  static constexpr std::uint64_t kChunkBytes = ChunkDigests::kChunkBytes;
  static constexpr std::uint64_t kWindowBytes = 1 * kMiB;  ///< whole chunks: ImageDigest wants them
  static constexpr std::size_t kReadAhead = 8;

 private:
  /// One device and what is known about its holes.
  struct Side {
    explicit Side(BlockDevice& d) : device(d) {}
    BlockDevice& device;
    ImageDigest digest;
    std::vector<Extent> extents;
    std::size_t next_extent = 0;
  };
  struct Window {
    explicit Window(EventLoop& loop) : ready(loop) {}
    std::uint64_t offset = 0;
    std::array<std::uint64_t, 2>
        lengths{};  ///< of each side; 0 beyond its end. Of zeros any number
    std::array<bool, 2> zero{};
    std::array<std::vector<std::byte>, 2> buffers;
    Status status;
    Event ready;
  };

  /// The extent that `offset` is in is the side's next one.
  Task<Status> find_extent(Side& side, std::uint64_t offset);
  /// How many whole windows from there on are known to be zero on both sides.
  Task<Result<std::uint64_t>> find_zero_windows(std::uint64_t offset);
  static void append_zeros(Side& side, std::uint64_t length);
  Task<Status> is_zero(Side& side, std::uint64_t offset, std::uint64_t length, bool* zero);
  Task<void> fill(Window* window);
  /// The next window, or a stretch of them where nothing is to be read.
  Task<Status> start(Window* window);
  std::uint64_t length_of(std::size_t side, std::uint64_t offset, std::uint64_t most) const;
  Task<Status> read_windows();
  void judge(const Window& window);
  ConstBytes content(const Window& window, std::size_t side) const;

  EventLoop& loop_;
  std::array<Side, 2> sides_;
  std::function<void(std::uint64_t, std::uint64_t)> progress_;
  std::vector<std::byte> zeros_;
  std::vector<std::unique_ptr<Window>> windows_;
  std::uint64_t next_ = 0;  ///< where the next window begins
  TaskScope reads_;
  CompareReport report_;
  bool differs_ = false;
};

}  // namespace blockmig
