// SPDX-License-Identifier: Apache-2.0
// Overlays in a world: a disk leaves its data at rest, which is fetched when it is asked for, or
// never kept; then it moves away, and takes with it what was never fetched, over crashes and
// restarts.
#include <algorithm>

#include "world.h"

namespace blockmig::sim {

bool World::on_overlay() const {
  const auto* const layer = hydrating_layer(*disk_);
  return layer != nullptr && layer->at_rest() && layer->record().hydrate != Hydrate::kBackground;
}

void World::plan_overlay(JobOptions& options) {
  if (!on_overlay()) {
    options.mode = Mode::kShared;
    options.granularity_bytes = 65536;
    options.copy_request_bytes = std::max(options.copy_request_bytes, options.granularity_bytes);
    options.copy_window_bytes =
        std::max<std::uint64_t>(options.copy_window_bytes, options.copy_request_bytes);
    options.snapshot_buffer_bytes = options.granularity_bytes;
    options.hydrate = random_.chance(1, 2) ? Hydrate::kOnDemand : Hydrate::kNever;
    options.point_in_time = false;
    return;
  }
  // Those that copy all of it first.
  static constexpr Mode kModes[] = {Mode::kCold, Mode::kSnapshot, Mode::kDbt, Mode::kMirror,
                                    Mode::kAuto};
  options.mode = kModes[random_.below(std::size(kModes))];
  options.point_in_time = options.mode == Mode::kSnapshot && random_.chance(1, 4);
  if (options.point_in_time && options.verify == Verify::kFull) options.verify = Verify::kDigest;
  if (options.on_stall == OnStall::kPostcopy) options.on_stall = OnStall::kThrottle;
}

Task<void> World::let_cool() {
  co_await sleep_for(loop_, std::chrono::milliseconds(20));
  guest_->stop();
  co_await workers_->join();
  forget_guest();
  co_await sleep_for(loop_, std::chrono::hours(1));
  guest_plan_.flush_percent = 0;
  start_guest();
}

Task<void> World::lose_power_when_switched() {
  const Duration wait = std::chrono::microseconds(random_.between(1, 2000));
  bool switched = false;
  while (!ended_ && !crashed_ && !switched) {
    co_await sleep_for(loop_, wait);
    switched = disk_ && hydrating_layer(*disk_) != nullptr;
  }
  if (!ended_ && !crashed_ && guest_) crash(true);
}

std::vector<std::byte> World::live_content() const {
  std::vector<std::byte> content(size_bytes_);
  owner_->peek(0, content);
  const auto* const layer = hydrating_layer(*disk_);
  if (layer == nullptr) return content;
  const auto image = find_store(layer->record().base_uri.substr(4));
  for (const DirtyBitmap::Run& run : layer->map().runs({0, size_bytes_}, SIZE_MAX)) {
    if (!run.dirty) continue;
    image->peek(run.range.offset,
                MutableBytes(content).subspan(run.range.offset, run.range.length));
  }
  return content;
}

}  // namespace blockmig::sim
