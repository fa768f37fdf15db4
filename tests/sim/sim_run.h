// SPDX-License-Identifier: Apache-2.0
// SimRun: what every simulated world is: a function of its seed with a clock, a loop and a journal
// of its own, and a story that runs until it ends, breaks a promise, or has nothing left to wait
// for.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "blockmig/base/random.h"
#include "blockmig/io/sim_loop.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/migrate/job_options.h"
#include "sim_journal.h"

namespace blockmig::sim {

struct RunOptions {
  std::uint64_t seed = 1;
  std::optional<Mode> mode;      ///< drawn if empty
  std::optional<Verify> verify;  ///< drawn if empty
  bool bitmaps = false;          ///< a persistent bitmap records, in any mode
  bool returns = false;          ///< moves record the way back, and some take it
  bool journal_fails = false;    ///< for good, in every life of the daemon until the last
  bool restarts = false;         ///< a guest in no hurry, and moves that are killed several times
  bool backups = false;          ///< since bitmaps, between moves
  bool overlays = false;         ///< moves that leave data at rest there, and moves away from them
  bool source_fails = false;     ///< and works again, while a move is under way
  bool sweep = false;            ///< a short disk, a short move, and nothing else that fails
  std::uint64_t crash_at = 0;    ///< of a sweep: the daemon dies after this event; 0: it does not
  bool power_loss = false;       ///< and that is a power loss, not a kill
  bool verbose = false;
};

struct RunResult {
  std::string violation;  ///< empty: nothing illegal was seen
  std::uint64_t trace_hash = 0;
  std::uint64_t guest_requests = 0;
  std::uint64_t guest_errors = 0;
  std::uint64_t jobs_done = 0;
  std::uint64_t jobs_not_done = 0;
  std::uint64_t generations = 0;  ///< points in time that were checked
  std::uint64_t crashes = 0;
  std::uint64_t ends = 0;       ///< of daemons, in order, in the middle of things
  std::uint64_t resumed = 0;    ///< jobs after a crash, or such an end
  std::uint64_t recovered = 0;  ///< of these, with something recorded
  std::uint64_t returns = 0;    ///< moves back that were done
  std::uint64_t backups = 0;    ///< full ones that were done
  std::uint64_t incrementals = 0;
  std::uint64_t events = 0;
  bool died = false;                        ///< at RunOptions::crash_at
  std::vector<std::uint64_t> crash_points;  ///< of a sweep: events after which a daemon was alive
};

class SimRun {
 public:
  /// Draws the size of the disk, in bytes.
  using DrawSize = std::uint64_t (*)(Random&);

  SimRun(const RunOptions& options, DrawSize draw_size);
  virtual ~SimRun() = default;
  SimRun(const SimRun&) = delete;
  SimRun& operator=(const SimRun&) = delete;
  /// Once. After a violation suspended tasks refer to this object: it must not be destroyed.
  RunResult run();

 protected:
  /// Sets `finished_` at its end.
  virtual Task<void> story() = 0;
  /// Of a sweep: there is a daemon, and it has not died yet.
  virtual bool can_die() const { return false; }
  /// Of a sweep: it dies now, between two events.
  virtual void die_now(bool power_loss) { static_cast<void>(power_loss); }
  /// A violation; the first one is the result.
  void complain(const std::string& text);
  /// With --verbose.
  void note(const std::string& text) const;

  /// Of a look at the clock, in a third of all worlds.
  static constexpr Duration kLateLook = std::chrono::milliseconds(2);

  RunOptions options_;
  Random random_;
  SimLoop loop_;
  std::uint64_t size_bytes_;
  JournalRecords journal_records_;
  SimJournal journal_;
  RunResult result_;
  bool finished_ = false;

 private:
  /// One event: a resumption, or the clock's way to the next timer, which only wakes. Between two
  /// of them every await of the daemon is where it was.
  bool step();

  TaskScope scope_;
};

}  // namespace blockmig::sim
