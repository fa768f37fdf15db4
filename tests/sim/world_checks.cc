// SPDX-License-Identifier: Apache-2.0
// What must hold at a decision, at the end of a generation, of a report, and after a power loss.
#include <algorithm>

#include "blockmig/base/chunk_digests.h"
#include "world.h"

namespace blockmig::sim {

void World::check_equal(const DiskRecord& record) {
  if (record.epoch == decided_epoch_) {
    // A hydration has ended: the record must not forget a chunk that is durably absent.
    const bool ended = record.hydration.empty() && !hydration_.empty();
    if (ended && !journal_.regions(record.disk, hydration_).empty()) {
      complain("whole while chunks are durably absent (I12)");
    }
    return;
  }
  decided_epoch_ = record.epoch;
  hydration_ = record.hydration;
  if (source_lost_) {
    check_holds_all(*target_);
    return believe_target();
  }
  const std::vector<std::byte> source = live_content();
  std::vector<std::byte> target(size_bytes_);
  target_->peek(0, target);
  if (!record.hydration.empty()) {
    // What is left behind is in the base; the rest must be equal.
    const std::uint64_t granularity = journal_.hydration(record.disk).granularity_bytes;
    for (const RegionContainer& container : journal_.regions(record.disk, record.hydration)) {
      for (std::uint64_t bit = 0; bit < container.bits.size() * 8; ++bit) {
        const std::byte here = container.bits[bit / 8] >> (bit % 8) & std::byte{1};
        const std::uint64_t at =
            (std::uint64_t{container.index} * kChunksPerContainer + bit) * granularity;
        if (here == std::byte{0} || at >= size_bytes_) continue;
        const std::uint64_t length = std::min(granularity, size_bytes_ - at);
        std::copy_n(source.data() + at, length, target.data() + at);
      }
    }
  }
  const auto place = std::mismatch(source.begin(), source.end(), target.begin());
  if (place.first == source.end()) {
    ImageDigest digest;
    digest.append(source);
    decided_digest_ = digest.finish().hex();
    believe_target();
    if (record.hydration.empty()) check_durable(source);
    return;
  }
  complain("decision for " + record.store_uri + ": source and target differ at offset " +
           std::to_string(place.first - source.begin()) + " (I4)");
}

/// From the decision on it is the disk's store, and what is asked is whether we keep what it keeps.
void World::believe_target() {
  target_->plan().lost_write_ppm = target_->plan().torn_write_ppm = 0;
  target_->plan().misdirected_write_ppm = 0;
  target_->plan().flush_error_ppm = 0;
  target_->plan().space_bytes = UINT64_MAX;
}

/// Where the manifest of an image that the disk has left knows a digest, the image has that
/// content: whoever settles the disk writes only what differs (I13).
void World::check_manifest(const FaultDevice& image, bool complete) {
  const auto place = manifests_.find(image.info().name);
  if (place == manifests_.end() || place->second.digests == nullptr) return;
  if (place->second.changing) {
    if (complete)
      complain("a move to " + target_->info().name +
               " has ended, and its manifest is not complete");
    return;
  }
  const ChunkDigests& digests = *place->second.digests;
  std::vector<std::byte> content;
  for (std::uint64_t chunk = 0; chunk < digests.chunk_count(); ++chunk) {
    const ByteRange range = digests.chunk_range(chunk);
    content.resize(range.length);
    image.peek(range.offset, content);
    const auto expected = digests.find(chunk);
    if (!expected || digest_of(content) == *expected) continue;
    return complain("the manifest of " + image.info().name + " has a digest of offset " +
                    std::to_string(range.offset) + " that is not the image's (I13)");
  }
}

/// A move that came to nothing has left nothing at rest: nobody shall take the image for a mixture.
void World::check_withdrawn(const JobStatus& status) {
  const bool known = status.mode == Mode::kShared && !status.switched && !status.owner_unknown;
  if (known && manifests_[owner_->info().name].changing) {
    complain("a move has ended without a decision, and the manifest says that the disk has left");
  }
}

/// At a decision the target has been flushed: what its cache shows is what a power loss leaves
/// (I1, I11).
void World::check_durable(const std::vector<std::byte>& source) {
  std::vector<std::byte> durable(size_bytes_);
  target_->peek_durable(0, durable);
  const auto place = std::mismatch(source.begin(), source.end(), durable.begin());
  if (place.first == source.end()) return;
  complain("decision: offset " + std::to_string(place.first - source.begin()) +
           " is not durable at the target (I11)");
}

/// A full disk or a lost connection ends only the job that was told so; none of ours loses its
/// source that way.
void World::check_outlasted(const JobStatus& status, OnTargetError action) {
  if (source_lost_) return;  // that is no trouble of the target's
  if (action == OnTargetError::kFail || !status.error || status.state != JobState::kFailed) return;
  const ErrorCode code = status.error->code();
  if (code == ErrorCode::kNoSpace || code == ErrorCode::kDisconnected) {
    complain("the target's trouble ended the job: " + status.error->message());
  }
}

/// What the report says the disk held at the decision (I13).
void World::check_digests(const JobStatus& status, Verify verify) {
  // Nobody knew all of it at the decision. A point in time has none.
  if (!status.point_in_time && !hydration_.empty()) return;
  if (verify == Verify::kNone || (source_may_fail_ && status.source_digest.empty())) return;
  // Of a point in time, chunks copied in parts are read from the target, which may fail.
  if (status.point_in_time && status.source_digest.empty()) return;
  if (status.source_digest != decided_digest_ || status.target_digest != decided_digest_) {
    complain("the report's digests " + status.source_digest + " and " + status.target_digest +
             " are not the disk's " + decided_digest_ + " (I13)");
  }
}

/// (M11) The target, after a power loss, is the disk of the instant at which the generation began:
/// every sector as a read at that instant could have seen it.
void World::check_instant() {
  if (target_lies_) return;  // `full` finds it before the move
  for (std::uint64_t sector = 0; sector < history_.sectors(); ++sector) {
    const ByteRange range = history_.sector_range(sector);
    std::byte bytes[kSectorBytes];
    const MutableBytes content(bytes, range.length);
    target_->peek_durable(range.offset, content);
    const auto value = history_.decode(sector, content);
    if (!value) {
      return complain("point in time: sector " + std::to_string(sector) + " is no value written");
    }
    const auto problem = history_.check_read(sector, {*value}, instant_, instant_);
    if (problem) return complain("point in time: " + *problem);
  }
  std::vector<std::byte> whole(size_bytes_);
  target_->peek_durable(0, whole);
  ImageDigest digest;
  digest.append(whole);
  decided_digest_ = digest.finish().hex();
  ++result_.generations;
}

const FaultDevice& World::holder(std::uint64_t offset) const {
  if (journal_records_.count(disk_key("disk")) == 0) return *owner_;
  const DiskRecord record = journal_.disk_record("disk");
  if (record.hydration.empty()) return *owner_;
  const HydrationRecord rest = journal_.hydration("disk");
  const std::uint64_t chunk = offset / rest.granularity_bytes;
  const std::uint64_t bit = chunk % kChunksPerContainer;
  for (const RegionContainer& container : journal_.regions("disk", record.hydration)) {
    if (container.index != chunk / kChunksPerContainer) continue;
    if (bit / 8 >= container.bits.size()) return *owner_;
    const std::byte absent = container.bits[bit / 8] >> (bit % 8) & std::byte{1};
    return absent == std::byte{1} ? *find_store(rest.base_uri.substr(4)) : *owner_;
  }
  return *owner_;
}

/// The store that the journal says the disk is on.
std::string World::journal_owner() const {
  if (!journal_records_.contains(disk_key("disk"))) return stores_.front()->info().name;
  return journal_.disk_record("disk").store_uri.substr(4);
}

void World::check_stamps() {
  const std::string trouble = owners_.judge(journal_owner());
  if (!trouble.empty()) complain(trouble + " (I3)");
}

std::optional<SectorValue> World::survivor(std::uint64_t sector) {
  const ByteRange range = history_.sector_range(sector);
  std::byte bytes[kSectorBytes];
  const MutableBytes content(bytes, range.length);
  holder(range.offset).peek(range.offset, content);
  const auto value = history_.decode(sector, content);
  if (!value) {
    complain("after power loss sector " + std::to_string(sector) +
             " is no value ever written (I1)");
    return std::nullopt;
  }
  const auto problem = history_.check_survivor(sector, *value);
  if (!problem) return value;
  complain("after power loss " + *problem + " (I1)");
  return std::nullopt;
}

void World::check_survivors() {
  owner_->crash();
  for (std::uint64_t sector = 0; sector < history_.sectors(); ++sector) {
    if (!survivor(sector)) return;
  }
}

}  // namespace blockmig::sim
