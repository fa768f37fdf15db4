// SPDX-License-Identifier: Apache-2.0
// How a job's progress looks: a bar that redraws itself on a terminal, plain lines otherwise.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>

#include "blockmig/io/event_loop.h"
#include "blockmig/migrate/job_status.h"

namespace blockmig {

struct Terminal {
  bool interactive = false;  ///< a terminal that can redraw a line
  bool colour = false;
  std::size_t columns = 80;

  /// Of stderr; NO_COLOR and TERM=dumb are respected.
  static Terminal of_stderr();
};

/// Done part of the work, 0 … 1.
double fraction_done(const JobStatus& job);
/// "copying pass 2, 52 %, 512 MiB of 1 GiB, 210 MiB/s, dirty 3 MiB/s, left …, ETA 3 s"
std::string progress_text(const JobStatus& job);
/// The same with a bar, cut to the terminal's width.
std::string progress_bar(const JobStatus& job, const Terminal& terminal);
/// What a disk's move was to whoever asked: a copy without a daemon leaves its file where it was.
enum class Outcome { kMoved, kCopied };
/// What a finished job did, some lines.
std::string summary_text(const JobStatus& job, Outcome outcome = Outcome::kMoved);
/// The target's digest, and whether it is of what the target has or of what it has taken.
std::string target_digest_text(const JobStatus& job);
/// What of the disk did not have to travel.
std::string saved_text(const JobStatus& job);
/// Where the disk is after a job that was not done: "disk 'vm1' is still on …".
std::string place_text(const JobStatus& job);
/// A line per decision that the job took by itself; empty if none.
std::string decisions_text(const JobStatus& job);

/// ProgressDisplay: shows one job on stderr as it goes. Thread rule: one thread.
class ProgressDisplay final {
 public:
  explicit ProgressDisplay(Terminal terminal) : terminal_(terminal) {}
  ~ProgressDisplay() { clear(); }
  ProgressDisplay(const ProgressDisplay&) = delete;
  ProgressDisplay& operator=(const ProgressDisplay&) = delete;

  void show(const JobStatus& job);
  /// Removes the bar, so that other text can follow.
  void clear();

 private:
  Terminal terminal_;
  bool drawn_ = false;
  std::string last_line_;
  std::chrono::steady_clock::time_point last_shown_ = std::chrono::steady_clock::now();
};

}  // namespace blockmig
