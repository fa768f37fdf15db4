// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/store_identity.h"

#include <gtest/gtest.h>

#include <cctype>
#include <set>
#include <string>

namespace blockmig {
namespace {

std::string numbered(int number) { return disk_identity("owner", std::to_string(number)); }

TEST(StoreIdentity, IsTheSameInEveryVersion) {
  EXPECT_EQ(disk_identity("e1f0a3a8-0f0e-4c39-9a7c-0d7f4b6c2a11", "vm1"),
            "9c7f8713d47c051af6d40e007736476e");
}

TEST(StoreIdentity, IsOfOneDiskOfOneFolder) {
  const std::set<std::string> all{disk_identity("a", "b"), disk_identity("b", "a"),
                                  disk_identity("ab", ""), disk_identity("", "ab"),
                                  disk_identity("a", "c"), disk_identity("c", "b")};
  EXPECT_EQ(all.size(), 6u);
  for (const std::string& identity : all) {
    Identities taken;
    add_identity(taken, identity);
    EXPECT_EQ(taken, Identities{identity});
  }
}

TEST(StoreIdentity, WhatIsNoneIsLeftOut) {
  Identities all{numbered(1)};
  std::string upper = numbered(2);
  for (char& c : upper) c = static_cast<char>(std::toupper(c));
  for (const std::string& wrong :
       {std::string(), std::string("vm1"), numbered(1), numbered(2) + "0", numbered(2).substr(1),
        upper, std::string(32, 'g'), std::string(32, '\0'),
        std::string("/srv/images/customers/v1.img")}) {
    add_identity(all, wrong);
  }
  EXPECT_EQ(all, Identities{numbered(1)});
}

TEST(StoreIdentity, AreBounded) {
  Identities many;
  for (int i = 0; i < 100; ++i) add_identity(many, numbered(i));
  EXPECT_EQ(many.size(), kMaxIdentities);
  Identities more{numbered(200)};
  add_identities(more, many);
  EXPECT_EQ(more.size(), kMaxIdentities);
  EXPECT_EQ(more[0], numbered(200));
}

TEST(StoreIdentity, OneInCommonIsEnough) {
  EXPECT_TRUE(share_identity({numbered(1), numbered(2)}, {numbered(3), numbered(2)}));
  EXPECT_FALSE(share_identity({numbered(1)}, {numbered(2)}));
  EXPECT_FALSE(share_identity({}, {}));
}

}  // namespace
}  // namespace blockmig
