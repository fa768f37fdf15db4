// SPDX-License-Identifier: Apache-2.0
// Streams to test with: connected pairs of every kind, a temporary folder for sockets, and bytes.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "blockmig/base/random.h"
#include "blockmig/io/pipe_stream.h"
#include "blockmig/io/stream.h"
#include "blockmig/io/task_scope.h"
#include "tests/unit/io/loops.h"
#include "tests/unit/shared/join_all.h"
#include "tests/unit/shared/temporary_folder.h"

namespace blockmig {

using Bytes = std::vector<std::byte>;
using StreamPair = std::pair<std::unique_ptr<Stream>, std::unique_ptr<Stream>>;

inline Bytes random_bytes(std::size_t size, std::uint64_t seed) {
  Random random(seed);
  Bytes bytes(size);
  for (auto& byte : bytes) byte = static_cast<std::byte>(random.next());
  return bytes;
}

inline Task<void> accept_into(Listener& listener, Result<std::unique_ptr<Stream>>& accepted) {
  accepted = co_await listener.accept();
}

inline Task<Result<StreamPair>> connect_pair(IoLoop& loop, Listener& listener) {
  Result<std::unique_ptr<Stream>> accepted = Error(ErrorCode::kIo);
  TaskScope scope;
  scope.spawn(accept_into(listener, accepted));
  auto connected = co_await connect_to(loop, listener.address(), std::chrono::seconds(10));
  if (!connected) listener.close();
  co_await scope.join();
  if (!connected) co_return connected.error();
  if (!accepted) co_return accepted.error();
  co_return StreamPair(std::move(*connected), std::move(*accepted));
}

inline Task<Status> write_bytes(Stream& stream, ConstBytes bytes) {
  const ConstBytes parts[] = {bytes};
  const Status written = co_await stream.write_all(parts);
  co_return written;
}

inline Task<void> note_write(Stream& stream, ConstBytes bytes, Status& outcome) {
  outcome = co_await write_bytes(stream, bytes);
}

inline Task<Result<std::size_t>> read_once(Stream& stream, MutableBytes into) {
  auto got = co_await stream.read_some(into);
  co_return got;
}

/// Cuts `bytes` into parts of drawn sizes, some of them empty.
inline std::vector<ConstBytes> cut(ConstBytes bytes, std::uint64_t seed, std::size_t largest) {
  Random random(seed);
  std::vector<ConstBytes> parts;
  while (!bytes.empty()) {
    const std::size_t size = random.chance(1, 5) ? 0 : random.between(1, largest);
    parts.push_back(bytes.first(std::min(size, bytes.size())));
    bytes = bytes.subspan(parts.back().size());
  }
  parts.push_back({});
  return parts;
}

inline Task<void> note_read(Stream& stream, MutableBytes into, std::optional<std::size_t>& got) {
  const auto result = co_await stream.read_some(into);
  if (result) got = *result;
}

}  // namespace blockmig
