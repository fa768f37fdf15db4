// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/limit_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "nbdserver/handshake.h"
#include "nbdserver/memory_budget.h"

namespace blockmig {
namespace {

using testing::HasSubstr;

std::string complaint(const std::string& assignment) {
  NbdServerLimits limits;
  const Status set = set_limit(limits, assignment);
  EXPECT_FALSE(set.ok()) << assignment;
  if (set.ok()) return "";
  EXPECT_EQ(set.error().code(), ErrorCode::kInvalid);
  return set.error().message();
}

TEST(LimitTable, EveryRowReadsAndWritesAFieldOfItsOwn) {
  std::set<std::string> names;
  for (const LimitInfo& limit : limit_table()) {
    EXPECT_TRUE(names.insert(limit.name).second) << limit.name;
    NbdServerLimits limits;
    for (const std::uint64_t value : {limit.minimum, limit.maximum}) {
      limit.set(limits, value);
      EXPECT_EQ(limit.get(limits), value) << limit.name;
    }
    limit.set(limits, limit.minimum);
    for (const LimitInfo& other : limit_table()) {
      if (&other == &limit) continue;
      EXPECT_EQ(other.get(limits), other.get(NbdServerLimits{})) << limit.name << other.name;
    }
  }
}

TEST(LimitTable, DefaultsAreInRangeAndAgree) {
  const NbdServerLimits defaults;
  for (const LimitInfo& limit : limit_table()) {
    EXPECT_LE(limit.minimum, limit.get(defaults)) << limit.name;
    EXPECT_GE(limit.maximum, limit.get(defaults)) << limit.name;
  }
  EXPECT_TRUE(check_limits(defaults).ok());
  EXPECT_EQ(defaults.max_option_bytes, nbd::Handshake::kMaxOptionBytes);
  EXPECT_EQ(defaults.max_name_bytes, nbd::kMaxStringBytes);
}

TEST(LimitTable, NoMaximumIsMoreThanTheHandshakeCanHold) {
  NbdServerLimits limits;
  for (const LimitInfo& limit : limit_table()) limit.set(limits, limit.maximum);
  EXPECT_LE(limits.max_option_bytes, nbd::Handshake::kMaxOptionBytes);
  EXPECT_LE(limits.max_name_bytes, nbd::kMaxStringBytes);
}

TEST(LimitTable, ValuesAreWrittenAsPeopleWriteThem) {
  NbdServerLimits limits;
  EXPECT_TRUE(set_limit(limits, "connections=7").ok());
  EXPECT_TRUE(set_limit(limits, "bytes-in-flight=1.5MiB").ok());
  EXPECT_TRUE(set_limit(limits, "handshake-time=250ms").ok());
  EXPECT_EQ(limits.max_connections, 7u);
  EXPECT_EQ(limits.max_in_flight_bytes, 3u << 19);
  EXPECT_EQ(limits.handshake_timeout, std::chrono::milliseconds(250));
}

TEST(LimitTable, SaysWhatIsWrong) {
  EXPECT_THAT(complaint("conections=7"), HasSubstr("did you mean 'connections'?"));
  EXPECT_THAT(complaint("zzz=7"), HasSubstr("there is no limit 'zzz'"));
  EXPECT_THAT(complaint("connections"), HasSubstr("NAME=VALUE"));
  EXPECT_THAT(complaint("=7"), HasSubstr("NAME=VALUE"));
  EXPECT_THAT(complaint("connections="), HasSubstr("not a whole number"));
  EXPECT_THAT(complaint("connections=-1"), HasSubstr("not a whole number"));
  EXPECT_THAT(complaint("connections=1k"), HasSubstr("not a whole number"));
  EXPECT_THAT(complaint("connections=99999999999999999999"), HasSubstr("not a whole number"));
  EXPECT_THAT(complaint("connections=0"), HasSubstr("out of range: 1 to"));
  EXPECT_THAT(complaint("handshake-time=10"), HasSubstr("handshake-time"));
  EXPECT_THAT(complaint("request-bytes=2GiB"), HasSubstr("64 KiB to 1 GiB"));
}

TEST(LimitTable, LimitsThatContradictEachOtherAreRefused) {
  NbdServerLimits limits;
  limits.advertised_max_bytes = limits.max_request_bytes + 1;
  EXPECT_FALSE(check_limits(limits).ok());
  limits = {};
  limits.max_option_bytes = limits.max_name_bytes;
  EXPECT_FALSE(check_limits(limits).ok());
}

TEST(LimitTable, TextsHaveEveryLimit) {
  const std::string text = limits_text(NbdServerLimits{});
  const std::string markdown = limits_markdown();
  for (const LimitInfo& limit : limit_table()) {
    EXPECT_THAT(text, HasSubstr(limit.name));
    EXPECT_THAT(text, HasSubstr(limit.meaning));
    EXPECT_THAT(markdown, HasSubstr("| `" + std::string(limit.name) + "` |"));
  }
  EXPECT_THAT(text, HasSubstr("8448 B"));
  // What the texts promise of each connection's own memory.
  EXPECT_THAT(text, HasSubstr("beyond the first 64 KiB of each"));
  EXPECT_EQ(nbd::BudgetShare::kOwnBytes, 64u * 1024);
}

}  // namespace
}  // namespace blockmig
