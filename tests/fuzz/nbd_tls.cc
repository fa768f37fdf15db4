// SPDX-License-Identifier: Apache-2.0
// Fuzz target: the TLS boundary of a session, on the simulated loop.
//   byte 0      seed of the loop's order
//   byte 1      size of the client's segments
//   byte 2      bit 0: TLS is required, else offered; bit 1: no TLS client, everything goes plain;
//               bit 2: LIST before TLS; bit 3: access rules that let the client see disk0 only
//   bytes 3, 4  how much of the rest is sent plain, before (and perhaps behind) STARTTLS
//   bytes 5, 6  which byte of what the client sends sealed is damaged; 0: none
//   the rest    what the client sends; behind the plain part inside TLS, if that came to be
// Checked: the session ends and gives back every buffer, and nobody is served without TLS where it
// is required (I14). The key is fixed; the library's random numbers are not.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "blockmig/base/check.h"
#include "blockmig/base/endian.h"
#include "blockmig/base/random.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/pipe_stream.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/tls/tls_stream.h"
#include "nbd_fuzz_export.h"
#include "nbdserver/security.h"
#include "nbdserver/session.h"

namespace blockmig::nbd {
namespace {

const PskKey kKey = {"fuzz", "0123456789abcdef"};

/// Damages one byte of what is written through it once it is armed.
class DamagingStream final : public Stream {
 public:
  DamagingStream(std::unique_ptr<Stream> inner, std::size_t at)
      : inner_(std::move(inner)), damage_in_(at) {}
  Task<Result<std::size_t>> read_some(MutableBytes into) override {
    auto got = co_await inner_->read_some(into);
    co_return got;
  }
  Result<std::size_t> try_read(MutableBytes into, bool* ended) override {
    return inner_->try_read(into, ended);
  }
  Task<Status> write_all(std::span<const ConstBytes> parts) override {
    std::vector<std::byte> bytes;
    for (const ConstBytes part : parts) bytes.insert(bytes.end(), part.begin(), part.end());
    if (damage_in_ != 0 && damage_in_ <= bytes.size()) bytes[damage_in_ - 1] ^= std::byte{0x11};
    damage_in_ -= std::min(damage_in_, bytes.size());
    const ConstBytes part(bytes);
    const std::span<const ConstBytes> all(&part, 1);
    const Status sent = co_await inner_->write_all(all);
    co_return sent;
  }
  void shutdown() override { inner_->shutdown(); }
  std::string peer_name() const override { return inner_->peer_name(); }

 private:
  std::unique_ptr<Stream> inner_;
  std::size_t damage_in_;
};

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

Task<void> talk_inside(TlsStream& stream, ConstBytes bytes, TaskScope& scope) {
  const Status secured = co_await stream.handshake();
  if (!secured.ok()) co_return;
  scope.spawn(drain(stream));
  co_await send(stream, bytes);
}

Task<void> join(TaskScope& scope) { co_await scope.join(); }

std::shared_ptr<const NbdSecurity> security_of(std::uint8_t mode) {
  static const auto credentials = *TlsCredentials::for_server_keys({kKey});
  auto security = std::make_shared<NbdSecurity>();
  security->tls = (mode & 1) != 0 ? TlsMode::kRequire : TlsMode::kOn;
  security->credentials = credentials;
  security->list_before_tls = (mode & 4) != 0;
  if ((mode & 8) != 0) {
    const std::vector<std::string> rules = {"psk:fuzz -> disk0"};
    security->access = *ExportAccess::parse(rules);
  }
  return security;
}

/// True if the last thing that came is the acknowledgement of STARTTLS.
bool acknowledged(Stream& stream) {
  constexpr std::size_t kAckBytes = 20;
  std::vector<std::byte> tail;
  std::vector<std::byte> part(4096);
  bool ended = false;
  for (auto got = stream.try_read(part, &ended); got.ok() && *got != 0;
       got = stream.try_read(part, &ended)) {
    tail.insert(tail.end(), part.begin(), part.begin() + static_cast<std::ptrdiff_t>(*got));
    if (tail.size() > kAckBytes) {
      tail.erase(tail.begin(), tail.end() - static_cast<std::ptrdiff_t>(kAckBytes));
    }
  }
  return !ended && tail.size() == kAckBytes &&
         load_be<std::uint64_t>(tail.data()) == 0x3e889045565a9 &&
         load_be<std::uint32_t>(tail.data() + 8) == 5 &&
         load_be<std::uint32_t>(tail.data() + 12) == 1;
}

struct Script {
  std::uint8_t seed, segment, mode;
  std::size_t damage_at;
  ConstBytes plain, sealed;
};

void run_session(const Script& script) {
  static const auto client_credentials = *TlsCredentials::for_client_key(kKey);
  Random random(script.seed);
  SimLoop loop(random);
  FuzzDirectory directory;
  ServerLoops loops(loop, {}, loop, 4 << 20);
  NbdServerLimits limits;
  limits.max_in_flight_requests = 8;
  limits.max_in_flight_bytes = 1 << 20;
  {
    auto [client, server] =
        make_pipe(loop, {.capacity_bytes = 64 * 1024, .segment_bytes = script.segment});
    Session session(loops, directory, limits, std::move(server), 1, security_of(script.mode));
    TaskScope scope;
    scope.spawn(session.run());
    scope.spawn(send(*client, script.plain));
    run_task(loop, sleep_for(loop, std::chrono::milliseconds(10)));
    std::unique_ptr<TlsStream> tls;
    if ((script.mode & 2) == 0 && acknowledged(*client)) {
      auto damaging = std::make_unique<DamagingStream>(std::move(client), script.damage_at);
      tls = std::make_unique<TlsStream>(std::move(damaging), client_credentials, "", TlsLimits{});
      scope.spawn(talk_inside(*tls, script.sealed, scope));
    } else {
      scope.spawn(drain(*client));
      scope.spawn(send(*client, script.sealed));
    }
    run_task(loop, sleep_for(loop, std::chrono::milliseconds(50)));
    BM_CHECK((script.mode & 1) == 0 || !session.served() || session.info().tls);  // I14
    if (tls != nullptr) tls->shutdown();
    if (client != nullptr) client->shutdown();
    run_task(loop, join(scope));
  }
  const BufferPool& pool = loops.home().pool;
  BM_CHECK(pool.idle_bytes() == pool.total_bytes());
}

}  // namespace
}  // namespace blockmig::nbd

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kHeaderBytes = 7;
  if (size < kHeaderBytes) return 0;
  const auto bytes = std::as_bytes(std::span(data + kHeaderBytes, size - kHeaderBytes));
  const std::size_t wanted = std::size_t{data[3]} << 8 | data[4];
  const std::size_t plain = wanted < bytes.size() ? wanted : bytes.size();
  blockmig::nbd::run_session({data[0], data[1], data[2], std::size_t{data[5]} << 8 | data[6],
                              bytes.first(plain), bytes.subspan(plain)});
  return 0;
}
