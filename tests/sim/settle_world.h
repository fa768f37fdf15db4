// SPDX-License-Identifier: Apache-2.0
// SettleWorld: one simulated run of a disk that runs on an overlay over an image in a folder, and
// is settled into that image while guests write and its daemon dies again and again. Each life
// opens the disk from the journal, with the code that the daemon uses, and goes on with the job or
// begins another. Checks
//   safety    every read is legal (I2); at the decision the image is the disk, durably (I1, I4);
//             after each death everything that was flushed is there, and what is to be fetched from
//             the image is what the manifest says, so that it can be (I12, I13)
//   others    who still reads an older generation of the image sees what it held then, or an error
//   liveness  with all faults healed, the disk ends in the image
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "blockmig/disk/disk.h"
#include "blockmig/disk/presence_map.h"
#include "blockmig/migrate/checkpoint.h"
#include "blockmig/migrate/hydrating_device.h"
#include "blockmig/migrate/job_board.h"
#include "guest.h"
#include "history.h"
#include "mortal.h"
#include "sharedfs/shared_image.h"
#include "sim_merge.h"
#include "sim_run.h"

namespace blockmig::sim {

class SettleWorld final : public SimRun {
 public:
  explicit SettleWorld(const RunOptions& options);
  ~SettleWorld() override;

 private:
  enum class Death { kPowerLoss, kKill, kNone };

  Task<void> story() override;
  void prepare();
  void prepare_overlay(PresenceMap& map, Manifest& manifest);
  void plan_faults();
  void heal();
  JobOptions draw_options();
  Task<std::unique_ptr<Disk>> open_disk(std::shared_ptr<Life> life, Journal& journal);
  Task<void> take_up_jobs(Journal& journal);
  Task<void> end_job(Journal& journal, JobRecord job);
  Task<void> live(Death death);
  Task<void> settle(std::shared_ptr<Life> life, JobBoard& board, Guest& guest, TimePoint end);
  Task<void> disturb(Death death, std::shared_ptr<Life> life, JobBoard& board);
  Task<void> fill_up(FaultDevice& store, Duration lasts);
  Task<void> fail_flushes(FaultDevice& store, Duration lasts);
  Task<void> freeze(FaultDevice& store, Duration lasts);
  Task<void> read_as_a_stranger();
  GuestPlan draw_guest();
  bool can_die() const override;
  void die_now(bool power_loss) override;
  void strike(Death death, Life& life);
  void check_decision(const DiskRecord& record);
  void check_survivors(Death death);
  static const char* name_of(Death death);
  void check_rest();
  void check_end();
  void check_report(JobBoard& board);
  bool is_absent(std::uint64_t offset) const;
  bool settled() const;

  std::unique_ptr<History> history_;
  std::shared_ptr<FaultDevice> overlay_;
  SimFolder folder_;
  std::vector<std::byte> first_image_;  ///< the image as it was left
  std::unique_ptr<Disk> disk_;          ///< of the life that is on
  Digest decided_;                      ///< of the image at the decision
  RecoveredTracking recovered_;
  JobOptions job_options_;
  TaskScope disturbances_;
  std::string last_job_;
  std::shared_ptr<Life> life_;        ///< the one that is on
  Guest* guest_ = nullptr;            ///< its
  Death early_death_ = Death::kNone;  ///< of a sweep
  bool died_early_ = false;
  bool strangers_leave_ = false;
  bool last_life_ = false;
  bool overlay_fails_ = false;  ///< in this life: a guest may see errors
};

}  // namespace blockmig::sim
