// SPDX-License-Identifier: Apache-2.0
// What a user can ask of a migration. Values only; each limit has its name, unit and default here.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "bitmap/dirty_bitmap.h"
#include "blockmig/base/error.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/journal/journal.h"

namespace blockmig {

enum class Mode : unsigned char {
  kCold,      ///< parks writers for the whole copy
  kDbt,       ///< dirty-block tracking: passes until the rest fits the downtime budget
  kSnapshot,  ///< point-in-time generations, until the rest fits the downtime budget
  kAuto,      ///< measures, and is dbt or mirror, whichever meets the limits at the least cost
  kMirror,    ///< one pass with synchronous mirroring behind the cursor
  kPostcopy,  ///< switchover first; what is absent is pulled on demand and in the background
  kHybrid,    ///< one bulk pass, then a switchover with the hot rest absent
  kReturn,    ///< back to the store that the disk has left: only what has changed since
  kShared,    ///< only current data moves; the rest stays in its folder, and is read from there
  kSettle,    ///< back into the folder's image that the disk fetches from: only what it lacks
};
/// What `migrate --mode` takes, in the order of its help: settling has a command of its own.
inline constexpr std::array kMigrateModes{Mode::kAuto,   Mode::kCold,   Mode::kSnapshot,
                                          Mode::kDbt,    Mode::kMirror, Mode::kPostcopy,
                                          Mode::kHybrid, Mode::kShared, Mode::kReturn};
std::string_view to_string(Mode mode);
/// Any mode. kInvalid, with the list of those that `migrate` takes.
Result<Mode> parse_mode(const std::string& text);

/// What to do when a job makes no headway: dbt, return, mirror, snapshot, auto; shared and settle,
/// where kFail ends it and all else throttles (of part of a disk there is no mirror).
enum class OnStall : unsigned char {
  kMirror,    ///< go on as `mirror`
  kThrottle,  ///< slow the guest's writes, step by step, until it converges
  kPostcopy,  ///< switch over now, and fetch the rest afterwards
  kFail,      ///< end the job; the guest stays on the source
};
std::string_view to_string(OnStall action);
Result<OnStall> parse_on_stall(const std::string& text);

std::string_view to_string(Hydrate hydrate);
Result<Hydrate> parse_hydrate(const std::string& text);

enum class Verify : unsigned char {
  kNone,
  kDigest,  ///< hash every chunk as it is copied (I13)
  kFull,    ///< and read the target back and compare before the switchover
};
std::string_view to_string(Verify verify);
Result<Verify> parse_verify(const std::string& text);

/// What a restart of the daemon does with a job that was running.
enum class OnRestart : unsigned char {
  kResume,  ///< goes on from what was recorded
  kPause,   ///< the same, but waits to be resumed
  kAbort,   ///< ends; nothing is recorded meanwhile
};
std::string_view to_string(OnRestart action);
Result<OnRestart> parse_on_restart(const std::string& text);

/// What a job does when its target fails; the guest notices nothing in any case.
enum class OnTargetError : unsigned char {
  kRetry,  ///< tries again for a while, then pauses; pauses at once where trying is in vain
  kPause,  ///< waits until the target works again
  kFail,   ///< ends
};
std::string_view to_string(OnTargetError action);
Result<OnTargetError> parse_on_target_error(const std::string& text);

/// Against the other jobs of this daemon: BandwidthPool.
enum class Priority : unsigned char { kLow, kNormal, kHigh };
std::string_view to_string(Priority priority);
Result<Priority> parse_priority(const std::string& text);

struct JobOptions {
  Mode mode = Mode::kMirror;
  OnStall on_stall = OnStall::kMirror;
  Verify verify = Verify::kDigest;
  std::uint32_t granularity_bytes = kDefaultGranularityBytes;
  /// Copier: requests in flight at most, bytes of one request, bytes in flight at most.
  std::uint32_t copy_depth = 8;
  std::uint32_t copy_request_bytes = 1u << 20;
  std::uint64_t copy_window_bytes = 16u << 20;
  /// Copier's rate; 0 = unlimited. Changeable while running.
  std::uint64_t bwlimit_bytes_per_second = 0;
  /// Changeable while running.
  Priority priority = Priority::kNormal;
  /// A mirrored write is acknowledged from the source alone after this long (I10).
  Duration mirror_deadline = std::chrono::milliseconds(50);
  /// The copier goes slower and less deep while the guest's p99 exceeds this; 0: it does not look.
  Duration max_guest_latency{};
  /// Mirrored bytes in flight at most; beyond it, writes are tracked instead (I10).
  std::uint64_t mirror_window_bytes = 64u << 20;
  /// Mode snapshot: stop after the first generation; the disk stays where it is.
  bool point_in_time = false;
  /// With point_in_time: the named bitmap that marks all in which the target may differ from the
  /// disk. Only that is copied. Empty: everything.
  std::string since_bitmap;
  /// Mode snapshot: old content kept for the copier at most, in bytes (I10).
  std::uint64_t snapshot_buffer_bytes = 64u << 20;
  /// What changes after the move is recorded, so that the disk can go back with mode `return`.
  /// Not by default: a write into a region that was quiet then waits for the journal.
  bool keep_record = false;
  /// Mode auto: how long the move should take; 0 = no matter. A goal, not a timeout.
  Duration deadline{};
  /// The longest that a guest's request may wait for the switchover: its fence, and whatever is
  /// ahead of the request when the gate opens. Exceeded, it opens on the source, to try later.
  /// Changeable while running.
  Duration max_downtime = std::chrono::milliseconds(100);
  /// postcopy, hybrid: every acknowledged write reaches the old store too until hydration ends.
  bool reverse_mirror = true;
  /// shared: what becomes of the data at rest.
  Hydrate hydrate = Hydrate::kOnDemand;
  /// While hydrating: how long a request waits for the old store before it fails.
  Duration base_patience = std::chrono::seconds(30);
  /// No answer from the target for this long is an error of the target (the guest has been
  /// elsewhere long before).
  Duration target_timeout = std::chrono::seconds(30);
  OnTargetError on_target_error = OnTargetError::kRetry;
  /// OnTargetError::kRetry: after trouble of this length the job pauses.
  Duration retry_for = std::chrono::seconds(60);
  OnRestart on_restart = OnRestart::kResume;
  /// Between two records of the progress; each flushes both stores. Not with OnRestart::kAbort.
  Duration checkpoint_interval = std::chrono::seconds(10);
  /// Unit of the activity log, a power of two; 0: ActivityLog::default_region_bytes().
  std::uint64_t activity_region_bytes = 0;
};

/// What can be changed of a running job; what is not there stays.
struct JobChange {
  std::optional<std::uint64_t> bwlimit_bytes_per_second;
  std::optional<Priority> priority;
  std::optional<Duration> max_downtime;  ///< above zero
  void apply_to(JobOptions& options) const;
};

/// Whether the move may switch over first, and leave data at the source to be fetched afterwards.
bool may_pivot(const JobOptions& options);
/// Whether the job's progress is recorded, so that a restart need not copy all of it again.
bool is_recorded(const JobOptions& options);
/// Whether `on_stall` says what becomes of the job: one that parks its writers or leaves the rest
/// behind converges at any rate.
bool may_stall(const JobOptions& options);

/// kInvalid naming the field: zero sizes, granularity out of range.
Status check_options(const JobOptions& options);

/// How long the gate may stay closed: not for all of max_downtime, since the last of the requests
/// that wait has all others ahead of it when the gate opens.
Duration longest_fence(const JobOptions& options);

}  // namespace blockmig
