// SPDX-License-Identifier: Apache-2.0
// The checker must object to what no register can do, and to nothing else.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

#include "tests/bench/block_pattern.h"
#include "tests/bench/sector_history.h"
#include "tests/bench/sector_stamp.h"

namespace blockmig::bench {
namespace {

constexpr std::uint64_t kA = 11;
constexpr std::uint64_t kB = 22;
constexpr std::uint64_t kC = 33;

class SectorHistoryTest : public ::testing::Test {
 protected:
  Tick begin_write(std::uint64_t hash) {
    const Tick start = history_.begin();
    history_.write_begins(start, 0, hash);
    return start;
  }
  void end_write(Tick start) {
    history_.write_ended(start, 0, history_.now());
    history_.end(start);
  }
  void write(std::uint64_t hash) { end_write(begin_write(hash)); }
  bool end_read(Tick start, std::uint64_t hash) {
    const bool ok = history_.read_ended(start, 0, hash, history_.now());
    history_.end(start);
    return ok;
  }
  bool read(std::uint64_t hash) { return end_read(history_.begin(), hash); }

  SectorHistory history_{1};
};

TEST_F(SectorHistoryTest, ReadReturnsTheLastWrite) {
  write(kA);
  write(kB);
  EXPECT_TRUE(read(kB));
}

TEST_F(SectorHistoryTest, AnOverwrittenValueIsALostWrite) {
  write(kA);
  write(kB);
  EXPECT_FALSE(read(kA));
}

TEST_F(SectorHistoryTest, AValueThatNobodyWroteIsDamage) {
  write(kA);
  EXPECT_FALSE(read(kC));
}

TEST_F(SectorHistoryTest, TheBeginningIsWhateverTheFirstReadSays) {
  EXPECT_TRUE(read(kC));
  EXPECT_TRUE(read(kC));
  EXPECT_FALSE(read(kA));
}

TEST_F(SectorHistoryTest, TheBeginningIsGoneOnceOverwritten) {
  EXPECT_TRUE(read(kC));
  write(kA);
  EXPECT_FALSE(read(kC));
}

TEST_F(SectorHistoryTest, AnUnseenBeginningIsGoneToo) {
  write(kA);
  EXPECT_FALSE(read(0));
}

TEST_F(SectorHistoryTest, AReadBesideAWriteMayReturnEither) {
  write(kA);
  const Tick w = begin_write(kB);
  EXPECT_TRUE(read(kA));
  EXPECT_TRUE(read(kB));
  end_write(w);
  EXPECT_TRUE(read(kB));
}

TEST_F(SectorHistoryTest, AReadThatBeganBeforeTheOverwriteEndedMayReturnTheOldValue) {
  write(kA);
  const Tick r = history_.begin();
  write(kB);
  EXPECT_TRUE(end_read(r, kA));
  EXPECT_FALSE(read(kA));
}

TEST_F(SectorHistoryTest, AnUnacknowledgedWriteMayOrMayNotTakeEffect) {
  write(kA);
  begin_write(kB);  // its reply never comes
  EXPECT_TRUE(read(kA));
  EXPECT_TRUE(read(kB));
}

TEST_F(SectorHistoryTest, AnUnacknowledgedWriteNeverFlipsBack_I2) {
  write(kA);
  begin_write(kB);
  EXPECT_TRUE(read(kB));
  EXPECT_FALSE(read(kA));
}

TEST_F(SectorHistoryTest, ParallelWritesMayLandInEitherOrder) {
  const Tick a = begin_write(kA);
  const Tick b = begin_write(kB);
  end_write(a);
  end_write(b);
  EXPECT_TRUE(read(kA));
  EXPECT_FALSE(read(kB)) << "the order that was seen is the order that stays";
}

TEST_F(SectorHistoryTest, ALateSmallWriteUnderADeferredLargeOneIsSeen_Trap14) {
  const Tick large = begin_write(kA);
  end_write(large);
  write(kB);
  EXPECT_TRUE(read(kB));
  EXPECT_FALSE(read(kA)) << "the deferred large write came back";
}

TEST_F(SectorHistoryTest, EqualValuesOfTwoWritesTeachNothing) {
  const Tick a = begin_write(kA);
  const Tick b = begin_write(kA);
  end_write(a);
  const Tick c = begin_write(kB);
  EXPECT_TRUE(read(kB));
  EXPECT_TRUE(read(kA)) << "the second write of the same value is still in flight";
  end_write(b);
  end_write(c);
}

TEST_F(SectorHistoryTest, KnowsWhetherAReadHadAWriteBesideIt) {
  write(kA);
  const Tick alone = history_.begin();
  EXPECT_FALSE(history_.written_since(0, alone));
  history_.end(alone);
  const Tick beside = history_.begin();
  write(kB);
  EXPECT_TRUE(history_.written_since(0, beside));
  history_.end(beside);
  begin_write(kC);
  EXPECT_TRUE(history_.written_since(0, history_.begin()));
}

TEST_F(SectorHistoryTest, KeepsNoMoreThanWhatIsInFlight) {
  for (std::uint64_t i = 0; i < 1000; ++i) {
    write(100 + i);
    ASSERT_TRUE(read(100 + i));
  }
  EXPECT_LE(history_.kept(0), 2u);
}

// A real register driven at random: operations take effect somewhere between begin and end.
class Register {
 public:
  explicit Register(std::uint64_t seed) : random_(seed) {}

  /// Runs `steps` steps; false as soon as the checker objects. `lie` may falsify what a read
  /// returns.
  template <typename Lie>
  bool run(int steps, Lie lie) {
    for (int i = 0; i < steps; ++i) {
      if (operations_.size() < 6 && random_.below(2) == 0) {
        begin();
      } else if (!operations_.empty() && !advance(random_.below(operations_.size()), lie)) {
        return false;
      }
    }
    return true;
  }

 private:
  struct Operation {
    Tick start;
    bool write;
    bool landed;
    std::uint64_t value;
  };

  void begin() {
    Operation o{
        .start = history_.begin(), .write = random_.below(2) == 0, .landed = false, .value = 0};
    if (o.write) {
      o.value = random_.below(4) == 0 ? 7 : ++next_value_;  // sometimes equal values, as zeros are
      history_.write_begins(o.start, 0, o.value);
    }
    operations_.push_back(o);
  }

  template <typename Lie>
  bool advance(std::size_t which, Lie lie) {
    Operation& o = operations_[which];
    if (!o.landed) {
      if (o.write) {
        previous_ = value_;
        value_ = o.value;
      } else {
        o.value = lie(value_, previous_);
      }
      o.landed = true;
      return true;
    }
    bool ok = true;
    const bool never_answered = o.write && random_.below(20) == 0;
    if (o.write && !never_answered) history_.write_ended(o.start, 0, history_.now());
    if (!o.write) ok = history_.read_ended(o.start, 0, o.value, history_.now());
    history_.end(o.start);
    operations_.erase(operations_.begin() + static_cast<std::ptrdiff_t>(which));
    return ok;
  }

  SectorHistory history_{1};
  SplitMix random_;
  std::vector<Operation> operations_;
  std::uint64_t value_ = 1'000'000;
  std::uint64_t previous_ = 1'000'000;
  std::uint64_t next_value_ = 1'000'000;
};

TEST(SectorHistoryProperty, NeverObjectsToARegister) {
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    ASSERT_TRUE(Register(seed).run(300, [](std::uint64_t v, std::uint64_t) { return v; })) << seed;
  }
}

TEST(SectorHistoryProperty, FindsARegisterThatSometimesReturnsThePreviousValue) {
  int found = 0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    int reads = 0;
    found += !Register(seed).run(
        2000, [&](std::uint64_t v, std::uint64_t old) { return ++reads % 5 == 0 ? old : v; });
  }
  EXPECT_GT(found, 190);
}

TEST(SectorStamp, DiffersByRunSectorAndWriteAndShowsTearing) {
  std::array<char, kSectorBytes> a;
  std::array<char, kSectorBytes> b;
  stamp_sector(a.data(), 1, 2, 3);
  EXPECT_EQ(describe_sector(a.data(), 1), "write 3 of sector 2");
  EXPECT_EQ(describe_sector(a.data(), 9), "write 3 of sector 2 by another run");
  for (const auto& [run, sector, write] :
       {std::array<std::uint64_t, 3>{2, 2, 3}, {1, 3, 3}, {1, 2, 4}}) {
    stamp_sector(b.data(), run, sector, write);
    EXPECT_NE(hash_sector(a.data()), hash_sector(b.data()));
    EXPECT_FALSE(std::equal(a.begin() + 32, a.end(), b.begin() + 32)) << "the body must differ too";
  }
  stamp_sector(b.data(), 1, 2, 4);
  std::copy(b.begin() + 256, b.end(), a.begin() + 256);
  EXPECT_EQ(describe_sector(a.data(), 1), "write 3 of sector 2, torn");
}

TEST(BlockPatternTest, TellsTheLastContentFromAnyOther) {
  BlockPattern pattern(4, 4096);
  std::vector<char> first(4096);
  std::vector<char> second(4096);
  EXPECT_TRUE(pattern.matches(1, first.data())) << "never written: anything is right";
  pattern.next(1, first.data());
  EXPECT_TRUE(pattern.matches(1, first.data()));
  pattern.next(1, second.data());
  EXPECT_TRUE(pattern.matches(1, second.data()));
  EXPECT_FALSE(pattern.matches(1, first.data())) << "a lost write";
  pattern.next(2, first.data());
  EXPECT_FALSE(pattern.matches(1, first.data())) << "another block's data";
  second[4095] = static_cast<char>(second[4095] ^ 1);
  EXPECT_FALSE(pattern.matches(1, second.data())) << "one bit";
}

}  // namespace
}  // namespace blockmig::bench
