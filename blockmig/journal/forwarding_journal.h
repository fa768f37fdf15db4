// SPDX-License-Identifier: Apache-2.0
// ForwardingJournal: a journal that passes everything on to another one, for those that do one
// thing otherwise. Thread rule and errors: those of the other one.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "blockmig/journal/journal.h"

namespace blockmig {

class ForwardingJournal : public Journal {
 public:
  /// `inner` must outlive this.
  explicit ForwardingJournal(Journal& inner) : inner_(inner) {}
  explicit ForwardingJournal(std::unique_ptr<Journal> inner)
      : owned_(std::move(inner)), inner_(*owned_) {}

  Status health() const override { return inner_.health(); }
  int running() const override { return inner_.running(); }
  Task<Result<std::optional<DiskRecord>>> load_disk(const std::string& disk) override {
    return inner_.load_disk(disk);
  }
  Task<Result<std::vector<DiskRecord>>> load_disks() override { return inner_.load_disks(); }
  Task<Result<std::vector<JobRecord>>> load_jobs() override { return inner_.load_jobs(); }
  Task<Result<std::vector<RegionContainer>>> load_regions(const std::string& disk,
                                                          const std::string& name) override {
    return inner_.load_regions(disk, name);
  }
  Task<Result<std::vector<DigestContainer>>> load_digests(const RegionSetId& set,
                                                          std::uint32_t from) override {
    return inner_.load_digests(set, from);
  }
  Task<Result<std::optional<HydrationRecord>>> load_hydration(const std::string& disk) override {
    return inner_.load_hydration(disk);
  }
  Task<Status> commit(const JournalBatch& batch) override { return inner_.commit(batch); }
  Task<Status> reserve(const JournalBatch& batch) override { return inner_.reserve(batch); }
  Task<Result<std::vector<RegionSetRecord>>> load_sets(const std::string& disk) override {
    return inner_.load_sets(disk);
  }
  Task<Status> distrust_sets() override { return inner_.distrust_sets(); }
  Task<Result<std::vector<NoteRecord>>> load_notes(const std::string& topic) override {
    return inner_.load_notes(topic);
  }
  Task<Result<std::optional<NoteRecord>>> load_note(const std::string& topic,
                                                    const std::string& name) override {
    return inner_.load_note(topic, name);
  }

 protected:
  Journal& inner() { return inner_; }

 private:
  std::unique_ptr<Journal> owned_;
  Journal& inner_;
};

}  // namespace blockmig
