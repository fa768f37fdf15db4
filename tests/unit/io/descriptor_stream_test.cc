// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/descriptor_stream.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <thread>

#include "tests/unit/io/stream_fixture.h"

namespace blockmig {
namespace {

class DescriptorStreamTest : public LoopTest {
 protected:
  void SetUp() override {
    LoopTest::SetUp();
    if (IsSkipped()) return;
    ::signal(SIGPIPE, SIG_IGN);
    int in[2];
    int out[2];
    ASSERT_EQ(::pipe2(in, O_CLOEXEC), 0);
    ASSERT_EQ(::pipe2(out, O_CLOEXEC), 0);
    to_stream_ = UniqueFd(in[1]);
    from_stream_ = UniqueFd(out[0]);
    auto stream = adopt_descriptors(loop(), UniqueFd(in[0]), UniqueFd(out[1]));
    ASSERT_TRUE(stream);
    stream_ = *std::move(stream);
  }
  void TearDown() override {
    stream_.reset();
    LoopTest::TearDown();
  }

  UniqueFd to_stream_;
  UniqueFd from_stream_;
  std::unique_ptr<Stream> stream_;
};
INSTANTIATE_TEST_SUITE_P(Loops, DescriptorStreamTest,
                         testing::Values(TestLoop::kUringDeferred, TestLoop::kPortable), loop_name);

TEST_P(DescriptorStreamTest, CarriesMoreThanAPipeHoldsInBothDirections) {
  const Bytes sent = random_bytes(1 << 20, 7);
  Bytes received(sent.size());
  std::thread other([&] {
    std::size_t at = 0;
    while (at < received.size()) {
      const ssize_t got = ::read(from_stream_.get(), received.data() + at, received.size() - at);
      if (got <= 0) return;
      at += static_cast<std::size_t>(got);
    }
    at = 0;
    while (at < sent.size()) {
      const ssize_t put = ::write(to_stream_.get(), sent.data() + at, sent.size() - at);
      if (put <= 0) return;
      at += static_cast<std::size_t>(put);
    }
  });
  const std::vector<ConstBytes> parts = cut(sent, 3, 5000);
  EXPECT_TRUE(run(stream_->write_all(parts)).ok());
  Bytes back(sent.size());
  EXPECT_TRUE(run(read_exactly(*stream_, back)).ok());
  other.join();
  EXPECT_EQ(received, sent);
  EXPECT_EQ(back, sent);
}

TEST_P(DescriptorStreamTest, TheEndOfTheInputIsTheEndOfTheStream) {
  to_stream_.reset();
  Bytes into(1);
  const auto got = run(stream_->read_some(into));
  ASSERT_TRUE(got);
  EXPECT_EQ(*got, 0u);
  bool ended = false;
  ASSERT_TRUE(stream_->try_read(into, &ended));
  EXPECT_TRUE(ended);
}

TEST_P(DescriptorStreamTest, AReaderThatHasGoneIsAnErrorOfTheWrite) {
  from_stream_.reset();
  const Bytes bytes(10);
  const Status written = run(write_bytes(*stream_, bytes));
  ASSERT_FALSE(written.ok());
  EXPECT_EQ(written.error().code(), ErrorCode::kDisconnected);
}

TEST_P(DescriptorStreamTest, ShutdownWakesReaderAndWriter) {
  Bytes into(1);
  std::optional<std::size_t> got;
  Status written;
  const Bytes bytes = random_bytes(1 << 20, 1);
  TaskScope scope;
  scope.spawn(note_read(*stream_, into, got));
  scope.spawn(note_write(*stream_, bytes, written));
  settle();
  EXPECT_EQ(scope.running(), 2u);
  stream_->shutdown();
  stream_->shutdown();
  run(join_all(scope));
  EXPECT_EQ(got, std::size_t{0});
  ASSERT_FALSE(written.ok());
  EXPECT_EQ(written.error().code(), ErrorCode::kDisconnected);
}

TEST_P(DescriptorStreamTest, NothingThereIsNotTheEnd) {
  Bytes into(1);
  bool ended = false;
  const auto got = stream_->try_read(into, &ended);
  ASSERT_TRUE(got);
  EXPECT_EQ(*got, 0u);
  EXPECT_FALSE(ended);
  EXPECT_EQ(stream_->peer_name(), "stdio");
  EXPECT_EQ(stream_->peer().origin, "");
}

}  // namespace
}  // namespace blockmig
