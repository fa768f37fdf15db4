// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/convergence.h"

#include <algorithm>

#include "blockmig/base/units.h"

namespace blockmig {
namespace {

std::uint64_t per_second(std::uint64_t bytes, Duration took) {
  const double seconds = std::chrono::duration<double>(took).count();
  return seconds <= 0 ? bytes * 1000
                      : static_cast<std::uint64_t>(static_cast<double>(bytes) / seconds);
}

constexpr double kShrinking = 0.7;

/// Bandwidth to plan the last copy with: the better of the last two passes. Early passes copy long
/// runs and say nothing about scattered chunks.
std::uint64_t bandwidth(const std::vector<PassRecord>& passes) {
  std::uint64_t best = 1;
  const std::size_t first = passes.size() > 2 ? passes.size() - 2 : 0;
  for (std::size_t i = first; i < passes.size(); ++i) {
    best = std::max(best, per_second(passes[i].copied_bytes, passes[i].took));
  }
  return best;
}

Duration time_for(std::uint64_t bytes, std::uint64_t bytes_per_second) {
  const double seconds = static_cast<double>(bytes) / static_cast<double>(bytes_per_second);
  return std::chrono::duration_cast<Duration>(
      std::chrono::duration<double>(std::min(seconds, 1e6)));
}

bool no_headway(const PassRecord& before, const PassRecord& pass, double headway) {
  return static_cast<double>(pass.remaining_bytes) >
         headway * static_cast<double>(before.remaining_bytes);
}

}  // namespace

Judgement judge_convergence(const std::vector<PassRecord>& passes,
                            const ConvergenceLimits& limits) {
  Judgement judgement;
  judgement.predicted_downtime = limits.fixed_cost;
  if (passes.empty()) return judgement;  // nothing has to be copied first: postcopy
  const PassRecord& last = passes.back();
  const std::uint64_t rate = bandwidth(passes);
  judgement.predicted_downtime += time_for(last.remaining_bytes, rate);
  const std::string numbers =
      format_bytes(last.remaining_bytes) + " remain, the guest dirties " +
      format_rate(per_second(last.dirtied_bytes, last.took)) + ", the target takes " +
      format_rate(per_second(last.copied_bytes, last.took)) + ", predicted downtime " +
      format_duration(judgement.predicted_downtime) + " of " + format_duration(limits.max_downtime);
  if (limits.postponed >= limits.hopeless_passes) {
    judgement.verdict = Verdict::kNotConverging;
    judgement.reason = "not converging: " + std::to_string(limits.postponed) +
                       " switchovers took longer than allowed; " + numbers;
    return judgement;
  }
  if (judgement.predicted_downtime <= limits.max_downtime) {
    judgement.verdict = Verdict::kReady;
    const bool shrinking =
        passes.size() > 1 && !no_headway(passes[passes.size() - 2], last, kShrinking);
    judgement.worth_another_pass = shrinking && judgement.predicted_downtime - limits.fixed_cost >
                                                    limits.good_enough * limits.max_downtime;
    judgement.reason = "ready to switch: " + numbers;
    return judgement;
  }
  unsigned hopeless = 0;
  for (std::size_t i = passes.size() - 1; i >= 1; --i) {
    if (!no_headway(passes[i - 1], passes[i], limits.headway)) break;
    ++hopeless;
  }
  if (hopeless >= limits.hopeless_passes) {
    judgement.verdict = Verdict::kNotConverging;
    judgement.reason = "not converging: " + numbers;
  } else {
    const PassRecord* const before = passes.size() > 1 ? &passes[passes.size() - 2] : nullptr;
    const bool headway = before != nullptr ? !no_headway(*before, last, limits.headway)
                                           : last.dirtied_bytes < last.copied_bytes;
    judgement.reason = (headway ? "converging: " : "no headway yet: ") + numbers;
  }
  return judgement;
}

std::uint64_t guest_rate(const std::vector<PassRecord>& passes) {
  if (passes.empty()) return 0;
  PassRecord all;
  for (const PassRecord& pass : passes) {
    all.guest_bytes += pass.guest_bytes;
    all.took += pass.took;
  }
  constexpr Duration kLeast = std::chrono::milliseconds(1);
  const PassRecord& last = passes.back();
  return std::max(per_second(all.guest_bytes, std::max(all.took, kLeast)),
                  per_second(last.guest_bytes, std::max(last.took, kLeast)));
}

std::uint64_t next_guest_limit(std::uint64_t current, std::uint64_t unthrottled,
                               std::uint64_t copy_rate) {
  constexpr std::uint64_t kLeast = 16 * 1024;
  if (unthrottled == 0) return current;
  const std::uint64_t base = current != 0 ? current : unthrottled;
  const bool known = copy_rate != 0;
  const std::uint64_t next = known && base > 2 * copy_rate ? base / 2 : base / 5 * 4;
  const std::uint64_t least = known ? std::min(unthrottled / 20, copy_rate / 8) : unthrottled / 20;
  return std::max({next, least, kLeast});
}

}  // namespace blockmig
