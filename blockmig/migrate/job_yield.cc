// SPDX-License-Identifier: Apache-2.0
// A job that is left to another daemon while the disk's clients stay connected, and wait. So what
// may take time is done before that, while they are served still: the copier comes to rest, parked
// writers are let go, a switchover that has begun ends one way or the other, and the progress is
// recorded, which makes the target's content durable. Then suspend() finds nothing to wait for; and
// until suspend() the job only has to be told to go on where nobody takes it after all.
#include "blockmig/migrate/job.h"

namespace blockmig {
namespace {

/// Answers that take longer would be waited for by clients.
constexpr Duration kQuickAnswer = std::chrono::milliseconds(200);

}  // namespace

void Job::yield() {
  if (migration_.yields || ended()) return;
  migration_.yields = true;
  ++migration_.pauses;  // what was measured with it is no pass
  limit_guest(migration_);
  if (migration_.engine) migration_.engine->pause();
}

void Job::stay() {
  if (!migration_.yields) return;
  migration_.yields = record_wanted_ = false;
  if (!ended()) limit_guest(migration_);
  migration_.wake.pulse();
  if (migration_.engine && !migration_.waits()) migration_.engine->resume();
}

std::string Job::unrest() const {
  const Migration& m = migration_;
  if (ended()) return {};
  if (m.hydrating != nullptr) {
    return m.hydrating->base_is_silent(kQuickAnswer) ? "its old store does not answer" : "";
  }
  if (m.decided || m.deciding || m.status.phase == Phase::kSwitching) {
    return "it is switching over";
  }
  if (!m.replica || m.replica->trouble()) return {};
  const Replica& target = *m.replica;
  const bool answers = target.bulk_in_flight_bytes() == 0 && !target.is_asked() &&
                       !target.is_reviving() && !target.stuck(kQuickAnswer);
  return answers ? "" : "its target does not answer";
}

void Job::record_now() {
  record_wanted_ = true;
  record_soon_.pulse();
}

/// A checkpoint that fails is tried again later: what is recorded stays true, only older.
Task<void> Job::record_progress() {
  while (!stop_sampling_.is_set()) {
    const TimePoint next = migration_.loop.now() + migration_.options.checkpoint_interval;
    if (!record_wanted_) co_await record_soon_.wait_until(next);
    if (!stop_sampling_.is_set() && migration_.checkpoint) {
      const bool asked = record_wanted_;
      const Status done = co_await migration_.checkpoint->run_once();
      static_cast<void>(done);
      // One that was under way already when it was asked for is older than that.
      if (!asked) continue;
    }
    record_wanted_ = false;
  }
}

}  // namespace blockmig
