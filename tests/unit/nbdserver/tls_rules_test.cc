// SPDX-License-Identifier: Apache-2.0
// Who may see what: ExportAccess, VisibleExports, and the options they are made from.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_export.h"
#include "nbdserver/security.h"
#include "nbdserver/visible_exports.h"
#include "tests/unit/tls/made_certificates.h"

namespace blockmig::nbd {
namespace {

using testing::HasSubstr;
using Kind = PeerIdentity::Kind;

ExportAccess access_of(const std::vector<std::string>& rules) {
  auto access = ExportAccess::parse(rules);
  EXPECT_TRUE(access.ok()) << access.error().message();
  return *access;
}

TEST(ExportAccess, WithoutRulesEverybodySeesEverything) {
  EXPECT_FALSE(ExportAccess().has_rules());
  EXPECT_TRUE(ExportAccess().allows({}, "disk0"));
}

TEST(ExportAccess, WithRulesWhatNobodyGrantsIsDenied) {
  const ExportAccess access = access_of({"psk:alice -> disk0, disk1", "cn:vm-* -> vm-*"});
  const PeerIdentities alice = {{Kind::kPskUser, "alice"}};
  EXPECT_TRUE(access.allows(alice, "disk0"));
  EXPECT_TRUE(access.allows(alice, "disk1"));
  EXPECT_FALSE(access.allows(alice, "disk2"));
  EXPECT_FALSE(access.allows(alice, "disk"));
  EXPECT_FALSE(access.allows(alice, "vm-1"));
  EXPECT_FALSE(access.allows({{Kind::kPskUser, "Alice"}}, "disk0"));
  EXPECT_FALSE(access.allows({{Kind::kPskUser, "alice2"}}, "disk0"));
  EXPECT_FALSE(access.allows({}, "disk0"));
  EXPECT_TRUE(access.allows({{Kind::kCertificateCn, "vm-7"}}, "vm-7"));
}

TEST(ExportAccess, TheKindMustBeTheSame) {
  const ExportAccess access = access_of({"cn:alice -> *"});
  for (const Kind kind : {Kind::kCertificateDn, Kind::kDns, Kind::kEmail, Kind::kUri, Kind::kIp,
                          Kind::kPskUser, Kind::kUnixUser, Kind::kUnixGroup}) {
    EXPECT_FALSE(access.allows({{kind, "alice"}}, "disk0"));
  }
  EXPECT_TRUE(access.allows({{Kind::kCertificateCn, "alice"}}, "disk0"));
}

TEST(ExportAccess, AnyIdentityOfAPeerMayGrant) {
  const ExportAccess access = access_of({"gid:44 -> disk0", "uid:* -> public"});
  const PeerIdentities peer = {{Kind::kUnixUser, "1000"}, {Kind::kUnixGroup, "44"}};
  EXPECT_TRUE(access.allows(peer, "disk0"));
  EXPECT_TRUE(access.allows(peer, "public"));
  EXPECT_FALSE(access.allows({{Kind::kUnixUser, "44"}}, "disk0"));
}

TEST(ExportAccess, EverybodyIncludesPeersWithoutIdentity) {
  const ExportAccess access = access_of({"* -> public"});
  EXPECT_TRUE(access.allows({}, "public"));
  EXPECT_FALSE(access.allows({}, "private"));
}

TEST(ExportAccess, AStarStaysWithinOnePartOfADn) {
  const ExportAccess access = access_of({"dn:CN=*,O=Example -> *"});
  EXPECT_TRUE(access.allows({{Kind::kCertificateDn, "CN=vm1,O=Example"}}, "disk0"));
  for (const char* dn : {"CN=x\\,O=Example", "CN=x,OU=y,O=Example", "CN=x+OU=y,O=Example",
                         "CN=vm1,O=Example,C=XX", "O=Example", "CN=vm1,O=Examples"}) {
    EXPECT_FALSE(access.allows({{Kind::kCertificateDn, dn}}, "disk0")) << dn;
  }
  EXPECT_TRUE(access_of({"dn:* -> *"}).allows({{Kind::kCertificateDn, "CN=x,O=y"}}, "disk0"));
}

TEST(ExportAccess, DnsNamesAreComparedWithoutCase) {
  const ExportAccess access = access_of({"dns:*.Example.com -> *"});
  EXPECT_TRUE(access.allows({{Kind::kDns, "VM1.example.COM"}}, "d"));
  EXPECT_FALSE(access.allows({{Kind::kDns, "example.com"}}, "d"));
}

TEST(ExportAccess, PatternsMatchWholeNames) {
  const struct {
    const char *pattern, *text;
    bool matches;
  } cases[] = {{"", "", true},           {"*", "", true},           {"**", "abc", true},
               {"a*c", "abc", true},     {"a*c", "ac", true},       {"a*c", "abcd", false},
               {"a*b*c", "aXbYc", true}, {"a*b*c", "aXcYb", false}, {"*aab", "aaaaab", true},
               {"?", "x", false},        {"abc", "ABC", false}};
  for (const auto& each : cases) {
    EXPECT_EQ(matches_pattern(each.pattern, each.text, ""), each.matches)
        << each.pattern << " " << each.text;
  }
  // What makes naive matchers take for ever.
  EXPECT_FALSE(matches_pattern("*a*a*a*a*a*a*a*a*a*b", std::string(4000, 'a'), ""));
}

TEST(ExportAccess, FaultsSayWhatIsWrong) {
  const struct {
    const char *rule, *what;
  } cases[] = {{"psk:alice disk0", "no '->'"},
               {"alice -> disk0", "the identity is neither"},
               {"user:alice -> disk0", "the identity is neither"},
               {"psk: -> disk0", "pattern of the identity is empty"},
               {"psk:alice ->", "name of an export is empty"},
               {"psk:alice -> a,,b", "name of an export is empty"},
               {"uid:root -> a", "take a number"},
               {"gid:1* -> a", "take a number"}};
  for (const auto& each : cases) {
    const std::vector<std::string> rules = {"* -> ok", each.rule};
    const auto access = ExportAccess::parse(rules);
    ASSERT_FALSE(access.ok()) << each.rule;
    EXPECT_EQ(access.error().code(), ErrorCode::kInvalid);
    EXPECT_THAT(access.error().message(), HasSubstr(each.what));
    EXPECT_THAT(access.error().message(), HasSubstr(each.rule));
  }
  EXPECT_FALSE(ExportAccess::parse(std::vector<std::string>(1025, "* -> a")).ok());
  EXPECT_FALSE(
      ExportAccess::parse(std::vector<std::string>{"* -> " + std::string(17000, 'a')}).ok());
}

class VisibleExportsTest : public testing::Test {
 protected:
  VisibleExportsTest() {
    for (const char* name : {"disk0", "disk1"}) {
      directory_.exports_.push_back(std::make_shared<FakeExport>(name, device_));
    }
  }
  MemoryDevice device_{"memory", 4096};
  FakeDirectory directory_;
};

TEST_F(VisibleExportsTest, WhatMayNotBeSeenDoesNotExist) {
  const ExportAccess access = access_of({"psk:alice -> disk1"});
  VisibleExports alice(directory_, access, {{Kind::kPskUser, "alice"}});
  VisibleExports bob(directory_, access, {{Kind::kPskUser, "bob"}});
  ASSERT_EQ(alice.list().size(), 1u);
  EXPECT_EQ(alice.list().front()->name(), "disk1");
  EXPECT_NE(alice.find("disk1"), nullptr);
  EXPECT_EQ(alice.find("disk0"), nullptr);
  EXPECT_TRUE(bob.list().empty());
  EXPECT_EQ(bob.find("disk1"), nullptr);
  EXPECT_EQ(bob.find(""), nullptr);
}

TEST_F(VisibleExportsTest, TheDefaultExportIsTheOnlyVisibleOne) {
  const ExportAccess access = access_of({"psk:alice -> disk1"});
  VisibleExports alice(directory_, access, {{Kind::kPskUser, "alice"}});
  ASSERT_NE(alice.find(""), nullptr);
  EXPECT_EQ(alice.find("")->name(), "disk1");
  // The only disk there is, but not for bob.
  directory_.exports_.pop_back();
  directory_.exports_.front() = std::make_shared<FakeExport>("disk1", device_);
  VisibleExports bob(directory_, access, {{Kind::kPskUser, "bob"}});
  EXPECT_EQ(bob.find(""), nullptr);
}

TEST(NbdSecurityOptions, ModesAndCredentialsMustFit) {
  ScratchFolder scratch;
  const std::string keys = scratch.write("keys.psk", "alice:" + std::string(64, 'a'));
  NbdSecurityOptions options;
  ASSERT_TRUE(make_nbd_security(options).ok());
  EXPECT_EQ((*make_nbd_security(options))->tls, TlsMode::kOff);
  options.tls = "maybe";
  EXPECT_THAT(make_nbd_security(options).error().message(), HasSubstr("'maybe'"));
  options.tls = "require";
  EXPECT_EQ(make_nbd_security(options).error().code(), ErrorCode::kInvalid);
  options.tls_psk = keys;
  const auto made = make_nbd_security(options);
  ASSERT_TRUE(made.ok()) << made.error().message();
  EXPECT_EQ((*made)->tls, TlsMode::kRequire);
  EXPECT_NE((*made)->credentials, nullptr);
  options.tls = "on";
  EXPECT_EQ((*make_nbd_security(options))->tls, TlsMode::kOn);
  options.allow = {"nonsense"};
  EXPECT_EQ(make_nbd_security(options).error().code(), ErrorCode::kInvalid);
  options.allow = {"psk:alice -> disk0"};
  EXPECT_TRUE((*make_nbd_security(options))->access.has_rules());
  options.tls = "off";
  EXPECT_THAT(make_nbd_security(options).error().message(), HasSubstr("TLS is off"));
}

}  // namespace
}  // namespace blockmig::nbd
