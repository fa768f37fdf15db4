// SPDX-License-Identifier: Apache-2.0
// TlsPair: a client's and a server's TlsStream over a pipe on the simulated loop.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "blockmig/base/random.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/pipe_stream.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/tls/tls_stream.h"

namespace blockmig {

using Bytes = std::vector<std::byte>;
using Credentials = std::shared_ptr<const TlsCredentials>;

inline Bytes text_bytes(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
  return {bytes.begin(), bytes.end()};
}
inline Bytes counted_bytes(std::size_t size, unsigned step = 7) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>((i * step) >> 3);
  return bytes;
}

inline const std::string kPskSecret(32, '\x5a');
inline Credentials psk_server(std::vector<PskKey> keys = {{"alice", kPskSecret}}) {
  auto made = TlsCredentials::for_server_keys(std::move(keys));
  EXPECT_TRUE(made.ok()) << made.error().message();
  return *made;
}
inline Credentials psk_client(const std::string& user = "alice",
                              const std::string& secret = kPskSecret) {
  auto made = TlsCredentials::for_client_key({user, secret});
  EXPECT_TRUE(made.ok()) << made.error().message();
  return *made;
}

/// A stream that changes what goes through it: for the wire's accidents and attacks.
class TamperedStream final : public Stream {
 public:
  explicit TamperedStream(std::unique_ptr<Stream> inner) : inner_(std::move(inner)) {}

  Task<Result<std::size_t>> read_some(MutableBytes into) override {
    auto got = co_await inner_->read_some(into);
    co_return got;
  }
  Result<std::size_t> try_read(MutableBytes into, bool* ended) override {
    return inner_->try_read(into, ended);
  }
  Task<Status> write_all(std::span<const ConstBytes> parts) override {
    Bytes bytes;
    for (const ConstBytes part : parts) bytes.insert(bytes.end(), part.begin(), part.end());
    writes.push_back(bytes.size());
    if (flip_at >= written && flip_at < written + bytes.size()) {
      bytes[flip_at - written] ^= std::byte{1};
    }
    if (cut_at < written + bytes.size()) {
      bytes.resize(cut_at > written ? cut_at - written : 0);
    }
    written += bytes.size();
    const ConstBytes part(bytes);
    const std::span<const ConstBytes> all(&part, 1);
    const Status sent = co_await inner_->write_all(all);
    if (written >= cut_at) inner_->shutdown();
    co_return sent;
  }
  std::size_t try_write(std::span<const ConstBytes> parts) override {
    last_words.assign(parts.front().begin(), parts.front().end());
    return inner_->try_write(parts);
  }
  void shutdown() override { inner_->shutdown(); }
  std::string peer_name() const override { return inner_->peer_name(); }

  std::vector<std::size_t> writes;
  std::size_t written = 0;
  std::size_t flip_at = SIZE_MAX;
  std::size_t cut_at = SIZE_MAX;
  Bytes last_words;

 private:
  std::unique_ptr<Stream> inner_;
};

class TlsPair {
 public:
  TlsPair(Credentials server_credentials, Credentials client_credentials,
          std::string expected_host = {}, const PipeOptions& options = {.capacity_bytes = 1 << 20},
          std::uint64_t seed = 1)
      : random(seed), loop(random) {
    auto [a, b] = make_pipe(loop, options);
    auto tampered = std::make_unique<TamperedStream>(std::move(a));
    client_wire = tampered.get();
    client = std::make_unique<TlsStream>(std::move(tampered), std::move(client_credentials),
                                         std::move(expected_host), TlsLimits{});
    auto watched = std::make_unique<TamperedStream>(std::move(b));
    server_wire = watched.get();
    server = std::make_unique<TlsStream>(std::move(watched), std::move(server_credentials),
                                         std::string(), TlsLimits{});
  }
  ~TlsPair() {
    client->shutdown();
    server->shutdown();
    run_task(loop, join());
  }

  /// Both handshakes, each to its end, as long as that takes no time.
  void shake() {
    scope.spawn(shake_one(*client, client_result));
    scope.spawn(shake_one(*server, server_result));
    settle();
  }
  void settle() { run_task(loop, sleep_for(loop, std::chrono::milliseconds(1))); }
  bool secured() const {
    return client_result && server_result && client_result->ok() && server_result->ok();
  }
  /// In TLS 1.3 a client has finished before the server judges it: it learns with its first read.
  std::string client_error() {
    if (!client_result) return "(waiting)";
    if (!client_result->ok()) return client_result->error().message();
    Bytes one(1);
    const auto got = run_task(loop, client->read_some(one));
    return got.ok() ? "" : got.error().message();
  }
  std::string server_error() {
    if (!server_result) return "(waiting)";
    return server_result->ok() ? "" : server_result->error().message();
  }

  void send(TlsStream& from, Bytes bytes) { scope.spawn(send_one(from, std::move(bytes))); }
  Bytes receive(TlsStream& at, std::size_t size) {
    Bytes bytes(size);
    const Status got = run_task(loop, read_exactly(at, bytes));
    EXPECT_TRUE(got.ok()) << got.error().message();
    return bytes;
  }

  Random random;
  SimLoop loop;
  TamperedStream* client_wire = nullptr;
  TamperedStream* server_wire = nullptr;
  std::unique_ptr<TlsStream> client;
  std::unique_ptr<TlsStream> server;
  std::optional<Status> client_result;
  std::optional<Status> server_result;
  std::optional<Status> sent;  ///< of the last send()
  TaskScope scope;

 private:
  Task<void> shake_one(TlsStream& stream, std::optional<Status>& result) {
    Status done = co_await stream.handshake();
    // What a server does with a client that failed: it leaves.
    if (!done.ok()) stream.shutdown();
    result = std::move(done);
  }
  Task<void> send_one(TlsStream& from, Bytes bytes) {
    const ConstBytes part(bytes);
    const std::span<const ConstBytes> parts(&part, 1);
    Status done = co_await from.write_all(parts);
    sent = std::move(done);
  }
  Task<void> join() { co_await scope.join(); }
};

}  // namespace blockmig
