// SPDX-License-Identifier: Apache-2.0
// LoopUse: keeps the part of the loop free that a pass of the copier needs; when it has ended, all
// is the guest's. Thread rule: the loop's.
#pragma once

#include <utility>

#include "blockmig/disk/guest_share.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/migrate/copier_need.h"

namespace blockmig {

class LoopUse final {
 public:
  /// `share` null: nothing is kept free.
  LoopUse(EventLoop& loop, CopierNeed& need, GuestShare* share, bool mirrored)
      : loop_(loop), need_(need), share_(share), mirrored_(mirrored), last_(loop.now()) {
    if (share_ != nullptr) share_->limit(need_.guest_part(mirrored_), last_);
  }
  ~LoopUse() {
    if (share_ != nullptr) share_->lift();
  }
  LoopUse(const LoopUse&) = delete;
  LoopUse& operator=(const LoopUse&) = delete;

  void worked(TimePoint begun) {
    const TimePoint now = loop_.now();
    need_.worked(now - begun, now - std::exchange(last_, now));
    if (share_ != nullptr) share_->limit(need_.guest_part(mirrored_), now);
  }

 private:
  EventLoop& loop_;
  CopierNeed& need_;
  GuestShare* share_;
  bool mirrored_;
  TimePoint last_;
};

}  // namespace blockmig
