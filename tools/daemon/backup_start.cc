// SPDX-License-Identifier: Apache-2.0
// MigrationService: what a backup needs before it starts.
#include <memory>
#include <utility>

#include "blockmig/io/offload.h"
#include "tools/daemon/backup_target.h"
#include "tools/daemon/migration_service.h"

namespace blockmig {

/// It begins before the copy's instant, not at it: so what it flushes and records needs no closed
/// gate, and what is written in between is marked too many, not too few.
Task<Result<BackupRecord::Bitmap>> MigrationService::begin_bitmap(const MigrateRequest& request,
                                                                  bool resumed) {
  if (!request.bitmap) co_return BackupRecord::Bitmap();
  const BitmapSpec& spec = *request.bitmap;
  const auto before = disks_.get(request.disk);
  if (!before) co_return before.error();
  // One that an earlier daemon began is older than the instant: it marks what it must, and more.
  auto begun = usable_bitmap(**before, spec.name);
  if (resumed && begun.ok()) co_return begun;
  const Status added = co_await service_.add_bitmap(request.disk, spec);
  if (!added) co_return added.error();
  const auto disk = disks_.get(request.disk);
  if (!disk) co_return disk.error();
  co_return usable_bitmap(**disk, spec.name);
}

Task<Result<MigrationService::Opening>> MigrationService::make_opener(const MigrateRequest& request,
                                                                      const TargetPlan& plan,
                                                                      bool resumed) {
  Opening opening;
  if (!request.backup) {
    opening.opener = std::make_unique<UriTarget>(loop_, plan);
    co_return std::move(opening);
  }
  const auto disk = disks_.get(request.disk);
  if (!disk) co_return disk.error();
  BackupRecord::Bitmap since;
  if (!request.options.since_bitmap.empty()) {
    const auto usable = usable_bitmap(**disk, request.options.since_bitmap);
    if (!usable) co_return usable.error();
    since = *usable;
  }
  // Said at once where it can be; the target looks again when it is open.
  const std::uint64_t size = (*disk)->disk().info().size_bytes;
  const Status fit = co_await offload(loop_, [&plan, &since, size, resumed]() -> Status {
    if (resumed) return {};
    return check_backup_target(plan.target, size, since);
  });
  if (!fit) co_return fit.error();
  const auto fresh = co_await begin_bitmap(request, resumed);
  if (!fresh) co_return fresh.error();
  opening.fresh = *fresh;
  opening.opener = std::make_unique<BackupTarget>(loop_, plan, disks_, std::move(since), *fresh);
  co_return std::move(opening);
}

}  // namespace blockmig
