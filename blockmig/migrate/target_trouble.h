// SPDX-License-Identifier: Apache-2.0
// What a job does about a target that fails: tries again, waits, or gives up.
//
//                  error of the target
//   copying ──────────────────────────▶ trouble ──▶ fail      the job ends; the guest never noticed
//      ▲                                 │  │
//      │   the target takes a flush,     │  └──▶ retry        back-off, up to a second
//      └── and one chunk, again ◀────────┤         │ longer than --retry-for, or no use in trying
//                                        └──▶ pause          with the reason; back-off up to ten
//                                                            seconds; resume() tries at once
//
// Nothing is sent to a target in trouble but the probe: the guest's writes go to the source alone
// and are marked, no switchover is tried, no checkpoint made. What the target had not made durable
// when a flush failed or its connection broke is dirty again before anybody hears of the error
// (UnflushedWrites, I11). Requests that it has not answered keep their ranges: nothing is tried
// before the last of them has ended (I9).
#pragma once

#include <memory>

#include "blockmig/base/error.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task.h"
#include "blockmig/migrate/job_options.h"

namespace blockmig {

class BlockDevice;
class TargetOpener;
class TaskScope;
struct Migration;

/// The device's or the way to it: it may pass. Not: what is wrong with the request, or a
/// difference.
bool is_trouble(const Error& error);

enum class TroubleStep : unsigned char { kRetry, kPause, kFail };
/// `lasted`: since the trouble began. Pure.
TroubleStep next_step(OnTargetError action, ErrorCode code, Duration lasted, Duration retry_for);
/// Before the next try, after `failures` of them; longer in a job that is paused. Pure.
Duration retry_delay(unsigned failures, bool paused);

/// A target that cannot be opened for this reason may be there later: trouble, or who has it, or
/// where it should be, is not as it was yet. Pure.
bool may_come_back(const Error& error);

/// As open_target(). In a job that goes on after a restart, a target that was there when it began
/// and is away now is waited for, as the options say of one in trouble: kCancelled; else what
/// lasts.
Task<Result<std::unique_ptr<BlockDevice>>> reach_target(Migration& migration,
                                                        std::shared_ptr<TargetOpener> opener,
                                                        TaskScope& leftovers);

/// Returns when the target, which is in trouble, works again; what it lost is dirty. kCancelled;
/// else the target's error, where the options say that it ends the job.
Task<Status> outlast_trouble(Migration& migration);

}  // namespace blockmig
