// SPDX-License-Identifier: Apache-2.0
// Containers of digests: their bytes, and both journals.
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"
#include "blockmig/journal/record_codec.h"
#include "blockmig/journal/record_format.h"
#include "blockmig/journal/record_frame.h"
#include "tests/unit/shared/temporary_folder.h"

namespace blockmig {
namespace {

namespace format = record_format;

const RegionSetId kSet{"d", "job/job-1"};

DigestContainer sample(std::uint32_t index) {
  DigestContainer container;
  container.index = index;
  container.zeros.set(0);
  container.zeros.set(255);
  for (const std::size_t chunk : {1, 9, 200}) {
    container.known.set(chunk);
    container.digests.push_back({chunk, ~std::uint64_t{chunk}});
  }
  return container;
}

TEST(DigestCodec, RoundTrips) {
  for (const std::uint32_t index : {0U, 7U, 0xffffffffU}) {
    const std::string value = *encode_digests(kSet, sample(index));
    EXPECT_EQ(*decode_digests(digest_key(kSet, index), value), sample(index));
  }
  DigestContainer full;
  full.known.set();
  full.digests.assign(kDigestsPerContainer, Digest{1, 2});
  const std::string value = *encode_digests(kSet, full);
  EXPECT_EQ(*decode_digests(digest_key(kSet, 0), value), full);
  EXPECT_LT(value.size(), 4096U + 160U) << "FORMAT.md says what a TiB takes";
}

TEST(DigestCodec, TheLayoutIsTheDocumentedOne) {
  DigestContainer container;
  container.index = 2;
  container.zeros.set(8);
  container.known.set(1);
  container.digests.push_back({0x0102030405060708, 0x090a0b0c0d0e0f10});
  record_frame::Writer writer;
  writer.text("d");
  writer.text("job/job-1");
  writer.number(2);
  writer.text(std::string("\0\x01", 2));
  writer.text("\x02");
  writer.bytes("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10");
  const std::string key = "digest/1:d/9:job/job-1/00000002";
  EXPECT_EQ(digest_key(kSet, 2), key);
  EXPECT_EQ(*encode_digests(kSet, container), writer.frame(format::Kind::kDigests, key));
}

TEST(DigestCodec, EveryBitFlipAndEveryCutIsRefused) {
  const std::string value = *encode_digests(kSet, sample(3));
  const std::string key = digest_key(kSet, 3);
  for (std::size_t bit = 0; bit < value.size() * 8; ++bit) {
    std::string flipped = value;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    ASSERT_EQ(decode_digests(key, flipped).error().code(), ErrorCode::kProtocol) << bit;
  }
  for (std::size_t length = 0; length < value.size(); ++length) {
    ASSERT_FALSE(decode_digests(key, value.substr(0, length)).ok()) << length;
  }
  EXPECT_FALSE(decode_digests(digest_key(kSet, 4), value).ok());
  EXPECT_FALSE(decode_digests(digest_key({"d", "job/job-2"}, 3), value).ok());
}

TEST(DigestCodec, ForgedFieldsAreRefused) {
  const std::string key = digest_key(kSet, 0);
  const auto decoded = [&key](const std::string& zeros, const std::string& known,
                              const std::string& digests) {
    record_frame::Writer writer;
    writer.text("d");
    writer.text("job/job-1");
    writer.number(0);
    writer.text(zeros);
    writer.text(known);
    writer.bytes(digests);
    return decode_digests(key, writer.frame(format::Kind::kDigests, key));
  };
  const std::string one(16, 'x');
  EXPECT_TRUE(decoded("\x01", "\x02", one).ok());
  EXPECT_FALSE(decoded("\x02", "\x02", one).ok()) << "zeros, and not zeros";
  EXPECT_FALSE(decoded("", "\x03", one).ok()) << "a digest too few";
  EXPECT_FALSE(decoded("", "\x02", one + "x").ok());
  EXPECT_FALSE(decoded("", "", one).ok());
  EXPECT_FALSE(decoded(std::string(33, '\x01'), "", "").ok());
  EXPECT_FALSE(decoded("", std::string(33, '\0'), "").ok());
}

TEST(DigestCodec, WhatDoesNotFitIsNotEncoded) {
  DigestContainer container = sample(0);
  container.digests.pop_back();
  EXPECT_EQ(encode_digests(kSet, container).error().code(), ErrorCode::kInvalid);
  container = sample(0);
  container.zeros.set(9);
  EXPECT_EQ(encode_digests(kSet, container).error().code(), ErrorCode::kInvalid);
  EXPECT_FALSE(encode_digests({"d", ""}, sample(0)).ok());
  EXPECT_FALSE(encode_digests({"", "x"}, sample(0)).ok());
  DigestChange change{kSet, {}, {}};
  change.erase.resize(kMaxContainersPerChange + 1);
  EXPECT_FALSE(encode_change(change).ok());
}

TEST(DigestCodec, WithoutRoomWhatTheyReplaceIsErased) {
  JournalBatch batch;
  batch.notes.push_back({"serve", "d", "text"});
  batch.digests.push_back({kSet, {sample(1), sample(2)}, {5}});
  auto encoded = *encode_batch(batch);
  EXPECT_EQ(encoded.digests, 2U);
  leave_out_digests(encoded);
  ASSERT_EQ(encoded.puts.size(), 1U);
  EXPECT_EQ(encoded.puts[0].first, note_key("serve", "d"));
  EXPECT_EQ(std::set<std::string>(encoded.removed_keys.begin(), encoded.removed_keys.end()),
            (std::set<std::string>{digest_key(kSet, 1), digest_key(kSet, 2), digest_key(kSet, 5)}));
}

/// With room for them: memory filesystems may be small.
class DigestJournalTest : public testing::Test {
 protected:
  /// Of a set, and of another one of the same disk whose name begins alike.
  void fill(Journal& journal) {
    JournalBatch batch;
    for (const char* name : {"job/job-1", "job/job-11"}) {
      batch.sets.push_back({"d", name, "job", 1ULL << 40, 65536, false, 1, ""});
      batch.digests.push_back({{"d", name}, {sample(3), sample(4), sample(0x10000)}, {}});
    }
    ASSERT_TRUE(run_task(loop_, journal.commit(batch)).ok());
  }
  std::size_t count(Journal& journal, const RegionSetId& set, std::uint32_t from = 0) {
    const auto found = run_task(loop_, journal.load_digests(set, from));
    EXPECT_TRUE(found.ok());
    return found.ok() ? found->size() : 0;
  }
  void check(Journal& journal) {
    EXPECT_EQ(count(journal, kSet), 3U);
    EXPECT_EQ(count(journal, kSet, 0x10001), 0U);
    const auto later = run_task(loop_, journal.load_digests(kSet, 4));
    ASSERT_EQ(later->size(), 2U);
    EXPECT_EQ(later->front(), sample(4));
    JournalBatch batch;
    batch.digests.push_back({kSet, {}, {4}});
    ASSERT_TRUE(run_task(loop_, journal.commit(batch)).ok());
    EXPECT_EQ(count(journal, kSet), 2U);
    // Removals come first, as everywhere.
    JournalBatch anew;
    anew.removed_sets.push_back(kSet);
    anew.sets.push_back({"d", "job/job-1", "job", 1ULL << 40, 65536, false, 1, ""});
    anew.digests.push_back({kSet, {sample(9)}, {}});
    ASSERT_TRUE(run_task(loop_, journal.commit(anew)).ok());
    EXPECT_EQ(count(journal, kSet), 1U);
    EXPECT_EQ(count(journal, {"d", "job/job-11"}), 3U);
  }

  const TemporaryFolder folder_{"/tmp"};
  Random random_{1};
  SimLoop loop_{random_};
};

TEST_F(DigestJournalTest, InMemory) {
  const auto journal = make_memory_journal(loop_);
  fill(*journal);
  check(*journal);
}

TEST_F(DigestJournalTest, OverReopeningAndDistrust_I5) {
  const std::string path = folder_.path() + "/j";
  const auto open = [&] {
    auto opened = open_rocks_journal(loop_, path);
    EXPECT_TRUE(opened.ok()) << opened.error().message();
    return *std::move(opened);
  };
  {
    const auto journal = open();
    fill(*journal);
  }
  {
    const auto journal = open();
    check(*journal);
    ASSERT_TRUE(run_task(loop_, journal->distrust_sets()).ok());
  }
  const auto journal = open();
  EXPECT_EQ(count(*journal, kSet), 0U);
  EXPECT_EQ(count(*journal, {"d", "job/job-11"}), 0U);
}

}  // namespace
}  // namespace blockmig
