// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/job_options.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "blockmig/base/chunk_digests.h"

namespace blockmig {
namespace {

template <typename Value, std::size_t kCount>
Result<Value> parse_name(const char* what, const std::string& text,
                         const std::array<Value, kCount>& values) {
  std::string known;
  for (const Value value : values) {
    if (to_string(value) == text) return value;
    known += known.empty() ? "" : ", ";
    known += to_string(value);
  }
  return Error(ErrorCode::kInvalid, std::string(what) + " '" + text + "' is not one of: " + known);
}

}  // namespace

std::string_view to_string(Mode mode) {
  switch (mode) {
    case Mode::kCold:
      return "cold";
    case Mode::kDbt:
      return "dbt";
    case Mode::kSnapshot:
      return "snapshot";
    case Mode::kMirror:
      return "mirror";
    case Mode::kPostcopy:
      return "postcopy";
    case Mode::kHybrid:
      return "hybrid";
    case Mode::kAuto:
      return "auto";
    case Mode::kShared:
      return "shared";
    case Mode::kReturn:
      return "return";
    case Mode::kSettle:
      return "settle";
  }
  return "unknown";
}

Result<Mode> parse_mode(const std::string& text) {
  if (text == to_string(Mode::kSettle)) return Mode::kSettle;
  return parse_name("mode", text, kMigrateModes);
}

std::string_view to_string(Hydrate hydrate) {
  switch (hydrate) {
    case Hydrate::kBackground:
      return "background";
    case Hydrate::kOnDemand:
      return "on-demand";
    case Hydrate::kNever:
      return "never";
  }
  return "unknown";
}

Result<Hydrate> parse_hydrate(const std::string& text) {
  return parse_name("hydrate", text,
                    std::array{Hydrate::kBackground, Hydrate::kOnDemand, Hydrate::kNever});
}

std::string_view to_string(OnStall action) {
  switch (action) {
    case OnStall::kMirror:
      return "mirror";
    case OnStall::kThrottle:
      return "throttle";
    case OnStall::kPostcopy:
      return "postcopy";
    case OnStall::kFail:
      return "fail";
  }
  return "unknown";
}

Result<OnStall> parse_on_stall(const std::string& text) {
  return parse_name(
      "on-stall action", text,
      std::array{OnStall::kMirror, OnStall::kThrottle, OnStall::kPostcopy, OnStall::kFail});
}

std::string_view to_string(Priority priority) {
  switch (priority) {
    case Priority::kLow:
      return "low";
    case Priority::kNormal:
      return "normal";
    case Priority::kHigh:
      return "high";
  }
  return "unknown";
}

Result<Priority> parse_priority(const std::string& text) {
  return parse_name("priority", text,
                    std::array{Priority::kLow, Priority::kNormal, Priority::kHigh});
}

std::string_view to_string(OnTargetError action) {
  switch (action) {
    case OnTargetError::kRetry:
      return "retry";
    case OnTargetError::kPause:
      return "pause";
    case OnTargetError::kFail:
      return "fail";
  }
  return "unknown";
}

Result<OnTargetError> parse_on_target_error(const std::string& text) {
  return parse_name("on-target-error action", text,
                    std::array{OnTargetError::kRetry, OnTargetError::kPause, OnTargetError::kFail});
}

std::string_view to_string(OnRestart action) {
  switch (action) {
    case OnRestart::kResume:
      return "resume";
    case OnRestart::kPause:
      return "pause";
    case OnRestart::kAbort:
      return "abort";
  }
  return "unknown";
}

Result<OnRestart> parse_on_restart(const std::string& text) {
  return parse_name("on-restart action", text,
                    std::array{OnRestart::kResume, OnRestart::kPause, OnRestart::kAbort});
}

std::string_view to_string(Verify verify) {
  switch (verify) {
    case Verify::kNone:
      return "none";
    case Verify::kDigest:
      return "digest";
    case Verify::kFull:
      return "full";
  }
  return "unknown";
}

Result<Verify> parse_verify(const std::string& text) {
  return parse_name("verification", text,
                    std::array{Verify::kNone, Verify::kDigest, Verify::kFull});
}

void JobChange::apply_to(JobOptions& options) const {
  if (bwlimit_bytes_per_second) options.bwlimit_bytes_per_second = *bwlimit_bytes_per_second;
  if (priority) options.priority = *priority;
  if (max_downtime) options.max_downtime = *max_downtime;
}

namespace {
bool pivots(Mode mode) {
  return mode == Mode::kPostcopy || mode == Mode::kHybrid || mode == Mode::kShared;
}
}  // namespace

bool may_pivot(const JobOptions& options) {
  return pivots(options.mode) || options.on_stall == OnStall::kPostcopy;
}

/// A copy of one instant begins anew, with another: what the guest has overwritten since was in
/// memory alone. So does what copies nothing before its switchover, and keeps a presence map from
/// then on.
bool is_recorded(const JobOptions& options) {
  const bool begins_anew = options.point_in_time || options.mode == Mode::kPostcopy;
  return options.on_restart != OnRestart::kAbort && !begins_anew;
}

bool may_stall(const JobOptions& options) {
  return options.mode != Mode::kCold && options.mode != Mode::kPostcopy &&
         options.mode != Mode::kHybrid;
}

Status check_options(const JobOptions& options) {
  const auto invalid = [](const std::string& text) { return Error(ErrorCode::kInvalid, text); };
  if (!std::has_single_bit(options.granularity_bytes) ||
      options.granularity_bytes < kMinGranularityBytes ||
      options.granularity_bytes > kMaxGranularityBytes) {
    return invalid("granularity must be a power of two from 4 KiB to 1 MiB");
  }
  if (options.mode == Mode::kShared && options.granularity_bytes < ChunkDigests::kChunkBytes) {
    // What is fetched is checked by whole chunks of the manifest.
    return invalid("granularity must be at least 64 KiB in mode shared");
  }
  if (options.copy_depth == 0 || options.copy_depth > 256) {
    return invalid("copy depth must be from 1 to 256 requests");
  }
  if (options.copy_request_bytes < kMinGranularityBytes || options.copy_request_bytes > 32 * kMiB) {
    return invalid("copy request size must be from 4 KiB to 32 MiB");
  }
  if (options.copy_window_bytes < options.copy_request_bytes) {
    return invalid("copy window must hold at least one copy request");
  }
  if (options.snapshot_buffer_bytes < options.granularity_bytes) {
    return invalid("snapshot buffer must hold at least one chunk");
  }
  if (options.point_in_time && options.mode != Mode::kSnapshot) {
    return invalid("a point in time is copied by mode snapshot");
  }
  if (!options.since_bitmap.empty() && !options.point_in_time) {
    return invalid("only a point in time is copied since a bitmap's beginning");
  }
  if (options.point_in_time && options.verify == Verify::kFull) {
    return invalid(
        "full verification compares with the disk, which goes on: a point in time has digests "
        "(--verify digest)");
  }
  if (options.keep_record && (pivots(options.mode) || options.point_in_time)) {
    return invalid(
        "a way back is not recorded in modes postcopy, hybrid and shared, and of copies");
  }
  if (options.max_guest_latency < Duration::zero()) {
    return invalid("the guest's latency must not be negative");
  }
  if (options.deadline < Duration::zero()) return invalid("the deadline must not be negative");
  if (options.mirror_deadline <= Duration::zero() || options.max_downtime <= Duration::zero() ||
      options.target_timeout <= Duration::zero() || options.base_patience <= Duration::zero() ||
      options.checkpoint_interval <= Duration::zero() || options.retry_for < Duration::zero()) {
    return invalid(
        "--mirror-deadline, --max-downtime, --target-timeout, --base-patience and "
        "--checkpoint-interval must be longer than zero, --retry-for not less");
  }
  return {};
}

Duration longest_fence(const JobOptions& options) {
  // Enough for thousands of requests from the page cache, and not most of a short downtime.
  constexpr Duration kLongestCrowd = std::chrono::milliseconds(2);
  constexpr int kCrowdsPerDowntime = 5;
  return options.max_downtime - std::min(options.max_downtime / kCrowdsPerDowntime, kLongestCrowd);
}

}  // namespace blockmig
