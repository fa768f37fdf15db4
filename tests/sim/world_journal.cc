// SPDX-License-Identifier: Apache-2.0
// A journal that fails for good in a world, as on a full filesystem: it stays so until the daemon
// is started again. Until then the guests of a disk are served as if nothing had happened, by the
// store that they know (I8); unless it failed in a decision: then by nobody (I3).
#include "world.h"

namespace blockmig::sim {
namespace {

constexpr Duration kWithin = std::chrono::milliseconds(200);
constexpr Duration kLookOn = std::chrono::milliseconds(300);

}  // namespace

/// For a job that has just begun; or for the one after it, if it ends before.
Task<void> World::fail_journal_later() {
  const auto most = std::chrono::duration_cast<std::chrono::microseconds>(kWithin).count();
  const Duration wait =
      std::chrono::microseconds(random_.between(1, static_cast<std::uint64_t>(most)));
  co_await sleep_for(loop_, wait);
  if (crashed_ || ended_) co_return;
  note("the journal fails from the next save on");
  journal_.fail_for_good();
}

/// The move has ended as well as it could. The guests go on; then somebody makes room and starts
/// the daemon again.
Task<void> World::live_without_journal() {
  note(owner_unknown_ ? "the owner is unknown" : "without a journal");
  const std::uint64_t before = guest_->requests();
  co_await sleep_for(loop_, kLookOn);
  if (crashed_) co_return;
  if (!owner_unknown_) {
    if (guest_->requests() == before) complain("guests hang since the journal failed (I8)");
    if (disk_->gate().state() == Gate::State::kShut) {
      complain("the disk is closed although no decision was attempted (I8)");
    }
  }
  crash(random_.chance(1, 2));
}

}  // namespace blockmig::sim
