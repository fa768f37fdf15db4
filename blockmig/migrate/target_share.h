// SPDX-License-Identifier: Apache-2.0
// TargetShare: how a target is shared between the copier and the guest's mirrored writes. Pure: no
// I/O, no clock of its own.
//
// Both together keep no more under way than the target answers within a small part of the mirror's
// deadline: what is under way at a slow target is what every later write queues behind. Where the
// target's own answer takes longer than that (a long way), twice its quickest answer is the
// measure: with less under way it would be idle.
//
// Whose turn it is when both wait: the guest's writes get the part of the target that they need to
// be answered by their deadline, and at least half (near the end two thirds), since a guest that
// waits is worse than a move that takes longer; the copier gets the rest, and at least a quarter,
// so that the move ends. Who does not wait is not waited for. At a slow target a chunk and a few
// small writes are under way together, not two chunks: the second would only make the first of the
// next writes wait.
#pragma once

#include <algorithm>
#include <cstdint>

#include "blockmig/io/event_loop.h"

namespace blockmig {

class TargetShare final {
 public:
  struct Limits {
    Duration deadline = std::chrono::milliseconds(50);  ///< of a mirrored write
    std::uint64_t chunk_bytes = 64 * 1024;              ///< what the copier sends at least
  };
  /// What is known of the target now, and what is under way there, in bytes.
  struct Target {
    std::uint64_t bytes_per_second = 0;  ///< that it takes; 0: not known yet
    Duration quickest{};                 ///< answer
    std::uint64_t mirrored = 0;          ///< of the guest
    std::uint64_t bulk = 0;              ///< the copier's
  };

  explicit TargetShare(const Limits& limits) : limits_(limits) {}

  /// Bytes under way of both together.
  std::uint64_t window(const Target& target) const {
    if (target.bytes_per_second == 0) return kChunksAtFirst * limits_.chunk_bytes;
    const Duration goal = std::max(limits_.deadline / kGoalsPerDeadline, 2 * target.quickest);
    return std::max(bytes_in(goal, target), limits_.chunk_bytes + limits_.chunk_bytes / 4);
  }
  /// `length` more bytes may be sent.
  bool guest_fits(std::uint64_t length, const Target& target) const {
    if (bulk_waits_ && ahead_ > 0) return false;
    return fits(length, target);
  }
  bool bulk_fits(std::uint64_t length, const Target& target) const {
    if (guest_waiting_ > 0 && ahead_ < 0) return false;
    return fits(length, target);
  }
  void guest_sent(std::uint64_t length, const Target& target) {
    move_ahead(static_cast<double>(length) * (1 - guest_part(target)), target);
  }
  void bulk_sent(std::uint64_t length, const Target& target) {
    move_ahead(-static_cast<double>(length) * guest_part(target), target);
  }
  /// Who has something to send that did not fit; the guest in bytes.
  void guest_waits(std::uint64_t bytes) { guest_waiting_ = bytes; }
  void bulk_waits(bool waits) { bulk_waits_ = waits; }
  /// The copy is nearly done: from now on the guest's writes wait less, as what they wait here adds
  /// up with the switchover.
  void near_end(bool near) { near_end_ = near; }
  std::uint64_t guest_waiting() const { return guest_waiting_; }

  /// What the target takes within `time`, as far as is known.
  static std::uint64_t bytes_in(Duration time, const Target& target) {
    const double bytes =
        std::chrono::duration<double>(time).count() * static_cast<double>(target.bytes_per_second);
    return static_cast<std::uint64_t>(std::min(bytes, 1e15));
  }

 private:
  static constexpr int kGoalsPerDeadline = 25;
  static constexpr std::uint64_t kChunksAtFirst = 4;
  static constexpr double kGuestLeastPart = 0.5;
  static constexpr double kGuestLeastNearEnd = 0.67;
  static constexpr double kBulkLeastPart = 0.25;

  /// One always does.
  bool fits(std::uint64_t length, const Target& target) const {
    const std::uint64_t under_way = target.mirrored + target.bulk;
    return under_way == 0 || under_way + length <= window(target);
  }
  /// Of what the target takes.
  double guest_part(const Target& target) const {
    // Four fifths of the deadline: the rest is for answers that take longer than most.
    const Duration wait = limits_.deadline / 5 * (near_end_ ? 2 : 4);
    const auto in_time = static_cast<double>(bytes_in(wait, target));
    const auto wanted = static_cast<double>(target.mirrored + guest_waiting_);
    const double least = near_end_ ? kGuestLeastNearEnd : kGuestLeastPart;
    return std::clamp(wanted / std::max(in_time, 1.0), least, 1 - kBulkLeastPart);
  }
  /// What was not used for long is not owed for ever: no more than a window.
  void move_ahead(double bytes, const Target& target) {
    const auto most = static_cast<double>(window(target));
    ahead_ = std::clamp(ahead_ + bytes, -most, most);
  }

  Limits limits_;
  double ahead_ = 0;  ///< bytes that the guest has had more than its part
  std::uint64_t guest_waiting_ = 0;
  bool bulk_waits_ = false;
  bool near_end_ = false;
};

}  // namespace blockmig
