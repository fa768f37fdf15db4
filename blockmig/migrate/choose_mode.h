// SPDX-License-Identifier: Apache-2.0
// The policy of mode `auto`: which mode to be in now, from what was measured. Pure: functions of
// values, tested by tables.
//
//   dbt     is the cheapest for the guest: its writes never wait for the target. It converges where
//           the chunks that the guest dirties per second are well below what the target takes, or
//           where all that it writes again and again fits the downtime budget at once, and what it
//           writes elsewhere fits what the target takes
//   mirror  converges where the guest's writes fit what the target takes, or can be paced to it,
//           and costs each write the target's answer, which --max-guest-latency may not allow
//   postcopy  converges always, at once, and sends nothing twice; but reads wait for the old store,
//           and there is no way back. Only where the user allows it
//
// The cheapest one, in this order, that is predicted to meet the limits is chosen. If none is, the
// one that comes closest, and the limit that will not be met is named.
#pragma once

#include <cstdint>
#include <string>

#include "blockmig/io/event_loop.h"
#include "blockmig/migrate/job_options.h"

namespace blockmig {

struct ModeInputs {
  std::uint64_t remaining_bytes = 0;  ///< to copy
  std::uint64_t write_rate = 0;       ///< of the guest, bytes per second
  std::uint64_t dirty_rate = 0;       ///< chunks that its writes touch, bytes per second
  std::uint64_t hot_bytes = 0;        ///< of regions that it writes again and again
  std::uint64_t cold_rate = 0;        ///< of dirty_rate, outside of those
  bool heat_is_known = true;          ///< enough was seen to tell; else hot_bytes says little
  std::uint64_t target_rate = 0;      ///< what the target takes, bytes per second
  bool mirror_missed = false;         ///< a mirror was tried, and most writes missed its deadline
  bool dbt_hopeless = false;          ///< passes were made, without headway
  /// A mirror was tried, and more than one write in a hundred waited for it longer than
  /// `max_guest_latency`, which is a limit of the p99; zero = none.
  bool mirror_slow = false;
  Duration max_guest_latency{};
  bool postcopy_allowed = false;  ///< --on-stall postcopy
  Duration max_downtime{};
  Duration time_left{};  ///< until the move should have ended; zero = no limit
};

struct ModeChoice {
  Mode mode = Mode::kDbt;  ///< kDbt, kMirror or kPostcopy
  std::string why;         ///< with the numbers
  std::string unmet;       ///< the limit that is not expected to be met; empty if all are
};
ModeChoice choose_mode(const ModeInputs& inputs);

/// Hysteresis: a change is made when the same other mode was chosen twice in a row, and not before
/// the mode that is on had its time, which doubles with every change back.
class ModeSwitch final {
 public:
  static constexpr Duration kLeastStay = std::chrono::seconds(1);
  static constexpr Duration kMostStay = std::chrono::seconds(60);

  ModeSwitch(Mode first, TimePoint now) : mode_(first), since_(now) {}
  Mode mode() const { return mode_; }
  /// True if `choice` becomes the mode. `urgent`: the mode that is on has failed; at once.
  bool offer(Mode choice, TimePoint now, bool urgent);

 private:
  Mode mode_;
  TimePoint since_;
  Duration stay_{};  ///< the first mode was a guess
  unsigned in_a_row_ = 0;
};

}  // namespace blockmig
