// SPDX-License-Identifier: Apache-2.0
// Whole sessions with TLS, from STARTTLS to the end, on the simulated loop.
#include <gmock/gmock.h>

#include "blockmig/tls/tls_stream.h"
#include "nbdserver/security.h"
#include "session_rig.h"

namespace blockmig::nbd {
namespace {

using testing::HasSubstr;
using namespace std::chrono_literals;

const std::string kSecret(32, 's');
constexpr std::uint32_t kErrTlsReqd = 0x80000005;
constexpr Duration kStepTime = 10ms;  // more than the server's last step of a handshake takes

/// A stream whose peer the kernel knows.
class KnownPeerStream final : public Stream {
 public:
  explicit KnownPeerStream(std::unique_ptr<Stream> inner) : inner_(std::move(inner)) {}
  Task<Result<std::size_t>> read_some(MutableBytes into) override {
    auto got = co_await inner_->read_some(into);
    co_return got;
  }
  Result<std::size_t> try_read(MutableBytes into, bool* ended) override {
    return inner_->try_read(into, ended);
  }
  Task<Status> write_all(std::span<const ConstBytes> parts) override {
    const Status sent = co_await inner_->write_all(parts);
    co_return sent;
  }
  void shutdown() override { inner_->shutdown(); }
  std::string peer_name() const override { return inner_->peer_name(); }
  StreamPeer peer() const override {
    StreamPeer peer;
    peer.credentials = PeerCredentials{.uid = 1000, .gids = {1000, 44}, .pid = 7};
    return peer;
  }

 private:
  std::unique_ptr<Stream> inner_;
};

class TlsServiceTest : public testing::Test {
 protected:
  TlsServiceTest() { protect(TlsMode::kRequire); }

  void protect(TlsMode mode, const std::vector<std::string>& rules = {}) {
    NbdSecurity security;
    security.tls = mode;
    if (mode != TlsMode::kOff) {
      security.credentials =
          *TlsCredentials::for_server_keys({{"alice", kSecret}, {"bob", kSecret}});
    }
    security.access = *ExportAccess::parse(rules);
    rig_.security = std::make_shared<const NbdSecurity>(std::move(security));
  }
  SessionRig::Connection& asked_for_tls(const PipeOptions& options = {.capacity_bytes = 1 << 20}) {
    SessionRig::Connection& each = rig_.connect(options);
    EXPECT_EQ(rig_.exchange(each, join({client_flags(3), option(kOptStartTls)})),
              join({greeting(), option_reply(kOptStartTls, kRepAck)}));
    return each;
  }
  /// Puts TLS around the client's end; false where the handshake failed.
  bool secure(SessionRig::Connection& each, const std::string& user = "alice",
              const std::string& secret = kSecret) {
    auto credentials = TlsCredentials::for_client_key({user, secret});
    auto stream =
        std::make_unique<TlsStream>(std::move(each.stream), *credentials, "", TlsLimits{});
    TlsStream& tls = *stream;
    each.stream = std::move(stream);
    const Status done = run_task(rig_.loop, tls.handshake());
    rig_.settle(kStepTime);
    return done.ok();
  }
  SessionRig::Connection& inside(const std::string& user = "alice",
                                 const PipeOptions& options = {.capacity_bytes = 1 << 20}) {
    SessionRig::Connection& each = asked_for_tls(options);
    EXPECT_TRUE(secure(each, user));
    return each;
  }
  SessionRig::Connection& transmitting(const PipeOptions& options = {.capacity_bytes = 1 << 20}) {
    SessionRig::Connection& each = inside("alice", options);
    const ByteVector answer = rig_.exchange(each, option(kOptGo, info_data("disk0", {})));
    const ByteVector ack = option_reply(kOptGo, kRepAck);
    EXPECT_TRUE(answer.size() > ack.size() &&
                std::equal(ack.rbegin(), ack.rend(), answer.rbegin()));
    return each;
  }
  static std::uint32_t last_type(const ByteVector& answer) {
    std::uint32_t type = 0;
    for (std::size_t at = 0; at + 20 <= answer.size(); at += 20 + read_be(answer, at + 16, 4)) {
      type = static_cast<std::uint32_t>(read_be(answer, at + 12, 4));
    }
    return type;
  }

  SessionRig rig_;
};

TEST_F(TlsServiceTest, ReadsAndWritesGoThroughTls) {
  SessionRig::Connection& each = transmitting();
  const ByteVector data = pattern(5000, 'd');
  EXPECT_EQ(rig_.exchange(each, request(0, kWrite, 1, 100, 5000, data)), simple_reply(0, 1));
  EXPECT_EQ(rig_.peek(100, 5000), data);
  EXPECT_EQ(rig_.exchange(each, request(0, kRead, 2, 100, 5000)), simple_reply(0, 2, data));
  EXPECT_EQ(rig_.exchange(each, request(0, kRead, 3, 0, 300'000)).size(), 16u + 300'000);
  const NbdClientInfo info = each.session->info();
  EXPECT_TRUE(info.tls);
  EXPECT_EQ(info.tls_description, "TLS1.3 AES-128-GCM");
  EXPECT_EQ(info.identity, "psk:alice");
}

TEST_F(TlsServiceTest, NothingIsServedWithoutTlsWhereItIsRequired_I14) {
  SessionRig::Connection& each = rig_.connect();
  const ByteVector answer =
      rig_.exchange(each, join({client_flags(3), option(kOptGo, info_data("disk0", {})),
                                request(0, kRead, 1, 0, 512)}));
  EXPECT_EQ(read_be(answer, 18 + 12, 4), kErrTlsReqd);
  EXPECT_TRUE(each.saw_eof) << "a request is no option";
  EXPECT_EQ(rig_.spy.reads, 0);
}

TEST_F(TlsServiceTest, AFailedWritesPayloadIsSkippedThroughTls) {
  SessionRig::Connection& each = transmitting();
  rig_.spy.fail_writes = ErrorCode::kNoSpace;
  for (const std::size_t size : {std::size_t{100}, std::size_t{5000}, std::size_t{700'000}}) {
    EXPECT_EQ(rig_.exchange(each, request(0, kWrite, 1, 0, size, pattern(size, 0x25))),
              simple_reply(kENOSPC, 1));
    EXPECT_EQ(rig_.exchange(
                  each, request(0, kWrite, 2, SessionRig::kDiskBytes, size, pattern(size, 0x25))),
              simple_reply(kENOSPC, 2));
    EXPECT_EQ(rig_.exchange(each, request(0, kFlush, 3, 0, 0)), simple_reply(0, 3)) << "in step";
  }
}

TEST_F(TlsServiceTest, AClientThatStopsReadingStallsNobodyElse) {
  SessionRig::Connection& stuck = transmitting({.capacity_bytes = 32 * 1024});
  SessionRig::Connection& other = transmitting();
  ByteVector many;
  for (std::uint64_t i = 0; i < 500; ++i) {
    many = join({many, request(0, kRead, i, 0, 256 * 1024)});
  }
  rig_.send(stuck, many);
  const std::size_t held = rig_.loops.home().pool.total_bytes();
  EXPECT_LE(held, rig_.limits.max_in_flight_bytes + (8u << 20));
  for (std::uint64_t i = 0; i < 20; ++i) {
    EXPECT_EQ(rig_.exchange(other, request(0, kFlush, i, 0, 0)), simple_reply(0, i));
  }
  EXPECT_FALSE(stuck.ended);
  stuck.session->cut();
  rig_.settle();
  EXPECT_TRUE(stuck.ended);
  EXPECT_EQ(rig_.exchange(other, request(0, kFlush, 77, 0, 0)), simple_reply(0, 77));
}

TEST_F(TlsServiceTest, AFloodWhileClosingIsCutAndForgotten) {
  SessionRig::Connection& each = transmitting({.capacity_bytes = 16 * 1024});
  ByteVector flood = request(0, kDisc, 1, 0, 0);
  flood = join({flood, pattern(4 << 20, 'f')});
  rig_.send(each, flood);
  EXPECT_TRUE(each.ended);
}

TEST_F(TlsServiceTest, DiscEndsTlsInOrder) {
  SessionRig::Connection& each = transmitting();
  rig_.send(each, request(0, kDisc, 1, 0, 0));
  EXPECT_TRUE(each.ended);
  std::vector<std::byte> one(1);
  const auto end = run_task(rig_.loop, each.stream->read_some(one));
  ASSERT_TRUE(end.ok()) << "close_notify is missing: " << end.error().message();
  EXPECT_EQ(*end, 0u);
}

TEST_F(TlsServiceTest, PlainBytesInPlaceOfTheHandshakeAreNeverActedOn_CVE_2021_3716) {
  SessionRig::Connection& each = asked_for_tls();
  const ByteVector answer = rig_.exchange(each, option(kOptGo, info_data("disk0", {})));
  EXPECT_TRUE(each.ended);
  EXPECT_EQ(each.session->handshake_failure(), NbdHandshakeFailure::kTls);
  EXPECT_FALSE(each.session->info().tls_error.empty());
  EXPECT_LT(answer.size(), 20u) << "at most an alert";
}

TEST_F(TlsServiceTest, BytesBehindStartTlsCloseUnanswered_CVE_2021_3716) {
  SessionRig::Connection& each = rig_.connect();
  const ByteVector answer = rig_.exchange(
      each, join({client_flags(3), option(kOptStartTls), option(kOptGo, info_data("disk0", {}))}));
  EXPECT_EQ(answer, greeting());
  EXPECT_TRUE(each.ended);
}

TEST_F(TlsServiceTest, AFailedHandshakeCloses) {
  SessionRig::Connection& each = asked_for_tls();
  secure(each, "alice", std::string(32, 'w'));
  rig_.settle();
  EXPECT_TRUE(each.ended);
  EXPECT_EQ(each.session->handshake_failure(), NbdHandshakeFailure::kTls);
  EXPECT_THAT(each.session->info().tls_error, HasSubstr("TLS handshake"));
  EXPECT_FALSE(each.session->info().tls);
}

TEST_F(TlsServiceTest, TheDeadlineCoversTheTlsHandshake_I16) {
  SessionRig::Connection& each = asked_for_tls();
  rig_.settle(9s);
  EXPECT_FALSE(each.ended);
  rig_.settle(2s);
  EXPECT_TRUE(each.ended);
  EXPECT_EQ(each.session->handshake_failure(), NbdHandshakeFailure::kTimeout);
}

Task<void> take_turn(HandshakeSteps& steps) { return steps.turns.take("somebody"); }

TEST_F(TlsServiceTest, TheDeadlineCoversTheWaitForATurn_I16) {
  HandshakeSteps& steps = rig_.loops.handshake_steps();
  run_task(rig_.loop, take_turn(steps));
  SessionRig::Connection& each = asked_for_tls();
  EXPECT_FALSE(secure(each)) << "the server hangs up at the deadline";
  steps.turns.give();
  rig_.settle();
  EXPECT_TRUE(each.ended);
  EXPECT_EQ(each.session->handshake_failure(), NbdHandshakeFailure::kTimeout);
  SessionRig::Connection& later = transmitting();
  EXPECT_TRUE(later.session->info().tls);
}

TEST_F(TlsServiceTest, TheDeadlineCoversTheOptionsInsideTls_I16) {
  SessionRig::Connection& each = asked_for_tls();
  rig_.settle(6s);
  ASSERT_TRUE(secure(each));
  rig_.settle(6s);
  EXPECT_TRUE(each.ended);
  EXPECT_EQ(each.session->handshake_failure(), NbdHandshakeFailure::kTimeout);
}

TEST_F(TlsServiceTest, AfterGoTheDeadlineIsOver) {
  SessionRig::Connection& each = transmitting();
  rig_.settle(60s);
  EXPECT_EQ(rig_.exchange(each, request(0, kFlush, 1, 0, 0)), simple_reply(0, 1));
}

TEST_F(TlsServiceTest, BytesBeforeTheHandshakeIsDoneAreLimited_I16) {
  SessionRig::Connection& each = asked_for_tls({.capacity_bytes = 1000});
  // Records of a handshake message that never ends.
  ByteVector hello = Wire().fill(1, 22).u16(0x0301).u16(16000).fill(1, 1).fill(1, 0).u16(0xffff);
  hello = join({hello, pattern(15996, 0)});
  ByteVector all;
  for (int i = 0; i < 20; ++i) {
    all = join({all, hello});
    hello = Wire().fill(1, 22).u16(0x0301).u16(16000).fill(16000, 0);
  }
  rig_.send(each, all);
  rig_.settle(1s);
  EXPECT_TRUE(each.ended);
  EXPECT_EQ(each.session->handshake_failure(), NbdHandshakeFailure::kTls);
}

TEST_F(TlsServiceTest, CutAndShutdownEndAHandshake) {
  for (const bool cut : {true, false}) {
    SessionRig::Connection& each = asked_for_tls();
    if (cut) {
      each.session->cut();
      rig_.settle();
      EXPECT_TRUE(each.ended);
      EXPECT_EQ(each.session->handshake_failure(), NbdHandshakeFailure::kShutdown);
    } else {
      each.session->begin_shutdown();
      ASSERT_TRUE(secure(each)) << "what is inside may learn why";
      EXPECT_EQ(last_type(rig_.exchange(each, option(kOptList))), kErrShutdown);
    }
  }
}

TEST_F(TlsServiceTest, OfferedTlsLeavesPlainClientsAlone) {
  protect(TlsMode::kOn);
  SessionRig::Connection& plain = rig_.transmitting(SessionRig::Style::kSimple);
  EXPECT_EQ(rig_.exchange(plain, request(0, kFlush, 1, 0, 0)), simple_reply(0, 1));
  EXPECT_FALSE(plain.session->info().tls);
  transmitting();
}

class TlsAccessTest : public TlsServiceTest {
 protected:
  TlsAccessTest() {
    rig_.directory.exports_.push_back(std::make_shared<FakeExport>("secret", rig_.spy));
    protect(TlsMode::kOn, {"psk:alice -> disk0", "psk:bob -> *", "uid:1000 -> secret"});
  }
  /// Every answer about `name` must be what it is for a name that does not exist.
  void expect_hidden(SessionRig::Connection& each, const std::string& name) {
    const ByteVector structured = rig_.exchange(each, option(kOptStructured));
    EXPECT_EQ(last_type(structured), kRepAck);
    const std::string missing(name.size(), 'm');
    for (const std::uint32_t number : {kOptInfo, kOptGo}) {
      ByteVector hidden = rig_.exchange(each, option(number, info_data(name, {3})));
      const ByteVector unknown = rig_.exchange(each, option(number, info_data(missing, {3})));
      EXPECT_EQ(last_type(hidden), kErrUnknown);
      replace(hidden, name, missing);
      EXPECT_EQ(hidden, unknown);
    }
    EXPECT_EQ(
        last_type(rig_.exchange(each, option(kOptSetMeta, meta_data(name, {"base:allocation"})))),
        kErrUnknown);
    EXPECT_EQ(last_type(rig_.exchange(each, option(9, meta_data(name, {})))), kErrUnknown);
    const ByteVector list = rig_.exchange(each, option(kOptList));
    const std::string text(reinterpret_cast<const char*>(list.data()), list.size());
    EXPECT_EQ(text.find(name), std::string::npos);
    rig_.exchange(each, option(kOptExportName, Wire().text(name)));
    EXPECT_TRUE(each.ended);
  }
  static void replace(ByteVector& in, const std::string& what, const std::string& by) {
    std::string text(reinterpret_cast<const char*>(in.data()), in.size());
    const auto at = text.find(what);
    if (at == std::string::npos) return;
    text.replace(at, what.size(), by);
    std::memcpy(in.data(), text.data(), in.size());
  }
};

TEST_F(TlsAccessTest, APeerSeesWhatItsIdentityGrantsAndNothingElse) {
  SessionRig::Connection& alice = inside("alice");
  EXPECT_EQ(rig_.exchange(alice, option(kOptList)),
            join({option_reply(kOptList, kRepServer, Wire().text32("disk0")),
                  option_reply(kOptList, kRepAck)}));
  expect_hidden(alice, "secret");
  SessionRig::Connection& bob = inside("bob");
  EXPECT_EQ(last_type(rig_.exchange(bob, option(kOptGo, info_data("secret", {})))), kRepAck);
}

TEST_F(TlsAccessTest, WithoutIdentityNothingExists) {
  SessionRig::Connection& plain = rig_.connect();
  rig_.exchange(plain, client_flags(3));
  EXPECT_EQ(rig_.exchange(plain, option(kOptList)), option_reply(kOptList, kRepAck));
  expect_hidden(plain, "disk0");
}

TEST_F(TlsAccessTest, TheKernelsCredentialsAreAnIdentityToo) {
  rig_.wrap_server = [](std::unique_ptr<Stream> inner) {
    return std::make_unique<KnownPeerStream>(std::move(inner));
  };
  SessionRig::Connection& plain = rig_.connect();
  rig_.exchange(plain, client_flags(3));
  EXPECT_EQ(rig_.exchange(plain, option(kOptList)),
            join({option_reply(kOptList, kRepServer, Wire().text32("secret")),
                  option_reply(kOptList, kRepAck)}));
  // Inside TLS both count.
  SessionRig::Connection& alice = inside("alice");
  EXPECT_EQ(rig_.exchange(alice, option(kOptList)),
            join({option_reply(kOptList, kRepServer, Wire().text32("disk0")),
                  option_reply(kOptList, kRepServer, Wire().text32("secret")),
                  option_reply(kOptList, kRepAck)}));
}

}  // namespace
}  // namespace blockmig::nbd
