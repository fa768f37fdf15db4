// SPDX-License-Identifier: Apache-2.0
// What a client straight on the library can do to a server's session.
#include "blockmig/tls/tls_session.h"

#include <gmock/gmock.h>

#include "raw_client.h"

namespace blockmig {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr const char* kPsk = ":+ECDHE-PSK:+DHE-PSK:+PSK";

std::string priority(const std::string& versions) { return "NORMAL:-VERS-ALL:" + versions + kPsk; }

std::string opened(TlsSession& session) {
  Bytes into(100 * 1000);
  const auto got = session.open(into);
  if (!got.ok()) return "!" + got.error().message();
  return std::string(reinterpret_cast<const char*>(into.data()), *got);
}

void seal(TlsSession& session, std::string_view text) {
  const Bytes bytes = text_bytes(text);
  const ConstBytes part(bytes);
  Gather gather(std::span<const ConstBytes>(&part, 1));
  const Status sealed = session.seal(gather);
  EXPECT_TRUE(sealed.ok()) << sealed.error().message();
}

class TlsSessionTest : public testing::Test {
 protected:
  TlsSession server_{psk_server(), "", {}};
};

TEST_F(TlsSessionTest, SpeaksTls13And12) {
  for (const char* version : {"1.3", "1.2"}) {
    TlsSession server(psk_server(), "", {});
    RawTlsClient client(priority("+VERS-TLS" + std::string(version)));
    ASSERT_TRUE(client.handshake_with(server)) << version;
    EXPECT_THAT(server.description(), StartsWith("TLS" + std::string(version) + " "));
    client.send("to the server");
    client.deliver_to(server);
    EXPECT_EQ(opened(server), "to the server");
    seal(server, "to the client");
    EXPECT_EQ(client.receive_from(server), "to the client");
  }
}

TEST_F(TlsSessionTest, OlderVersionsAreRefused) {
  for (const char* versions : {"+VERS-TLS1.1", "+VERS-TLS1.0", "+VERS-TLS1.1:+VERS-TLS1.0"}) {
    TlsSession server(psk_server(), "", {});
    RawTlsClient client(priority(versions));
    EXPECT_FALSE(client.handshake_with(server)) << versions;
    EXPECT_EQ(server.state(), TlsSession::State::kFailed);
    EXPECT_TRUE(server.identities().empty());
  }
}

TEST_F(TlsSessionTest, CiphersWithoutAuthenticationOfTheDataAreOff) {
  for (const char* cipher : {"AES-128-CBC", "AES-256-CBC", "NULL"}) {
    TlsSession server(psk_server(), "", {});
    RawTlsClient client(priority("+VERS-TLS1.2") + ":-CIPHER-ALL:+" + cipher + ":+SHA1:+SHA256");
    EXPECT_FALSE(client.handshake_with(server)) << cipher;
  }
}

TEST_F(TlsSessionTest, AnonymousKeyExchangeIsOff) {
  RawTlsClient client("NORMAL:-KX-ALL:+ANON-ECDH:+ANON-DH:-VERS-ALL:+VERS-TLS1.2");
  EXPECT_FALSE(client.handshake_with(server_));
}

TEST_F(TlsSessionTest, RenegotiationIsRefused) {
  RawTlsClient client(priority("+VERS-TLS1.2"));
  ASSERT_TRUE(client.handshake_with(server_));
  client.ask_to_renegotiate();
  ASSERT_FALSE(client.sent().empty());
  client.deliver_to(server_);
  EXPECT_THAT(opened(server_), HasSubstr("renegotiation"));
  EXPECT_EQ(server_.state(), TlsSession::State::kFailed);
  EXPECT_THAT(opened(server_), HasSubstr("renegotiation")) << "an error stays";
}

TEST_F(TlsSessionTest, AChangeOfKeysIsFollowedAndAnswered) {
  RawTlsClient client(priority("+VERS-TLS1.3"));
  ASSERT_TRUE(client.handshake_with(server_));
  client.send("before ");
  ASSERT_TRUE(client.change_keys());
  client.send("behind");
  client.deliver_to(server_);
  EXPECT_EQ(opened(server_), "before behind");
  EXPECT_LE(server_.output().size(), 64u) << "at most the answer waits";
  seal(server_, "with new keys");
  EXPECT_EQ(client.receive_from(server_), "with new keys");
}

TEST_F(TlsSessionTest, AFloodOfKeyChangesEndsOrCostsNothing) {
  RawTlsClient client(priority("+VERS-TLS1.3"));
  ASSERT_TRUE(client.handshake_with(server_));
  for (int i = 0; i < 1000 && server_.state() == TlsSession::State::kOpen; ++i) {
    if (!client.change_keys()) break;
    client.deliver_to(server_);
    static_cast<void>(opened(server_));
    ASSERT_LE(server_.output().size(), 4096u);
  }
}

TEST_F(TlsSessionTest, EmptyRecordsAreNoEnd) {
  RawTlsClient client(priority("+VERS-TLS1.2"));
  ASSERT_TRUE(client.handshake_with(server_));
  for (int i = 0; i < 50; ++i) client.send("");
  client.send("data");
  client.deliver_to(server_);
  EXPECT_EQ(opened(server_), "data");
  EXPECT_EQ(server_.state(), TlsSession::State::kOpen);
}

TEST_F(TlsSessionTest, TooMuchBeforeTheHandshakeIsDoneIsRefused_I16) {
  // Fragments of one handshake message that is always said to be longer than what has come.
  TlsLimits limits;
  limits.max_handshake_bytes = 20 * 1000;
  TlsSession server(psk_server(), "", limits);
  Bytes record(5 + 4000, std::byte{0});
  record[0] = std::byte{22};
  record[1] = std::byte{3};
  record[2] = std::byte{1};
  record[3] = std::byte{4000 >> 8};
  record[4] = std::byte{4000 & 0xff};
  record[5] = std::byte{1};  // ClientHello
  record[6] = std::byte{0x00};
  record[7] = std::byte{0x4a};  // 18,944 bytes long
  bool failed = false;
  std::size_t sent = 0;
  while (!failed && sent < 100 * 1000) {
    const MutableBytes room = server.room();
    ASSERT_GE(room.size(), record.size());
    ASSERT_LE(room.size(), TlsSession::kHandshakeInputBytes) << "a stranger gets little memory";
    std::copy(record.begin(), record.end(), room.begin());
    server.received(record.size());
    sent += record.size();
    failed = !server.handshake().ok();
    record[5] = std::byte{0};
  }
  EXPECT_TRUE(failed);
  EXPECT_LE(sent, 30 * 1000u);
}

TEST_F(TlsSessionTest, AFloodOfWarningsBeforeTheHandshakeIsCut_I16) {
  // Alerts are no handshake messages, so the limit of those does not count them.
  const Bytes warning = {std::byte{21}, std::byte{3}, std::byte{3}, std::byte{0},
                         std::byte{2},  std::byte{1}, std::byte{90}};
  bool failed = false;
  std::size_t sent = 0;
  while (!failed && sent < (1 << 20)) {
    const MutableBytes room = server_.room();
    std::size_t filled = 0;
    for (; filled + warning.size() <= room.size(); filled += warning.size()) {
      std::copy(warning.begin(), warning.end(), room.begin() + static_cast<long>(filled));
    }
    server_.received(filled);
    sent += filled;
    failed = !server_.handshake().ok();
  }
  EXPECT_TRUE(failed);
  EXPECT_LE(sent, 64 * 1024u + TlsSession::kHandshakeInputBytes);
}

TEST_F(TlsSessionTest, SmallPartsShareRecordsAndLargeOnesFillThem) {
  RawTlsClient client(priority("+VERS-TLS1.3"));
  ASSERT_TRUE(client.handshake_with(server_));
  const Bytes header = text_bytes("a header of 28 bytes, so far");
  const Bytes data = counted_bytes(100 * 1000);
  std::vector<ConstBytes> parts;
  for (int i = 0; i < 5; ++i) parts.emplace_back(header);
  parts.emplace_back(data);
  parts.emplace_back(header);
  const std::size_t plain = 6 * header.size() + data.size();
  Gather gather(parts);
  ASSERT_TRUE(server_.seal(gather).ok());
  EXPECT_TRUE(gather.finished());
  const std::size_t records = (plain + TlsSession::kRecordBytes - 1) / TlsSession::kRecordBytes;
  EXPECT_EQ(server_.output().size(), plain + records * (5 + 1 + 16)) << "full records only";
}

TEST_F(TlsSessionTest, OneSealTakesABoundedPart) {
  RawTlsClient client(priority("+VERS-TLS1.3"));
  ASSERT_TRUE(client.handshake_with(server_));
  const Bytes data = counted_bytes(8 << 20);
  const ConstBytes part(data);
  Gather gather(std::span<const ConstBytes>(&part, 1));
  ASSERT_TRUE(server_.seal(gather).ok());
  EXPECT_FALSE(gather.finished());
  EXPECT_LE(server_.output().size(), TlsSession::kMaxSealBytes + 32 * 1024);
}

}  // namespace
}  // namespace blockmig
