// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/backup_device.h"

#include "blockmig/io/offload.h"
#include "tools/daemon/backup_file.h"

namespace blockmig {

Task<Status> BackupDevice::close() {
  if (!record_->complete) {
    const Status saved = co_await offload(loop_, [this]() -> Status {
      // One that was given up has no record any more, and the next backup's is not ours.
      const Result<BackupRecord> kept = load_backup_record(path_);
      if (!kept || kept->inode != record_->inode) return Status();
      BackupRecord left = *record_;
      Result<std::string> state = state_of_backup(path_);
      // Not known: then it is as after a kill.
      if (state) left.image = *std::move(state);
      return save_backup_record(path_, left);
    });
    static_cast<void>(saved);  // the record says "incomplete" already
  }
  const Status closed = co_await below_->close();
  co_return closed;
}

}  // namespace blockmig
