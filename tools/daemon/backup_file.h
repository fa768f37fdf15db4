// SPDX-License-Identifier: Apache-2.0
// IMAGE.blockmig-backup: what lies beside a backup, on its medium. Blocks; any thread.
#pragma once

#include <string>

#include "blockmig/base/error.h"
#include "tools/control/backup_record.h"

namespace blockmig {

/// Beside the real file, where links lead to it. Blocks.
std::string backup_record_path(const std::string& image_path);
/// kNotFound: there is none. kPrecondition, kInvalid: not to be used; the message names it.
Result<BackupRecord> load_backup_record(const std::string& image_path);
/// Replaces it in one step, durably.
Status save_backup_record(const std::string& image_path, const BackupRecord& record);
/// Durably. Where there is none, nothing.
Status remove_backup_record(const std::string& image_path);

/// The two marks by which a record knows its image again; the first where it is complete.
Result<std::string> state_of_backup(const std::string& image_path);
Result<std::uint64_t> inode_of_backup(const std::string& image_path);

/// kPrecondition: a copy that is incomplete, and so no disk of any instant.
Status check_restorable(const std::string& image_path);

/// What an incremental is applied to: the record of a copy of a disk of `size_bytes` to which
/// everything that it may lack is marked in `bitmap`. kNotFound: no image. kPrecondition: it is no
/// such copy, or was changed since.
Result<BackupRecord> check_backup_base(const std::string& image_path, std::uint64_t size_bytes,
                                       const BackupRecord::Bitmap& bitmap);

}  // namespace blockmig
