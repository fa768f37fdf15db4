// SPDX-License-Identifier: Apache-2.0
// Journal: what must survive a crash. RocksDB behind a wall (RocksJournal), memory in the
// simulator.
//
// Every save is on stable storage when its task finishes (I1, I7): promises rest on it. If a save
// fails, its state is unknown until the journal is opened again, and every later call fails until
// then (I11); callers act as if it may have happened. Records are versioned and checksummed; a
// damaged one is kProtocol, a newer one kPrecondition. Names and ids are any non-empty bytes, a key
// is at most 1 KiB and a record 1 MiB, else kInvalid. Format: FORMAT.md.
// Thread rule: one loop; blocking work is offloaded. Tasks must have finished when it is destroyed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

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
  friend bool operator==(const JobRecord&, const JobRecord&) = default;
};

class Journal {
 public:
  virtual ~Journal() = default;

  virtual Task<Result<std::optional<DiskRecord>>> load_disk(const std::string& disk) = 0;
  virtual Task<Result<std::vector<DiskRecord>>> load_disks() = 0;
  virtual Task<Status> save_disk(const DiskRecord& record) = 0;
  virtual Task<Status> remove_disk(const std::string& disk) = 0;

  virtual Task<Result<std::vector<JobRecord>>> load_jobs() = 0;
  virtual Task<Status> save_job(const JobRecord& record) = 0;
};

/// Opens or creates the journal in `directory`. kBusy: held by another process (named) or this one;
/// kProtocol: damaged, or no journal; kPrecondition: written by a newer program. Messages name the
/// folder. Blocks (start-up only).
Result<std::unique_ptr<Journal>> open_rocks_journal(EventLoop& loop, const std::string& directory);

/// Keeps records in memory; saves take a moment of loop time, so that a crash can fall between.
std::unique_ptr<Journal> make_memory_journal(EventLoop& loop);

}  // namespace blockmig
