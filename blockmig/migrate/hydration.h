// SPDX-License-Identifier: Apache-2.0
// Hydration: after a switchover that left chunks behind, until the new store is whole.
//
// The guest's demands come first: the background pushes only while nobody waits for the base, at
// most at the rate of --bwlimit, and saves now and then what is present. Whole means: every chunk
// is present, durable, and the journal says so; then the base is let go. The decision was made
// before, so nothing here fails the job: a base or a journal that does not work holds it up, with
// the reason in its status, until it works again or the daemon stops. Thread rule: the disk's loop.
#pragma once

#include <memory>
#include <string>

#include "blockmig/base/error.h"
#include "blockmig/block/block_device.h"
#include "blockmig/io/task.h"
#include "blockmig/migrate/hydrating_device.h"
#include "blockmig/migrate/job_options.h"
#include "blockmig/migrate/migration.h"

namespace blockmig {

/// What can be done with a disk that still fetches from `base_uri`, for messages.
std::string ways_on(const std::string& disk, const std::string& base_uri);

HydrationOptions hydration_options(const JobOptions& options);

/// What the job of a hydration was asked for, as far as it still matters.
/// `asked`: what the job was asked for, where that is known.
JobOptions options_of(const HydrationRecord& record, const JobOptions& asked = {});

/// The hydration that a disk's record names. kProtocol: it is not there, or another one.
Task<Result<HydrationRecord>> load_rest(Journal& journal, const DiskRecord& disk);
/// A disk's store in mid-hydration, as the journal has it; takes both stores on success.
Task<Result<std::unique_ptr<HydratingDevice>>> open_hydrating(EventLoop& loop, Journal& journal,
                                                              const DiskRecord& disk,
                                                              const HydrationRecord& hydration,
                                                              std::unique_ptr<BlockDevice>& local,
                                                              std::unique_ptr<BlockDevice>& base,
                                                              const JobOptions& options);

/// From here on pulls tell migration.hydration_digests what they have put there.
void hash_what_is_pulled(Migration& migration);

/// Success: the new store is whole, and the base in migration.old_store. kShutdown: interrupted.
Task<Status> run_hydration(Migration& migration);

/// What the status shows of it.
void capture_hydration(const Migration& migration, JobStatus& status);

}  // namespace blockmig
