// SPDX-License-Identifier: Apache-2.0
// TwinsWorld: one simulated run of a daemon with two disks that share its journal, its board and
// its bandwidth, and are moved at once, while the daemon dies again and again. Each has stores, a
// guest and a history of its own. Checks, of each disk
//   safety    every read is legal (I2); at its decision its target equals its source (I4); what was
//             flushed survives each death, after a kill all that was acknowledged (I1)
//   restart   its move goes on where it has not ended, whatever became of the other one (I7)
//   guest     no request fails: the stores that own the disks have no faults here (I8)
//   liveness  with all faults healed, and the guests quiet at last, both moves end
#pragma once

#include <array>
#include <memory>
#include <string>

#include "blockmig/disk/disk.h"
#include "blockmig/migrate/checkpoint.h"
#include "blockmig/migrate/job_board.h"
#include "guest.h"
#include "history.h"
#include "sim_at_rest.h"
#include "sim_run.h"

namespace blockmig::sim {

class TwinsWorld final : public SimRun {
 public:
  explicit TwinsWorld(const RunOptions& options);
  ~TwinsWorld() override;

 private:
  enum class Death { kPowerLoss, kKill, kNone };
  /// One of the disks: what outlives its daemon, then what does not.
  struct Twin {
    std::string name;
    std::uint64_t size_bytes = 0;
    std::unique_ptr<History> history;
    std::vector<std::shared_ptr<FaultDevice>> stores;
    std::shared_ptr<FaultDevice> owner;
    std::shared_ptr<FaultDevice> target;
    JobOptions options;
    std::string job;  ///< of the last move
    std::uint64_t epoch = 1;

    std::unique_ptr<Disk> disk;
    std::unique_ptr<Guest> guest;
    std::unique_ptr<TaskScope> workers;
    RecoveredTracking recovered;
  };

  Task<void> story() override;
  Task<void> prepare(Twin& twin, std::string name);
  std::shared_ptr<FaultDevice> make_store(Twin& twin);
  JobOptions draw_options();
  void plan_faults(FaultDevice& target);
  void heal();
  Task<void> live(Death death);
  Task<void> open(Twin& twin, std::optional<JobRecord> unfinished);
  void move(Twin& twin, std::optional<JobRecord> unfinished);
  Task<void> pass_time(Duration span, bool until_ended);
  void strike(Death death);
  Task<void> bury();
  void find_owner(Twin& twin);
  void check_survivors(Twin& twin, Death death);
  void check_decision(const DiskRecord& record);
  std::optional<JobRecord> unfinished_of(const Twin& twin, const std::vector<JobRecord>& jobs);
  Twin& twin_of(const std::string& disk);

  std::array<Twin, 2> twins_;
  SimManifest nothing_at_rest_;
  std::unique_ptr<JobBoard> board_;
};

}  // namespace blockmig::sim
