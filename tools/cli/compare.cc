// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/compare.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace blockmig {

ImageComparison::ImageComparison(EventLoop& loop, BlockDevice& a, BlockDevice& b,
                                 std::function<void(std::uint64_t, std::uint64_t)> progress)
    : loop_(loop), sides_{Side(a), Side(b)}, progress_(std::move(progress)), zeros_(kWindowBytes) {
  report_.a = {a.info().name, a.info().size_bytes, {}};
  report_.b = {b.info().name, b.info().size_bytes, {}};
  report_.chunk_bytes = kChunkBytes;
}

Task<Result<CompareReport>> ImageComparison::run() {
  const Status read = co_await read_windows();
  co_await reads_.join();
  if (!read) co_return read.error();
  report_.a.digest = sides_[0].digest.finish().hex();
  report_.b.digest = sides_[1].digest.finish().hex();
  if (report_.a.size_bytes != report_.b.size_bytes && !differs_) {
    differs_ = true;
    report_.first_difference = std::min(report_.a.size_bytes, report_.b.size_bytes);
  }
  report_.equal = !differs_;
  co_return report_;
}

Task<Status> ImageComparison::read_windows() {
  const std::uint64_t total = std::max(report_.a.size_bytes, report_.b.size_bytes);
  const std::uint64_t count = div_up(total, kWindowBytes);
  for (std::size_t i = 0; i < std::min<std::uint64_t>(kReadAhead, count); ++i) {
    windows_.push_back(std::make_unique<Window>(loop_));
    const Status started = co_await start(windows_[i].get(), i * kWindowBytes);
    if (!started) co_return started;
  }
  for (std::uint64_t i = 0; i < count; ++i) {
    Window* window = windows_[i % windows_.size()].get();
    co_await window->ready.wait();
    if (!window->status) co_return window->status;
    judge(*window);
    progress_(std::min((i + 1) * kWindowBytes, total), total);
    const std::uint64_t next = i + windows_.size();
    if (next >= count) continue;
    const Status started = co_await start(window, next * kWindowBytes);
    if (!started) co_return started;
  }
  co_return Status();
}

Task<Status> ImageComparison::start(Window* window, std::uint64_t offset) {
  window->offset = offset;
  window->ready.reset();
  for (std::size_t i = 0; i < sides_.size(); ++i) {
    const std::uint64_t size = sides_[i].device.info().size_bytes;
    window->lengths[i] = offset < size ? std::min(kWindowBytes, size - offset) : 0;
    bool zero = false;
    const Status looked = co_await is_zero(sides_[i], offset, window->lengths[i], &zero);
    if (!looked) co_return looked;
    window->zero[i] = zero;
  }
  reads_.spawn(fill(window));
  co_return Status();
}

/// Windows are asked for in ascending order, so each extent is fetched once.
Task<Status> ImageComparison::is_zero(Side& side, std::uint64_t offset, std::uint64_t length,
                                      bool* zero) {
  *zero = true;
  const std::uint64_t end = offset + length;
  while (offset < end) {
    while (side.next_extent < side.extents.size()) {
      const Extent& extent = side.extents[side.next_extent];
      if (extent.offset + extent.length > offset) break;
      ++side.next_extent;
    }
    if (side.next_extent == side.extents.size()) {
      const std::uint64_t size = side.device.info().size_bytes;
      Result<std::vector<Extent>> extents = co_await side.device.extents(offset, size - offset);
      if (!extents) co_return extents.error().with_context(side.device.info().name);
      side.extents = *std::move(extents);
      side.next_extent = 0;
    }
    const Extent& extent = side.extents[side.next_extent];
    if (!extent.zero) {
      *zero = false;
      co_return Status();
    }
    offset = extent.offset + extent.length;
  }
  co_return Status();
}

Task<void> ImageComparison::fill(Window* window) {
  window->status = Status();
  for (std::size_t i = 0; i < sides_.size(); ++i) {
    if (window->zero[i] || window->lengths[i] == 0) continue;
    window->buffers[i].resize(kWindowBytes);
    BlockDevice& device = sides_[i].device;
    const auto length = static_cast<std::size_t>(window->lengths[i]);
    const MutableBytes into = MutableBytes(window->buffers[i]).first(length);
    const Status read = co_await device.read(window->offset, into);
    if (!read) window->status = read.error().with_context("cannot read " + device.info().name);
  }
  window->ready.set();
}

ConstBytes ImageComparison::content(const Window& window, std::size_t side) const {
  const std::vector<std::byte>& bytes = window.zero[side] ? zeros_ : window.buffers[side];
  return ConstBytes(bytes).first(static_cast<std::size_t>(window.lengths[side]));
}

void ImageComparison::judge(const Window& window) {
  const ConstBytes a = content(window, 0);
  const ConstBytes b = content(window, 1);
  sides_[0].digest.append(a);
  sides_[1].digest.append(b);
  if (window.zero[0] && window.zero[1]) return;
  const std::size_t shared = std::min(a.size(), b.size());
  for (std::size_t at = 0; at < shared; at += kChunkBytes) {
    const std::size_t length = std::min<std::size_t>(kChunkBytes, shared - at);
    if (std::memcmp(a.data() + at, b.data() + at, length) == 0) continue;
    ++report_.different_chunks;
    if (differs_) continue;
    differs_ = true;
    const auto place = std::mismatch(a.begin() + static_cast<std::ptrdiff_t>(at), a.end(),
                                     b.begin() + static_cast<std::ptrdiff_t>(at));
    report_.first_difference = window.offset + static_cast<std::uint64_t>(place.first - a.begin());
  }
}

}  // namespace blockmig
