// SPDX-License-Identifier: Apache-2.0
// Who is let in and who is not: certificates and keys, right and wrong, over a pipe.
#include <gmock/gmock.h>
#include <gnutls/gnutls.h>

#include <ctime>
#include <filesystem>

#include "made_certificates.h"
#include "raw_client.h"
#include "tls_rig.h"

namespace blockmig {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using Kind = PeerIdentity::Kind;

class TlsIdentityTest : public testing::Test {
 protected:
  TlsIdentityTest() {
    authority_.issue(server_folder_, "server", {.dns_names = {"nbd.example.com"}});
    issue_client({});
  }
  void issue_client(CertificateFacts facts) {
    facts.for_server = false;
    facts.for_client = true;
    authority_.issue(client_folder_, "client", facts);
  }
  Credentials server(bool require = true) {
    auto made = TlsCredentials::for_server({server_folder_, "", require});
    EXPECT_TRUE(made.ok()) << made.error().message();
    return *made;
  }
  Credentials client() {
    auto made = TlsCredentials::for_client({client_folder_, "", ""});
    EXPECT_TRUE(made.ok()) << made.error().message();
    return *made;
  }

  ScratchFolder scratch_;
  Authority authority_{"Test CA"};
  Authority rogue_{"Test CA"};  // the same name, another key
  const std::string server_folder_ = scratch_.path() + "/server";
  const std::string client_folder_ = scratch_.path() + "/client";
};

TEST_F(TlsIdentityTest, BothSidesLearnWhoTheOtherIs) {
  issue_client({.common_name = "vm1",
                .organization = "Example",
                .dns_names = {"vm1.example.com", "vm1"},
                .email_names = {"ops@example.com"},
                .address = std::string("\xc0\x00\x02\x01", 4)});
  TlsPair pair(server(), client(), "nbd.example.com");
  pair.shake();
  ASSERT_TRUE(pair.secured()) << pair.server_error() << pair.client_error();
  const PeerIdentities expected = {{Kind::kCertificateDn, "O=Example,CN=vm1"},
                                   {Kind::kCertificateCn, "vm1"},
                                   {Kind::kDns, "vm1.example.com"},
                                   {Kind::kDns, "vm1"},
                                   {Kind::kEmail, "ops@example.com"},
                                   {Kind::kIp, "192.0.2.1"}};
  EXPECT_EQ(pair.server->identities(), expected);
  EXPECT_EQ(pair.client->identities().front(),
            (PeerIdentity{Kind::kCertificateDn, "CN=localhost"}));
  EXPECT_EQ(pair.server->description(), "TLS1.3 AES-128-GCM");
}

TEST_F(TlsIdentityTest, AClientOfAnotherAuthorityIsRefused) {
  rogue_.issue(client_folder_, "client", {.for_server = false, .for_client = true});
  authority_.trust(client_folder_);
  TlsPair pair(server(), client(), "nbd.example.com");
  pair.shake();
  EXPECT_THAT(pair.server_error(), HasSubstr("NOT trusted"));
  EXPECT_THAT(pair.server->identities(), IsEmpty());
  EXPECT_THAT(pair.client_error(), HasSubstr("the peer refused"));
}

TEST_F(TlsIdentityTest, AClientWithoutACertificateIsRefused_CVE_2024_7383) {
  std::filesystem::remove_all(client_folder_);
  authority_.trust(client_folder_);
  TlsPair pair(server(), client(), "nbd.example.com");
  pair.shake();
  EXPECT_THAT(pair.server_error(), HasSubstr("ertificate"));
  EXPECT_FALSE(pair.secured());
  EXPECT_NE(pair.client_error(), "");
}

TEST_F(TlsIdentityTest, WhereCertificatesAreOptionalItIsServedAsNobody) {
  std::filesystem::remove_all(client_folder_);
  authority_.trust(client_folder_);
  TlsPair pair(server(false), client(), "nbd.example.com");
  pair.shake();
  EXPECT_TRUE(pair.secured()) << pair.server_error();
  EXPECT_THAT(pair.server->identities(), IsEmpty());
}

TEST_F(TlsIdentityTest, ABadCertificateIsRefusedAlsoWhereNoneWouldDo) {
  rogue_.issue(client_folder_, "client", {.for_server = false, .for_client = true});
  authority_.trust(client_folder_);
  TlsPair pair(server(false), client(), "nbd.example.com");
  pair.shake();
  EXPECT_THAT(pair.server_error(), HasSubstr("NOT trusted"));
}

TEST_F(TlsIdentityTest, AnExpiredClientCertificateIsRefused) {
  issue_client({.until_seconds = 600});
  const Credentials expiring = client();
  TlsPair pair(server(), expiring, "nbd.example.com");
  gnutls_global_set_time_function([](std::time_t* out) {
    const std::time_t later = std::time(nullptr) + 1200;
    if (out != nullptr) *out = later;
    return later;
  });
  pair.shake();
  gnutls_global_set_time_function(std::time);
  EXPECT_THAT(pair.server_error(), HasSubstr("expired"));
}

TEST_F(TlsIdentityTest, ARevokedClientCertificateIsRefused) {
  authority_.revoke_last(server_folder_);
  TlsPair pair(server(), client(), "nbd.example.com");
  pair.shake();
  EXPECT_THAT(pair.server_error(), HasSubstr("revoked"));
}

TEST_F(TlsIdentityTest, AServersCertificateDoesNotMakeAClient) {
  authority_.issue(client_folder_, "client", {.for_server = true, .for_client = false});
  TlsPair pair(server(), client(), "nbd.example.com");
  pair.shake();
  EXPECT_THAT(pair.server_error(), HasSubstr("purpose"));
}

TEST_F(TlsIdentityTest, AServerOfAnotherAuthorityIsRefused_CVE_2024_7383) {
  rogue_.issue(server_folder_, "server", {});
  TlsPair pair(server(), client(), "nbd.example.com");
  pair.shake();
  EXPECT_THAT(pair.client_error(), HasSubstr("NOT trusted"));
  EXPECT_FALSE(pair.server_error().empty());
}

TEST_F(TlsIdentityTest, AServerOfAnotherNameIsRefused_CVE_2024_7383) {
  TlsPair pair(server(), client(), "other.example.com");
  pair.shake();
  EXPECT_THAT(pair.client_error(), HasSubstr("does not match"));
}

TEST_F(TlsIdentityTest, WithoutANameToExpectEveryServerIsRefused_CVE_2024_7383) {
  TlsPair pair(server(), client(), "");
  pair.shake();
  EXPECT_THAT(pair.client_error(), HasSubstr("not known which name"));
}

TEST_F(TlsIdentityTest, ANameWithAZeroByteIsNoIdentity) {
  issue_client({.common_name = std::string("admin\0.evil", 11)});
  TlsPair pair(server(), client(), "nbd.example.com");
  pair.shake();
  for (const PeerIdentity& identity : pair.server->identities()) {
    EXPECT_NE(identity.name, "admin");
    EXPECT_NE(identity.kind, Kind::kCertificateCn) << identity.name;
  }
}

TEST(TlsPskIdentity, TheServerLearnsTheUser) {
  TlsPair pair(psk_server(), psk_client());
  pair.shake();
  ASSERT_TRUE(pair.secured()) << pair.server_error();
  EXPECT_EQ(pair.server->identities(), (PeerIdentities{{Kind::kPskUser, "alice"}}));
}

TEST(TlsPskIdentity, AWrongKeyAndAnUnknownUserFailAlike) {
  std::string texts[2];
  for (const int unknown : {0, 1}) {
    TlsPair pair(psk_server(),
                 unknown != 0 ? psk_client("mallory") : psk_client("alice", std::string(32, 'w')));
    pair.shake();
    EXPECT_FALSE(pair.secured());
    EXPECT_THAT(pair.server->identities(), IsEmpty());
    texts[unknown] = pair.client_error();
    EXPECT_NE(texts[unknown], "");
  }
  EXPECT_EQ(texts[0], texts[1]) << "a stranger must not learn which users there are";
}

TEST(TlsPskIdentity, AnUnknownUserFailsAsAWrongKeyInTls12Too) {
  int errors[2];
  for (const int unknown : {0, 1}) {
    TlsSession server(
        psk_server(unknown != 0 ? std::vector<PskKey>{{"bob", kPskSecret}}
                                : std::vector<PskKey>{{"alice", std::string(32, 'w')}}),
        "", {});
    RawTlsClient client("NORMAL:-VERS-ALL:+VERS-TLS1.2:+ECDHE-PSK:+DHE-PSK");
    EXPECT_FALSE(client.handshake_with(server));
    errors[unknown] = client.error();
  }
  EXPECT_EQ(errors[0], errors[1]);
}

TEST_F(TlsIdentityTest, AKeyDoesNotDoWhereOnlyCertificatesAreKnown) {
  TlsPair pair(server(), psk_client());
  pair.shake();
  EXPECT_FALSE(pair.secured());
  TlsPair other(psk_server(), client(), "nbd.example.com");
  other.shake();
  EXPECT_FALSE(other.secured());
}

TEST_F(TlsIdentityTest, AServerWithBothTakesEither) {
  const std::string keys = scratch_.write("keys.psk", "alice:" + std::string(64, 'a') + "\n");
  auto both = TlsCredentials::for_server({server_folder_, keys});
  auto key = TlsCredentials::for_client({"", keys, ""});
  ASSERT_TRUE(both.ok() && key.ok());
  TlsPair by_key(*both, *key);
  by_key.shake();
  EXPECT_TRUE(by_key.secured()) << by_key.server_error();
  EXPECT_EQ(by_key.server->identities(), (PeerIdentities{{Kind::kPskUser, "alice"}}));
  TlsPair by_certificate(*both, client(), "nbd.example.com");
  by_certificate.shake();
  EXPECT_TRUE(by_certificate.secured()) << by_certificate.server_error();
}

}  // namespace
}  // namespace blockmig
