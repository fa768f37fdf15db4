// SPDX-License-Identifier: Apache-2.0
#include "blockmig/journal/wal_check.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "blockmig/base/crc32c.h"
#include "blockmig/base/endian.h"
#include "blockmig/base/random.h"

namespace blockmig {
namespace {

constexpr std::size_t kBlock = 32768;

/// A writer of RocksDB's log format, by its specification: what RocksDB itself writes is tested by
/// the journal's crash tests.
class LogWriter final {
 public:
  void add(const std::string& payload) {
    std::size_t from = 0;
    bool first = true;
    do {
      const std::size_t left = kBlock - log_.size() % kBlock;
      if (left < 7) {
        log_.append(left, '\0');
        continue;
      }
      const std::size_t length = std::min(left - 7, payload.size() - from);
      const bool last = from + length == payload.size();
      append(first ? (last ? 1 : 2) : (last ? 4 : 3), payload.substr(from, length));
      from += length;
      first = false;
    } while (first || from < payload.size());
    ends_.push_back(log_.size());
  }
  void append(int type, const std::string& fragment) {
    const std::string covered = static_cast<char>(type) + fragment;
    const std::uint32_t crc = crc32c(std::as_bytes(std::span(covered)));
    char header[6];
    store_le(header, ((crc >> 15) | (crc << 17)) + 0xa282ead8U);
    store_le(header + 4, static_cast<std::uint16_t>(fragment.size()));
    log_.append(header, sizeof header);
    log_ += covered;
  }
  const std::string& log() const { return log_; }
  const std::vector<std::size_t>& ends() const { return ends_; }

 private:
  std::string log_;
  std::vector<std::size_t> ends_;
};

/// 'c'lean, 't'orn or 'd'amaged.
char judge(const std::string& log) {
  const auto state = check_wal(std::as_bytes(std::span(log)));
  if (!state.ok()) {
    EXPECT_EQ(state.error().code(), ErrorCode::kProtocol);
    return 'd';
  }
  return *state == WalState::kClean ? 'c' : 't';
}

LogWriter small_log() {
  LogWriter writer;
  Random random(5);
  for (const std::size_t size : {40U, 0U, 130U, 300U, 9U}) {
    std::string payload(size, '\0');
    for (char& c : payload) c = static_cast<char>(random.next());
    writer.add(payload);
  }
  return writer;
}

/// Records over several blocks, with a padded block end and fragments in three blocks.
LogWriter large_log() {
  LogWriter writer;
  writer.add(std::string(kBlock - 7 - 3, 'a'));  // leaves three bytes: padding
  writer.add(std::string(100, 'b'));
  writer.add(std::string(2 * kBlock + 500, 'c'));  // first, middle, last
  writer.add(std::string(50, 'd'));
  return writer;
}

TEST(WalCheck, WholeLogsAreClean) {
  EXPECT_EQ(judge(""), 'c');
  EXPECT_EQ(judge(small_log().log()), 'c');
  EXPECT_EQ(judge(large_log().log()), 'c');
}

TEST(WalCheck, ACutAtAnyByteIsTornOrClean) {
  const LogWriter writer = small_log();
  for (std::size_t size = 0; size <= writer.log().size(); ++size) {
    const bool at_end =
        size == 0 || std::count(writer.ends().begin(), writer.ends().end(), size) > 0;
    ASSERT_EQ(judge(writer.log().substr(0, size)), at_end ? 'c' : 't') << size;
  }
}

TEST(WalCheck, ACutAcrossBlocksIsTornOrClean) {
  const LogWriter writer = large_log();
  const std::string& log = writer.log();
  for (std::size_t size = 0; size <= log.size(); size += size % 1000 == 0 ? 1 : 111) {
    ASSERT_NE(judge(log.substr(0, size)), 'd') << size;
  }
  // In the padding, at a block's start, and between two fragments.
  EXPECT_EQ(judge(log.substr(0, kBlock - 3)), 'c');
  EXPECT_EQ(judge(log.substr(0, kBlock - 1)), 'c');
  EXPECT_EQ(judge(log.substr(0, kBlock)), 'c');
  EXPECT_EQ(judge(log.substr(0, 2 * kBlock)), 't');
  EXPECT_EQ(judge(log.substr(0, 3 * kBlock)), 't');
}

TEST(WalCheck, EveryFlippedBitIsDamage) {
  const std::string log = small_log().log();
  for (std::size_t bit = 0; bit < log.size() * 8; ++bit) {
    std::string flipped = log;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    ASSERT_EQ(judge(flipped), 'd') << "bit " << bit;
  }
}

TEST(WalCheck, EveryFlippedBitIsDamageInALogWithATornTail) {
  const LogWriter writer = small_log();
  const std::string log = writer.log().substr(0, writer.log().size() - 3);
  // The last whole record's end; what is behind it did not happen and may hold anything.
  const std::size_t synced = writer.ends()[writer.ends().size() - 2];
  for (std::size_t bit = 0; bit < synced * 8; ++bit) {
    std::string flipped = log;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    ASSERT_EQ(judge(flipped), 'd') << "bit " << bit;
  }
}

TEST(WalCheck, FlippedHeadersOfFragmentsAreDamage) {
  const LogWriter writer = large_log();
  const std::string& log = writer.log();
  const std::vector<std::size_t> headers = {0,          kBlock,     kBlock + 107,
                                            2 * kBlock, 3 * kBlock, writer.ends()[2]};
  for (const std::size_t header : headers) {
    for (std::size_t bit = header * 8; bit < (header + 7) * 8; ++bit) {
      std::string flipped = log;
      flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
      ASSERT_EQ(judge(flipped), 'd') << "header " << header << " bit " << bit - header * 8;
    }
  }
}

TEST(WalCheck, FlippedPaddingIsHarmless) {
  std::string log = large_log().log();
  log[kBlock - 2] = 'x';  // nobody reads it
  EXPECT_EQ(judge(log), 'c');
}

TEST(WalCheck, ZerosAtTheEndAreTornAndZerosBeforeARecordAreDamage) {
  const LogWriter writer = small_log();
  EXPECT_EQ(judge(writer.log() + std::string(100, '\0')), 't');
  EXPECT_EQ(judge(writer.log() + std::string(3, '\0')), 't');
  LogWriter gap = small_log();
  std::string log = gap.log() + std::string(512, '\0');
  LogWriter later;
  later.add("x");
  EXPECT_EQ(judge(log + later.log()), 'd');
}

// A sector of rubbish that happens to claim a record beyond the end looks torn, but for what
// follows it.
TEST(WalCheck, RubbishBeforeARecordIsDamageWhateverItsLengthClaims) {
  const LogWriter writer = small_log();
  for (const std::size_t record : {0U, 1U, 2U, 3U}) {
    const std::size_t begin = record == 0 ? 0 : writer.ends()[record - 1];
    std::string log = writer.log();
    std::fill(log.begin() + static_cast<std::ptrdiff_t>(begin),
              log.begin() + static_cast<std::ptrdiff_t>(writer.ends()[record]), '\x10');
    EXPECT_EQ(judge(log), 'd') << record;
  }
}

TEST(WalCheck, MisplacedFragmentsAreDamage) {
  for (const int type : {3, 4}) {
    LogWriter writer = small_log();
    writer.append(type, "x");
    EXPECT_EQ(judge(writer.log()), 'd') << type;
  }
  for (const int type : {1, 2}) {
    LogWriter writer = small_log();
    writer.append(2, "x");
    writer.append(type, "y");
    EXPECT_EQ(judge(writer.log()), 'd') << type;
  }
  LogWriter unfinished = small_log();
  unfinished.append(2, "x");
  EXPECT_EQ(judge(unfinished.log()), 't');
}

TEST(WalCheck, ARecordOfAnUnknownTypeIsDamage) {
  LogWriter writer = small_log();
  writer.append(9, "x");
  EXPECT_EQ(judge(writer.log()), 'd');
}

}  // namespace
}  // namespace blockmig
