// SPDX-License-Identifier: Apache-2.0
// NbdConnection: one connection to an NBD server, driven by the loop.
//
//             the server closes, an error                 close()
//   kOpen ───────────────────────────────▶ kDead ───────────────────▶ kClosed
//     │                                      ▲                           ▲
//     ├────────────── cut() ─────────────────┘                           │
//     └──────────── close(): says goodbye ───────────────────────────────┘
//
// Lifecycle: made with a ready handle; any number of execute(), which may overlap; cut() at any
// time; close() once nothing is inside, then destroy it. Leaving kOpen fails what is in flight with
// kDisconnected.
//
// How libnbd is driven: its state machine is told that the socket is readable or writable only when
// poll(2) says so at that moment. One notification handles one reply, and one told in vain would
// leave it in a state that sends nothing, so edges of the loop only start a look, and never stand
// for readiness. Thread rule: one loop.
#pragma once

#include <coroutine>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "blockmig/base/bytes.h"
#include "blockmig/base/error.h"
#include "blockmig/block/block_device.h"
#include "blockmig/block/nbd_connect.h"
#include "blockmig/io/event.h"
#include "blockmig/io/io_loop.h"
#include "blockmig/io/semaphore.h"
#include "blockmig/io/task_scope.h"

namespace blockmig {

/// One request as it goes on the wire. A value without ownership.
struct NbdCommand {
  enum class Kind { kRead, kWrite, kFlush, kTrim, kZero, kBlockStatus };
  Kind kind = Kind::kFlush;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  std::byte* into = nullptr;               ///< kRead
  const std::byte* from = nullptr;         ///< kWrite
  std::vector<Extent>* extents = nullptr;  ///< kBlockStatus: appended to
  bool fua = false;
  bool no_hole = false;
  bool fast = false;

  /// Cuts the first `bytes` off and returns them as a command of their own.
  NbdCommand take(std::uint64_t bytes);
};

class NbdConnection final {
 public:
  /// Requests on the wire at the same time; more wait here.
  static constexpr std::uint32_t kMaxInFlight = 64;

  /// `uri` outlives it.
  NbdConnection(IoLoop& loop, NbdHandle handle, const std::string& uri);
  ~NbdConnection();
  NbdConnection(const NbdConnection&) = delete;
  NbdConnection& operator=(const NbdConnection&) = delete;

  Task<Status> execute(NbdCommand command);
  /// Cuts the socket now: nothing more is sent, also of what was queued in the kernel where the
  /// transport allows it (TCP). What is in flight fails.
  void cut();
  /// Those that wait for their turn fail; those on the wire are answered.
  void withdraw() { withdrawn_ = true; }
  Task<void> close();

  /// In flight and waiting.
  std::size_t load() const { return load_; }
  /// Why it is not open any more; nullopt while it is.
  const std::optional<Error>& death() const { return death_; }

 private:
  struct Pending;

  std::int64_t issue(const NbdCommand& command, Pending& pending);
  void progress();
  /// One step of the state machine; false when there is nothing to do now.
  bool step();
  void note_death();
  void die(const std::string& reason);
  Task<void> pump_readable();
  Task<void> pump_writable();
  bool wants_write() const;
  void note_blocked();
  Status judge(const NbdCommand& command, const Pending& pending) const;

  IoLoop& loop_;
  NbdHandle handle_;
  const std::string& uri_;
  int fd_;
  std::unique_ptr<FdWatch> watch_;
  TaskScope pumps_;
  Semaphore slots_;
  Event dead_;
  Event blocked_;  ///< pulsed when something is left to send, and at death
  std::list<Pending*> pending_;
  std::optional<Error> death_;
  std::string last_error_;  ///< libnbd's text for the last call that failed
  std::size_t load_ = 0;
  bool withdrawn_ = false;
};

}  // namespace blockmig
