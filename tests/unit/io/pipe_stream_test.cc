// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/pipe_stream.h"

#include <gtest/gtest.h>

#include "blockmig/io/sim_loop.h"
#include "tests/unit/io/stream_fixture.h"

// That pipes behave as every other stream is tested in stream_test.cc; here is what only they
// promise.

namespace blockmig {
namespace {

Task<void> send_all(Stream& stream, const Bytes& bytes, bool& sent) {
  const Status written = co_await write_bytes(stream, bytes);
  sent = written.ok();
}

Task<void> receive_all(Stream& stream, Bytes& into, std::size_t& largest) {
  std::size_t total = 0;
  while (total < into.size()) {
    const MutableBytes rest = MutableBytes(into).subspan(total);
    const auto got = co_await stream.read_some(rest);
    if (!got || *got == 0) co_return;
    largest = std::max(largest, *got);
    total += *got;
  }
}

TEST(PipeStream, RunsOnTheSimulatorsLoopInAnyOrder) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    Random random(seed);
    SimLoop loop(random);
    PipeOptions options;
    options.capacity_bytes = random.between(1, 50);
    options.segment_bytes = random.below(5);
    auto [a, b] = make_pipe(loop, options);
    const Bytes bytes = random_bytes(3000, seed);
    Bytes into(bytes.size());
    bool sent = false;
    std::size_t largest = 0;
    TaskScope scope;
    scope.spawn(send_all(*a, bytes, sent));
    scope.spawn(receive_all(*b, into, largest));
    loop.run();
    ASSERT_EQ(scope.running(), 0u) << "seed " << seed;
    EXPECT_TRUE(sent);
    EXPECT_EQ(into, bytes);
    const std::size_t limit = options.segment_bytes == 0 ? bytes.size() : options.segment_bytes;
    EXPECT_LE(largest, limit);
  }
}

TEST(PipeStream, HoldsAtMostItsCapacity) {
  Random random(1);
  SimLoop loop(random);
  PipeOptions options;
  options.capacity_bytes = 10;
  auto [a, b] = make_pipe(loop, options);
  const Bytes bytes = random_bytes(11, 1);
  bool sent = false;
  TaskScope scope;
  scope.spawn(send_all(*a, bytes, sent));
  loop.run();
  EXPECT_FALSE(sent);
  Bytes into(100);
  EXPECT_EQ(*run_task(loop, read_once(*b, into)), 10u);
  loop.run();
  EXPECT_TRUE(sent);
}

TEST(PipeStream, DestroyingOneEndWakesTheWriterOfTheOther) {
  Random random(1);
  SimLoop loop(random);
  PipeOptions options;
  options.capacity_bytes = 10;
  auto [a, b] = make_pipe(loop, options);
  const Bytes bytes = random_bytes(11, 1);
  Status outcome;
  TaskScope scope;
  scope.spawn(note_write(*a, bytes, outcome));
  b.reset();
  loop.run();
  ASSERT_EQ(scope.running(), 0u);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code(), ErrorCode::kDisconnected);
}

}  // namespace
}  // namespace blockmig
