// SPDX-License-Identifier: Apache-2.0
// The convergence policy: will a dirty-tracking copy end, and what to do about it. Pure functions
// of values: shared with `plan` and with the simulator, tested by tables.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "blockmig/io/event_loop.h"

namespace blockmig {

/// What one finished pass did.
struct PassRecord {
  std::uint64_t copied_bytes = 0;
  std::uint64_t mirrored_bytes = 0;  ///< by the guest's writes meanwhile
  std::uint64_t dirtied_bytes = 0;   ///< whole chunks that became dirty during it
  std::uint64_t guest_bytes = 0;  ///< what the guest wrote meanwhile: less, where writes are small
  std::uint64_t remaining_bytes = 0;  ///< dirty at its end
  Duration took{};
};

struct ConvergenceLimits {
  Duration max_downtime = std::chrono::milliseconds(100);
  /// What the switchover costs besides the last copy: drain, flush, journal, the crowd behind it.
  Duration fixed_cost{};
  /// Passes that must fail to make headway before the verdict.
  unsigned hopeless_passes = 3;
  /// Switchovers that the prediction allowed and the fence did not, in a row; as many as
  /// hopeless_passes are hopeless too.
  unsigned postponed = 0;
  /// A pass makes headway if the remainder fell below this share of what it was before.
  double headway = 0.9;
  /// kReady is good enough from this part of the downtime budget on.
  double good_enough = 0.125;
};

enum class Verdict : unsigned char {
  kReady,          ///< the rest fits the downtime budget
  kConverging,     ///< go on
  kNotConverging,  ///< the guest dirties as fast as the target takes it
};

struct Judgement {
  Verdict verdict = Verdict::kConverging;
  /// kReady, but the last pass left much less than the one before, and another one, which takes no
  /// longer than the fence would, spares the guest a good part of it.
  bool worth_another_pass = false;
  Duration predicted_downtime{};
  std::string reason;  ///< with the numbers, for the user
};

/// `passes` in order, the bulk pass first.
Judgement judge_convergence(const std::vector<PassRecord>& passes, const ConvergenceLimits& limits);

/// What the guest writes, in bytes per second: in the last pass, or in all of them together if that
/// is more. A short pass may fall between two of its bursts.
std::uint64_t guest_rate(const std::vector<PassRecord>& passes);

/// The guest's write limit for the next pass, in bytes per second, when the user allows throttling:
/// gradual, from `unthrottled`, what the guest did before the first step: half as much while that
/// is more than twice what the target takes (`copy_rate`), a fifth less from there on. Never below
/// a twentieth of `unthrottled` or an eighth of `copy_rate`, whichever is less; a `copy_rate` of 0
/// is not known. `current` 0 = not throttled yet; `unthrottled` 0: it writes nothing, and nothing
/// is held back.
std::uint64_t next_guest_limit(std::uint64_t current, std::uint64_t unthrottled,
                               std::uint64_t copy_rate);

}  // namespace blockmig
