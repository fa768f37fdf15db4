// SPDX-License-Identifier: Apache-2.0
// RecordedDisks: what a daemon served, on its way in again at the start of the one after it.
//
//   serve_all()       every one, side by side; one whose store hangs or is away comes later: the
//                     others wait some seconds for what hangs, to come in order
//   from then on      what may heal is tried again until the disk is there, detached, or served by
//                     hand; what cannot (its image is another's now) is logged and left as it is
//
// Until then it has no claim on its store or name: who takes them is met by the next try.
// Lifecycle: finish(), then restoring() joined or given up, before it is destroyed.
// Thread rule: the loop. What it refers to outlives it.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "blockmig/io/event.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/journal/journal.h"
#include "tools/control/messages.h"
#include "tools/daemon/disk_set.h"
#include "tools/daemon/log.h"

namespace blockmig {

class DiskService;
struct Listening;

class RecordedDisks final {
 public:
  static constexpr Duration kPatience = std::chrono::seconds(5);
  /// And how long for those that were served before: the others must be in time.
  static constexpr Duration kOrderPatience = std::chrono::seconds(3);
  /// Longer than an NBD store that says nothing is tried.
  static constexpr Duration kTryPatience = std::chrono::milliseconds(4500);

  RecordedDisks(EventLoop& loop, Journal& journal, DiskSet& disks, Log& log)
      : loop_(loop), journal_(journal), disks_(disks), log_(log), changed_(loop), leaving_(loop) {}

  /// Waits for those that are there, or have failed, within kPatience.
  Task<void> serve_all(DiskService& service, std::vector<std::string> except);
  /// What was served before and is about to be served again, failed ones among it.
  std::vector<ServeRequest> late() const;
  /// Of no name: any is.
  bool is_late(const std::string& disk) const {
    return !known_ || (disk.empty() ? !coming_.empty() : coming_.contains(disk));
  }
  /// serve_all() follows: until it knows which they are, any disk may be one.
  void expect() { known_ = false; }
  /// Nothing is open of it that another daemon would meet, unless it is tried just now.
  bool has_failed(const std::string& disk) const;
  /// Why it is not there, also of one that is not tried any more; empty: it is, or nothing is
  /// known.
  std::string failure_of(const std::string& disk) const;
  /// What is not tried any more.
  std::vector<RefusedDisk> refused() const;
  /// A disk takes its place after those before it, so that disks and listeners come in one order;
  /// not after those that are late. kShutdown: not any more. kCancelled: it was given up.
  Task<Status> wait_for_earlier(const std::string& disk);
  /// The disk is not wanted any more. False: it is neither late nor refused().
  bool give_up(const std::string& disk);
  /// No try of that disk is under way any more; false: one hangs.
  Task<bool> wait_for_try(const std::string& disk);
  /// From hold() to let_go() no try begins: somebody serves it by hand, or has served it.
  void hold(const std::string& disk);
  void let_go(const std::string& disk, bool served);
  /// From here on nothing is tried again.
  void finish();
  TaskScope& restoring() { return restoring_; }
  const TaskScope& restoring() const { return restoring_; }

 private:
  struct Coming {
    ServeRequest request;
    bool held = false;             ///< nobody waits for it
    std::optional<Error> failure;  ///< of its last try, where it may be long until it heals
  };
  Task<void> bring(DiskService& service, NoteRecord note, std::vector<NoteRecord> listened);
  /// True: it is there, by a try of its own.
  Task<bool> try_until_there(DiskService& service, ServeRequest request, Listening listening);
  /// False: it was given up meanwhile, and is detached again.
  Task<Result<bool>> try_once(DiskService& service, ServeRequest request, Listening listening);
  /// It is not tried any more.
  void leave(const std::string& disk, const Error& error);
  void note_failure(const std::string& disk, const Error& error, TimePoint in_time);
  /// Its address somebody may have for a moment still.
  Task<void> listen_once_free(DiskService& service, ServeRequest request, Listening listening);
  bool is_waited_for() const;

  EventLoop& loop_;
  Journal& journal_;
  DiskSet& disks_;
  Log& log_;
  std::map<std::string, Coming> coming_;        ///< by disk
  std::map<std::string, std::string> refused_;  ///< why, by disk
  std::set<std::string> trying_;  ///< a try is under way, of one that was given up too
  std::multiset<std::string> by_hand_;
  std::size_t listening_ = 0;      ///< are served, and wait for their addresses
  TimePoint in_order_by_{};        ///< nobody waits for the late any more
  bool default_listener_ = false;  ///< the first of them opens it, though it may be late
  bool known_ = true;              ///< which they are
  Event changed_;                  ///< pulsed when one has arrived, failed, or may be tried
  Event leaving_;
  TaskScope restoring_;
};

}  // namespace blockmig
