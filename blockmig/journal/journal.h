// SPDX-License-Identifier: Apache-2.0
// Journal: what must survive a crash. RocksDB behind a wall (RocksJournal); memory (MemoryJournal)
// where nothing has to survive.
//
// Every save is on stable storage when its task finishes (I1, I7): promises rest on it. If a save
// fails (kIo, kNoSpace), its state is unknown until the journal is opened again, and every later
// call, loads too, fails until then (I11); callers act as if it may have happened. A save that was
// refused because an earlier one had failed is kPrecondition: it has certainly not happened
// (not_attempted()). Records are versioned and checksummed; loading a damaged one is kProtocol, a
// newer one kPrecondition. Names and ids are any non-empty bytes, a key is at most 1 KiB and a
// record 1 MiB, else kInvalid, and nothing has changed. Format: FORMAT.md.
//
// Thread rule: one loop; blocking work is offloaded. Tasks must have finished when it is destroyed.
#pragma once

#include <bitset>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "blockmig/base/digest.h"
#include "blockmig/base/error.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task.h"

namespace blockmig {

/// Who owns a disk's content: the one fact that a switchover changes.
struct DiskRecord {
  std::string disk;
  std::string store_uri;    ///< where the content lives
  std::uint64_t epoch = 0;  ///< grows by one with every switchover (I3)
  std::uint64_t size_bytes = 0;
  std::string previous_uri;  ///< the store before the last switchover; empty if none
  /// Not empty: what is absent in the store is in a base, as the hydration record with this region
  /// set says. So whoever moves the decision moves both.
  std::string hydration{};
  friend bool operator==(const DiskRecord&, const DiskRecord&) = default;
};

/// The last known state of a migration job, as shown after a restart.
struct JobRecord {
  std::string id;
  std::string disk;
  std::string mode;
  std::string target_uri;
  std::string state;          ///< as in the job's JSON
  std::uint64_t attempt = 0;  ///< persisted before first use
  std::string report_json;    ///< the final report, opaque here
  std::string request{};      ///< what a restart starts it again with, opaque here
  std::string on_restart{};   ///< "resume", "pause" or "abort"; empty: as "abort"
  std::string phase{};        ///< within the state, as in the job's JSON; empty: not known
  friend bool operator==(const JobRecord&, const JobRecord&) = default;
};

/// Chunks of a region set are kept by container, so that a change costs what changed.
inline constexpr std::uint32_t kChunksPerContainer = 32'768;
/// Of one change: what one synced batch writes at most (4 MiB).
inline constexpr std::size_t kMaxContainersPerChange = 1024;

/// The members of a set of chunks among [index * 32,768, (index + 1) * 32,768). Bit i % 8 of byte
/// i / 8 stands for the i-th of them; missing bytes are zeros.
struct RegionContainer {
  std::uint32_t index = 0;
  std::vector<std::byte> bits;  ///< at most 4,096 bytes
  friend bool operator==(const RegionContainer&, const RegionContainer&) = default;
};

struct RegionSetId {
  std::string disk;
  std::string name;
  friend bool operator==(const RegionSetId&, const RegionSetId&) = default;
};

/// A change of a named set of chunks of a disk (a presence map, a dirty bitmap). The set exists by
/// its containers: without any, it is empty.
struct RegionChange {
  std::string disk;
  std::string name;
  std::vector<RegionContainer> put;  ///< whole containers, replacing what was there
  std::vector<std::uint32_t> erase;  ///< containers that are empty now
};

/// Digests are of chunks of 64 KiB, whatever a set's granularity is, and are kept by container too.
inline constexpr std::uint32_t kDigestsPerContainer = 256;

/// What is known of the chunks of 64 KiB among [index * 256, (index + 1) * 256).
struct DigestContainer {
  std::uint32_t index = 0;
  std::bitset<kDigestsPerContainer> zeros;  ///< chunks of zeros
  std::bitset<kDigestsPerContainer> known;  ///< that have a digest; none of `zeros`
  std::vector<Digest> digests;              ///< of `known`, ascending
  friend bool operator==(const DigestContainer&, const DigestContainer&) = default;
};

/// A change of the digests that belong to a region set, and go with it.
struct DigestChange {
  RegionSetId set;
  std::vector<DigestContainer> put;  ///< whole containers, replacing what was there
  std::vector<std::uint32_t> erase;  ///< containers of which nothing is known any more
};

/// What becomes of chunks that are in the base only.
enum class Hydrate : unsigned char {
  kBackground,  ///< they are fetched until there is none
  kOnDemand,    ///< what is asked for is fetched and kept
  kNever,       ///< what is read is read through, and stays where it is
};

/// A disk whose content is not whole in its store yet: what is absent there is in the base.
/// Counts only while the disk's record names its region set: written before the decision, it means
/// nothing until the decision is there too (I7).
struct HydrationRecord {
  std::string disk;
  std::uint64_t epoch = 0;  ///< of the decision that it belongs to
  std::string base_uri;     ///< where absent chunks are
  std::uint32_t granularity_bytes = 0;
  bool reverse_mirror = false;  ///< acknowledged writes reach the base too
  std::string regions;          ///< name of the region set of the absent chunks
  std::string job;              ///< id of the job that began it
  // What the user asked for, so that it goes on like that after a restart.
  std::uint64_t bwlimit_bytes_per_second = 0;  ///< 0: unlimited
  std::uint64_t patience_ms = 0;               ///< 0: the default
  bool read_back = false;
  /// Not 0: the base is an image at rest, and this the generation of its manifest.
  std::uint64_t base_generation = 0;
  Hydrate hydrate = Hydrate::kBackground;
  friend bool operator==(const HydrationRecord&, const HydrationRecord&) = default;
};

/// Kinds of region sets that the journal itself knows: a bitmap that has to be forgotten stays
/// there as one that is distrusted, without containers, so that its user hears of it.
inline constexpr const char* kBitmapSet = "bitmap";
inline constexpr const char* kDistrustedBitmapSet = "bitmap-distrusted";

/// What the containers of a region set mean. A set without such a record is described elsewhere.
struct RegionSetRecord {
  std::string disk;
  std::string name;  ///< of the region set
  std::string kind;  ///< who reads it: kBitmapSet, "job", "active"
  std::uint64_t size_bytes = 0;
  std::uint32_t granularity_bytes = 0;
  bool inverted = false;  ///< its containers hold the chunks that are *not* in the set
  std::uint64_t tag = 0;  ///< the user's: an epoch, an attempt
  std::string note;       ///< the user's: opaque here
  friend bool operator==(const RegionSetRecord&, const RegionSetRecord&) = default;
};

/// A text about something by name, opaque here: how a disk is served.
struct NoteRecord {
  std::string topic;  ///< small letters and '-'
  std::string name;
  std::string text;
  friend bool operator==(const NoteRecord&, const NoteRecord&) = default;
};

/// Records that become durable together or not at all. What is removed is removed first.
struct JournalBatch {
  std::vector<std::string> removed_disks;  ///< their records only
  std::vector<std::string> removed_jobs;
  std::vector<RegionSetId> removed_sets;        ///< their records, containers and digests
  std::vector<std::string> removed_hydrations;  ///< by disk
  std::vector<NoteRecord> removed_notes;        ///< `text` does not matter
  std::vector<DiskRecord> disks;
  std::vector<JobRecord> jobs;
  std::vector<RegionSetRecord> sets;
  std::vector<RegionChange> regions;
  std::vector<DigestChange> digests;
  std::vector<HydrationRecord> hydrations;
  std::vector<NoteRecord> notes;
};

class Journal {
 public:
  virtual ~Journal() = default;

  /// An error: what the first save that failed said. Nothing is saved any more, nor loaded, until
  /// the journal is opened again.
  virtual Status health() const = 0;
  /// Calls under way: while there are any it must not be destroyed.
  virtual int running() const { return 0; }

  virtual Task<Result<std::optional<DiskRecord>>> load_disk(const std::string& disk) = 0;
  virtual Task<Result<std::vector<DiskRecord>>> load_disks() = 0;
  virtual Task<Result<std::vector<JobRecord>>> load_jobs() = 0;
  /// Ascending by index; empty if there is no such set.
  virtual Task<Result<std::vector<RegionContainer>>> load_regions(const std::string& disk,
                                                                  const std::string& name) = 0;
  /// Those at or after `from`, ascending by index: at most kMaxContainersPerChange, for all of a
  /// large disk are hundreds of MiB. Not before here is it noticed that one of them is damaged.
  virtual Task<Result<std::vector<DigestContainer>>> load_digests(const RegionSetId& set,
                                                                  std::uint32_t from) = 0;
  virtual Task<Result<std::optional<HydrationRecord>>> load_hydration(const std::string& disk) = 0;
  /// Of the disk, or of every disk if `disk` is empty.
  virtual Task<Result<std::vector<RegionSetRecord>>> load_sets(const std::string& disk) = 0;
  virtual Task<Result<std::vector<NoteRecord>>> load_notes(const std::string& topic) = 0;
  /// One of them, at the price of one.
  virtual Task<Result<std::optional<NoteRecord>>> load_note(const std::string& topic,
                                                            const std::string& name) = 0;

  /// One synced write: all of the batch or nothing of it. Only, where there is little room, digests
  /// are erased instead of saved: nothing rests on them. `batch` stays until the task has
  /// finished. kInvalid: a change of regions has more containers than one may have.
  virtual Task<Status> commit(const JournalBatch& batch) = 0;
  /// Takes the room that a commit of `batch` needs, so that one that follows does not find the
  /// filesystem full. An error: there is none, or nothing is saved any more; nothing has changed.
  /// Where the filesystem promises no room, success says nothing.
  virtual Task<Status> reserve(const JournalBatch& batch) = 0;
  /// Makes every described region set void, also when nothing can be saved any more: takes effect
  /// at once or at the next opening. For when writes go on that cannot be recorded (I5). Bitmaps
  /// stay as kDistrustedBitmapSet, with the reason as their note.
  virtual Task<Status> distrust_sets() = 0;

  // Commits of one thing. What they are given stays until the task has finished.
  Task<Status> save_disk(const DiskRecord& record);
  Task<Status> remove_disk(const std::string& disk);
  Task<Status> save_job(const JobRecord& record);
  Task<Status> change_regions(RegionChange change);
  /// The set's record and all its containers. Of a set that is not there: success.
  Task<Status> remove_regions(const std::string& disk, const std::string& name);
  Task<Status> save_hydration(const HydrationRecord& record);
  Task<Status> remove_hydration(const std::string& disk);
};

/// Of a save that failed: nothing was attempted, so the records are what they were.
inline bool not_attempted(const Error& error) {
  return error.code() == ErrorCode::kPrecondition || error.code() == ErrorCode::kInvalid;
}

/// Opens or creates the journal in `directory`. kBusy: held by another process (named) or this one;
/// kProtocol: damaged, or no journal; kPrecondition: written by a newer program. Messages name the
/// folder. Blocks (start-up only). `calls`: where it works; what hangs there holds up writes of all
/// disks, so in a daemon nothing else runs there (I10).
Result<std::unique_ptr<Journal>> open_rocks_journal(BlockingCalls& calls,
                                                    const std::string& directory);

/// Keeps records in memory, for a daemon whose disks end with it (private copies), and for tests;
/// saves take a moment of loop time, so that a crash can fall between.
std::unique_ptr<Journal> make_memory_journal(EventLoop& loop);

}  // namespace blockmig
