// SPDX-License-Identifier: Apache-2.0
// How a HydratingDevice keeps its base: a connection that was lost is made anew where nothing that
// matters can have been lost with it.
#include <string>
#include <utility>

#include "blockmig/base/back_off.h"
#include "blockmig/base/planted.h"
#include "blockmig/base/units.h"
#include "blockmig/io/visit.h"
#include "blockmig/migrate/hydrating_device.h"

namespace blockmig {

Task<void> HydratingDevice::settle_base() {
  if (!base_only_unflushed_ || planted(PlantedBug::kBaseNotFlushed)) co_return;
  const std::uint64_t base_only = base_only_count_;
  const Visit inside(inside_);
  auto op = std::make_shared<TargetOp>(core_.loop, TargetOpKind::kFlush);
  core_.base->submit(op);
  const bool flushed = co_await wait_for_base(op, BaseNeed::kOnly);
  if (flushed && base_only == base_only_count_) base_only_unflushed_ = false;
}

Identities HydratingDevice::identities() const {
  Identities all = identities_of(*core_.local);
  if (core_.base) add_identities(all, identities_of(core_.base->target()));
  return all;
}

std::string HydratingDevice::trouble() const {
  const std::string base = core_.base ? trouble_of(core_.base->target()) : std::string();
  if (core_.base && core_.base->disconnected() && (base.empty() || !may_mend())) {
    const std::string& why = core_.stats.last_error;
    const std::string what = "the old store is away" + (why.empty() ? "" : ": " + why);
    return !may_mend() ? what +
                             "; what only it has was not flushed, so it is not "
                             "connected again: serve the disk anew"
                       : what + "; being connected again";
  }
  if (!base.empty()) return "the old store: " + base;
  const std::string local = trouble_of(*core_.local);
  if (!local.empty()) return local;
  const std::optional<Error> filling = filling_fails();
  return filling ? filling->message() : core_.stats.last_error;
}

std::optional<Error> HydratingDevice::filling_fails() const {
  if (new_store_silent()) {
    return Error(ErrorCode::kTimedOut, "the new store has not answered for " +
                                           format_duration(core_.silence.lasts()) +
                                           ": what it does not have is read from the old one");
  }
  if (puller_.failures() > 0) {
    const auto refusal = puller_.refusal();
    return refusal ? *refusal : Error(ErrorCode::kIo, core_.stats.last_error);
  }
  // One that is patient with itself has not failed yet.
  const std::string base = core_.base ? trouble_of(core_.base->target()) : std::string();
  if (base.empty()) return std::nullopt;
  return Error(ErrorCode::kIo, "the old store: " + base);
}

/// What only the base has is durable there, so a server that was restarted has it still. What the
/// mirror has sent and not flushed may be gone: it ends, and the base is only read from then on.
void HydratingDevice::mend_base() {
  const bool lost = core_.base && core_.base->disconnected();
  if (!lost || mending_ || !may_mend() || base_only_inside_ > 0 || core_.stop.is_set()) return;
  mending_ = true;
  give_up_mirror("the connection to the base was lost");
  auto task = mend();
  mender_.spawn(std::move(task));
}

Task<void> HydratingDevice::mend() {
  // It may also be back by itself: a busy base is never without requests.
  const auto away = [this] { return core_.base->disconnected() && !core_.stop.is_set(); };
  for (unsigned failures = 0; away() && may_mend(); ++failures) {
    const TimePoint next = core_.loop.now() + kStoreBackOff.after(failures);
    const bool idle = co_await core_.base->idle_until(next);
    if (!away()) break;
    if (idle && core_.base->in_flight() == 0 && base_only_inside_ == 0 && may_mend()) {
      const Status revived = co_await core_.base->revive();
      if (revived.ok()) break;
      core_.stats.last_error = revived.error().message();
    }
    co_await core_.stop.wait_until(next);
  }
  mending_ = false;
  core_.changed.pulse();
}

}  // namespace blockmig
