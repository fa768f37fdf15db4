// SPDX-License-Identifier: Apache-2.0
// HydrationWorld: one simulated run of a disk in mid-hydration whose daemon dies again and again:
// power losses (the stores lose their write caches), kills (they do not), orderly ends, faults of
// both stores on the way, and at last healing. Each life opens the disk from the journal, with the
// code that the daemon uses. Checks
//   safety    every read is legal (I2); after each death the disk that the journal describes has
//             everything that was flushed, and after a kill everything that was acknowledged while
//             the base mirrored it (I1, I12)
//   liveness  with all faults healed, hydration ends, and the new store alone is the disk
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "mortal.h"
#include "world.h"

namespace blockmig::sim {

class HydrationWorld final {
 public:
  explicit HydrationWorld(const RunOptions& options);
  ~HydrationWorld();
  RunResult run();

 private:
  enum class Death { kPowerLoss, kKill, kOrderly, kNone };

  Task<void> story();
  void prepare();
  JobOptions draw_options();
  Task<void> pass_time(Duration span, JobBoard& board, Guest& guest);
  Task<void> live(Death death);
  Task<void> end_quietly(Duration span, JobBoard& board, Guest& guest, Disk& disk, Verify verify);
  void strike(Death death, Life& life, Guest& guest);
  void check_digest(const JobStatus& status, Verify verify);
  Task<void> die(Death death);
  Task<void> disturb(std::shared_ptr<Life> life);
  void plan_faults(bool power_loss);
  void heal();
  /// Where a reader of the reopened disk finds the sector.
  const FaultDevice& holder(std::uint64_t offset) const;
  /// What a death must have left, and a new history that begins with it.
  void check_survivors(const char* after);
  void complain(const std::string& text);
  void note(const std::string& text);

  RunOptions options_;
  Random random_;
  SimLoop loop_;
  std::uint64_t size_bytes_;
  std::unique_ptr<History> history_;
  JournalRecords journal_records_;
  SimJournal journal_;
  std::shared_ptr<FaultDevice> local_;
  std::shared_ptr<FaultDevice> base_;
  TaskScope scope_;
  TaskScope disturbances_;
  RunResult result_;
  bool whole_ = false;
  bool finished_ = false;
};

}  // namespace blockmig::sim
