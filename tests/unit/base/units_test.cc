// SPDX-License-Identifier: Apache-2.0
#include "blockmig/base/units.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "blockmig/base/bytes.h"

namespace blockmig {
namespace {

using namespace std::chrono_literals;

TEST(Units, SizesAreRead) {
  EXPECT_EQ(*parse_size("0"), 0U);
  EXPECT_EQ(*parse_size("4096"), 4096U);
  EXPECT_EQ(*parse_size("64k"), 64 * kKiB);
  EXPECT_EQ(*parse_size("64K"), 64 * kKiB);
  EXPECT_EQ(*parse_size("64 KiB"), 64 * kKiB);
  EXPECT_EQ(*parse_size("200MiB"), 200 * kMiB);
  EXPECT_EQ(*parse_size("1.5GiB"), 1536 * kMiB);
  EXPECT_EQ(*parse_size("1T"), kTiB);
  EXPECT_EQ(*parse_size("10MB"), 10'000'000U);
  EXPECT_EQ(*parse_size("7B"), 7U);
  EXPECT_EQ(*parse_size("0.1KiB"), 102U);
  EXPECT_EQ(*parse_size("15.5EiB"), 0xf800000000000000U);
  EXPECT_EQ(*parse_size("18446744073709551615"), std::numeric_limits<std::uint64_t>::max());
}

TEST(Units, JunkAndOverflowInSizesIsRefusedByName) {
  for (const std::string text : {"",
                                 " ",
                                 "k",
                                 "-1",
                                 "+1",
                                 "1.5",
                                 "1..5k",
                                 "1.k",
                                 ".5k",
                                 "1e3",
                                 "0x10",
                                 "1kk",
                                 "1 0",
                                 "1  k",
                                 "16EiB",
                                 "18446744073709551616",
                                 "99999999999999999999999",
                                 "1kibi",
                                 "0.000000000000000000000000000000000000001k",
                                 "1\n",
                                 "nan"}) {
    const auto size = parse_size(text);
    ASSERT_FALSE(size.ok()) << text;
    EXPECT_EQ(size.error().code(), ErrorCode::kInvalid);
    EXPECT_NE(size.error().message().find("'" + text + "'"), std::string::npos);
  }
}

TEST(Units, RatesAreRead) {
  EXPECT_EQ(*parse_rate("200MiB/s"), 200 * kMiB);
  EXPECT_EQ(*parse_rate("200MiB"), 200 * kMiB);
  EXPECT_EQ(*parse_rate("1000/s"), 1000U);
  for (const std::string text : {"", "/s", "1MiB/h", "1MiB/s/s", "fast"}) {
    const auto rate = parse_rate(text);
    ASSERT_FALSE(rate.ok()) << text;
    EXPECT_NE(rate.error().message().find("'" + text + "'"), std::string::npos);
  }
}

TEST(Units, DurationsAreRead) {
  EXPECT_EQ(*parse_duration("100ms"), 100ms);
  EXPECT_EQ(*parse_duration("5s"), 5s);
  EXPECT_EQ(*parse_duration("30min"), 30min);
  EXPECT_EQ(*parse_duration("2 h"), 2h);
  EXPECT_EQ(*parse_duration("1d"), 24h);
  EXPECT_EQ(*parse_duration("1.5s"), 1500ms);
  EXPECT_EQ(*parse_duration("50us"), 50us);
  EXPECT_EQ(*parse_duration("50µs"), 50us);
  EXPECT_EQ(*parse_duration("7ns"), 7ns);
  EXPECT_EQ(*parse_duration("0"), 0ns);
  EXPECT_EQ(*parse_duration("9223372036854775807ns"), std::chrono::nanoseconds::max());
  for (const std::string text :
       {"", "5", "s", "-1s", "1 fortnight", "9223372036854775808ns", "200000d", "1s2ms"}) {
    const auto duration = parse_duration(text);
    ASSERT_FALSE(duration.ok()) << text;
    EXPECT_EQ(duration.error().code(), ErrorCode::kInvalid);
    EXPECT_NE(duration.error().message().find("'" + text + "'"), std::string::npos);
  }
}

TEST(Units, BytesAreShown) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(512), "512 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1024), "1 KiB");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_bytes(200 * kMiB), "200 MiB");
  EXPECT_EQ(format_bytes(1536 * kMiB), "1.5 GiB");
  EXPECT_EQ(format_bytes(kMiB - 1), "1 MiB");
  EXPECT_EQ(format_bytes(std::numeric_limits<std::uint64_t>::max()), "16 EiB");
  EXPECT_EQ(format_rate(200 * kMiB), "200 MiB/s");
}

TEST(Units, DurationsAreShown) {
  EXPECT_EQ(format_duration(0ns), "0 ns");
  EXPECT_EQ(format_duration(250ns), "250 ns");
  EXPECT_EQ(format_duration(1500ns), "1.5 µs");
  EXPECT_EQ(format_duration(999'999ns), "1 ms");
  EXPECT_EQ(format_duration(12'300ms), "12.3 s");
  EXPECT_EQ(format_duration(59'999ms), "1 min");
  EXPECT_EQ(format_duration(125s), "2 min 5 s");
  EXPECT_EQ(format_duration(3h + 4min + 20s), "3 h 4 min");
  EXPECT_EQ(format_duration(-2ms), "-2 ms");
  EXPECT_EQ(format_duration(std::chrono::nanoseconds::min()), "-2562047 h 47 min");
}

}  // namespace
}  // namespace blockmig
