// SPDX-License-Identifier: Apache-2.0
// HydrationWorld: one simulated run of a disk in mid-hydration whose daemon dies again and again:
// power losses (the stores lose their write caches), kills (they do not), orderly ends, faults of
// both stores on the way, and at last healing. Each life opens the disk from the journal, with the
// code that the daemon uses. Checks
//   safety    every read is legal (I2); after each death the disk that the journal describes has
//             everything that was flushed, and after a kill everything that was acknowledged while
//             the base mirrored it (I1, I12)
//   mirror    while the journal says that the base mirrors, it has all that was acknowledged
//   errors    an old store that fails its writes, and only them, ends the mirror and is no guest's
//             error
//   patience  one that holds some of its writes holds up nobody for more than the engine's patience
//   liveness  with all faults healed, hydration ends, and the new store alone is the disk
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "blockmig/disk/disk.h"
#include "blockmig/migrate/hydrating_device.h"
#include "blockmig/migrate/job_board.h"
#include "guest.h"
#include "history.h"
#include "mortal.h"
#include "sim_run.h"

namespace blockmig::sim {

class HydrationWorld final : public SimRun {
 public:
  explicit HydrationWorld(const RunOptions& options);
  ~HydrationWorld() override;

 private:
  enum class Death { kPowerLoss, kKill, kOrderly, kNone };

  Task<void> story() override;
  void prepare();
  JobOptions draw_options();
  GuestPlan draw_guest();
  Task<void> pass_time(Duration span, JobBoard& board, Guest& guest);
  Task<void> live(Death death);
  Task<void> end_quietly(Duration span, JobBoard& board, Guest& guest, Disk& disk, Verify verify);
  void strike(Death death, Life& life, Guest& guest);
  void check_patience(const Guest& guest, const JobOptions& options);
  void check_digest(const JobStatus& status, Verify verify);
  Task<void> die(Death death);
  Task<void> lose_base();
  Task<void> leave_no_room(FaultDevice& store);
  Task<void> find_base_again();
  std::unique_ptr<BlockDevice> open_base(std::shared_ptr<Life> life);
  Task<void> disturb(std::shared_ptr<Life> life);
  void plan_faults(bool power_loss);
  void heal();
  /// Where a reader of the reopened disk finds the sector.
  const FaultDevice& holder(std::uint64_t offset) const;
  /// What a death must have left, and a new history that begins with it.
  void check_survivors(const char* after);
  void check_base();

  static constexpr const char* kDisk = "disk";
  std::unique_ptr<History> history_;
  std::shared_ptr<FaultDevice> local_;
  std::shared_ptr<FaultDevice> base_;
  TaskScope disturbances_;
  std::set<std::uint64_t> apart_;  ///< sectors that the stores have not in common since a death
  bool whole_ = false;
  /// In this life the base fails every write, and nothing else fails: no guest may see an error.
  bool base_is_full_ = false;
  /// In this life the base holds one write in ten, and answers the rest: nobody waits for long.
  bool base_holds_writes_ = false;
  bool base_lost_ = false;  ///< in this life, and with it what was not flushed there
};

}  // namespace blockmig::sim
