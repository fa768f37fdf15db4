// SPDX-License-Identifier: Apache-2.0
// BackupDevice: the file of a backup while it is written to. What its closing leaves incomplete is
// known again by its size and the time of its last change, which the record beside it learns while
// the file is still locked: so a file that somebody changes afterwards is not completed. A daemon
// that is killed saves nothing. Lifecycle and thread rule: those of the device below.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "blockmig/block/forwarding_device.h"
#include "blockmig/io/io_loop.h"
#include "tools/control/backup_record.h"

namespace blockmig {

class BackupDevice final : public ForwardingDevice {
 public:
  /// `record` is that of `path`, as it is saved; complete from the moment when the copy is.
  BackupDevice(IoLoop& loop, std::unique_ptr<BlockDevice> below, std::string path,
               std::shared_ptr<const BackupRecord> record)
      : ForwardingDevice(*below),
        loop_(loop),
        below_(std::move(below)),
        path_(std::move(path)),
        record_(std::move(record)) {}

  Task<Status> close() override;

 private:
  IoLoop& loop_;
  const std::unique_ptr<BlockDevice> below_;
  const std::string path_;
  const std::shared_ptr<const BackupRecord> record_;
};

}  // namespace blockmig
