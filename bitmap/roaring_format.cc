// SPDX-License-Identifier: Apache-2.0
#include "bitmap/roaring_format.h"

#include <bit>
#include <string>

#include "blockmig/base/endian.h"

namespace blockmig {
namespace {

// Names as in the format specification.
constexpr std::uint32_t kCookieNoRuns = 12346;
constexpr std::uint32_t kCookieRuns =
    12347;  ///< in the low half; the high half is the count less one
constexpr std::uint64_t kMaxContainers = 65536;
constexpr std::uint64_t kContainerValues = 65536;
constexpr std::uint64_t kNoOffsetThreshold = 4;  ///< with runs, fewer containers have no offsets
constexpr std::uint64_t kMaxArrayValues = 4096;
constexpr std::uint64_t kBitsetBytes = kContainerValues / 8;

using Visit = std::function<void(std::uint64_t, std::uint64_t)>;

/// Walks one set; every read is checked against what is left.
class Walk final {
 public:
  Walk(ConstBytes bytes, std::uint64_t limit, const Visit& visit)
      : bytes_(bytes), limit_(limit), visit_(visit) {}

  Status run() {
    if (const Status header = read_header(); !header) return header;
    std::uint64_t previous_key = 0;
    for (std::uint64_t i = 0; i < containers_; ++i) {
      const std::uint64_t key = u16(keys_at_ + 4 * i);
      const std::uint64_t count = std::uint64_t{u16(keys_at_ + 4 * i + 2)} + 1;
      if (i > 0 && key <= previous_key) return damaged("containers out of order");
      previous_key = key;
      if (has_offsets_ && u32(offsets_at_ + 4 * i) != at_) return damaged("wrong container offset");
      if (const Status container = read_container(i, key * kContainerValues, count); !container) {
        return container;
      }
    }
    if (at_ != bytes_.size()) return damaged("bytes behind the last container");
    return {};
  }

 private:
  Status read_header() {
    if (!take(4)) return damaged("no cookie");
    const std::uint32_t cookie = u32(0);
    bool runs = false;
    if ((cookie & 0xffff) == kCookieRuns) {
      runs = true;
      containers_ = std::uint64_t{cookie >> 16} + 1;
      flags_at_ = at_;
      if (!take(div_up(containers_, 8))) return damaged("truncated run flags");
      const std::uint64_t used = containers_ % 8;
      if (used != 0 && (u8(at_ - 1) >> used) != 0) return damaged("run flags of no container");
    } else if (cookie == kCookieNoRuns) {
      if (!take(4)) return damaged("no container count");
      containers_ = u32(4);
      if (containers_ > kMaxContainers) return damaged("too many containers");
    } else {
      return damaged("unknown cookie");
    }
    has_runs_ = runs;
    has_offsets_ = !runs || containers_ >= kNoOffsetThreshold;
    keys_at_ = at_;
    if (!take(4 * containers_)) return damaged("truncated keys");
    offsets_at_ = at_;
    if (has_offsets_ && !take(4 * containers_)) return damaged("truncated offsets");
    return {};
  }

  Status read_container(std::uint64_t index, std::uint64_t base, std::uint64_t count) {
    const bool is_run = has_runs_ && (u8(flags_at_ + index / 8) >> (index % 8) & 1) != 0;
    if (is_run) return read_runs(base, count);
    return count <= kMaxArrayValues ? read_array(base, count) : read_bitset(base, count);
  }

  Status read_runs(std::uint64_t base, std::uint64_t count) {
    const std::uint64_t number_at = at_;
    if (!take(2)) return damaged("truncated run count");
    const std::uint64_t number = u16(number_at);
    const std::uint64_t from = at_;
    if (!take(4 * number)) return damaged("truncated runs");
    std::uint64_t seen = 0;
    std::uint64_t previous_end = 0;
    for (std::uint64_t i = 0; i < number; ++i) {
      const std::uint64_t first = u16(from + 4 * i);
      const std::uint64_t end = first + u16(from + 4 * i + 2) + 1;
      // Runs that touch would have been one run.
      if (i > 0 && first <= previous_end) return damaged("runs out of order");
      if (end > kContainerValues) return damaged("run beyond its container");
      if (!emit(base + first, base + end)) return damaged("chunk beyond the disk");
      seen += end - first;
      previous_end = end;
    }
    if (seen != count) return damaged("runs and cardinality differ");
    return {};
  }

  Status read_array(std::uint64_t base, std::uint64_t count) {
    const std::uint64_t from = at_;
    if (!take(2 * count)) return damaged("truncated array");
    std::uint64_t first = u16(from);
    std::uint64_t end = first + 1;
    for (std::uint64_t i = 1; i < count; ++i) {
      const std::uint64_t value = u16(from + 2 * i);
      if (value < end) return damaged("array out of order");
      if (value > end) {
        if (!emit(base + first, base + end)) return damaged("chunk beyond the disk");
        first = value;
      }
      end = value + 1;
    }
    if (!emit(base + first, base + end)) return damaged("chunk beyond the disk");
    return {};
  }

  Status read_bitset(std::uint64_t base, std::uint64_t count) {
    const std::uint64_t from = at_;
    if (!take(kBitsetBytes)) return damaged("truncated bitset");
    std::uint64_t seen = 0;
    for (std::uint64_t word_at = 0; word_at < kBitsetBytes; word_at += 8) {
      auto word = load_le<std::uint64_t>(bytes_.data() + from + word_at);
      seen += static_cast<std::uint64_t>(std::popcount(word));
      std::uint64_t bit = 0;
      while (word != 0) {
        const auto gap = static_cast<std::uint64_t>(std::countr_zero(word));
        word >>= gap;
        const auto length = static_cast<std::uint64_t>(std::countr_one(word));
        bit += gap;
        const std::uint64_t first = base + word_at * 8 + bit;
        if (!emit(first, first + length)) return damaged("chunk beyond the disk");
        word = length == 64 ? 0 : word >> length;
        bit += length;
      }
    }
    if (seen != count) return damaged("bitset and cardinality differ");
    return {};
  }

  bool emit(std::uint64_t first, std::uint64_t end) {
    if (end > limit_) return false;
    visit_(first, end);
    return true;
  }
  bool take(std::uint64_t count) {
    if (count > bytes_.size() - at_) return false;
    at_ += count;
    return true;
  }
  std::uint8_t u8(std::uint64_t at) const { return static_cast<std::uint8_t>(bytes_[at]); }
  std::uint16_t u16(std::uint64_t at) const { return load_le<std::uint16_t>(bytes_.data() + at); }
  std::uint32_t u32(std::uint64_t at) const { return load_le<std::uint32_t>(bytes_.data() + at); }
  Error damaged(const char* what) const {
    return Error(ErrorCode::kProtocol, std::string("bitmap payload: ") + what + " (at byte " +
                                           std::to_string(at_) + " of " +
                                           std::to_string(bytes_.size()) + ")");
  }

  const ConstBytes bytes_;
  const std::uint64_t limit_;
  const Visit& visit_;
  std::uint64_t at_ = 0;  ///< everything before it was read or reserved
  std::uint64_t containers_ = 0;
  bool has_runs_ = false;
  bool has_offsets_ = false;
  std::uint64_t flags_at_ = 0;
  std::uint64_t keys_at_ = 0;
  std::uint64_t offsets_at_ = 0;
};

}  // namespace

Status walk_portable(ConstBytes bytes, std::uint64_t limit,
                     const std::function<void(std::uint64_t, std::uint64_t)>& visit) {
  return Walk(bytes, limit, visit).run();
}

}  // namespace blockmig
