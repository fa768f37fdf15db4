// SPDX-License-Identifier: Apache-2.0
// SectorHistory: was each read of each sector one that a linearizable register could give (I2)?
//
// Every operation takes a tick when it begins and one when it ends. A read may return the value of
// a write w unless some other write began after w ended and ended before the read began. A write
// that was never acknowledged may take effect or not. What reads saw counts too: a value seen is in
// effect from then on, and a value that was seen to be replaced never comes back.
//
// Values are hashes of a sector's 512 bytes. What a sector held in the beginning is unknown until
// the first read of it. Sound: it objects only to what no register can do. Thread rule: one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

namespace blockmig::bench {

using Tick = std::uint64_t;
inline constexpr Tick kNever = ~Tick{0};

class SectorHistory {
 public:
  explicit SectorHistory(std::uint64_t sectors) : writes_(sectors) {}

  std::uint64_t sectors() const { return writes_.size(); }

  /// An operation begins; pass the tick to end() exactly once.
  Tick begin();
  /// Forgets what no operation still in flight can see.
  void end(Tick start);
  /// A point in time after everything so far.
  Tick now() { return ++clock_; }

  void write_begins(Tick start, std::uint64_t sector, std::uint64_t hash);
  /// Only for a write that succeeded.
  void write_ended(Tick start, std::uint64_t sector, Tick at);
  /// False if no register could have returned this to a read that began at `start`.
  bool read_ended(Tick start, std::uint64_t sector, std::uint64_t hash, Tick at);

  /// True if a write was in flight at any time since `start`: a server that lets threads copy into
  /// and out of the page cache at once may tear such a read, which no single register does.
  bool written_since(std::uint64_t sector, Tick start) const;

  bool ever_written(std::uint64_t sector) const;
  /// Records kept for a sector; bounded by the operations in flight on it.
  std::size_t kept(std::uint64_t sector) const { return writes_[sector].size(); }

 private:
  struct Write {
    std::uint64_t hash;
    Tick start;
    Tick effective;        ///< it took effect before this: acknowledged or seen; kNever if unknown
    Tick replaced;         ///< a read that ended then saw something newer
    bool unknown = false;  ///< the beginning's content, not yet seen
  };
  using Writes = std::vector<Write>;

  Tick oldest_active() const { return active_.empty() ? clock_ + 1 : active_.front().start; }
  static bool overwritten(const Writes& writes, const Write& w, Tick before);
  static void saw(Writes& writes, std::size_t which, Tick start, Tick at);
  void prune(Writes& writes) const;

  struct Active {
    Tick start;
    bool ended;
  };
  std::vector<Writes> writes_;
  std::deque<Active> active_;  ///< by start
  Tick clock_ = 0;
};

}  // namespace blockmig::bench
