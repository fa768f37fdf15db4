// SPDX-License-Identifier: Apache-2.0
// ReconnectingDevice: a store behind a connection that may break, and be made anew where nothing
// can have been lost.
//
//   reachable ── connection lost, and nothing was written since the last flush ──▶ away
//       ▲                                                                         │
//       └────────── opened again, the same size and abilities ◀── back-off ───────┘
//       │
//       └─ lost while a write was not flushed, or under way ──▶ given up: every request fails
//
// A server that was restarted may have lost what it had not made durable, and one whose connection
// broke may still carry out what it has read from it. So with unflushed writes nobody knows what
// the store holds, and to go on would take back what was acknowledged (I1, I9): such a store fails
// until it is opened anew. Without them, what it holds is what it held. Requests wait while it is
// away, at most `patience`, and then fail; it is tried for ever.
//
// Lifecycle: passes everything through, errors too, until outlast(); that flushes once. Thread
// rule: one loop.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "blockmig/block/block_device.h"
#include "blockmig/block/store_health.h"
#include "blockmig/io/event.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task_scope.h"

namespace blockmig {

class ReconnectingDevice final : public BlockDevice, public StoreHealth {
 public:
  static constexpr Duration kPatience = std::chrono::seconds(30);

  ReconnectingDevice(EventLoop& loop, std::unique_ptr<BlockDevice> device,
                     Duration patience = kPatience);
  ~ReconnectingDevice() override;

  /// From now on; on a store that is not written to meanwhile.
  void outlast();

  const DeviceInfo& info() const override { return device_->info(); }
  Task<Status> read(std::uint64_t offset, MutableBytes into) override;
  Task<Status> read_once(std::uint64_t offset, MutableBytes into) override;
  Task<Status> read_medium(std::uint64_t offset, MutableBytes into) override;
  Task<Status> write(std::uint64_t offset, ConstBytes from, WriteFlags flags) override;
  Task<Status> flush() override;
  Task<Status> trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) override;
  Task<Status> write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroFlags flags) override;
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length) override;
  void prefer_latency(bool on) override { device_->prefer_latency(on); }
  void share_between_threads(bool on) override { device_->share_between_threads(on); }
  void abandon() override;
  void withdraw() override;
  std::optional<Error> lost() const override { return lost_of(*device_); }
  std::string trouble() const override;
  Identities identities() const override { return identities_of(*device_); }
  Task<Status> revive() override;
  Task<Status> close() override;

 private:
  enum class Read : unsigned char { kPlain, kOnce, kMedium };
  struct Change {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    const ConstBytes* content = nullptr;  ///< null: zeros, or a trim
    bool trim = false;
    WriteFlags write_flags;
    ZeroFlags zero_flags;
  };
  Task<Status> read_as(Read how, std::uint64_t offset, MutableBytes into);
  Task<Status> change(const Change& change);
  Task<Status> pass_change(const Change& change);
  /// False: it is not back by then, or never will be.
  Task<bool> wait_back(TimePoint deadline);
  /// True: the device is lost, and `status` is what it had to say.
  bool is_loss(const Status& status);
  void note_loss(const Error& why);
  Task<void> bring_back();
  Task<void> flush_once();

  EventLoop& loop_;
  std::unique_ptr<BlockDevice> device_;
  Duration patience_;
  bool outlasts_ = false;
  bool away_ = false;
  bool given_up_ = false;
  bool stopped_ = false;
  std::string why_;
  /// Something acknowledged, or under way, may not be durable: at first, what was written by
  /// others, or by a life before this one.
  bool unflushed_ = true;
  std::uint64_t changes_ = 0;  ///< begun and ended ones
  std::uint64_t changes_inside_ = 0;
  std::uint64_t inside_ = 0;  ///< requests that the device has
  Event changed_;             ///< pulsed when it is back, or never will be, or nobody is inside
  TaskScope scope_;
};

}  // namespace blockmig
