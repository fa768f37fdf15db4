// SPDX-License-Identifier: Apache-2.0
// What must hold of a disk that is settled: at the decision, after each death, for strangers, and
// at the end.
#include <algorithm>
#include <cstring>
#include <utility>

#include "blockmig/base/chunk_digests.h"
#include "settle_world.h"

namespace blockmig::sim {
namespace {

const std::string kDisk = "disk";

}  // namespace

/// Under the fence the image must be the disk, durably (I4, I11).
void SettleWorld::check_decision(const DiskRecord& record) {
  if (!record.hydration.empty() || disk_ == nullptr) return;
  // From here on it is the disk's store.
  folder_.image->plan().flush_error_ppm = 0;
  folder_.image->plan().space_bytes = UINT64_MAX;
  std::vector<std::byte> whole(size_bytes_);
  folder_.image->peek(0, whole);
  ImageDigest digest;
  digest.append(whole);
  decided_ = digest.finish();
  const auto* const layer = hydrating_layer(*disk_);
  if (layer == nullptr) return;
  std::vector<std::byte> here(size_bytes_);
  std::vector<std::byte> there(size_bytes_);
  overlay_->peek(0, here);
  folder_.image->peek_durable(0, there);
  const PresenceMap& map = layer->map();
  for (const DirtyBitmap::Run& run : map.runs({0, size_bytes_}, SIZE_MAX)) {
    const auto begin =
        (run.dirty ? first_image_ : here).begin() + static_cast<std::ptrdiff_t>(run.range.offset);
    const auto end = begin + static_cast<std::ptrdiff_t>(run.range.length);
    const auto held = there.begin() + static_cast<std::ptrdiff_t>(run.range.offset);
    const auto place = std::mismatch(begin, end, held);
    if (place.first == end) continue;
    const auto word = [](const std::vector<std::byte>& bytes, std::ptrdiff_t at) {
      std::uint64_t value = 0;
      std::memcpy(&value, bytes.data() + at, sizeof value);
      return std::to_string(value);
    };
    std::vector<std::byte> visible(size_bytes_);
    folder_.image->peek(0, visible);
    const std::ptrdiff_t where = place.second - there.begin();
    note("overlay " + word(here, where) + ", image " + word(visible, where) + ", durably " +
         word(there, where) + ", first " + word(first_image_, where));
    return complain("decision: the image differs from the disk at offset " +
                    std::to_string(place.second - there.begin()) +
                    (run.dirty ? ", at rest (I4)" : ", written (I4)"));
  }
}

/// A job that has ended knows what the whole disk was at the decision (I13).
void SettleWorld::check_report(JobBoard& board) {
  if (last_job_.empty() || job_options_.verify == Verify::kNone) return;
  const auto status = board.status(last_job_);
  if (!status.ok() || status->state != JobState::kDone) return;
  if (status->target_digest == decided_.hex()) return;
  // Faults may keep it from being read.
  if (status->target_digest.empty() && !last_life_) return;
  complain("the report's digest is '" + status->target_digest + "', the image's was " +
           decided_.hex() + " (I13)");
}

bool SettleWorld::is_absent(std::uint64_t offset) const {
  const DiskRecord record = journal_.disk_record(kDisk);
  const std::uint64_t chunk = offset / journal_.hydration(kDisk).granularity_bytes;
  for (const RegionContainer& container : journal_.regions(kDisk, record.hydration)) {
    if (container.index != chunk / kChunksPerContainer) continue;
    const std::uint64_t bit = chunk % kChunksPerContainer;
    if (bit / 8 >= container.bits.size()) return false;
    return (container.bits[bit / 8] >> (bit % 8) & std::byte{1}) == std::byte{1};
  }
  return false;
}

/// What the next life has to fetch from the image is what the manifest says (I12, I13).
void SettleWorld::check_rest() {
  std::vector<std::byte> content;
  for (std::uint64_t at = 0; at < size_bytes_; at += ChunkDigests::kChunkBytes) {
    if (!is_absent(at)) continue;
    const std::uint64_t chunk = at / ChunkDigests::kChunkBytes;
    content.resize(std::min<std::uint64_t>(ChunkDigests::kChunkBytes, size_bytes_ - at));
    folder_.image->peek(at, content);
    const auto expected = folder_.manifest->digests.find(chunk);
    if (expected && digest_of(content) == *expected) continue;
    return complain("offset " + std::to_string(at) +
                    " is to be fetched from the image, which does not hold what its manifest says "
                    "(I12)");
  }
}

/// After a kill the page cache is still there: whatever was acknowledged is seen, but for what a
/// restart looks for in the image again, and is as likely to go with a later power loss as before.
void SettleWorld::check_survivors(Death death) {
  const bool in_image = settled();
  if (!in_image) check_rest();
  History cached = *history_;
  cached.acknowledge_flush(cached.tick());
  for (std::uint64_t sector = 0; sector < history_->sectors(); ++sector) {
    const ByteRange range = history_->sector_range(sector);
    std::byte bytes[kSectorBytes];
    const MutableBytes content(bytes, range.length);
    const bool rests = !in_image && is_absent(range.offset);
    const FaultDevice& store = in_image || rests ? *folder_.image : *overlay_;
    store.peek(range.offset, content);
    const bool killed = death == Death::kKill && !rests;
    const History& judge = killed ? cached : *history_;
    const auto value = history_->decode(sector, content);
    const auto problem = value ? judge.check_survivor(sector, *value) : std::nullopt;
    if (!value || problem) {
      return complain("after " + std::string(name_of(death)) + " sector " + std::to_string(sector) +
                      " on " + store.info().name + ": " +
                      (value ? *problem : "no value ever written") + " (I1)");
    }
    if (!killed) history_->start_again(sector, *value);
  }
}

/// Somebody else who has opened the image as it was left: he sees that, or an error.
Task<void> SettleWorld::read_as_a_stranger() {
  const std::shared_ptr<const ChunkDigests> digests(folder_.manifest, &folder_.manifest->digests);
  FolderImage::Expected expected;
  expected.generation = folder_.manifest->generation;
  SharedImageOptions patience;
  patience.patience = std::chrono::milliseconds(300);
  auto life = std::make_shared<Life>();
  SharedImage image(loop_, std::make_unique<SimFolderImage>(folder_, expected, life), digests,
                    patience);
  const Status opened = co_await image.open();
  if (!opened.ok()) complain("a stranger cannot open the image: " + opened.error().message());
  std::vector<std::byte> content;
  while (!strangers_leave_) {
    const Duration wait = std::chrono::milliseconds(random_.between(1, 40));
    co_await sleep_for(loop_, wait);
    const std::uint64_t offset = random_.below(size_bytes_ / kSectorBytes) * kSectorBytes;
    content.resize(
        std::min<std::uint64_t>(random_.between(1, 200) * kSectorBytes, size_bytes_ - offset));
    const MutableBytes into(content);
    const Status read = co_await image.read(offset, into);
    if (!read.ok()) continue;
    const auto was = first_image_.begin() + static_cast<std::ptrdiff_t>(offset);
    if (!std::equal(content.begin(), content.end(), was)) {
      complain("a stranger reads at offset " + std::to_string(offset) +
               " what the image did not hold (I13)");
    }
  }
  const Status closed = co_await image.close();
  static_cast<void>(closed);
}

/// The image alone is the disk, whatever becomes of the overlay; the manifest is nobody's.
void SettleWorld::check_end() {
  overlay_->fill(std::byte{0xDB});
  folder_.image->crash();
  check_survivors(Death::kPowerLoss);
  const Manifest& manifest = *folder_.manifest;
  if (manifest.changing || manifest.owner_epoch != 0) {
    // A crash after the decision: the next serving tells it (tests/unit/tools).
    if (result_.crashes == 0) complain("the manifest does not say that the disk has settled");
    return;
  }
  if (manifest.digests.unknown_chunks() == 0 && manifest.digests.image() != decided_) {
    complain("the manifest's digests are not the image's (I13)");
  }
}

}  // namespace blockmig::sim
