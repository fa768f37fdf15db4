// SPDX-License-Identifier: Apache-2.0
// Batches, descriptions of region sets and notes: their bytes, in both journals, and cut.
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "blockmig/journal/record_codec.h"
#include "blockmig/journal/record_format.h"
#include "blockmig/journal/record_frame.h"
#include "tests/unit/journal/journal_folder.h"

namespace blockmig {
namespace {

namespace format = record_format;

RegionSetRecord set(const std::string& disk, const std::string& name) {
  return {disk, name, "bitmap", 10ULL << 30, 65536, true, 7, R"({"x":1})"};
}

TEST(BatchCodec, RoundTrips) {
  EXPECT_EQ(*decode_set(set_key({"d", "b"}), *encode_set(set("d", "b"))), set("d", "b"));
  const NoteRecord note{"serve", "d", std::string("a\0b", 3)};
  EXPECT_EQ(*decode_note(note_key("serve", "d"), *encode_note(note)), note);
}

TEST(BatchCodec, NoNamesShareAKeyOrItsBeginning) {
  EXPECT_NE(set_key({"a", "bc"}), set_key({"ab", "c"}));
  EXPECT_FALSE(set_key({"ab", "x"}).starts_with(set_prefix("a")));
  EXPECT_TRUE(set_key({"ab", "x"}).starts_with(set_prefix("ab")));
}

TEST(BatchCodec, EveryBitFlipIsRefused) {
  const std::string value = *encode_set(set("d", "b"));
  for (std::size_t bit = 0; bit < value.size() * 8; ++bit) {
    std::string flipped = value;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    ASSERT_EQ(decode_set(set_key({"d", "b"}), flipped).error().code(), ErrorCode::kProtocol) << bit;
  }
  EXPECT_FALSE(decode_set(set_key({"d", "c"}), value).ok());
}

TEST(BatchCodec, WhatHasNoNameIsRefused) {
  EXPECT_EQ(encode_set(set("d", "")).error().code(), ErrorCode::kInvalid);
  EXPECT_EQ(encode_set(set("", "b")).error().code(), ErrorCode::kInvalid);
  EXPECT_EQ(encode_note({"a/b", "x", ""}).error().code(), ErrorCode::kInvalid);
  EXPECT_EQ(encode_note({"", "x", ""}).error().code(), ErrorCode::kInvalid);
}

TEST(BatchCodec, ABatchIsEncodedWholeOrNotAtAll) {
  JournalBatch batch;
  batch.sets.push_back(set("d", "b"));
  batch.regions.push_back({"d", "b", {{0, std::vector<std::byte>(5000)}}, {}});
  EXPECT_EQ(encode_batch(batch).error().code(), ErrorCode::kInvalid);
  batch.regions[0].put[0].bits.resize(4096);
  EXPECT_EQ(encode_batch(batch)->puts.size(), 2U);
}

// A job that a program of schema 1 recorded has nothing to resume with.
TEST(BatchCodec, AJobOfVersionOneIsRead) {
  record_frame::Writer writer;
  for (const char* text : {"j1", "disk0", "dbt", "file:///t", "running"}) writer.text(text);
  writer.number(3);
  writer.text("report");
  const auto record = decode_job(job_key("j1"), writer.frame(format::Kind::kJob, job_key("j1"), 1));
  ASSERT_TRUE(record.ok()) << record.error().message();
  EXPECT_EQ(*record, (JobRecord{"j1", "disk0", "dbt", "file:///t", "running", 3, "report"}));
  EXPECT_EQ(
      decode_job(job_key("j1"), writer.frame(format::Kind::kJob, job_key("j1"), 4)).error().code(),
      ErrorCode::kPrecondition);
}

// Before schema 4 nobody knew in which phase it was.
TEST(BatchCodec, AJobOfVersionTwoIsRead) {
  record_frame::Writer writer;
  for (const char* text : {"j1", "disk0", "dbt", "file:///t", "running"}) writer.text(text);
  writer.number(3);
  for (const char* text : {"report", "request", "resume"}) writer.text(text);
  const auto record = decode_job(job_key("j1"), writer.frame(format::Kind::kJob, job_key("j1"), 2));
  ASSERT_TRUE(record.ok()) << record.error().message();
  EXPECT_EQ(*record, (JobRecord{"j1", "disk0", "dbt", "file:///t", "running", 3, "report",
                                "request", "resume", ""}));
}

class BatchJournalTest : public JournalFolder {
 protected:
  Status commit(Journal& journal, const JournalBatch& batch) {
    return run_task(loop_, journal.commit(batch));
  }
  std::vector<RegionSetRecord> sets(Journal& journal, const std::string& of) {
    const auto all = run_task(loop_, journal.load_sets(of));
    EXPECT_TRUE(all.ok());
    return all.ok() ? *all : std::vector<RegionSetRecord>();
  }
  std::size_t containers(Journal& journal, const std::string& of, const std::string& name) {
    const auto all = run_task(loop_, journal.load_regions(of, name));
    EXPECT_TRUE(all.ok());
    return all.ok() ? all->size() : 0;
  }
  std::optional<NoteRecord> note(Journal& journal, const std::string& topic,
                                 const std::string& name) {
    const auto one = run_task(loop_, journal.load_note(topic, name));
    EXPECT_TRUE(one.ok());
    return one.ok() ? *one : std::nullopt;
  }
  static JournalBatch first_batch() {
    JournalBatch batch;
    batch.disks.push_back(disk("a", 1));
    batch.jobs.push_back(job("j1", 1));
    batch.notes.push_back({"serve", "a", "how"});
    for (const char* name : {"x", "xy"}) {
      batch.sets.push_back(set("a", name));
      RegionChange change{"a", name, {}, {}};
      for (std::uint32_t i = 0; i < 3; ++i) change.put.push_back({i, {std::byte{1}}});
      batch.regions.push_back(change);
    }
    batch.sets.push_back(set("ab", "x"));
    return batch;
  }
  void check_batches(Journal& journal);
};

void BatchJournalTest::check_batches(Journal& journal) {
  ASSERT_TRUE(commit(journal, first_batch()).ok());
  EXPECT_EQ(disks(journal), (std::vector<DiskRecord>{disk("a", 1)}));
  EXPECT_EQ(jobs(journal), (std::vector<JobRecord>{job("j1", 1)}));
  EXPECT_EQ(note(journal, "serve", "a"), (NoteRecord{"serve", "a", "how"}));
  EXPECT_EQ(note(journal, "serve", "ab"), std::nullopt);
  EXPECT_EQ(sets(journal, "a"), (std::vector<RegionSetRecord>{set("a", "x"), set("a", "xy")}));
  EXPECT_EQ(sets(journal, "").size(), 3U);
  EXPECT_EQ(containers(journal, "a", "x"), 3U);

  JournalBatch second;
  second.removed_sets.push_back({"a", "x"});
  second.regions.push_back({"a", "xy", {}, {1}});
  second.removed_notes.push_back({"serve", "a", ""});
  second.removed_jobs.push_back("j1");
  ASSERT_TRUE(commit(journal, second).ok());
  EXPECT_EQ(sets(journal, "a"), (std::vector<RegionSetRecord>{set("a", "xy")}));
  EXPECT_EQ(containers(journal, "a", "x"), 0U);
  EXPECT_EQ(containers(journal, "a", "xy"), 2U);
  EXPECT_TRUE(jobs(journal).empty());
  const auto notes = run_task(loop_, journal.load_notes("serve"));
  ASSERT_TRUE(notes.ok());
  EXPECT_TRUE(notes->empty());
  EXPECT_EQ(note(journal, "serve", "a"), std::nullopt);

  JournalBatch third;  // removals come first: the set is emptied, then filled
  third.removed_sets.push_back({"a", "xy"});
  third.sets.push_back(set("a", "xy"));
  third.regions.push_back({"a", "xy", {{7, {std::byte{1}}}}, {}});
  ASSERT_TRUE(commit(journal, third).ok());
  EXPECT_EQ(containers(journal, "a", "xy"), 1U);
}

TEST_F(BatchJournalTest, BatchesInMemory) {
  const auto journal = make_memory_journal(loop_);
  check_batches(*journal);
}

TEST_F(BatchJournalTest, BatchesOnDiskOutliveReopening) {
  {
    const auto journal = open();
    check_batches(*journal);
  }
  const auto journal = open();
  ASSERT_NE(journal, nullptr);
  EXPECT_EQ(containers(*journal, "a", "xy"), 1U);
}

// All of a batch or nothing, wherever its log was cut: the decision and what goes with it.
TEST_F(BatchJournalTest, ABatchCutAnywhereDidNotHappen_I7_Trap19) {
  { const auto journal = open(); }
  {
    const auto journal = open();
    ASSERT_TRUE(commit(*journal, first_batch()).ok());
    copy_journal("j", "crashed");
  }
  const std::string log = read_file(wal("crashed"));
  for (std::size_t size = 0; size <= log.size(); size += size + 23 < log.size() ? 23 : 1) {
    copy_journal("crashed", "cut");
    write_file(wal("cut"), log.substr(0, size));
    const auto journal = open("cut");
    ASSERT_NE(journal, nullptr) << size;
    const std::size_t whole = size == log.size() ? 1 : 0;
    ASSERT_EQ(disks(*journal).size(), whole) << size;
    ASSERT_EQ(sets(*journal, "").size(), 3 * whole) << size;
    ASSERT_EQ(containers(*journal, "a", "x"), 3 * whole) << size;
  }
}

}  // namespace
}  // namespace blockmig
