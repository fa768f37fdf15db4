// SPDX-License-Identifier: Apache-2.0
// World: one simulated run, a function of its seed: a disk on a faulty store, guests that never
// stop, one or two migrations with aborts, pauses and faults on the way, then healing. Checks
//   safety    every read is legal (I2); at each decision the target equals the source bit for bit
//             (I4); after a power loss of the new store everything flushed is there (I1)
//   guest     no guest request fails unless the store that owns the disk failed it (I8)
//   crash     the daemon is killed or the power goes at any moment: the history goes on, with what
//             was flushed, and a restart goes on with what was recorded (I1, I5, I7)
//   stamps    what stands beside the stores is what the journal has decided, or says that only the
//             journal knows (I3)
//   bitmaps   a persistent bitmap has every chunk that differs from when it began, after any crash,
//             and exactly what it had, after a restart in order (I5)
//   returns   the record of a store that was left has every chunk where the disk differs from it,
//             after any crash (I5); a move back ends in equal stores like any other (I4)
//   journal   once it has failed for good, guests are served on, and no decision is made or thought
//             possible; only where it fails in a decision the disk closes (I3, I8)
//   liveness  with all faults healed, and the guest quiet at last, every job ends by itself
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "blockmig/base/chunk_digests.h"
#include "blockmig/base/random.h"
#include "blockmig/block/shared_device.h"
#include "blockmig/disk/bitmap_keeper.h"
#include "blockmig/disk/disk.h"
#include "blockmig/io/sim_loop.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/migrate/hydrating_device.h"
#include "blockmig/migrate/job_board.h"
#include "guest.h"
#include "history.h"
#include "sim_at_rest.h"
#include "sim_owners.h"
#include "sim_run.h"

namespace blockmig::sim {

class World final : public SimRun {
 public:
  explicit World(const RunOptions& options);
  ~World() override;

 private:
  Task<void> story() override;
  bool can_die() const override;
  void die_now(bool power_loss) override { crash(power_loss); }
  void plan_sweep(JobOptions& options);
  void hurry_guest();
  bool dies_by_lot(std::uint64_t move);
  /// A violation of a daemon that is alive; what a dead one is told is not believed.
  void blame(const std::string& text) {
    if (!crashed_) complain(text);
  }
  Task<void> migrate_once();
  Task<void> disturb(std::string job, std::shared_ptr<FaultDevice> target);
  Task<void> trouble(std::string job, std::shared_ptr<FaultDevice> target);
  void trouble_job(const std::string& job);
  void trouble_stores(const std::string& job);
  Task<void> trouble_source(std::string job);
  Task<void> trouble_image(std::string job);
  Task<void> lose_source();
  std::unique_ptr<BlockDevice> open_owner();
  bool flush_must_fail() const;
  /// From a move's beginning to its decision.
  void watch_guest();
  void check_guest();
  void check_holds_all(const FaultDevice& target);
  void believe_target();
  Task<void> end_by_force(JobStatus status);
  Task<void> wait_for_end(const std::string& job);
  std::shared_ptr<FaultDevice> make_store(const std::string& name);
  void fill_source();
  /// Of mirrored moves every other world: the target is quick but for a few requests, and the guest
  /// in a hurry.
  bool has_slow_requests() const {
    return options_.mode == Mode::kMirror && options_.seed % 2 == 0 && !options_.sweep;
  }
  /// Of moves in mode `shared` every other world: what the guest has written before is cold,
  /// and nobody but the move flushes it.
  bool has_cold_writes() const {
    return options_.mode == Mode::kShared && options_.seed % 2 == 0 && !options_.sweep;
  }
  /// Most of the disk are holes at first, and stores tell of one extent at a time.
  bool is_sparse() const { return options_.seed % 4 == 1; }
  void plan_faults(FaultDevice& target);
  void heal();
  JobOptions draw_options();
  void plan_restarts(JobOptions& options);
  void calm_guest();
  void plan_overlay(JobOptions& options);
  /// The guest's writes of a while ago, which no flush may have made durable, are at rest.
  Task<void> let_cool();
  Task<void> lose_power_when_switched();
  /// Of the disk that is served: it is on an overlay for good, as far as it is concerned.
  bool on_overlay() const;
  /// What the disk reads as, wherever that is.
  std::vector<std::byte> live_content() const;
  void check_equal(const DiskRecord& record);
  void check_outlasted(const JobStatus& status, OnTargetError action);
  void check_withdrawn(const JobStatus& status);
  void check_durable(const std::vector<std::byte>& source);
  void check_digests(const JobStatus& status, Verify verify);
  void check_instant();
  void check_survivors();
  /// What a sector of the owner holds; a violation if that is not legal after a power loss.
  std::optional<SectorValue> survivor(std::uint64_t sector);
  std::unique_ptr<TargetOpener> make_opener(std::shared_ptr<FaultDevice> target);
  std::shared_ptr<FaultDevice> find_store(const std::string& name) const;
  void open_daemon(std::uint64_t epoch);
  /// Of the disk that has just been opened, if the world wants one.
  void make_keeper();
  void start_guest();
  Task<void> see_job_through(std::string job);
  Task<void> crash_later(Duration within);
  void crash(bool power_loss);
  Task<void> end_in_order();
  Task<void> restart();
  void forget_guest();
  Task<void> bury_daemon();
  void settle_survivors();
  void check_kept();
  Task<HydratingDevice*> open_in_mid_hydration(DiskRecord record);
  Task<std::unique_ptr<BlockDevice>> open_base(const HydrationRecord& rest);
  Task<void> go_on_hydrating(HydratingDevice* device);
  Task<void> take_up(std::optional<JobRecord> unfinished);
  std::optional<JobRecord> find_unfinished(const std::vector<JobRecord>& jobs);
  /// Where the disk as the journal has it finds a sector.
  const FaultDevice& holder(std::uint64_t offset) const;
  Task<void> resume_job(JobRecord record, RecoveredTracking recovered);
  void check_manifest(const FaultDevice& image, bool complete);
  void check_stamps();
  std::string journal_owner() const;
  Task<void> begin_bitmap();
  Task<void> reopen_bitmap();
  /// Every chunk whose content is not what it was when the bitmap began must be marked.
  void check_bitmap(const std::string& when);
  /// Where the journal says that it is.
  std::vector<std::byte> content_of_disk() const;
  Task<void> close_bitmap();
  std::shared_ptr<FaultDevice> find_way_back();
  void check_way_back(const FaultDevice& left, const DirtyBitmap& changed);
  Task<void> reopen_records();
  Task<void> reopen_keeper();
  Task<void> back_up_once();
  Task<void> reopen_backups();
  std::string usable_bitmap() const;
  /// What a copy of this instant can be brought up to date by.
  void note_instant();
  Task<void> fail_journal_later();
  Task<void> live_without_journal();

  History history_;
  std::vector<std::shared_ptr<FaultDevice>> stores_;
  std::shared_ptr<FaultDevice> owner_;   ///< store that holds the disk now
  std::shared_ptr<FaultDevice> target_;  ///< of the running migration
  Random stamp_random_;
  SimOwners owners_;
  std::unique_ptr<Disk> disk_;
  std::unique_ptr<JobBoard> board_;
  std::unique_ptr<BitmapKeeper> keeper_;         ///< with RunOptions::bitmaps
  std::vector<std::byte> bitmap_begun_with_;     ///< the disk's content then; empty: not begun
  std::shared_ptr<FaultDevice> copy_;            ///< the backup; null: there is none
  std::vector<std::string> bitmaps_of_copy_;     ///< each marks all that it lacks
  std::vector<std::string> bitmaps_of_instant_;  ///< of the generation that is copied
  unsigned backups_ = 0;                         ///< that were begun
  std::shared_ptr<FaultDevice> held_;            ///< by a move back that may not have let go
  std::unique_ptr<Guest> guest_;
  GuestPlan guest_plan_;
  std::uint64_t guest_workers_ = 0;
  std::unique_ptr<TaskScope> workers_;
  /// What the command line asked for, by job: a restart asks for the same.
  struct Planned {
    JobOptions options;
    std::shared_ptr<FaultDevice> target;
  };
  std::map<std::string, Planned> planned_;
  std::map<std::string, SimManifest> manifests_;  ///< by image
  RecoveredTracking unresumed_;                   ///< of a job that an end in order was ahead of
  bool begun_ = false;                            ///< there is a daemon, or one that died
  bool crashed_ = false;
  bool leaving_ = false;  ///< an end in order is under way
  bool power_lost_ = false;
  bool switched_ = false;       ///< the target's faults may be the guest's
  bool ended_ = false;          ///< too late for a crash
  bool owner_unknown_ = false;  ///< the journal failed in a decision: the disk is closed
  unsigned away_ = 0;           ///< how often the next target cannot be opened
  TaskScope disturbances_;
  std::uint64_t instant_ = 0;  ///< of the generation that is copied
  bool source_may_fail_ = false;
  bool source_flush_may_fail_ = false;
  bool source_lost_ = false;         ///< and with it, perhaps, what was not flushed there
  std::uint64_t flush_errors_ = 0;   ///< of the guests before
  std::uint64_t errors_before_ = 0;  ///< those that were judged
  std::uint64_t flush_errors_before_ = 0;
  bool target_lies_ = false;
  std::string decided_digest_;  ///< of the disk at the last decision
  std::uint64_t decided_epoch_ = 1;
  std::string hydration_;
  std::string last_verdict_;
};

}  // namespace blockmig::sim
