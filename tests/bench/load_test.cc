// SPDX-License-Identifier: Apache-2.0
// nbdload must send what it says, whatever the socket does to it, and object to a wrong answer.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "blockmig/base/endian.h"
#include "tests/bench/latency.h"
#include "tests/bench/load_connection.h"

namespace blockmig::bench {
namespace {

constexpr std::uint64_t kSize = 64 << 20;

struct Request {
  std::uint16_t command;
  std::uint64_t cookie;
  std::uint64_t offset;
  std::uint32_t length;
};

/// The server's end of a socket pair, and the connection under test at the other.
class LoadConnectionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::array<int, 2> ends;
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()), 0);
    fd_ = ends[0];
    peer_ = ends[1];
    options_.depth = 4;
    options_.block_bytes = 4096;
  }
  void TearDown() override {
    load_.reset();
    ::close(fd_);
  }

  void start() {
    Connection connection;
    connection.fd = peer_;
    connection.size_bytes = kSize;
    load_ = std::make_unique<LoadConnection>(options_, std::move(connection), &totals_,
                                             pattern_.get(), &buffer_, 7);
  }

  bool readable() const {
    char byte = 0;
    return ::recv(fd_, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
  }

  /// Reads one whole request, letting the client send the rest of it where the socket was full.
  Request take() {
    std::array<char, kRequestBytes> header;
    read_all(header.data(), header.size());
    EXPECT_EQ(load_be<std::uint32_t>(header.data()), 0x25609513u);
    const Request r{.command = load_be<std::uint16_t>(header.data() + 6),
                    .cookie = load_be<std::uint64_t>(header.data() + 8),
                    .offset = load_be<std::uint64_t>(header.data() + 16),
                    .length = load_be<std::uint32_t>(header.data() + 24)};
    if (r.command == 1) {
      payload_.resize(r.length);
      read_all(payload_.data(), r.length);
    }
    return r;
  }

  void read_all(char* to, std::size_t size) {
    while (size > 0) {
      const ssize_t n = ::recv(fd_, to, size, MSG_DONTWAIT);
      if (n <= 0) {
        ASSERT_TRUE(load_->wants_to_send());
        load_->send();
        continue;
      }
      to += n;
      size -= static_cast<std::size_t>(n);
    }
  }

  static std::string reply(const Request& r, std::uint32_t error = 0, char fill = 'x') {
    std::string out(kReplyBytes, '\0');
    store_be(out.data(), std::uint32_t{0x67446698});
    store_be(out.data() + 4, error);
    store_be(out.data() + 8, r.cookie);
    if (error == 0 && r.command == 0) out.append(r.length, fill);
    return out;
  }

  void answer(const std::string& bytes) {
    std::fill(buffer_.begin(), buffer_.end(), '\xee');  // another connection's bytes were there
    ASSERT_EQ(::send(fd_, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
    (void)load_->receive(false);
  }

  LoadOptions options_;
  LoadTotals totals_;
  std::unique_ptr<BlockPattern> pattern_;
  std::vector<char> buffer_ = std::vector<char>(kLoadBufferBytes);
  std::unique_ptr<LoadConnection> load_;
  std::vector<char> payload_;
  int fd_ = -1;
  int peer_ = -1;
};

TEST_F(LoadConnectionTest, KeepsExactlyTheDepthInFlightWhateverTheOrderOfReplies) {
  start();
  std::map<std::uint64_t, Request> in_flight;
  for (unsigned round = 0; round < 1000; ++round) {
    load_->send();
    while (readable()) {
      const Request r = take();
      EXPECT_EQ(r.length, options_.block_bytes);
      EXPECT_EQ(r.offset % options_.block_bytes, 0u);
      EXPECT_LE(r.offset + r.length, kSize);
      EXPECT_TRUE(in_flight.emplace(r.cookie, r).second) << "a cookie in use was taken again";
    }
    ASSERT_EQ(in_flight.size(), options_.depth);
    for (unsigned i = 0; i <= round % options_.depth; ++i) {  // the oldest and the newest in turn
      const auto which = round % 2 == 0 ? in_flight.begin() : std::prev(in_flight.end());
      answer(reply(which->second));
      in_flight.erase(which);
    }
  }
  EXPECT_EQ(load_->fatal(), "");
  EXPECT_EQ(totals_.errors, 0u);
}

TEST_F(LoadConnectionTest, AtARateNothingIsSentBeforeItsTurn) {
  options_.rate = 0.01;  // the next one in 100 s
  start();
  load_->send();
  std::vector<Request> sent;
  while (readable()) sent.push_back(take());
  EXPECT_EQ(sent.size(), 1u);
  for (const Request& r : sent) answer(reply(r));
  load_->send();
  EXPECT_FALSE(readable());
  EXPECT_TRUE(load_->has_room());
  EXPECT_GT(load_->next_due_ns(), now_ns());
}

TEST_F(LoadConnectionTest, HotWritesGoWhereTheyShould) {
  options_.write_percent = 100;
  options_.hot_write_percent = 90;
  options_.hot_piece_percent = 5;
  start();
  const std::uint64_t pieces = kSize / kHotPieceBytes;
  const std::uint64_t stride = pieces / (pieces * 5 / 100);
  unsigned hot = 0;
  constexpr unsigned kWrites = 4000;
  for (unsigned i = 0; i < kWrites; ++i) {
    load_->send();
    const Request r = take();
    EXPECT_LE(r.offset + r.length, kSize);
    if (r.offset / kHotPieceBytes % stride == 0) ++hot;
    answer(reply(r));
  }
  // 90 %, and 5 % of the other tenth.
  EXPECT_GT(hot, kWrites * 88 / 100);
  EXPECT_LT(hot, kWrites * 93 / 100);
}

TEST_F(LoadConnectionTest, EveryCountedRequestIsRecordedWithItsTime) {
  start();
  totals_.counting = totals_.recording = true;
  totals_.record_begin_ns = now_ns();
  load_->send();
  for (unsigned i = 0; i < 10; ++i) {
    answer(reply(take()));
    load_->send();
  }
  ASSERT_EQ(totals_.records.size(), 10u);
  const std::uint64_t passed_us = (now_ns() - totals_.record_begin_ns) / 1000;
  std::uint32_t last = 0;
  for (const RequestRecord& record : totals_.records) {
    EXPECT_GE(record.end_us, last);
    EXPECT_LE(record.took_us, record.end_us + 1);
    EXPECT_LE(record.end_us, passed_us);
    last = record.end_us;
  }
}

TEST_F(LoadConnectionTest, ASocketThatTakesLittleAtATimeGetsEveryByteInOrder) {
  options_.block_bytes = 300'000;
  options_.write_percent = 50;
  options_.pattern = Pattern::kRandom;
  start();
  const int small = 4096;
  ::setsockopt(peer_, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
  unsigned writes = 0;
  for (unsigned i = 0; i < 200; ++i) {
    load_->send();
    const Request r = take();
    ASSERT_TRUE(r.command == 0 || r.command == 1) << r.command;
    ASSERT_EQ(r.length, options_.block_bytes);
    writes += r.command;
    if (r.command == 1) {
      answer(reply(r));
      continue;
    }
    const std::string bytes = reply(r);
    for (std::size_t at = 0; at < bytes.size(); at += 50'000) answer(bytes.substr(at, 50'000));
  }
  EXPECT_EQ(load_->fatal(), "");
  EXPECT_GT(writes, 60u);
  EXPECT_LT(writes, 140u);
}

TEST_F(LoadConnectionTest, RepliesMayComeByteByByte) {
  options_.block_bytes = 512;
  start();
  totals_.counting = true;
  for (unsigned i = 0; i < 20; ++i) {
    load_->send();
    for (const char byte : reply(take())) answer(std::string(1, byte));
  }
  EXPECT_EQ(load_->fatal(), "");
  EXPECT_EQ(totals_.requests, 20u);
}

TEST_F(LoadConnectionTest, AnErrorReplyIsCounted) {
  start();
  load_->send();
  answer(reply(take(), 5));
  EXPECT_EQ(totals_.errors, 1u);
}

TEST_F(LoadConnectionTest, AReplyToNothingEndsTheConnection) {
  start();
  load_->send();
  Request r = take();
  const std::string once = reply(r);
  answer(once);
  EXPECT_EQ(load_->fatal(), "");
  answer(once);
  EXPECT_NE(load_->fatal(), "");
  EXPECT_TRUE(load_->done());
}

/// One write and its read back; `spoil` changes a byte of what is read.
class VerificationTest : public LoadConnectionTest {
 protected:
  void write_and_read_back(bool spoil) {
    options_.depth = 1;
    options_.write_percent = 100;
    options_.range_bytes = 4096;
    pattern_ = std::make_unique<BlockPattern>(1, options_.block_bytes);
    start();
    load_->send();
    answer(reply(take()));
    std::string data(payload_.begin(), payload_.end());
    load_->stop();
    load_->begin_read_back();
    load_->send();
    if (spoil) data.back() = static_cast<char>(data.back() ^ 1);
    answer(reply(take()).substr(0, kReplyBytes) + data);
    EXPECT_EQ(totals_.verified, 1u);
  }
};

TEST_F(VerificationTest, AcceptsWhatWasWritten) {
  write_and_read_back(false);
  EXPECT_EQ(totals_.mismatches, 0u);
}

TEST_F(VerificationTest, ObjectsToOneWrongBit) {
  write_and_read_back(true);
  EXPECT_EQ(totals_.mismatches, 1u);
}

TEST(LatencyHistogram, MergingIsAddingAll) {
  LatencyHistogram a;
  LatencyHistogram b;
  LatencyHistogram both;
  for (std::uint64_t i = 1; i < 3000; ++i) {
    (i % 3 == 0 ? a : b).add(i * i);
    both.add(i * i);
  }
  a.merge(b);
  EXPECT_EQ(a.count(), both.count());
  EXPECT_EQ(a.max(), both.max());
  for (const double q : {0.01, 0.5, 0.99, 1.0}) EXPECT_EQ(a.quantile(q), both.quantile(q));
}

TEST(SplitMix, BelowReachesEverythingBelowAndNothingElse) {
  SplitMix random(3);
  std::set<std::uint64_t> seen;
  for (unsigned i = 0; i < 1000; ++i) seen.insert(random.below(10));
  EXPECT_EQ(seen.size(), 10u);
  EXPECT_LT(*seen.rbegin(), 10u);
}

}  // namespace
}  // namespace blockmig::bench
