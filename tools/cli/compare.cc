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
  for (std::size_t i = 0; i < kReadAhead && next_ < total; ++i) {
    windows_.push_back(std::make_unique<Window>(loop_));
    const Status started = co_await start(windows_.back().get());
    if (!started) co_return started;
  }
  std::uint64_t started = windows_.size();
  for (std::uint64_t i = 0; i < started; ++i) {
    Window* window = windows_[i % windows_.size()].get();
    co_await window->ready.wait();
    if (!window->status) co_return window->status;
    judge(*window);
    progress_(window->offset + std::max(window->lengths[0], window->lengths[1]), total);
    if (next_ >= total) continue;
    const Status again = co_await start(window);
    if (!again) co_return again;
    ++started;
  }
  co_return Status();
}

std::uint64_t ImageComparison::length_of(std::size_t side, std::uint64_t offset,
                                         std::uint64_t most) const {
  const std::uint64_t size = sides_[side].device.info().size_bytes;
  return offset < size ? std::min(most, size - offset) : 0;
}

Task<Status> ImageComparison::start(Window* window) {
  window->offset = next_;
  window->ready.reset();
  const Result<std::uint64_t> zeros = co_await find_zero_windows(next_);
  if (!zeros) co_return zeros.error();
  if (*zeros > 0) {
    const std::uint64_t stretch = *zeros * kWindowBytes;
    for (std::size_t i = 0; i < sides_.size(); ++i) {
      window->lengths[i] = length_of(i, next_, stretch);
    }
    window->zero = {true, true};
    next_ += stretch;
    window->ready.set();
    co_return Status();
  }
  for (std::size_t i = 0; i < sides_.size(); ++i) {
    window->lengths[i] = length_of(i, next_, kWindowBytes);
    bool zero = false;
    const Status looked = co_await is_zero(sides_[i], next_, window->lengths[i], &zero);
    if (!looked) co_return looked;
    window->zero[i] = zero;
  }
  next_ += kWindowBytes;
  reads_.spawn(fill(window));
  co_return Status();
}

/// Windows are asked for in ascending order, so each extent is fetched once.
Task<Status> ImageComparison::find_extent(Side& side, std::uint64_t offset) {
  while (side.next_extent < side.extents.size()) {
    const Extent& extent = side.extents[side.next_extent];
    if (extent.offset + extent.length > offset) co_return Status();
    ++side.next_extent;
  }
  const std::uint64_t size = side.device.info().size_bytes;
  Result<std::vector<Extent>> extents = co_await side.device.extents(offset, size - offset);
  if (!extents) co_return extents.error().with_context(side.device.info().name);
  side.extents = *std::move(extents);
  side.next_extent = 0;
  co_return Status();
}

Task<Result<std::uint64_t>> ImageComparison::find_zero_windows(std::uint64_t offset) {
  std::uint64_t zeros = UINT64_MAX;  // of a side that has ended
  for (Side& side : sides_) {
    if (offset >= side.device.info().size_bytes) continue;
    const Status found = co_await find_extent(side, offset);
    if (!found) co_return found.error();
    std::uint64_t end = offset;
    for (std::size_t i = side.next_extent; i < side.extents.size(); ++i) {
      if (!side.extents[i].zero) break;
      end = side.extents[i].offset + side.extents[i].length;
    }
    zeros = std::min(zeros, end - offset);
  }
  co_return zeros / kWindowBytes;
}

Task<Status> ImageComparison::is_zero(Side& side, std::uint64_t offset, std::uint64_t length,
                                      bool* zero) {
  *zero = true;
  const std::uint64_t end = offset + length;
  while (offset < end) {
    const Status found = co_await find_extent(side, offset);
    if (!found) co_return found;
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

void ImageComparison::append_zeros(Side& side, std::uint64_t length) {
  static const std::vector<std::byte> zeros(kChunkBytes);
  side.digest.append_zero_chunks(length / kChunkBytes);
  const std::uint64_t rest = length % kChunkBytes;
  if (rest != 0) side.digest.append(ConstBytes(zeros).first(static_cast<std::size_t>(rest)));
}

void ImageComparison::judge(const Window& window) {
  if (window.zero[0] && window.zero[1]) {
    for (std::size_t i = 0; i < sides_.size(); ++i) append_zeros(sides_[i], window.lengths[i]);
    return;
  }
  const ConstBytes a = content(window, 0);
  const ConstBytes b = content(window, 1);
  sides_[0].digest.append(a);
  sides_[1].digest.append(b);
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
