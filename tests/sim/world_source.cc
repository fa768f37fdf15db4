// SPDX-License-Identifier: Apache-2.0
// What happens to the store that a disk is about to leave, and what its guest may notice.
#include "blockmig/block/reconnecting_device.h"
#include "world.h"

namespace blockmig::sim {
namespace {

constexpr Duration kAbortPatience = std::chrono::seconds(20);
constexpr Duration kConnectionPatience = std::chrono::milliseconds(500);
/// For reads of a source that is slow at flushing only: no fence is that long.
constexpr Duration kLongestRead = std::chrono::seconds(1);

/// Left behind is nothing that only the old store has.
bool moves_whole(Mode mode) {
  return mode == Mode::kCold || mode == Mode::kSnapshot || mode == Mode::kDbt ||
         mode == Mode::kMirror || mode == Mode::kAuto || mode == Mode::kReturn;
}

}  // namespace

/// As the daemon opens a store behind a connection.
std::unique_ptr<BlockDevice> World::open_owner() {
  auto store = std::make_unique<SharedDevice>(owner_);
  if (!options_.source_fails) return store;
  auto lasting = std::make_unique<ReconnectingDevice>(loop_, std::move(store), kConnectionPatience);
  lasting->outlast();
  return lasting;
}

void World::trouble_stores(const std::string& job) {
  const bool overlay = options_.overlays && on_overlay();
  // A flush of an overlay is the journal's, too.
  if (overlay && journal_.save_error_ppm != 0) source_may_fail_ = true;
  if (options_.source_fails || (overlay && random_.chance(1, 2))) {
    auto troubles = trouble_source(job);
    disturbances_.spawn(std::move(troubles));
  }
  if (overlay && random_.chance(1, 2)) {
    auto troubles = trouble_image(job);
    disturbances_.spawn(std::move(troubles));
  }
}

/// The folder in which data is at rest: who needs some has a patience.
Task<void> World::trouble_image(std::string job) {
  const auto* const layer = hydrating_layer(*disk_);
  const auto image = find_store(layer->record().base_uri.substr(4));
  for (std::uint64_t i = random_.between(1, 3); i > 0; --i) {
    const Duration wait = std::chrono::microseconds(random_.between(1, 80'000));
    co_await sleep_for(loop_, wait);
    if (crashed_) co_return;
    const auto status = board_->status(job);
    if (!status.ok() || is_final(status->state) || status->switched) co_return;
    const Duration lasts = std::chrono::milliseconds(random_.between(1, 3000));
    source_may_fail_ = true;
    if (random_.chance(1, 2)) {
      note("the folder does not answer");
      image->stall();
      co_await sleep_for(loop_, lasts);
      image->unstall();
    } else {
      note("the folder fails");
      image->plan().read_error_ppm = random_.chance(1, 2) ? 1'000'000 : 200'000;
      co_await sleep_for(loop_, lasts);
      image->plan().read_error_ppm = 0;
    }
  }
}

/// The connection breaks, and what was not flushed there may be gone.
Task<void> World::lose_source() {
  note("the source is lost");
  source_lost_ = source_may_fail_ = true;
  const auto source = owner_;
  source->disconnect();
  const Duration gone = std::chrono::milliseconds(random_.between(1, 700));
  co_await sleep_for(loop_, gone);
  source->reconnect();
}

/// Until the switchover: flushes that are slow, or fail, requests that are not answered, a
/// connection that breaks. Each ends.
Task<void> World::trouble_source(std::string job) {
  const Mode mode = planned_[job].options.mode;
  const auto source = owner_;
  const std::uint64_t count = random_.between(1, 4);
  const bool only_slow = options_.seed % 4 == 1;
  for (std::uint64_t i = 0; i < count; ++i) {
    const Duration wait = std::chrono::microseconds(random_.between(1, 80'000));
    co_await sleep_for(loop_, wait);
    if (crashed_) co_return;
    const auto status = board_->status(job);
    if (!status.ok() || is_final(status->state) || status->switched) co_return;
    const Duration lasts = std::chrono::milliseconds(random_.between(1, 2000));
    switch (only_slow ? 0 : random_.below(5)) {
      case 0:
        note("the source's flushes are slow");
        source->plan().flush_delay = std::chrono::milliseconds(random_.between(50, 3000));
        co_await sleep_for(loop_, lasts);
        source->plan().flush_delay = {};
        break;
      case 1:
        note("the source's flushes fail");
        source_flush_may_fail_ = true;
        if (on_overlay()) source_may_fail_ = true;  // a durable write there is a flush
        source->plan().flush_error_ppm = random_.chance(1, 2) ? 1'000'000 : 300'000;
        co_await sleep_for(loop_, lasts);
        source->plan().flush_error_ppm = 0;
        break;
      case 2:
      case 3:
        note("the source is stalled");
        source->stall();
        co_await sleep_for(loop_, lasts);
        source->unstall();
        break;
      default:
        if (options_.source_fails && moves_whole(mode)) co_await lose_source();
    }
  }
}

bool World::flush_must_fail() const {
  return disk_->store_uri() == "sim:" + owner_->info().name && owner_->flush_failed();
}

/// What befell the store that the last move has left is no excuse any more.
void World::watch_guest() {
  check_guest();
  switched_ = false;
  // A flush that is under way may still hear of it.
  const bool overlay_fails = owner_->flush_failed() || journal_.save_error_ppm != 0;
  source_may_fail_ = source_lost_ || (on_overlay() && overlay_fails);
  source_flush_may_fail_ = owner_->flush_failed();
  errors_before_ = guest_->errors() + result_.guest_errors;
  flush_errors_before_ = guest_->flush_errors() + flush_errors_;
}

void World::check_guest() {
  if (switched_ || guest_ == nullptr) return;
  std::uint64_t errors = guest_->errors() + result_.guest_errors - errors_before_;
  if (source_flush_may_fail_) {
    errors -= guest_->flush_errors() + flush_errors_ - flush_errors_before_;
  }
  if (errors > 0 && !source_may_fail_) {
    complain("a guest request failed although its store never did (I8)");
  }
  const Duration longest = guest_->take_longest_read();
  const bool only_slow = options_.source_fails && options_.seed % 4 == 1;
  if (only_slow && longest > kLongestRead) {
    complain("a read has waited " + std::to_string(longest / std::chrono::milliseconds(1)) +
             " ms for a move whose source is slow at flushing (I8)");
  }
}

/// The source cannot be asked any more: what it had acknowledged must be here.
void World::check_holds_all(const FaultDevice& target) {
  History now = history_;
  now.acknowledge_flush(now.tick());
  for (std::uint64_t sector = 0; sector < now.sectors(); ++sector) {
    const ByteRange range = now.sector_range(sector);
    std::byte bytes[kSectorBytes];
    const MutableBytes content(bytes, range.length);
    target.peek_durable(range.offset, content);
    const auto value = now.decode(sector, content);
    const auto problem =
        value ? now.check_survivor(sector, *value) : std::optional<std::string>("is no value");
    if (problem) return complain("decision without a source: " + *problem + " (I1, I4)");
  }
  std::vector<std::byte> whole(size_bytes_);
  target.peek(0, whole);
  ImageDigest digest;
  digest.append(whole);
  decided_digest_ = digest.finish().hex();
}

/// It had its time, with everything healed and nobody in its way.
Task<void> World::end_by_force(JobStatus status) {
  // Without a journal nothing can be decided, and the operator knows.
  if (!is_final(status.state) && !journal_.failed()) {
    complain("healed and left alone, and the job does not end: it is " +
             std::string(to_string(status.state)) + ", phase " +
             std::string(to_string(status.phase)) + ", " + status.verdict +
             (status.error ? ", " + status.error->message() : ""));
  }
  const Status aborted = board_->abort(status.id);
  if (!aborted.ok() && !is_final(status.state)) complain("job neither ends nor aborts");
  const TimePoint until = loop_.now() + kAbortPatience;
  while (!crashed_ && loop_.now() < until && !board_->job_of("disk").empty()) {
    co_await sleep_for(loop_, std::chrono::milliseconds(5));
  }
  if (!crashed_ && !board_->job_of("disk").empty()) complain("a job does not end after abort");
}

}  // namespace blockmig::sim
