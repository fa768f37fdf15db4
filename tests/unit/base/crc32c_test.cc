// SPDX-License-Identifier: Apache-2.0
#include "blockmig/base/crc32c.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <vector>

#include "blockmig/base/random.h"

namespace blockmig {
namespace {

std::vector<std::byte> sequence(int first, int step) {
  std::vector<std::byte> bytes(32);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(first + step * static_cast<int>(i));
  }
  return bytes;
}

TEST(Crc32c, VectorsOfRfc3720AppendixB4) {
  EXPECT_EQ(crc32c(sequence(0, 0)), 0x8a9136aaU);
  EXPECT_EQ(crc32c(sequence(0xff, 0)), 0x62a8ab43U);
  EXPECT_EQ(crc32c(sequence(0, 1)), 0x46dd794eU);
  EXPECT_EQ(crc32c(sequence(31, -1)), 0x113fdb5cU);
  // The SCSI read (10) command PDU.
  std::vector<std::byte> pdu(48);
  const unsigned char head[] = {0x01, 0xc0, 0, 0};
  const unsigned char rest[] = {0x14, 0, 0, 0, 0, 0, 0x04, 0, 0,    0, 0, 0x14, 0, 0, 0, 0x18,
                                0x28, 0, 0, 0, 0, 0, 0,    0, 0x02, 0, 0, 0,    0, 0, 0, 0};
  std::memcpy(pdu.data(), head, sizeof head);
  std::memcpy(pdu.data() + 16, rest, sizeof rest);
  EXPECT_EQ(crc32c(pdu), 0xd9963a56U);
}

TEST(Crc32c, CheckValue) {
  constexpr std::string_view kDigits = "123456789";
  EXPECT_EQ(crc32c(std::as_bytes(std::span(kDigits))), 0xe3069283U);
  EXPECT_EQ(crc32c({}), 0U);
}

TEST(Crc32c, ContinuesFromASeedAtEveryCut) {
  Random random(7);
  std::vector<std::byte> bytes(97);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random.next());
  const std::uint32_t whole = crc32c(bytes);
  for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
    const ConstBytes all(bytes);
    EXPECT_EQ(crc32c(all.subspan(cut), crc32c(all.first(cut))), whole) << cut;
  }
}

TEST(Crc32c, HardwareAndTableAgreeAtEveryLengthAndAlignment) {
  if (!detail::crc32c_has_hardware()) GTEST_SKIP() << "no SSE 4.2 on this machine";
  Random random(11);
  std::vector<std::byte> bytes(300);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random.next());
  for (std::size_t from = 0; from < 9; ++from) {
    for (std::size_t length = 0; from + length <= bytes.size(); ++length) {
      const ConstBytes part = ConstBytes(bytes).subspan(from, length);
      const auto seed = static_cast<std::uint32_t>(random.next());
      ASSERT_EQ(detail::crc32c_hardware(part, seed), detail::crc32c_portable(part, seed));
    }
  }
}

}  // namespace
}  // namespace blockmig
