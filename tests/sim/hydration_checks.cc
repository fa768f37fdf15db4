// SPDX-License-Identifier: Apache-2.0
// What must be true in mid-hydration: of the base, of what survives an end, of how long anybody
// waits, of the report.
#include <algorithm>
#include <utility>

#include "blockmig/base/chunk_digests.h"
#include "blockmig/base/units.h"
#include "hydration_world.h"

namespace blockmig::sim {

/// A restart that finds the mirror recorded relies on the base for all that was acknowledged, at
/// any instant. Not where an earlier death came between the two stores' parts of one write.
void HydrationWorld::check_base() {
  if (base_lost_) return;
  const DiskRecord& record = journal_.disk_record(kDisk);
  if (record.hydration.empty() || !journal_.hydration(kDisk).reverse_mirror) return;
  History now = *history_;
  now.acknowledge_flush(now.tick());
  for (std::uint64_t sector = 0; sector < now.sectors(); ++sector) {
    if (apart_.contains(sector)) continue;
    const ByteRange range = now.sector_range(sector);
    std::byte bytes[kSectorBytes];
    const MutableBytes content(bytes, range.length);
    base_->peek(range.offset, content);
    const auto value = now.decode(sector, content);
    const auto problem =
        value ? now.check_survivor(sector, *value) : std::optional<std::string>("is garbage");
    if (problem) return complain("the base, which is recorded as a copy: " + *problem + " (I1)");
  }
}

/// A write that the base alone could take is made on the new store instead, once it is late.
void HydrationWorld::check_patience(const Guest& guest, const JobOptions& options) {
  constexpr int kLateDeadlines = 100;
  const Duration most = kLateDeadlines * options.mirror_deadline + std::chrono::milliseconds(500);
  if (guest.longest() <= most) return;
  complain("a guest has waited " + format_duration(guest.longest()) +
           " behind a write that the base holds (I10)");
}

/// Of a job that has ended with nobody writing any more (I13).
void HydrationWorld::check_digest(const JobStatus& status, Verify verify) {
  if (status.state != JobState::kDone || verify == Verify::kNone) return;
  std::vector<std::byte> whole(size_bytes_);
  local_->peek(0, whole);
  ImageDigest digest;
  digest.append(whole);
  const std::string is = digest.finish().hex();
  if (status.target_digest != is || status.source_digest != is) {
    complain("the report's digest is " + status.target_digest + ", the store's is " + is +
             " (I13)");
  }
}

const FaultDevice& HydrationWorld::holder(std::uint64_t offset) const {
  const DiskRecord& record = journal_.disk_record(kDisk);
  if (record.hydration.empty()) return *local_;
  const std::uint64_t chunk = offset / journal_.hydration(kDisk).granularity_bytes;
  for (const RegionContainer& container : journal_.regions(kDisk, record.hydration)) {
    if (container.index != chunk / kChunksPerContainer) continue;
    const std::uint64_t bit = chunk % kChunksPerContainer;
    if (bit / 8 >= container.bits.size()) return *local_;
    const std::byte here = container.bits[bit / 8] >> (bit % 8) & std::byte{1};
    return here == std::byte{1} ? *base_ : *local_;
  }
  return *local_;
}

void HydrationWorld::check_survivors(const char* after) {
  auto next = std::make_unique<History>(size_bytes_);
  SectorValue highest = 0;
  std::vector<SectorValue> values;
  apart_.clear();
  for (std::uint64_t sector = 0; sector < history_->sectors(); ++sector) {
    const ByteRange range = history_->sector_range(sector);
    std::byte bytes[kSectorBytes];
    const MutableBytes content(bytes, range.length);
    const FaultDevice& store = holder(range.offset);
    store.peek(range.offset, content);
    const auto value = history_->decode(sector, content);
    if (!value) {
      complain("after " + std::string(after) + " sector " + std::to_string(sector) + " on " +
               store.info().name + " is no value ever written (I1)");
      return;
    }
    const auto problem = history_->check_survivor(sector, *value);
    if (problem) {
      complain("after " + std::string(after) + " on " + store.info().name + ": " + *problem +
               " (I1, I12)");
      return;
    }
    std::byte in_base[kSectorBytes];
    const MutableBytes other(in_base, range.length);
    base_->peek(range.offset, other);
    if (!std::equal(content.begin(), content.end(), other.begin())) apart_.insert(sector);
    values.push_back(*value);
    highest = std::max(highest, *value);
  }
  while (next->next_value() < highest) {
  }
  for (std::uint64_t sector = 0; sector < values.size(); ++sector) {
    next->end_write(next->begin_write(sector, {values[sector]}), true);
  }
  next->acknowledge_flush(next->tick());
  history_ = std::move(next);
}

}  // namespace blockmig::sim
