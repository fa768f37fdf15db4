// SPDX-License-Identifier: Apache-2.0
// ControlApi: the control protocol: one request to the service that answers it. All input is judged
// here or in json.h; what is behind gets values. Paths:
//
//   GET    /v1/status                    daemon, disks, jobs, clients
//   POST   /v1/daemon/set                rate of all jobs together
//   GET    /v1/disks                     POST: add one            DELETE /v1/disks/NAME[/record]
//   GET    /v1/disks/NAME                GET, POST /v1/disks/NAME/bitmaps, DELETE …/bitmaps/BITMAP
//                                        POST …/bitmaps/TARGET/merge
//   POST   /v1/disks/NAME/settle         fetch what it has at rest in a folder
//   GET    /v1/jobs                      POST: start one          GET /v1/jobs/JOB
//   POST   /v1/jobs/JOB/abort|pause|resume|set
//   GET    /v1/clients                   POST /v1/clients/ID/disconnect
//   POST   /v1/stop
//   POST   /v1/handover                  to the daemon that takes this one's place
//
// Thread rule: the loop.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "nbdserver/server.h"
#include "tools/control/channel.h"
#include "tools/control/json.h"
#include "tools/daemon/disk_service.h"
#include "tools/daemon/migration_service.h"

namespace blockmig {

/// "/v1/disks/vm1" as {"v1", "disks", "vm1"}; empty parts are dropped.
std::vector<std::string> split_path(const std::string& path);

class ControlApi final {
 public:
  /// `daemon` describes the process now; `request_stop` asks for an orderly end and returns at
  /// once; `request_handover`, a handover, where it is not null.
  ControlApi(DiskService& disks, MigrationService& jobs, DiskSet& set, NbdServer& server,
             std::function<DaemonView()> daemon, std::function<void()> request_stop,
             std::function<void()> request_handover = nullptr)
      : disks_(disks),
        jobs_(jobs),
        set_(set),
        server_(server),
        daemon_(std::move(daemon)),
        request_stop_(std::move(request_stop)),
        request_handover_(std::move(request_handover)) {}

  Task<ControlResponse> answer(ControlRequest request);

 private:
  using Path = std::vector<std::string>;

  Task<ControlResponse> answer_disks(const ControlRequest& request, const Path& path);
  Task<ControlResponse> answer_bitmaps(const ControlRequest& request, const Path& path);
  Task<ControlResponse> answer_jobs(const ControlRequest& request, const Path& path);
  Task<ControlResponse> answer_job_command(const ControlRequest& request, const Path& path);
  ControlResponse answer_clients(const ControlRequest& request, const Path& path);

  DiskService& disks_;
  MigrationService& jobs_;
  DiskSet& set_;
  NbdServer& server_;
  std::function<DaemonView()> daemon_;
  std::function<void()> request_stop_;
  std::function<void()> request_handover_;
};

}  // namespace blockmig
