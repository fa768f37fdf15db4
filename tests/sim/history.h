// SPDX-License-Identifier: Apache-2.0
// History: what clients asked of a disk and what they were told, and whether it can be true.
//
// Every 512-byte sector is a linearizable register (I2). Written values are unique (except zero),
// so a read names the write it saw. A read of w is illegal if w began after the read ended, or if
// some w' began after w had completed and itself completed before the read began. A write that
// failed, or whose fate is unknown, may take effect at any time after it began, or never. Times are
// a logical clock: one tick per event.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "blockmig/base/bytes.h"

namespace blockmig::sim {

inline constexpr std::uint64_t kUnknownEnd = UINT64_MAX;

/// The value of a whole sector; 0 = zeros.
using SectorValue = std::uint64_t;

class History final {
 public:
  explicit History(std::uint64_t size_bytes);

  std::uint64_t tick() { return ++now_; }
  std::uint64_t sectors() const { return sectors_.size(); }
  ByteRange sector_range(std::uint64_t sector) const;
  SectorValue next_value() { return ++last_value_; }

  /// A write of `count` sectors has begun; the returned id ends it. `values[i]` goes to first + i.
  std::uint64_t begin_write(std::uint64_t first, std::vector<SectorValue> values);
  /// `certain` false: it failed, or its outcome is unknown.
  void end_write(std::uint64_t id, bool certain);

  /// A read has begun: until it is checked, what it might see is kept. Returns its time.
  std::uint64_t begin_read();
  void end_read(std::uint64_t begun);
  /// Empty if legal, else a sentence.
  std::optional<std::string> check_read(std::uint64_t first, const std::vector<SectorValue>& seen,
                                        std::uint64_t begun, std::uint64_t ended) const;

  /// A flush that was acknowledged: what had ended before `begun` is durable (I1).
  void acknowledge_flush(std::uint64_t begun);
  /// What survived a power loss must be a legal value, not older than the last flushed one.
  std::optional<std::string> check_survivor(std::uint64_t sector, SectorValue seen) const;

  /// After a power loss the sector holds `seen` for certain, and nothing from before comes back.
  void start_again(std::uint64_t sector, SectorValue seen);

  // Sectors on the wire: the value repeated, with the sector's number mixed in.
  void encode(std::uint64_t sector, SectorValue value, MutableBytes into) const;
  /// Nullopt if the bytes are no whole sector value of this sector: torn, misdirected or damaged.
  std::optional<SectorValue> decode(std::uint64_t sector, ConstBytes bytes) const;

 private:
  struct Write {
    SectorValue value = 0;
    std::uint64_t begun = 0;  ///< also names the write: no two begin at once
    std::uint64_t ended = kUnknownEnd;
    bool flushed = false;
  };
  struct Pending {
    std::uint64_t first = 0;
    std::uint64_t count = 0;
    std::uint64_t begun = 0;
  };
  std::optional<std::string> judge(std::uint64_t sector, SectorValue seen, std::uint64_t begun,
                                   std::uint64_t ended, bool only_flushed) const;

  std::uint64_t size_bytes_;
  std::uint64_t now_ = 0;
  SectorValue last_value_ = 0;
  std::vector<std::vector<Write>> sectors_;
  /// The sectors of which a flush may settle something: a write has ended there since.
  std::vector<std::uint64_t> unsettled_;
  std::vector<bool> is_unsettled_;
  std::vector<Pending> pending_;
  std::multiset<std::uint64_t> active_reads_;
};

}  // namespace blockmig::sim
