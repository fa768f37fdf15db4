// SPDX-License-Identifier: Apache-2.0
// One store by several names of its host.
#include "tools/daemon/store_use.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <ifaddrs.h>
#include <net/if.h>

#include <memory>
#include <optional>
#include <set>

#include "tools/daemon/store_reservations.h"

namespace blockmig {
namespace {

StoreUri export_at(const std::string& host) {
  const auto uri = parse_store_uri("nbd://" + host + ":10809/vm1");
  EXPECT_TRUE(uri.ok()) << host;
  return *uri;
}

/// Of this machine, where it has a network.
std::optional<std::string> lan_address() {
  ifaddrs* found = nullptr;
  if (getifaddrs(&found) != 0) return std::nullopt;
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> list(found, freeifaddrs);
  for (const ifaddrs* each = found; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr == nullptr || each->ifa_addr->sa_family != AF_INET) continue;
    if ((each->ifa_flags & IFF_LOOPBACK) != 0) continue;
    char text[INET_ADDRSTRLEN] = "";
    const auto* const v4 = reinterpret_cast<const sockaddr_in*>(each->ifa_addr);
    return inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
  }
  return std::nullopt;
}

TEST(StoreUse, LoopbackHasManyNames) {
  for (const char* const host : {"localhost", "127.0.0.1", "127.0.0.2", "[::1]", "0.0.0.0"}) {
    EXPECT_TRUE(same_store(export_at(host), export_at("127.0.0.1"))) << host;
    EXPECT_TRUE(is_own_address(export_at(host), {"tcp::10809"})) << host;
    EXPECT_TRUE(is_own_address(export_at(host), {"tcp:0.0.0.0:10809"})) << host;
    EXPECT_FALSE(is_own_address(export_at(host), {"tcp::10810"})) << host;
  }
  EXPECT_TRUE(is_own_address(export_at("localhost"), {"tcp:127.0.0.1:10809"}));
}

TEST(StoreUse, AddressOfThisMachineIsItsOwn) {
  const auto lan = lan_address();
  if (!lan) GTEST_SKIP() << "no network here";
  EXPECT_TRUE(is_own_address(export_at(*lan), {"tcp::10809"}));
  EXPECT_TRUE(is_own_address(export_at(*lan), {"tcp:" + *lan + ":10809"}));
  EXPECT_FALSE(is_own_address(export_at(*lan), {"tcp:127.0.0.1:10809"})) << "another server's";
  EXPECT_TRUE(same_store(export_at(*lan), export_at("localhost"))) << "it may be";
}

TEST(StoreUse, OtherMachinesAreOthers) {
  EXPECT_FALSE(is_own_address(export_at("192.0.2.77"), {"tcp::10809"}));
  EXPECT_FALSE(same_store(export_at("192.0.2.77"), export_at("localhost")));
  EXPECT_FALSE(same_store(export_at("192.0.2.77"), export_at("192.0.2.78")));
  EXPECT_TRUE(same_store(export_at("192.0.2.77"), export_at("192.0.2.77")));
}

TEST(StoreUse, OneIdentityAtTwoAddressesIsOneStore) {
  StoreUse use{"disk 'vm1'", export_at("192.0.2.77")};
  use.identities = {"1", "2"};
  const StoreUri other = export_at("192.0.2.78");
  const Status found = check_identities(other, {"3", "2"}, {use});
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.error().code(), ErrorCode::kBusy);
  for (const std::string& name : {other.text, use.uri.text, use.user}) {
    EXPECT_NE(found.error().message().find(name), std::string::npos) << found.error().message();
  }
  EXPECT_TRUE(check_identities(other, {"3"}, {use}).ok());
  EXPECT_TRUE(check_identities(other, {}, {use}).ok());
  EXPECT_TRUE(check_identities(use.uri, {"1"}, {use}).ok()) << "its own use, as the address says";
}

TEST(StoreUse, WhatLiesInOneFileIsFoundByItsPlace) {
  const StorePart one{1, 2};
  const StorePart other{1, 3};
  StoreReservations reserved;
  const auto found = [&reserved](const char* uri, std::vector<StorePart> parts) {
    reserved.reserve({"somebody", *parse_store_uri(uri)}).found(std::move(parts));
  };
  found("file:///a", {one});
  found("file:///b", {one, other});
  EXPECT_EQ(reserved.beside({one}), (std::set<std::string>{"file:///a", "file:///b"}));
  EXPECT_EQ(reserved.beside({other}), (std::set<std::string>{"file:///b"}));
  found("file:///b", {other});
  EXPECT_EQ(reserved.beside({one}), (std::set<std::string>{"file:///a"})) << "it is another now";
  found("file:///a", {});
  EXPECT_FALSE(reserved.knows_parts("file:///a")) << "it was not there";
  EXPECT_TRUE(reserved.beside({one}).empty());
}

TEST(StoreUse, WhereAStoreIsThatNobodyUsesAnyMoreIsForgotten) {
  const StorePart kept{1, 1};
  const StorePart reused{1, 2};
  StoreReservations reserved;
  const auto found = [&reserved](const std::string& uri, StorePart part) {
    reserved.reserve({"somebody", *parse_store_uri(uri)}).found({part});
  };
  found("file:///kept", kept);
  int moves = 0;
  for (; !reserved.knows_much() && moves < 1000; ++moves) {
    found("file:///t" + std::to_string(moves), reused);
  }
  ASSERT_LT(moves, 1000);
  reserved.keep_only({"file:///kept"});
  EXPECT_FALSE(reserved.knows_much());
  EXPECT_TRUE(reserved.knows_parts("file:///kept"));
  EXPECT_EQ(reserved.beside({kept}), (std::set<std::string>{"file:///kept"}));
  EXPECT_FALSE(reserved.knows_parts("file:///t0"));
  EXPECT_TRUE(reserved.beside({reused}).empty());
}

}  // namespace
}  // namespace blockmig
