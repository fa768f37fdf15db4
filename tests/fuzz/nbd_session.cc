// SPDX-License-Identifier: Apache-2.0
// Fuzz target: a whole session on the simulated loop, from the greeting to the end. The first byte
// is the seed of the loop's order, the second the size of the client's segments; the rest is what
// the client sends before it stops sending and leaves. Checked: the session ends and gives back
// every buffer.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "blockmig/base/check.h"
#include "blockmig/base/random.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/pipe_stream.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"
#include "blockmig/io/task_scope.h"
#include "nbd_fuzz_export.h"
#include "nbdserver/buffer_pool.h"
#include "nbdserver/session.h"

namespace blockmig::nbd {
namespace {

Task<void> send(Stream& stream, ConstBytes bytes) {
  const std::span<const ConstBytes> parts(&bytes, 1);
  const Status sent = co_await stream.write_all(parts);
  static_cast<void>(sent.ok());  // the server may close at any time
}

Task<void> drain(Stream& stream) {
  std::vector<std::byte> into(4096);
  for (;;) {
    const auto got = co_await stream.read_some(into);
    if (!got.ok() || *got == 0) co_return;
  }
}

Task<void> join(TaskScope& scope) { co_await scope.join(); }

void run_session(std::uint8_t seed, std::uint8_t segment, ConstBytes script) {
  Random random(seed);
  SimLoop loop(random);
  FuzzDirectory directory;
  ServerLoops loops(loop, {}, loop, 4 << 20);
  NbdServerLimits limits;
  limits.max_in_flight_requests = 8;
  limits.max_in_flight_bytes = 1 << 20;
  {
    auto [client, server] = make_pipe(
        loop, {.capacity_bytes = 1000 + 256 * std::size_t{segment}, .segment_bytes = segment});
    Session session(loops, directory, limits, std::move(server), 1);
    TaskScope scope;
    scope.spawn(session.run());
    scope.spawn(drain(*client));
    scope.spawn(send(*client, script));
    run_task(loop, sleep_for(loop, std::chrono::milliseconds(50)));
    client->shutdown();
    run_task(loop, join(scope));
  }
  const BufferPool& pool = loops.home().pool;
  BM_CHECK(pool.idle_bytes() == pool.total_bytes());
}

}  // namespace
}  // namespace blockmig::nbd

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  blockmig::nbd::run_session(data[0], data[1], std::as_bytes(std::span(data + 2, size - 2)));
  return 0;
}
