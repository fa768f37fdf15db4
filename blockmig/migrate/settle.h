// SPDX-License-Identifier: Apache-2.0
// The way of a disk back into the image at rest that it fetches from (mode `settle`).
//
// The image is base and target at once. What keeps that safe over crashes, in this order:
//   the manifest says that the image changes   before its first byte changes
//   a chunk is durably present in the overlay  before it changes in the image (merge_target.h)
//   the image is whole and durable             before the decision, as in every move
// So until the decision the overlay and what is absent in it are the disk, and afterwards the image
// is. Thread rule: the disk's loop.
#pragma once

#include <memory>

#include "blockmig/base/error.h"
#include "blockmig/block/block_device.h"
#include "blockmig/io/task.h"
#include "blockmig/migrate/migration.h"

namespace blockmig {

/// Wraps the opened target. Nothing of it has been changed where it fails; then it is still the
/// caller's. kPrecondition: the disk does not fetch from it.
Task<Status> begin_settling(Migration& migration, std::unique_ptr<BlockDevice>& target);

/// What the image holds already and is never copied has its digest from the manifest.
void know_rest(Migration& migration);

/// Under the fence, after the decision: the image itself, out of its wrapping.
std::unique_ptr<BlockDevice> release_settled(Migration& migration,
                                             std::unique_ptr<BlockDevice> target);

/// After the decision: the manifest says what the image holds, and the overlay's record goes.
Task<void> finish_settling(Migration& migration);

}  // namespace blockmig
