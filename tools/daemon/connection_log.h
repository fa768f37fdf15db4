// SPDX-License-Identifier: Apache-2.0
// ConnectionLog: logs NBD clients as they come and go, and the ones that may not or do not behave.
//
// However many there are, the log stays readable: the good news and the bad each have a LogLimiter,
// and what it held back is one line that says how many. Lifecycle: outlives the server that it
// observes; tick() now and then. Thread rule: the server's loop.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "blockmig/io/event_loop.h"
#include "nbdserver/server.h"
#include "tools/daemon/log.h"
#include "tools/daemon/log_limiter.h"

namespace blockmig {

class ConnectionLog final : public NbdServerObserver {
 public:
  static constexpr std::uint32_t kBurstLines = 50;
  static constexpr std::uint32_t kLinesPerSecond = 5;

  /// The epoch of a disk that is served or being closed; 0: there is none.
  using EpochOf = std::function<std::uint64_t(const std::string& disk)>;

  ConnectionLog(EventLoop& loop, Log& log, EpochOf epoch_of)
      : loop_(loop), log_(log), epoch_of_(std::move(epoch_of)) {}

  void on_refused(const NbdRefusal& refusal);
  void on_stalled(const NbdClientInfo& client);
  void on_handshake_failed(const NbdClientInfo& client, NbdHandshakeFailure failure) override;
  void on_connected(const NbdClientInfo& client) override;
  void on_gone(const NbdClientInfo& client, NbdClientEnd end) override;

  /// Says what was suppressed, where there is room for it by now.
  void tick();

 private:
  /// One kind of news, with what is said of it when there is too much.
  struct Kind {
    LogLevel level;
    const char* suppressed_what;
    LogLimiter limiter{kBurstLines, kLinesPerSecond};
  };

  LogFields fields_of(const NbdClientInfo& client) const;
  void write(Kind& kind, const std::string& text, const LogFields& fields);
  void tell_suppressed(Kind& kind, TimePoint now);

  EventLoop& loop_;
  Log& log_;
  EpochOf epoch_of_;
  Kind visits_{LogLevel::kInfo, "lines about clients that came or went"};
  Kind troubles_{LogLevel::kWarning, "lines about refused or misbehaving clients"};
};

}  // namespace blockmig
