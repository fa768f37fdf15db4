// SPDX-License-Identifier: Apache-2.0
// RoomWatch: a new store that is full while it is filled waits for an operator. The job says so as
// it does before the decision: paused, with the store's word as the reason. It is tried all the
// while, and goes on by itself. Thread rule: the disk's loop.
#pragma once

#include <optional>

#include "blockmig/migrate/migration.h"

namespace blockmig {

class RoomWatch final {
 public:
  explicit RoomWatch(Migration& migration) : migration_(migration) {}

  /// `failing`: why nothing is pulled now, as in the job's status; nothing: pulls work.
  void look(const std::optional<Error>& failing) {
    const TimePoint now = migration_.loop.now();
    if (failing && failing->code() == ErrorCode::kNoSpace) {
      refused_ = now;
      if (migration_.held) return;
      migration_.held = true;
      note_decision(migration_, "paused by the new store", failing->message());
      show_pause(migration_);
    } else if (migration_.held && now - refused_ >= kRoomAgain) {
      over();
    }
  }
  void over() {
    if (!migration_.held) return;
    migration_.held = false;
    note_decision(migration_, "resumed", "the new store takes what is fetched again");
    show_pause(migration_);
  }

 private:
  /// What needs no room, such as zeros that are there already, is no sign of it: nothing is refused
  /// for so long.
  static constexpr Duration kRoomAgain = std::chrono::seconds(1);

  Migration& migration_;
  TimePoint refused_{};
};

}  // namespace blockmig
