// SPDX-License-Identifier: Apache-2.0
// Engine: the part of a daemon that lives on the loop: journal, disks, NBD server, migrations,
// reports. Lifecycle: open() first, end with shut_down(), then destroy. Thread rule: the loop's
// thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "blockmig/io/cancel.h"
#include "blockmig/io/task_scope.h"
#include "tools/daemon/control_api.h"
#include "tools/daemon/daemon.h"
#include "tools/daemon/disk_service.h"
#include "tools/daemon/event_report.h"
#include "tools/daemon/migration_service.h"

namespace blockmig {

class Engine final {
 public:
  Engine(IoLoop& loop, std::unique_ptr<Journal> journal, const DaemonOptions& options, Log& log,
         std::function<void()> on_stop_request);

  /// Listens, reads the journal, starts to report.
  Task<Status> open();
  Task<ControlResponse> answer(ControlRequest request) { return api_.answer(std::move(request)); }
  /// For the tasks of control requests; joined by shut_down().
  TaskScope& requests() { return requests_; }
  Task<Status> shut_down();

 private:
  DaemonView describe() const;

  IoLoop& loop_;
  std::unique_ptr<Journal> journal_;
  DaemonOptions options_;
  Log& log_;
  TimePoint started_;
  DiskSet disks_;
  JobBoard jobs_;
  std::unique_ptr<NbdServer> server_;
  DiskService disk_service_;
  MigrationService migrations_;
  ControlApi api_;
  EventReport report_;
  CancelSource report_end_;
  TaskScope reports_;
  TaskScope requests_;
};

}  // namespace blockmig
