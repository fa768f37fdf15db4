// SPDX-License-Identifier: Apache-2.0
#include "guest.h"

#include <algorithm>
#include <vector>

namespace blockmig::sim {
namespace {

constexpr Duration kNap = std::chrono::milliseconds(50);

}  // namespace

Guest::Range Guest::draw_range() {
  Range range;
  const std::uint64_t sectors = history_.sectors();
  std::uint64_t limit = sectors;
  if (random_.below(100) < plan_.hot_percent) limit = std::max<std::uint64_t>(sectors / 16, 1);
  range.first = random_.below(limit);
  // Often small, sometimes large, and the end of the disk more often than by chance (trap 7).
  const std::uint64_t most = random_.chance(3, 4) ? 8 : plan_.max_request_sectors;
  range.count = std::min(random_.between(1, most), sectors - range.first);
  if (random_.chance(1, 20)) range.first = sectors - range.count;
  const ByteRange last = history_.sector_range(range.first + range.count - 1);
  range.bytes.offset = range.first * kSectorBytes;
  range.bytes.length = last.end() - range.bytes.offset;
  return range;
}

Task<void> Guest::work() {
  while (!stopped_) {
    if (resting_) {
      co_await sleep_for(loop_, kNap);
      continue;
    }
    const std::uint64_t errors = errors_;
    const TimePoint begun = loop_.now();
    const std::uint64_t dice = random_.below(100);
    if (dice < 35) {
      co_await read_once();
    } else if (dice < 80) {
      co_await write_once(dice < 38);
    } else if (dice < 88) {
      co_await zero_once(false);
    } else if (dice < 92) {
      co_await zero_once(true);
    } else if (dice < 92 + plan_.flush_percent) {
      co_await flush_once();
    } else {
      co_await read_once();
    }
    ++requests_;
    if (!cut_) longest_ = std::max(longest_, loop_.now() - begun);
    // A closed disk refuses at once: it must not be asked again in the same instant for ever.
    const bool refused = errors_ > errors && loop_.now() == begun;
    if (refused) co_await sleep_for(loop_, std::chrono::milliseconds(1));
    if (plan_.max_think > Duration::zero()) {
      const Duration think(static_cast<Duration::rep>(
          random_.below(static_cast<std::uint64_t>(plan_.max_think.count()) + 1)));
      co_await sleep_for(loop_, think);
    }
  }
}

Task<void> Guest::read_once() {
  const Range range = draw_range();
  std::vector<std::byte> bytes(range.bytes.length);
  const std::uint64_t begun = history_.begin_read();
  const MutableBytes into(bytes);
  const TimePoint asked = loop_.now();
  const Status status = co_await disk_.read(range.bytes.offset, into);
  const std::uint64_t ended = history_.tick();
  if (!cut_) longest_read_ = std::max(longest_read_, loop_.now() - asked);
  if (cut_) {
    history_.end_read(begun);
    co_return;
  }
  if (status.ok()) {
    check_content(range, bytes, begun, ended);
  } else {
    ++errors_;
  }
  history_.end_read(begun);
}

void Guest::check_content(const Range& range, ConstBytes bytes, std::uint64_t begun,
                          std::uint64_t ended) {
  std::vector<SectorValue> seen;
  for (std::uint64_t i = 0; i < range.count; ++i) {
    const ByteRange sector = history_.sector_range(range.first + i);
    const auto value = history_.decode(
        range.first + i, bytes.subspan(sector.offset - range.bytes.offset, sector.length));
    if (!value) {
      complain("sector " + std::to_string(range.first + i) +
               " reads as no value ever written whole");
      return;
    }
    seen.push_back(*value);
  }
  const auto problem = history_.check_read(range.first, seen, begun, ended);
  if (problem) complain("read: " + *problem);
}

Task<void> Guest::write_once(bool fua) {
  const Range range = draw_range();
  std::vector<std::byte> bytes(range.bytes.length);
  std::vector<SectorValue> values;
  for (std::uint64_t i = 0; i < range.count; ++i) {
    values.push_back(history_.next_value());
    const ByteRange sector = history_.sector_range(range.first + i);
    history_.encode(range.first + i, values.back(),
                    MutableBytes(bytes).subspan(sector.offset - range.bytes.offset, sector.length));
  }
  const std::uint64_t id = history_.begin_write(range.first, std::move(values));
  const ConstBytes from(bytes);
  const WriteFlags flags{.fua = fua};
  const Status status = co_await disk_.write(range.bytes.offset, from, flags);
  history_.end_write(id, status.ok() && !cut_);
  if (!status.ok() && !cut_) ++errors_;
  // The request is over: its buffer belongs to the guest again, who uses it for something else
  // (trap 16).
  std::fill(bytes.begin(), bytes.end(), std::byte{0xDB});
}

Task<void> Guest::zero_once(bool trim) {
  const Range range = draw_range();
  const std::uint64_t id =
      history_.begin_write(range.first, std::vector<SectorValue>(range.count, 0));
  Status status;
  if (trim) {
    const WriteFlags flags{};
    status = co_await disk_.trim(range.bytes.offset, range.bytes.length, flags);
  } else {
    const ZeroFlags flags{.no_hole = random_.chance(1, 4)};
    status = co_await disk_.write_zeroes(range.bytes.offset, range.bytes.length, flags);
  }
  // A trimmed range holds its old content or zeros: a write that may or may not have happened.
  history_.end_write(id, status.ok() && !trim && !cut_);
  if (!status.ok() && !cut_) ++errors_;
}

Task<void> Guest::flush_once() {
  const std::uint64_t begun = history_.tick();
  const bool doomed = flush_must_fail();
  const Status status = co_await disk_.flush();
  if (cut_) co_return;
  if (!status.ok()) {
    ++errors_;
    ++flush_errors_;
    co_return;
  }
  if (doomed && flush_must_fail())
    complain("a store that has failed a flush acknowledges one (I11)");
  history_.acknowledge_flush(begun);
}

}  // namespace blockmig::sim
