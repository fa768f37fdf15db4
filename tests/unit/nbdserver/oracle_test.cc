// SPDX-License-Identifier: Apache-2.0
// Random valid requests, in random batches and segments, against a naive model of the disk.
#include <gtest/gtest.h>

#include <map>

#include "session_rig.h"

namespace blockmig::nbd {
namespace {

using Style = SessionRig::Style;
constexpr std::uint64_t kSize = SessionRig::kDiskBytes;

/// What the client of one connection expects of the replies, parsed from the wire.
class Oracle {
 public:
  Oracle(Random& random, Style style) : random_(random), style_(style), disk_(kSize) {}

  /// A few requests that do not overlap in time with what they depend on: all but reads of their
  /// own.
  ByteVector batch(std::size_t count) {
    Wire wire;
    for (std::size_t i = 0; i < count; ++i) wire.add(one());
    return wire;
  }
  void check(const ByteVector& bytes) {
    std::size_t at = 0;
    while (at < bytes.size()) at = check_one(bytes, at);
    EXPECT_TRUE(expected_.empty()) << expected_.size() << " requests were not answered";
    expected_.clear();
  }
  const ByteVector& disk() const { return disk_; }

 private:
  struct Expected {
    std::uint64_t offset = 0;
    ByteVector data;  ///< of a read, whole
    std::vector<bool> seen;
    std::uint32_t error = 0;
    bool is_read = false;
  };

  ByteVector one() {
    const std::uint64_t cookie = ++cookie_;
    std::uint64_t length =
        random_.chance(1, 10) ? random_.between(1, 300000) : random_.between(0, 9000);
    std::uint64_t offset = random_.below(kSize + 1);
    const bool beyond = random_.chance(1, 15);
    if (!beyond && offset + length > kSize) offset = kSize - length;
    const bool outside = offset + length > kSize;
    Expected& expected = expected_[cookie];
    expected.offset = offset;
    switch (random_.below(5)) {
      case 0: {
        ByteVector data(length);
        const auto seed = static_cast<std::uint8_t>(random_.next());
        if (!random_.chance(1, 4)) {
          for (std::size_t i = 0; i < data.size(); ++i)
            data[i] = static_cast<std::byte>(seed + i * 31);
        }
        if (outside) {
          expected.error = kENOSPC;
        } else {
          std::copy(data.begin(), data.end(), disk_.begin() + static_cast<std::ptrdiff_t>(offset));
        }
        return make(random_.chance(1, 3) ? kFua : 0, kWrite, cookie, offset, length, data);
      }
      case 1:
        if (outside) {
          expected.error = kENOSPC;
        } else {
          std::fill_n(disk_.begin() + static_cast<std::ptrdiff_t>(offset), length, std::byte{0});
        }
        return make(random_.chance(1, 2) ? kNoHole : 0, kWriteZeroes, cookie, offset, length, {});
      case 2:
        return make(0, kFlush, cookie, 0, 0, {});
      default:
        expected.is_read = true;
        if (outside) {
          expected.error = kEINVAL;
        } else {
          expected.data.assign(disk_.begin() + static_cast<std::ptrdiff_t>(offset),
                               disk_.begin() + static_cast<std::ptrdiff_t>(offset + length));
          expected.seen.assign(length, false);
        }
        return make(style_ != Style::kSimple && random_.chance(1, 4) ? kDf : 0, kRead, cookie,
                    offset, length, {});
    }
  }
  ByteVector make(int flags, int type, std::uint64_t cookie, std::uint64_t offset,
                  std::uint64_t length, const ByteVector& data) {
    if (style_ != Style::kExtended) return request(flags, type, cookie, offset, length, data);
    return extended_request(type == kWrite ? flags | kPayloadLen : flags, type, cookie, offset,
                            length, data);
  }

  std::size_t check_one(const ByteVector& bytes, std::size_t at) {
    const std::uint64_t magic = read_be(bytes, at, 4);
    const std::uint64_t cookie = read_be(bytes, at + 8, 8);
    const auto found = expected_.find(cookie);
    if (found == expected_.end()) {
      ADD_FAILURE() << "unexpected cookie " << cookie;
      return bytes.size();
    }
    Expected& expected = found->second;
    if (magic == 0x67446698) {
      EXPECT_TRUE(style_ == Style::kSimple || (style_ == Style::kStructured && !expected.is_read));
      EXPECT_EQ(read_be(bytes, at + 4, 4), expected.error);
      at += 16;
      if (expected.is_read && expected.error == 0) {
        at = take_data(bytes, at, expected, expected.offset, expected.data.size());
        finish(expected);
      }
      expected_.erase(found);
      return at;
    }
    const bool extended = magic == 0x6e8a278c;
    EXPECT_EQ(extended, style_ == Style::kExtended);
    const std::uint64_t flags = read_be(bytes, at + 4, 2);
    const std::uint64_t type = read_be(bytes, at + 6, 2);
    const std::uint64_t size = extended ? read_be(bytes, at + 24, 8) : read_be(bytes, at + 16, 4);
    at += extended ? 32 : 20;
    const std::size_t next = at + size;
    if (type == kData) {
      take_data(bytes, at + 8, expected, read_be(bytes, at, 8), size - 8);
    } else if (type == kHole) {
      const ByteVector zeros(read_be(bytes, at + 8, 4));
      take_data(zeros, 0, expected, read_be(bytes, at, 8), zeros.size());
    } else if (type == kError || type == kErrorOffset) {
      EXPECT_EQ(read_be(bytes, at, 4), expected.error);
    } else {
      EXPECT_EQ(type, static_cast<std::uint64_t>(kNone));
      EXPECT_EQ(expected.error, 0u);
    }
    if ((flags & 1) != 0) {
      if (expected.error == 0) finish(expected);
      expected_.erase(found);
    }
    return next;
  }
  static std::size_t take_data(const ByteVector& bytes, std::size_t at, Expected& expected,
                               std::uint64_t offset, std::size_t size) {
    EXPECT_GE(offset, expected.offset);
    EXPECT_EQ(expected.error, 0u);
    const std::size_t begin = offset - expected.offset;
    EXPECT_LE(begin + size, expected.data.size());
    for (std::size_t i = 0; i < size && begin + i < expected.data.size(); ++i) {
      if (expected.seen[begin + i]) ADD_FAILURE() << "overlapping chunks";
      expected.seen[begin + i] = true;
      if (bytes.at(at + i) != expected.data[begin + i]) {
        ADD_FAILURE() << "wrong byte at " << offset + i;
        return bytes.size();
      }
    }
    return at + size;
  }
  static void finish(const Expected& expected) {
    EXPECT_TRUE(
        std::all_of(expected.seen.begin(), expected.seen.end(), [](bool each) { return each; }));
  }

  Random& random_;
  Style style_;
  ByteVector disk_;
  std::map<std::uint64_t, Expected> expected_;
  std::uint64_t cookie_ = 0;
};

class OracleTest : public testing::TestWithParam<Style> {};

TEST_P(OracleTest, RandomValidRequestsAgreeWithTheModel) {
  for (std::uint64_t seed = 1; seed <= 25; ++seed) {
    SessionRig rig(seed);
    const PipeOptions pipe{
        .capacity_bytes = rig.random.between(100, 300000),
        .segment_bytes = rig.random.chance(1, 3) ? rig.random.between(1, 5000) : 0};
    auto& client = rig.transmitting(GetParam(), pipe);
    Oracle oracle(rig.random, GetParam());
    for (int round = 0; round < 8; ++round) {
      rig.send(client, oracle.batch(rig.random.between(1, 40)));
      ByteVector replies;
      for (;;) {
        const ByteVector more = rig.receive(client);
        if (more.empty()) break;
        replies.insert(replies.end(), more.begin(), more.end());
      }
      oracle.check(replies);
      ASSERT_FALSE(testing::Test::HasFailure()) << "seed " << seed << " round " << round;
    }
    EXPECT_EQ(rig.peek(0, kSize), oracle.disk()) << "seed " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(Styles, OracleTest,
                         testing::Values(Style::kSimple, Style::kStructured, Style::kExtended),
                         [](const auto& each) {
                           return each.param == Style::kSimple       ? "Simple"
                                  : each.param == Style::kStructured ? "Structured"
                                                                     : "Extended";
                         });

}  // namespace
}  // namespace blockmig::nbd
