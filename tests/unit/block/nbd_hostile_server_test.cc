// SPDX-License-Identifier: Apache-2.0
// NBD servers that answer wrongly: an error is never turned into success (I11).
#include <gtest/gtest.h>

#include <optional>

#include "blockmig/block/nbd_device.h"
#include "blockmig/block/store_health.h"
#include "blockmig/io/task_scope.h"
#include "tests/unit/block/scripted_nbd_server.h"

namespace blockmig {
namespace {

constexpr std::uint16_t kDone = 1;
constexpr std::uint16_t kNone = 0;
constexpr std::uint16_t kOffsetData = 1;
constexpr std::uint16_t kOffsetHole = 2;
constexpr std::uint16_t kBlockStatus = 5;
constexpr std::uint16_t kErrorOffset = 0x8002;

class HostileServer : public testing::Test {
 protected:
  void serve(ScriptedNbdServer::Answer answer, NbdListing listing = {}) {
    server_ = std::make_unique<ScriptedNbdServer>(folder_, std::move(answer), std::move(listing));
    auto opened = run_task(*loop_, open_nbd_device(*loop_, server_->uri(), {}));
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    device_ = std::move(*opened);
    sync_ = std::make_unique<SyncDevice>(*loop_, *device_);
  }
  void TearDown() override {
    if (device_) {
      EXPECT_TRUE(run_task(*loop_, device_->close()).ok());
    }
  }
  ErrorCode read_error() {
    const auto content = sync_->read(0, 1024);
    EXPECT_FALSE(content.ok());
    return content.ok() ? ErrorCode::kCancelled : content.error().code();
  }
  ErrorCode extents_error() {
    const auto found = sync_->extents(0, 1024);
    EXPECT_FALSE(found.ok());
    return found.ok() ? ErrorCode::kCancelled : found.error().code();
  }

  TemporaryFolder folder_;
  std::unique_ptr<IoLoop> loop_ = make_test_loop(LoopKind::kAuto);
  std::unique_ptr<ScriptedNbdServer> server_;
  std::unique_ptr<BlockDevice> device_;
  std::unique_ptr<SyncDevice> sync_;
};

TEST_F(HostileServer, DataAndHolesTogetherAreAnAnswer) {
  serve([](const NbdRequest& request) {
    return joined(
        {reply_chunk(request, 0, kOffsetHole, joined({big_endian(0, 8), big_endian(512, 4)})),
         reply_chunk(request, kDone, kOffsetData, joined({big_endian(512, 8), filled(512, 7)}))});
  });
  const auto content = sync_->read(0, 1024);
  ASSERT_TRUE(content.ok()) << content.error().message();
  EXPECT_EQ(*content, joined({filled(512, 0), filled(512, 7)}));
}

TEST_F(HostileServer, PartOfTheDataIsNoAnswer_I11) {
  serve([](const NbdRequest& request) {
    return reply_chunk(request, kDone, kOffsetData, joined({big_endian(0, 8), filled(512, 7)}));
  });
  EXPECT_EQ(read_error(), ErrorCode::kProtocol);
}

TEST_F(HostileServer, NoDataAtAllIsNoAnswer_I11) {
  serve([](const NbdRequest& request) { return reply_chunk(request, kDone, kNone, {}); });
  EXPECT_EQ(read_error(), ErrorCode::kProtocol);
}

TEST_F(HostileServer, AnErrorBehindTheDataFailsTheRead_I11) {
  serve([](const NbdRequest& request) {
    return joined(
        {reply_chunk(request, 0, kOffsetData, joined({big_endian(0, 8), filled(1024, 7)})),
         reply_chunk(request, kDone, kErrorOffset,
                     joined({big_endian(5, 4), big_endian(0, 2), big_endian(512, 8)}))});
  });
  EXPECT_EQ(read_error(), ErrorCode::kIo);
}

TEST_F(HostileServer, AnUnknownCookieEndsTheConnection) {
  serve([](const NbdRequest& request) {
    NbdRequest other = request;
    other.cookie += 100;
    return reply_chunk(other, kDone, kNone, {});
  });
  EXPECT_EQ(read_error(), ErrorCode::kDisconnected);
  EXPECT_EQ(read_error(), ErrorCode::kDisconnected) << "and the device";
}

TEST_F(HostileServer, AHangUpInTheMiddleOfAReplyIsNoAnswer_I11) {
  int calls = 0;
  serve([&calls](const NbdRequest& request) {
    if (calls++ > 0) return Bytes{};
    Bytes whole =
        reply_chunk(request, kDone, kOffsetData, joined({big_endian(0, 8), filled(1024, 7)}));
    whole.resize(whole.size() - 100);
    return whole;
  });
  // The second request makes the server hang up; the first one's reply never ends.
  std::optional<Status> first;
  Bytes into(1024);
  TaskScope scope;
  const auto store = [](Task<Status> task, std::optional<Status>& result) -> Task<void> {
    const Status done = co_await task;
    result = done;
  };
  scope.spawn(store(device_->read(0, into), first));
  EXPECT_FALSE(sync_->flush().ok());
  const auto join = [](TaskScope& all) -> Task<void> { co_await all.join(); };
  run_task(*loop_, join(scope));
  ASSERT_TRUE(first.has_value() && !first->ok());
  EXPECT_EQ(first->error().code(), ErrorCode::kDisconnected);
}

TEST_F(HostileServer, BlockStatusWithoutAnExtentIsNoAnswer) {
  serve([](const NbdRequest& request) { return reply_chunk(request, kDone, kNone, {}); });
  EXPECT_EQ(extents_error(), ErrorCode::kProtocol);
}

TEST_F(HostileServer, AnExtentOfLengthZeroIsNoAnswer) {
  serve([](const NbdRequest& request) {
    return reply_chunk(request, kDone, kBlockStatus,
                       joined({big_endian(1, 4), big_endian(0, 4), big_endian(3, 4)}));
  });
  EXPECT_FALSE(sync_->extents(0, 1024).ok());
}

TEST_F(HostileServer, ExtentsBehindTheAskedRangeAreCut) {
  serve([](const NbdRequest& request) {
    return reply_chunk(request, kDone, kBlockStatus,
                       joined({big_endian(1, 4), big_endian(512, 4), big_endian(0, 4),
                               big_endian(1 << 20, 4), big_endian(3, 4)}));
  });
  const auto found = sync_->extents(4096, 1024);
  ASSERT_TRUE(found.ok()) << found.error().message();
  EXPECT_EQ(*found, (std::vector<Extent>{{4096, 512, false, false}, {4608, 512, true, true}}));
}

/// Any identity, as digits.
std::string identity(char digit) { return std::string(32, digit); }

/// What the server says that it is, with a device that works.
class HostileIdentities : public HostileServer {
 protected:
  Identities heard(NbdListing listing) {
    serve([](const NbdRequest& request) { return reply_chunk(request, kDone, kNone, {}); },
          std::move(listing));
    EXPECT_TRUE(sync_->flush().ok());
    return identities_of(*device_);
  }
};

TEST_F(HostileIdentities, AreWhatIsOneAndTheRestIsNothing) {
  std::vector<std::string> names{"blockmig:identity:" + identity('a'),
                                 "base:allocation",
                                 identity('b'),
                                 "blockmig:identity:",
                                 "blockmig:identity:" + identity('x'),
                                 "blockmig:identity:" + identity('a'),
                                 "blockmig:identity:" + identity('c')};
  const Identities found = heard({names, NbdListing::End::kAck});
  EXPECT_EQ(found, (Identities{identity('a'), identity('c')}));
}

TEST_F(HostileIdentities, AreFewHoweverManyAreSaid) {
  std::vector<std::string> names;
  for (int i = 0; i < 1000; ++i) {
    names.push_back("blockmig:identity:" + disk_identity("owner", std::to_string(i)));
  }
  EXPECT_EQ(heard({names, NbdListing::End::kAck}).size(), kMaxIdentities);
}

TEST_F(HostileIdentities, OfAListThatFailsAreNone) {
  EXPECT_TRUE(heard({{"blockmig:identity:" + identity('a')}, NbdListing::End::kError}).empty());
}

TEST_F(HostileIdentities, OfAServerThatHangsUpOnTheQuestionAreNone) {
  EXPECT_TRUE(heard({{"blockmig:identity:" + identity('a')}, NbdListing::End::kHangUp}).empty());
}

TEST_F(HostileIdentities, AreToldWithoutEnteringTheExport) {
  const NbdListing one{{"blockmig:identity:" + identity('a')}, NbdListing::End::kAck};
  ScriptedNbdServer server(
      folder_, [](const NbdRequest&) { return Bytes(); }, one);
  const std::string uri = server.uri();
  const auto said = run_task(*loop_, ask_nbd_identities(*loop_, uri, std::chrono::seconds(10)));
  ASSERT_TRUE(said.ok()) << said.error().message();
  EXPECT_EQ(*said, Identities{identity('a')});
}

TEST_F(HostileIdentities, AreNotWaitedForForEver) {
  const NbdListing silent{{}, NbdListing::End::kSilence};
  ScriptedNbdServer server(
      folder_, [](const NbdRequest&) { return Bytes(); }, silent);
  NbdDeviceOptions options;
  options.connect_timeout = std::chrono::milliseconds(50);
  const auto opened = run_task(*loop_, open_nbd_device(*loop_, server.uri(), options));
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code(), ErrorCode::kTimedOut);
}

}  // namespace
}  // namespace blockmig
