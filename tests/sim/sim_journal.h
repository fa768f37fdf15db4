// SPDX-License-Identifier: Apache-2.0
// SimJournal: a journal in memory that takes simulated time, may fail, and looks on at every
// decision. Its records are the encoded ones, and outlive it: a crash destroys the journal, not
// what is on its disk.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "blockmig/base/random.h"
#include "blockmig/io/cancel.h"
#include "blockmig/journal/journal.h"
#include "blockmig/journal/record_codec.h"

namespace blockmig::sim {

/// What is on the journal's disk.
using JournalRecords = std::map<std::string, std::string>;

class SimJournal final : public Journal {
 public:
  SimJournal(EventLoop& loop, Random& random, JournalRecords& records)
      : loop_(loop), random_(random), records_(records) {}

  /// Called with the record when a decision is about to become durable: the gate is closed, and the
  /// target must equal the source bit for bit (I4).
  std::function<void(const DiskRecord&)> on_decision;
  /// Called when it fails for good in a decision: nobody can tell whether that was written.
  std::function<void()> on_unknown;
  /// Called when something has become durable.
  std::function<void()> on_applied = [] {};
  std::uint32_t save_error_ppm = 0;
  /// The next save fails, and from then on nothing is attempted, as on a filesystem that is full.
  /// reopen() ends it.
  void fail_for_good() { failing_ = true; }
  bool failed() const { return failed_; }
  void reopen() { failing_ = failed_ = false; }
  /// False: its daemon has crashed. What was under way happens or not; nothing else does.
  bool alive = true;

  Status health() const override;
  Task<Result<std::optional<DiskRecord>>> load_disk(const std::string& disk) override;
  Task<Result<std::vector<DiskRecord>>> load_disks() override;
  Task<Result<std::vector<JobRecord>>> load_jobs() override;
  Task<Result<std::vector<RegionContainer>>> load_regions(const std::string& disk,
                                                          const std::string& name) override;
  Task<Result<std::vector<DigestContainer>>> load_digests(const RegionSetId& set,
                                                          std::uint32_t from) override;
  Task<Result<std::optional<HydrationRecord>>> load_hydration(const std::string& disk) override;
  Task<Status> commit(const JournalBatch& batch) override;
  Task<Status> reserve(const JournalBatch& batch) override;
  Task<Result<std::vector<RegionSetRecord>>> load_sets(const std::string& disk) override;
  Task<Status> distrust_sets() override;
  Task<Result<std::vector<NoteRecord>>> load_notes(const std::string& topic) override;
  Task<Result<std::optional<NoteRecord>>> load_note(const std::string& topic,
                                                    const std::string& name) override;

  // What is durable now, without taking time.
  std::vector<RegionContainer> regions(const std::string& disk, const std::string& name) const;
  HydrationRecord hydration(const std::string& disk) const;
  DiskRecord disk_record(const std::string& disk) const;
  /// As if it had always been there.
  void preset(const DiskRecord& disk, const HydrationRecord& hydration,
              const std::vector<RegionContainer>& containers);

 private:
  /// The error is drawn apart from the effect: a failed save may have happened all the same.
  Task<Status> apply(EncodedBatch batch);
  /// The error: it has failed for good.
  Task<Status> take_time();

  EventLoop& loop_;
  Random& random_;
  JournalRecords& records_;
  bool failing_ = false;
  bool failed_ = false;
};

}  // namespace blockmig::sim
