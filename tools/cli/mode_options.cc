// SPDX-License-Identifier: Apache-2.0
// Which options of `blockmig migrate` mean something in which mode.
#include <array>
#include <string>

#include "tools/cli/option_values.h"
#include "tools/cli/raw_options.h"

namespace blockmig {

Status check_effect(const RawOptions& raw, const JobOptions& options) {
  const Mode mode = options.mode;
  const bool fetches = may_pivot(options) || mode == Mode::kSettle;
  struct Rule {
    const char* option;
    const std::string& given;
    bool has_effect;
    const char* where;
  };
  const std::array rules{
      Rule{"--on-stall", raw.on_stall, may_stall(options),
           "--mode dbt, mirror, auto, snapshot, shared and return"},
      Rule{"--mirror-deadline", raw.mirror_deadline, mode != Mode::kCold, "every mode but cold"},
      Rule{"--checkpoint-interval", raw.checkpoint_interval, is_recorded(options),
           "every mode but postcopy, no --point-in-time, and --on-restart resume or pause"},
      Rule{"--deadline", raw.deadline, mode == Mode::kAuto, "--mode auto"},
      Rule{"--snapshot-buffer", raw.snapshot_buffer, mode == Mode::kSnapshot, "--mode snapshot"},
      Rule{"--hydrate", raw.hydrate, mode == Mode::kShared, "--mode shared"},
      Rule{"--reverse-mirror", raw.reverse_mirror, fetches,
           "--mode postcopy and hybrid, and --on-stall postcopy"},
      Rule{"--base-patience", raw.base_patience, fetches,
           "--mode postcopy, hybrid and shared, and --on-stall postcopy"},
      Rule{"--retry-for", raw.retry_for, options.on_target_error == OnTargetError::kRetry,
           "--on-target-error retry"},
  };
  for (const Rule& rule : rules) {
    if (rule.given.empty() || rule.has_effect) continue;
    return usage(std::string(rule.option) + " has no effect here: it goes with " + rule.where);
  }
  return {};
}

Status check_copy_effect(const RawOptions& raw) {
  if (raw.detach) {
    return usage("--detach: a copy without a daemon ends with the command: nobody would go on");
  }
  if (!raw.retry_for.empty() && raw.on_target_error.empty()) {
    return usage(
        "--retry-for has no effect here: a copy without a daemon ends with its target's "
        "first error: it goes with --on-target-error retry");
  }
  if (!raw.mode.empty() || raw.point_in_time) return {};
  if (raw.on_stall.empty() && raw.mirror_deadline.empty()) return {};
  return usage(std::string(raw.on_stall.empty() ? "--mirror-deadline" : "--on-stall") +
               " has no effect here: a copy without a daemon is --mode cold: nobody writes");
}

}  // namespace blockmig
