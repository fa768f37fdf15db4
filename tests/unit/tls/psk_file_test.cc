// SPDX-License-Identifier: Apache-2.0
#include "blockmig/tls/psk_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace blockmig {
namespace {

using testing::HasSubstr;
using testing::Not;

const std::string kHex(32, 'a');

TEST(PskFile, ReadsUsersAndKeys) {
  const auto keys = parse_psk_keys("alice:" + kHex + "\nb:ob:" + kHex + "00\r\n\n", "keys.psk");
  ASSERT_TRUE(keys.ok()) << keys.error().message();
  ASSERT_EQ(keys->size(), 2u);
  EXPECT_EQ((*keys)[0].user, "alice");
  EXPECT_EQ((*keys)[0].key, std::string(16, '\xaa'));
  EXPECT_EQ((*keys)[1].user, "b:ob");
  EXPECT_EQ((*keys)[1].key, std::string(16, '\xaa') + std::string(1, '\0'));
}

TEST(PskFile, HexadecimalUsersAreDecoded) {
  const auto keys = parse_psk_keys("#616263:" + kHex, "keys.psk");
  ASSERT_TRUE(keys.ok());
  EXPECT_EQ(keys->front().user, "abc");
}

TEST(PskFile, FaultsNameTheLineAndNeverTheKey) {
  const std::string secret(30, 'b');
  const struct {
    std::string content;
    const char* what;
  } cases[] = {
      {"", "holds no key"},
      {"\n\n", "holds no key"},
      {"alice", "USER:KEY"},
      {":" + kHex, "user is empty"},
      {"alice:" + secret, "shorter than 16"},
      {"alice:" + kHex + "0", "no hexadecimal"},
      {"alice:" + kHex + "zz", "no hexadecimal"},
      {"alice:", "no hexadecimal"},
      {"alice:" + std::string(1026, 'a'), "longer than 512"},
      {"#6g:" + kHex, "no hexadecimal"},
      {std::string(129, 'u') + ":" + kHex, "longer than 128"},
      {"alice:" + kHex + "\nalice:" + kHex, "line 2: the user is given twice"},
  };
  for (const auto& each : cases) {
    const auto keys = parse_psk_keys(each.content, "/etc/keys.psk");
    ASSERT_FALSE(keys.ok()) << each.content;
    EXPECT_EQ(keys.error().code(), ErrorCode::kInvalid);
    EXPECT_THAT(keys.error().message(), HasSubstr(each.what));
    EXPECT_THAT(keys.error().message(), HasSubstr("/etc/keys.psk"));
    EXPECT_THAT(keys.error().message(), Not(HasSubstr(secret)));
  }
}

}  // namespace
}  // namespace blockmig
